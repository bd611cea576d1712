"""Directories of steps that left nothing in them: used again, as if they were new, and there when somebody opens them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worlds import World

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every directory stays")

PAIR = """
a, b = PipelineData("a"), PipelineData("b")
one = CommandStep("cat $src > $a", name="one", inputs=[Dataset.File.from_files("in.txt").as_named_input("src")], outputs=[a])
two = CommandStep("cat $a $a > $b", name="two", inputs=[a], outputs=[b])
p = Pipeline(ws, [two])
"""


def folders(world: World, run: int = 1) -> set[str]:
    place = world.root / f".mlpipe/runs/test/{run}"
    return {path.name for path in place.iterdir()} if place.exists() else set()


@pytest.fixture
def pair(world: World) -> World:
    world.write("in.txt", "x\n")
    world.define(PAIR)
    return world


@linux
def test_a_silent_step_has_its_directory_when_somebody_opens_it(pair: World) -> None:
    done = pair.run()
    assert done.states == {"one": "succeeded", "two": "succeeded"}
    assert folders(pair) == set() and os.listdir(pair.root / ".mlpipe/spare") == []
    step = Path(done.engine.step_dir(done.record.id, "two"))
    assert folders(pair) == {"two"}
    assert {"code", "in", "out", "logs", "tmp", "step.json", "command.sh"} == {path.name for path in step.iterdir()}
    assert (step / "out/b").read_text() == "x\nx\n" and (step / "in/a").read_text() == "x\n"
    assert (step / "logs/stdout.log").read_bytes() == (step / "logs/stderr.log").read_bytes() == b""
    (step / "out/b").unlink()  # by hand it writes beside the store
    subprocess.run([step / "command.sh"], check=True)
    assert (step / "out/b").read_text() == "x\nx\n"
    assert (step / "step.json").read_text().startswith('{"protocol": 1')


@linux
def test_the_folder_of_a_run_has_all_of_its_steps(pair: World) -> None:
    first = pair.run()
    pair.write("in.txt", "y\n")
    second = pair.run()
    pair.write("in.txt", "x\n")
    third = pair.run()
    assert third.ran == set()
    for done, text in ((first, "x\nx\n"), (second, "y\ny\n"), (third, "x\nx\n")):
        folder = Path(done.engine.run_dir(done.record.id))
        assert {path.name for path in folder.iterdir()} == {"one", "two"}
        assert (folder / "two/out/b").read_text() == text
        again = sorted(os.walk(folder))
        done.engine.run_dir(done.record.id)
        assert sorted(os.walk(folder)) == again, "to open it twice changes nothing"


@linux
def test_logs_files_and_interpreter_of_a_step_without_a_directory(pair: World) -> None:
    pair.run()
    assert pair.cli("logs", "1", "two").returncode == 0
    done = pair.run()
    engine, run = done.engine, done.engine.find_run("1")
    told = engine.interpreter_of(run.id, "two")
    assert "python" in told and engine.interpreter_of(done.record.id, "two") == told
    assert engine.files(run.id, "two") == ()
    assert done.engine.step_dir(run.id, "two").endswith("/1/two")
    assert engine.interpreter_of(run.id, "two") == told


LITTER = {
    "a word in its log": "echo said",
    "a word of trouble": "echo said >&2",
    "a file in its folder": "echo x > left",
    "a hidden folder": "mkdir .left",
    "an uploaded file": "echo x > outputs/left",
    "a log of its own": "echo x > logs/left",
    "a temporary file": 'echo x > "$TMPDIR/left"',
    "a file beside its output": "echo x > ../out/left",
    "a link among its inputs": "ln -s /etc/hosts ../in/left",
    "a file beside the folder": "echo x > ../left",
    "another mode": "chmod 700 outputs",
    "a mode of its log": "chmod 600 ../logs/stderr.log",
    "a link for a folder": "rmdir outputs; ln -s /tmp outputs",
    "no temporary folder": 'rmdir "$TMPDIR"',
}


@linux
@pytest.mark.parametrize("litter", LITTER.values(), ids=LITTER)
def test_what_a_step_leaves_stays_and_no_other_step_sees_it(world: World, litter: str) -> None:
    look = 'ls -AR .. > "$o"; stat -c "%A %F %n" . outputs logs ../in ../out ../logs ../logs/* ../tmp >> "$o"; true'
    world.define(f"""
steps, before = [], None
for number, text in enumerate(["true", {litter!r}, "true", "true"]):
    out = PipelineData(f"o{{number}}")
    inputs = [before] if before is not None else []
    steps.append(CommandStep(text + "; o=$o%d; " % number + {look!r}, name=f"s{{number}}", inputs=inputs, outputs=[out]))
    before = out
p = Pipeline(ws, steps)
""")
    done = world.run()
    assert set(done.states.values()) == {"succeeded"}
    assert folders(world) == {"s1"}
    kept = world.root / ".mlpipe/runs/test/1/s1"
    assert (kept / "command.sh").exists() and (kept / "out/o1").is_symlink() and (kept / "out/o1").read_bytes()
    seen = [done.output(f"s{number}", f"o{number}").replace(f"o{number}".encode(), b"OUT").replace(b"o%d" % (number - 1), b"IN") for number in (2, 3)]  # fmt: skip
    assert seen[0] == seen[1] and b"left" not in seen[0]


@linux
def test_a_step_that_failed_keeps_its_directory(world: World) -> None:
    world.define('p = Pipeline(ws, [CommandStep("exit 3", name="s")])')
    done = world.run()
    assert done.states == {"s": "failed"}
    assert (world.root / ".mlpipe/runs/test/1/s/command.sh").exists()
    assert done.step("s").put_away == ""


@linux
def test_a_rebuilt_store_knows_which_directories_were_put_away(pair: World) -> None:
    pair.run()
    for path in (pair.root / ".mlpipe").glob("state.db*"):
        path.unlink()
    assert pair.cli("doctor", "--rebuild").returncode == 0
    engine = pair.run().engine
    step = Path(engine.step_dir(engine.find_run("1").id, "two"))
    assert (step / "out/b").read_text() == "x\nx\n"
