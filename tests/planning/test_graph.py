"""Definitions that cannot run are refused with everything that is wrong, and large ones are quick."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from mlpipe_engine.errors import CycleError, DuplicateNameError, UsageError
from mlpipe_engine.model.spec import (
    InputSpec,
    LiteralRef,
    OutputSpec,
    PipelineSpec,
    StepOutputSource,
    StepSpec,
    SubmitOptions,
    Text,
)
from mlpipe_engine.planning.graph import select, topological, upstream, validate


def step(name: str, *parents: str, after: tuple[str, ...] = ()) -> StepSpec:
    inputs = tuple(InputSpec(name=f"i{n}", source=StepOutputSource(parent, "o")) for n, parent in enumerate(parents))
    return StepSpec(
        name=name, kind="command", command=((Text("true"),),), inputs=inputs, outputs=(OutputSpec(name="o"),), run_after=after
    )


def pipeline(*steps: StepSpec) -> PipelineSpec:
    return PipelineSpec(name="p", steps=steps)


def test_a_cycle_is_shown_whole() -> None:
    (problem,) = validate(pipeline(step("a", "c"), step("b", "a"), step("c", "b"), step("d", "a")))
    assert isinstance(problem, CycleError)
    assert str(problem) in (
        "Cycle detected: a -> b -> c -> a",
        "Cycle detected: b -> c -> a -> b",
        "Cycle detected: c -> a -> b -> c",
    )


def test_a_step_that_waits_for_itself_is_a_cycle() -> None:
    (problem,) = validate(pipeline(step("a", after=("a",))))
    assert str(problem) == "Cycle detected: a -> a"


@pytest.mark.parametrize("other", ["train", "TRAIN", "Train"])
def test_names_that_a_file_system_may_not_tell_apart(other: str) -> None:
    problems = validate(pipeline(step("train"), step(other)))
    assert [type(problem) for problem in problems] == [DuplicateNameError]


@pytest.mark.parametrize("name", ["", " a", "a ", "-a", ".", "..", "a/b", "a\nb", "a\x1b", "x" * 101, "a.", "é"])
def test_names_that_cannot_be_folders(name: str) -> None:
    assert validate(pipeline(step(name)))


@pytest.mark.parametrize("name", ["train", "train.py", "Hello World", "a-b_c.1", "1st", "x" * 100])
def test_names_that_can(name: str) -> None:
    assert validate(pipeline(step(name))) == ()


def test_all_problems_come_together_with_the_nearest_name() -> None:
    problems = validate(pipeline(step("train"), step("test", "trian"), step("report", after=("tset",))))
    assert len(problems) == 2
    assert "did you mean 'train'" in str(problems[0])
    assert "did you mean 'test'" in str(problems[1])


def test_ten_thousand_steps_and_a_chain_of_five_thousand() -> None:
    wide = pipeline(*(step(f"s{n}", *(f"s{p}" for p in {n // 2, n // 3} if p < n)) for n in range(10_000)))
    chain = pipeline(*(step(f"c{n}", *([f"c{n - 1}"] if n else [])) for n in range(5_000)))
    began = time.process_time()
    for spec in (wide, chain):
        assert validate(spec) == ()
        order = topological(spec)
        position = {name: number for number, name in enumerate(order)}
        assert all(position[parent] < position[name] for name, parents in upstream(spec).items() for parent in parents)
    assert time.process_time() - began < 30, "the walk is not linear"


def test_selections() -> None:
    spec = pipeline(step("a"), step("b", "a"), step("c", "b"), step("d", "a"))

    def chosen(**options: tuple[str, ...]) -> tuple[list[str], list[str]]:
        found = select(spec, SubmitOptions(experiment="e", **options))  # type: ignore[arg-type]
        return sorted(found.run), sorted(found.assumed)

    assert chosen() == (["a", "b", "c", "d"], [])
    assert chosen(until_steps=("b",)) == (["a", "b"], [])
    assert chosen(from_steps=("b",)) == (["b", "c"], ["a"])
    assert chosen(only_steps=("c",)) == (["c"], ["b"])
    with pytest.raises(UsageError, match="no step 'e'"):
        chosen(force_steps=("e",))


@pytest.mark.parametrize("changes, says", [
    ({"arguments": ((Text("a\0b"),),)}, "holds a NUL character"),
    ({"arguments": ((LiteralRef("\0"),),)}, "holds a NUL character"),
    ({"environment_variables": (("A", "\0"),)}, "holds a NUL character"),
    ({"environment_variables": (("A=B", "1"),)}, "'A=B' cannot be the name of a variable"),
    ({"environment_variables": (("", "1"),)}, "'' cannot be the name of a variable"),
    ({"params": (("", Text("1")),)}, "'' cannot be the name of a variable"),
    ({"source_directory": "src\0"}, "holds a NUL character"),
])  # fmt: skip
def test_what_no_process_can_be_given_is_told_before_a_run_starts(changes: dict[str, object], says: str) -> None:
    (problem,) = validate(pipeline(replace(step("a"), **changes)))  # type: ignore[arg-type]
    assert says in str(problem) and problem.field == next(iter(changes))
