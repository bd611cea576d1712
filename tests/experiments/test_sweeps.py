"""Sweeps: shared steps are made once, one failure stops nobody, Ctrl-C stops all, and `resume` goes on with what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.records import RunRecord, Sweep
from mlpipe_engine.model.states import FINAL
from worlds import World

DEFINITION = """
data, model = PipelineData("data"), PipelineData("model")
lr, depth = PipelineParameter("lr", 0.5), PipelineParameter("depth", 3)
prep = CommandStep(["sh", "prep.sh", data], name="prep", outputs=[data], source_directory="src")
train = PythonScriptStep("train.py", name="train", arguments=[data, model, lr, depth], inputs=[data], outputs=[model], source_directory="src")
pipeline = Pipeline(ws, [prep, train], name="demo")
"""
TRAIN = """
import os, sys
from mlpipe_run import Run
data, model, lr, depth = sys.argv[1:]
if os.path.exists(os.path.join(ROOT, "slow")) and depth == "5":
    open(os.path.join(ROOT, "started"), "w").close()
    import time
    time.sleep(60)
if depth == "4" and not os.path.exists(os.path.join(ROOT, "mended")):
    sys.exit("four is too deep")
Run.get_context().log("rmse", float(lr) * int(depth))
open(model, "w").write(lr + depth)
"""


@pytest.fixture
def demo(world: World) -> World:
    world.write("src/prep.sh", f'echo once >> "{world.root}/prepared"; echo data > "$1"\n')
    world.write("src/train.py", f"ROOT = {str(world.root)!r}\n{TRAIN}")
    world.define(DEFINITION)
    return world


def sweep_runs(world: World, text: str = "latest") -> tuple[RunRecord, ...]:
    engine = Engine.open(str(world.root))
    return engine.sweep_runs(engine.find_run(text).id)


def test_a_grid_runs_every_point_and_shares_what_is_the_same(demo: World) -> None:
    done = demo.cli("run", "--grid", "lr=0.1,0.2", "--grid", "depth=3,5", "--metric", "rmse", "--goal", "min")
    assert done.returncode == 0, done.stderr
    assert (demo.root / "prepared").read_text() == "once\n", "the shared step was made once"
    assert "sweep 1: demo, 4 runs (2 lr x 2 depth)" in done.stdout
    table = done.stdout.split("\n\n")[1].splitlines()
    assert table[0].split() == ["run", "state", "took", "lr", "depth", "rmse"] or table[0].split()[3:] == ["depth", "lr", "rmse"]
    assert "0.3 (best)" in table[1] and [line.split()[-1] for line in table[2:]] == ["0.5", "0.6", "1"]
    assert "sweep 1 succeeded in" in done.stdout and "4 runs, 4 succeeded" in done.stdout
    listed = demo.json("runs")["items"]
    assert [(item["number"], item["kind"], item["runs"]) for item in listed] == [(1, "sweep", {"succeeded": 4})]
    assert "4 runs, 4 succeeded" in demo.cli("runs").stdout
    shown = demo.json("show", "1")
    assert {(row["parameters"]["lr"], row["parameters"]["depth"]) for row in shown["items"]} == {
        (0.1, 3),
        (0.1, 5),
        (0.2, 3),
        (0.2, 5),
    }
    child = demo.json("show", "2")["run"]
    assert child["kind"] == "run" and child["parent"] == listed[0]["id"] and child["tags"]["grid"].startswith("depth=")
    assert "part of" in demo.cli("show", "2").stdout
    best = demo.json("compare", "1", "--metric", "rmse", "--goal", "max")["items"][0]
    assert best["best"] and best["metrics"]["rmse"] == 1.0
    again = demo.cli("run", "--grid", "lr=0.1,0.2", "--grid", "depth=3,5")
    assert "sweep 6 is up to date" in again.stdout and "4 runs, 4 reused" in again.stdout


def test_a_failed_run_does_not_stop_the_others_and_resume_runs_what_is_missing(demo: World) -> None:
    done = demo.cli("run", "--grid", "depth=3,4,5", "--parallel", "1")
    assert done.returncode == 1
    assert "3 runs, 2 succeeded, 1 failed" in done.stdout and "train exited 1" in done.stdout
    assert "mlpipe-tui resume 1" in done.stdout
    demo.write("mended", "")
    resumed = demo.cli("resume", "1")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "sweep 5 succeeded" in resumed.stdout and "3 runs, 1 succeeded, 2 reused" in resumed.stdout
    assert Engine.open(str(demo.root)).find_run("5").resumed_from == Engine.open(str(demo.root)).find_run("1").id


def test_fail_fast_cancels_the_rest(demo: World) -> None:
    done = demo.cli("run", "--grid", "depth=4,3,5,6", "--parallel", "1", "--fail-fast")
    assert done.returncode == 1
    assert "4 runs, 1 failed, 3 canceled" in done.stdout and "run 2 failed; the others were canceled" in done.stdout


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(demo: World) -> subprocess.Popen[str]:
    """A sweep of which one run sleeps and one waits behind it."""
    demo.write("slow", "")
    process = subprocess.Popen(
        demo.command("run", "--grid", "depth=3,5,6", "--parallel", "1"), cwd=demo.root, env=demo.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    wait_for(demo.root / "started")
    return process


def test_ctrl_c_cancels_every_run(demo: World) -> None:
    process = start(demo)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "3 runs, 1 succeeded, 2 canceled" in out
    assert all(run.state in FINAL for run in sweep_runs(demo))
    (demo.root / "slow").unlink()
    resumed = demo.cli("resume", "1")
    assert resumed.returncode == 0 and "3 runs, 2 succeeded, 1 reused" in resumed.stdout


def test_a_sweep_whose_process_is_killed_is_interrupted_and_goes_on_as_the_same_one(demo: World) -> None:
    process = start(demo)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    engine = Engine.open(str(demo.root))
    sweep = engine.find_run("1")
    assert engine.is_interrupted(sweep)
    done, busy, waiting = engine.sweep_runs(sweep.id)
    assert not engine.is_interrupted(busy), "a run that runs goes on without the process that started it"
    assert engine.is_interrupted(waiting)
    assert "interrupted" in demo.cli("runs").stdout and "Go on with `mlpipe-tui resume 1`" in demo.cli("show", "1").stdout
    engine.cancel(busy.id)
    engine.follow(busy.id)
    (demo.root / "slow").unlink()
    resumed = demo.cli("resume", "1")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    runs = sweep_runs(demo, "1")
    assert [run.state for run in runs] == ["succeeded"] * 3 and runs[0].id == done.id and runs[-1].resumed_from == busy.id


def test_a_detached_sweep_is_followed_and_canceled_from_elsewhere(demo: World) -> None:
    demo.write("slow", "")
    started = demo.cli("run", "--grid", "depth=3,5", "--parallel", "1", "-d")
    assert started.returncode == 0 and "sweep 1 started in the background: 2 runs" in started.stdout
    wait_for(demo.root / "started")
    with pytest.raises(UsageError, match="sweep 1 is running"):
        engine = Engine.open(str(demo.root))
        engine.drive_sweep(engine.find_run("1").id)
    assert demo.cli("cancel", "1").returncode == 0
    attached = demo.cli("attach", "1")
    assert attached.returncode == 130 and "2 runs, 1 succeeded, 1 canceled" in attached.stdout


def test_a_sweep_with_nothing_right_starts_nothing(demo: World) -> None:
    for words, said in (
        (("--grid", "dpeth=3"), "did you mean 'depth'"),
        (("--grid", "depth=x"), "an integer"),
        (("--grid", "depth=3", "--param", "depth=4"), "by --param and by --grid"),
        (("--grid", "depth=3", "--parallel", "0"), "--parallel got 0"),
        (("--grid", "depth=3", "--metric", "rmse"), "--metric and --goal go together"),
        (("--grid", "depth=3", "--metric", "rmse", "--goal", "low"), "min or max"),
        (("--parallel", "2"), "--parallel is for sweeps"),
    ):
        done = demo.cli("run", *words)
        assert done.returncode in (2, 3) and said in done.stderr, done.stderr
    assert not (demo.root / ".mlpipe/state.db").exists()


def test_a_sweep_is_not_taken_for_a_run_with_steps(demo: World) -> None:
    demo.cli("run", "--grid", "depth=3", "--grid", "lr=1")
    assert "has no steps of its own" in demo.cli("diff", "1", "2").stderr
    assert "export its runs" in demo.cli("export", "1").stderr


def test_ten_thousand_points_are_folded_in_one_query(demo: World) -> None:
    engine = Engine.open(str(demo.root))
    axes = (("depth", tuple(range(100))), ("lr", tuple(at / 100 for at in range(20))))
    sweep_id = engine.start_sweep(engine.pipeline(), demo.options(), Sweep(axes=axes, parallel=1))
    began = time.monotonic()
    assert engine.sweep_states((sweep_id,)) == {sweep_id: {"queued": 2000}}
    assert [run.kind for run in engine.runs(limit=10)] == ["sweep"] and engine.interrupted()[0].id == sweep_id
    assert time.monotonic() - began < 2.0
    engine.cancel(sweep_id)
    assert engine.sweep_states((sweep_id,)) == {sweep_id: {"canceled": 2000}}
