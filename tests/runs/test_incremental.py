"""Random pipelines, random edits: an incremental run ends with the bytes a clean run would make, and a second run runs nothing."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlpipe_engine.model.spec import (
    InputRef,
    InputSpec,
    OutputRef,
    OutputSpec,
    ParameterRef,
    ParameterSpec,
    PathSource,
    PipelineSpec,
    StepOutputSource,
    StepSpec,
    Text,
)  # fmt: skip
from worlds import World

SEQUENCES = 130
"""For each of the four parts below: 520 sequences in all."""

SCRIPT = 'out=$1; extra=$2; shift 2; cat "$extra.txt" > $out; printf "[%s]" "$PARAMETER" >> $out; for f in "$@"; do cat $f >> $out; done'


@dataclass
class Model:
    """What the files say, and what every step should therefore write."""

    parents: list[list[int]]
    uses_data: list[bool]
    uses_parameter: list[bool]
    reads: list[int]
    """Step -> the source file it reads; several steps may read the same one."""
    files: dict[str, str] = field(default_factory=dict)
    data: str = "d0"
    parameter: int = 0

    def expected(self) -> list[bytes]:
        made: list[bytes] = []
        for step, parents in enumerate(self.parents):
            text = self.files[f"{self.reads[step]}.txt"] + (f"[{self.parameter}]" if self.uses_parameter[step] else "[]")
            text += "".join(made[parent].decode() for parent in parents) + (self.data if self.uses_data[step] else "")
            made.append(text.encode()[:2000])
        return made

    def spec(self) -> PipelineSpec:
        steps = []
        for step, parents in enumerate(self.parents):
            inputs = [InputSpec(name=f"i{p}", source=StepOutputSource(f"s{p}", "out")) for p in parents]
            if self.uses_data[step]:
                inputs.append(InputSpec(name="data", source=PathSource(("data.txt",))))
            words = [
                (Text("/bin/sh"),),
                (Text("-c"),),
                (Text(SCRIPT + "; truncate -s '<2000' $out"),),
                (Text("sh"),),
                (OutputRef("out"),),
            ]
            words += [(Text(str(self.reads[step])),), *((InputRef(item.name),) for item in inputs)]
            params = (("x", ParameterRef("x")),) if self.uses_parameter[step] else ()
            words[2] = (Text(f"PARAMETER=$AML_PARAMETER_x; {SCRIPT}; truncate -s '<2000' $out"),)
            steps.append(StepSpec(
                name=f"s{step}", kind="command", command=tuple(words), inputs=tuple(inputs), outputs=(OutputSpec(name="out"),),
                source_directory="src", params=params,
            ))  # fmt: skip
        return PipelineSpec(name="random", steps=tuple(steps), parameters=(ParameterSpec(name="x", type="int", default=0),))

    def write(self, world: World) -> None:
        for name, text in self.files.items():
            world.write(f"src/{name}", text)
        world.write("data.txt", self.data)


@st.composite
def models(draw: st.DrawFn) -> Model:
    count = draw(st.integers(1, 4))
    parents = [sorted(draw(st.sets(st.integers(0, step - 1), max_size=2))) if step else [] for step in range(count)]
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    return Model(
        parents, draw(flags), draw(flags), draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)),
        {f"{number}.txt": f"f{number}" for number in range(3)},
    )  # fmt: skip


EDITS = st.one_of(
    st.tuples(st.just("file"), st.integers(0, 2), st.sampled_from(["a", "b", "longer text\n"])),
    st.tuples(st.just("data"), st.sampled_from(["d0", "d1", ""])),
    st.tuples(st.just("parameter"), st.integers(0, 2)),
    st.tuples(st.just("touch"), st.integers(0, 2)),
    st.tuples(st.just("damage"), st.integers(0, 5)),
    st.tuples(st.just("nothing")),
)


def apply(edit: tuple[object, ...], model: Model, world: World) -> None:
    match edit:
        case ("file", int(number), str(text)):
            model.files[f"{number}.txt"] = text
            world.write(f"src/{number}.txt", text)
        case ("data", str(text)):
            model.data = text
            world.write("data.txt", text)
        case ("parameter", int(value)):
            model.parameter = value
        case ("touch", int(number)):
            os.utime(world.root / f"src/{number}.txt")
        case ("damage", int(which)):
            stored = sorted((world.root / ".mlpipe/artifacts").glob("*/*"))
            if stored:
                victim = stored[which % len(stored)]
                victim.chmod(0o644)
                victim.write_text("damaged")


@pytest.mark.parametrize("part", range(4))
def test_an_incremental_run_ends_where_a_clean_run_ends(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tempfile.mkdtemp()
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)

    @settings(max_examples=SEQUENCES, derandomize=False)
    @given(models(), st.lists(EDITS, min_size=1, max_size=3))
    def check(model: Model, edits: list[tuple[object, ...]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder) / "p")
            model.write(world)
            for edit in [("nothing",), *edits]:
                apply(edit, model, world)
                parameters = {"x": model.parameter}
                planned = world.plan(model.spec(), parameters=parameters)
                done = world.run(model.spec(), parameters=parameters)
                assert done.record.state in ("succeeded", "reused"), done.states
                for step, wanted in enumerate(model.expected()):
                    assert done.output(f"s{step}", "out") == wanted, (edit, step, done.states)
                for name, decision in planned.items():
                    if decision != "Undecided":
                        assert (decision == "Execute") == (name in done.ran), (name, decision, done.states)
            assert world.run(model.spec(), parameters={"x": model.parameter}).ran == set()
            for path in Path(folder).rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)

    check()
