"""Every weakness of the original key (typed defaults, joined words, moved boundaries) gives different keys here."""

from __future__ import annotations

from typing import Any

import pytest
from mlpipe_engine.model.manifest import ManifestEntry, Section
from mlpipe_engine.model.spec import InputSpec, LiteralRef, OutputSpec, ParameterRef, PathSource, StepSpec, Text
from mlpipe_engine.model.trees import Entry, Tree
from mlpipe_engine.planning.fingerprint import step_manifest


def key(step: StepSpec | None = None, **more: Any) -> str:
    step = step or StepSpec(name="s", kind="python", script="s.py")
    values: dict[str, Any] = {"parameters": {}, "inputs": {}, "environment": (), "code": None, "platform": "linux"} | more
    return step_manifest(step, **values).fingerprint


def words(*texts: str) -> StepSpec:
    return StepSpec(name="s", kind="python", script="s.py", arguments=tuple((Text(text),) for text in texts))


def literal(value: Any) -> StepSpec:
    return StepSpec(name="s", kind="python", script="s.py", arguments=((LiteralRef(value),),))


def tree(*entries: tuple[str, str]) -> Tree:
    return Tree.of([Entry(path, "f", f"b3:{digest}") for path, digest in entries])


WITH_PARAMETER = StepSpec(name="s", kind="python", script="s.py", arguments=((ParameterRef("p"),),))

PAIRS = {
    "['a', 'b'] and ['a,b']": (key(words("a", "b")), key(words("a,b"))),
    "['a', 'b'] and ['ab']": (key(words("a", "b")), key(words("ab"))),
    "one empty word": (key(words("a")), key(words("a", ""))),
    "1 and '1'": (key(literal(1)), key(words("1"))),
    "1 and 1.0": (key(literal(1)), key(literal(1.0))),
    "1 and True": (key(literal(1)), key(literal(True))),
    "None and ''": (key(literal(None)), key(words(""))),
    "parameter 1 and '1'": (key(WITH_PARAMETER, parameters={"p": 1}), key(WITH_PARAMETER, parameters={"p": "1"})),
    "parameter 1 and 1.0": (key(WITH_PARAMETER, parameters={"p": 1}), key(WITH_PARAMETER, parameters={"p": 1.0})),
    "a='1_version_2' and a='1', version='2'": (
        key(words("1_version_2")),
        key(StepSpec(name="s", kind="python", script="s.py", arguments=((Text("1"),),), version="2")),
    ),
    "file ab holding c and file a holding bc": (key(code=tree(("ab", "c"))), key(code=tree(("a", "bc")))),
    "two files swapped": (key(code=tree(("a", "1"), ("b", "2"))), key(code=tree(("a", "2"), ("b", "1")))),
    "script": (key(StepSpec(name="s", kind="python", script="a.py")), key(StepSpec(name="s", kind="python", script="b.py"))),
    "kind": (
        key(StepSpec(name="s", kind="command", command=((Text("a"),),))),
        key(StepSpec(name="s", kind="shell", command=((Text("a"),),))),
    ),
    "platform": (key(), key(platform="darwin")),
    "environment": (key(), key(environment=[ManifestEntry(Section.ENVIRONMENT, "python", "3.12")])),
    "a variable that looks like a parameter": (
        key(StepSpec(name="s", kind="python", script="s.py", environment_variables=(("a", "1"),))),
        key(StepSpec(name="s", kind="python", script="s.py", params=(("a", Text("1")),))),
    ),
    "output declared as folder": (
        key(StepSpec(name="s", kind="python", script="s.py", outputs=(OutputSpec(name="o"),))),
        key(StepSpec(name="s", kind="python", script="s.py", outputs=(OutputSpec(name="o", is_directory=True),))),
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_what_differs_has_another_key(case: str) -> None:
    left, right = PAIRS[case]
    assert left != right


def with_input(name: str, path: str) -> StepSpec:
    return StepSpec(name="s", kind="python", script="s.py", inputs=(InputSpec(name=name, source=PathSource((path,))),))


def test_an_input_counts_by_name_and_content_never_by_path() -> None:
    assert key(with_input("i", "a"), inputs={"i": "k1:1"}) == key(with_input("i", "b"), inputs={"i": "k1:1"})
    assert key(with_input("i", "a"), inputs={"i": "k1:1"}) != key(with_input("i", "a"), inputs={"i": "k1:2"})
    assert key(with_input("i", "a"), inputs={"i": "k1:1"}) != key(with_input("j", "a"), inputs={"j": "k1:1"})


@pytest.mark.parametrize(
    "more",
    [
        {"name": "other"}, {"description": "text"}, {"where": "x.py:1"}, {"allow_reuse": False}, {"compute": "big"}, {"retries": 3},
        {"timeout_seconds": 5.0}, {"run_after": ("x",)}, {"trigger": "always"}, {"when": 'param("x")'},
    ],
)  # fmt: skip
def test_what_decides_no_result_does_not_count(more: dict[str, Any]) -> None:
    assert key(StepSpec(**({"name": "s", "kind": "python", "script": "s.py"} | more))) == key()


def test_a_parameter_counts_by_its_value_and_not_by_its_name_or_default() -> None:
    other = StepSpec(name="s", kind="python", script="s.py", arguments=((ParameterRef("q"),),))
    assert key(WITH_PARAMETER, parameters={"p": 1}) == key(other, parameters={"q": 1}) == key(literal(1))


def test_the_base_key_leaves_out_the_code_and_nothing_else() -> None:
    def base(**more: Any) -> str:
        values: dict[str, Any] = {"parameters": {}, "inputs": {}, "environment": (), "platform": "linux"} | more
        return step_manifest(StepSpec(name="s", kind="python", script="s.py"), **values).base_key

    assert base(code=tree(("a", "1"))) == base(code=tree(("b", "2")))
    assert base(code=None) != base(code=None, platform="x")
