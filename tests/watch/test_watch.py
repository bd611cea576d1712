"""Watch mode as its user has it: a real watcher on a real project."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from worlds import World

sys.path.insert(0, str(Path(__file__).parent))
from watch_world import PATIENCE_SECONDS, replace, three_steps, watching


def test_a_saved_file_runs_what_reads_it(world: World) -> None:
    three_steps(world)
    with watching(world) as watch:
        assert watch.begun()["steps"] == 3
        assert "never ran here -> prep, train, evaluate" in watch.looked()
        assert watch.finished()["executed"] == 3
        watch.is_ready()
        world.write("src/train.py", (world.root / "src/train.py").read_text() + "# one\n# two\n")
        assert watch.looked() == "src/train.py +2 -0 -> train, evaluate; prep untouched"
        done = watch.finished()
        assert (done["executed"], done["reused"]) == (1, 2), "train made the same bytes, so evaluate is reused"
        watch.is_ready()
        replace(world, "src/helper.py", "WORD = 'judge'\n")
        assert watch.looked() == "src/helper.py +1 -1 -> evaluate; prep, train untouched"
        assert watch.finished()["executed"] == 1
        watch.is_ready()
        world.write("data.txt", "4 5 6")
        assert watch.looked() == "data.txt -> prep, train, evaluate"
        assert watch.finished()["executed"] == 3
        assert len(watch.runs()) == 4
        number = watch.runs()[-1]
    shown = world.json("show", str(number))["run"]
    assert shown["source"] == "watch"
    assert shown["tags"] == {"watch": "data.txt -> prep, train, evaluate"}


def test_a_touch_right_after_a_save_loses_nothing(world: World) -> None:
    """cp -p, chmod: what a look found while the file was still settling counts, whatever the next look adds."""
    three_steps(world)
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("src/train.py", (world.root / "src/train.py").read_text() + "# one\n")
        for _ in range(40):
            os.utime(world.root / "src/train.py")
            time.sleep(0.003)
        assert watch.looked() == "src/train.py +1 -0 -> train, evaluate; prep untouched"
        assert watch.finished()["executed"] == 1


def test_what_nobody_reads_and_what_is_the_same_run_nothing(world: World) -> None:
    three_steps(world)
    world.run()
    with watching(world) as watch:
        assert watch.looked() == "up to date: nothing to run"
        watch.is_ready()
        world.write("src/notes.txt", "changed\n")
        assert watch.looked() == "src/notes.txt +1 -1: read by no step; nothing to run"
        world.write("src/train.py", (world.root / "src/train.py").read_text())
        assert watch.looked() == "src/train.py (same): nothing to run"
        world.write("README.md", "hello")
        assert watch.looked() == "README.md: read by no step: nothing to run"
        os.utime(world.root / "src/prep.py")
        assert watch.looked() == "src/prep.py (same): nothing to run"
        world.write("data.txt", (world.root / "data.txt").read_text())
        assert watch.looked() == "data.txt (same): nothing to run"
        assert watch.runs() == []


def test_files_of_an_input_folder_are_named(world: World) -> None:
    world.write("data/a.txt", "a")
    world.write("data/sub/b.txt", "b")
    world.define("""
data = Dataset.File.from_files("data").as_named_input("data")
out = PipelineData("out")
p = Pipeline(ws, [CommandStep(["/bin/sh", "-c", 'ls -R "$1" > "$2"', "sh", data, out], name="s", inputs=[data], outputs=[out])])
""")
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("data/sub/b.txt", "b")
        assert watch.looked() == "data/sub/b.txt (same): nothing to run"
        world.write("data/sub/b.txt", "other")
        assert watch.looked() == "data/sub/b.txt -> s"
        watch.finished()
        watch.is_ready()
        world.write("data/c.txt", "c")
        assert watch.looked() == "data/c.txt (added) -> s"
        watch.finished()
        watch.is_ready()
        (world.root / "data/a.txt").unlink()
        assert watch.looked() == "data/a.txt (removed) -> s"
        assert watch.finished()["executed"] == 1


def test_what_changed_while_nobody_watched_is_caught_up_with(world: World) -> None:
    three_steps(world)
    world.run()
    world.write("src/train.py", (world.root / "src/train.py").read_text() + "# one\n")
    with watching(world) as watch:
        assert watch.looked() == "src/train.py +1 -0 -> train, evaluate; prep untouched"
        assert watch.finished()["executed"] == 1


def test_names_that_come_and_go(world: World) -> None:
    three_steps(world)
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("src/new.py", "")
        assert watch.looked() == "src/new.py (added) -> prep, train, evaluate"
        watch.finished()
        watch.is_ready()
        (world.root / "elsewhere").mkdir()
        world.write("elsewhere/inner.py", "")
        watch.quiet(0.5)
        os.rename(world.root / "elsewhere", world.root / "src/sub")
        watch.wait(lambda said: said["_"] == "Looked" and said["look"].get("below") == ["train", "evaluate"])
        watch.finished()
        watch.is_ready()
        world.write("src/sub/inner.py", "# a folder that was moved in is watched\n")
        assert "src/sub/inner.py +1 -0" in watch.looked()


def test_swap_files_are_no_change(world: World) -> None:
    three_steps(world)
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("src/.train.py.swp", "x" * 4096)
        world.write("src/train.py~", "old")
        (world.root / "src/.#train.py").symlink_to("me@host.1")
        assert watch.quiet(1.0) == []
        world.write("src/train.py", (world.root / "src/train.py").read_text() + "# one\n")
        assert watch.looked() == "src/train.py +1 -0 -> train, evaluate; prep untouched"
        assert watch.finished()["executed"] == 1


def test_an_undone_change_takes_the_earlier_result(world: World) -> None:
    three_steps(world)
    before = (world.root / "src/helper.py").read_text()
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("src/helper.py", "WORD = 'other'\n")
        watch.finished()
        watch.is_ready()
        world.write("src/helper.py", before)
        assert watch.looked() == "src/helper.py +1 -1 -> evaluate; prep, train untouched"
        assert watch.finished()["executed"] == 0


def test_a_failed_step_runs_again_when_its_code_changes(world: World) -> None:
    three_steps(world)
    good = (world.root / "src/train.py").read_text()
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("src/train.py", "raise SystemExit('no')\n")
        assert watch.finished()["failed"] == 1
        watch.is_ready()
        world.write("data.txt", "7")
        assert watch.finished()["failed"] == 1
        watch.is_ready()
        world.write("src/train.py", good)
        assert watch.finished()["state"] == {"_": "State", "value": "succeeded"}


def test_a_broken_definition_is_shown_and_recovered_from(world: World) -> None:
    three_steps(world)
    good = (world.root / "pipeline.py").read_text()
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("pipeline.py", good + "\nprint(undefined_name)\n")
        said = watch.wait(lambda said: said["_"] == "Trouble")
        assert "undefined_name" in said["traceback"]
        assert "mlpipe_engine" not in said["traceback"]
        world.write("pipeline.py", good.replace("arguments=[b, c]", "arguments=[b, c, 'more']"))
        watch.note("can be read again")
        assert watch.finished()["executed"] == 1
        watch.is_ready()
        world.write("src/helper.py", "WORD = 'judge'\n")
        assert watch.finished()["executed"] == 1


def test_it_begins_with_a_broken_definition(world: World) -> None:
    three_steps(world)
    good = (world.root / "pipeline.py").read_text()
    world.write("pipeline.py", "import nothing_of_that_name\n")
    with watching(world) as watch:
        assert "nothing_of_that_name" in watch.trouble()
        world.write("pipeline.py", good)
        assert watch.finished()["executed"] == 3


def test_a_definition_that_says_the_same_runs_nothing(world: World) -> None:
    three_steps(world)
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("pipeline.py", (world.root / "pipeline.py").read_text() + "# a comment\n")
        assert watch.looked() == "pipeline.py: read by no step; nothing to run"
        assert watch.runs() == []


def test_mlpipe_toml_counts_and_its_policy_is_taken_up(world: World) -> None:
    three_steps(world)
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("mlpipe.toml", "[watch]\nignore = ['src/helper.py']\n")
        assert watch.looked().startswith("mlpipe.toml")
        world.write("src/helper.py", "WORD = 'judge'\n")
        assert watch.quiet(1.0) == []
        world.write("mlpipe.toml", "[watch]\nask = 'data.txt'\n")
        assert watch.finished()["executed"] == 1, "what was ignored is caught up with"
        watch.is_ready()
        world.write("data.txt", "9")
        assert watch.wait(lambda said: said["_"] == "Asked")["look"]["steps"] == ["prep"]
        assert [said for said in watch.quiet(1.0) if said["_"] == "RunStarted"] == []


def test_a_bad_table_is_told_with_its_line(world: World) -> None:
    three_steps(world)
    world.write("mlpipe.toml", '[watch]\nrestart_below = "soon"\n')
    done = world.cli("watch")
    assert done.returncode == 2
    assert "mlpipe.toml:2" in done.stderr
    assert '"30s"' in done.stderr


def test_the_project_is_deleted_and_comes_back(world: World) -> None:
    three_steps(world)
    world.run()
    copy = world.root.parent / "copy"
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        shutil.copytree(world.root, copy, symlinks=True)
        shutil.rmtree(world.root, ignore_errors=True)
        shutil.rmtree(world.root, ignore_errors=True)
        assert "gone" in watch.trouble()
        assert watch.quiet(0.5) == []
        assert not world.root.exists(), "nothing is made where the project was"
        os.rename(copy, world.root)
        watch.begun()
        watch.is_ready()
        world.write("src/helper.py", "WORD = 'judge'\n")
        assert watch.finished()["executed"] == 1


def test_a_killed_spare_and_a_killed_watcher_harm_nothing(world: World) -> None:
    three_steps(world)
    world.write("src/train.py", (world.root / "src/train.py").read_text() + "import time\ntime.sleep(2)\n")
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        spare = next(pid for pid in watch._children() if watch._is_spare(pid))
        os.kill(spare, signal.SIGKILL)
        time.sleep(0.2)
        world.write("src/helper.py", "WORD = 'judge'\n")
        assert watch.finished()["executed"] == 1
        watch.is_ready()
        world.write("src/train.py", (world.root / "src/train.py").read_text() + "# one\n")
        watch.wait(lambda said: said["_"] == "StepChanged" and said["state"]["value"] == "running")
        watch.process.kill()
        watch.process.wait()
        number = watch.runs()[-1]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while world.json("show", str(number))["run"]["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert world.json("show", str(number))["run"]["state"] == "succeeded", "the run did not need its watcher"


def test_several_watchers_do_the_work_once(world: World) -> None:
    three_steps(world)
    world.run()
    with watching(world) as first:
        first.looked()
        first.is_ready()
        with watching(world) as second:
            second.note("watches this pipeline already")
            world.write("src/helper.py", "WORD = 'judge'\n")
            first.finished()
            first.is_ready()
            assert second.runs() == []
            first.end()
            second.begun()
            second.is_ready()
            world.write("src/helper.py", "WORD = 'other'\n")
            assert second.finished()["executed"] == 1
    assert len(world.json("runs")["items"]) == 3


@pytest.mark.parametrize(("limit", "restarted"), [("30s", True), ("0", False)])
def test_a_change_during_a_run(world: World, limit: str, restarted: bool) -> None:
    """A young step is stopped and started anew with the last content; an old one is let finish first. Others go on."""
    world.write("mlpipe.toml", f"[watch]\nrestart_below = '{limit}'\n[compute.local]\ncpus = 4\n")
    for name in ("one", "two"):
        world.write(f"{name}/step.py", "import sys, time\ntime.sleep(3)\nopen(sys.argv[1], 'w').write('1')\n")
    world.define(
        "a, b = PipelineData('a'), PipelineData('b')\n"
        "one = PythonScriptStep('step.py', name='one', source_directory='one', arguments=[a], outputs=[a])\n"
        "two = PythonScriptStep('step.py', name='two', source_directory='two', arguments=[b], outputs=[b])\n"
        "pipeline = Pipeline(ws, steps=[one, two], name='pair')\n"
    )
    with watching(world) as watch:
        for _ in range(2):
            watch.wait(lambda said: said["_"] == "StepChanged" and said["state"]["value"] == "running")
        time.sleep(1.2)
        world.write("one/step.py", "import sys\nopen(sys.argv[1], 'w').write('2')\n")
        ends = {}
        while len(ends) < 2:
            done = watch.finished()
            ends[done["number"]] = done
    first, second = (ends[number] for number in sorted(ends))
    assert second["executed"] == 1, "only what the change touched"
    assert (first["canceled"], first["executed"]) == ((1, 1) if restarted else (0, 2)), "the other step went on"
    engine_output = world.json("show", str(second["number"]))
    assert engine_output["run"]["state"] == "succeeded"
