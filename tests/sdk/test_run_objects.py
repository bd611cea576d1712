"""Runs as a script sees them: waiting, status, logs, metrics, outputs, and what happens when something goes wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlpipe_engine import (
    CommandStep,
    DefinitionError,
    Experiment,
    InputError,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PipelineRun,
    PythonScriptStep,
    RunFailedError,
    Workspace,
)  # fmt: skip
from mlpipe_engine.errors import FilesystemError, RunNotFoundError
from worlds import World


def test_a_run_object_answers_everything(world: World, tmp_path: Path) -> None:
    world.write(
        "src/s.py",
        "import sys\nfrom mlpipe_run import Run\nprint('out')\nprint('err', file=sys.stderr)\nRun.get_context().log('m', 1)\nopen(sys.argv[1], 'w').write('x')\n",
    )
    ws = Workspace.from_config(world.root)
    o = PipelineData("o", pipeline_output_name="result")
    good = PythonScriptStep("s.py", name="good", arguments=[o], outputs=[o], source_directory="src")
    bad = CommandStep("exit 2", name="bad")
    bad.run_after(good)
    run = Pipeline(ws, [good, bad], name="p").submit("e")
    with pytest.raises(RunFailedError, match="step bad failed"):
        run.wait_for_completion(show_output=False)
    assert isinstance(run, PipelineRun) and str(run) == run.id and run.get_status() == "Failed"
    assert {step.name: step.get_status() for step in run.get_steps()} == {"good": "Finished", "bad": "Failed"}
    (step,) = run.find_step_run("good")
    assert (step.get_stdout_log(), step.get_stderr_log(), step.get_metrics()) == ("out\n", "err\n", {"m": 1})
    assert run.get_metrics(recursive=True) == {"m": 1} and run.get_metrics() == {}
    assert run.get_pipeline_output("result").download(str(tmp_path)) == 1
    assert (tmp_path / "azureml" / f"{run.id}_good" / "o").read_text() == "x"
    assert run.get_graph() == {"good": (), "bad": ("good",)}
    run.set_tags({"a": "b"})
    assert run.get_tags() == {"a": "b"} and run.get_details()["status"] == "Failed"


def test_waiting_can_time_out_and_the_run_goes_on(world: World) -> None:
    ws = Workspace.from_config(world.root)
    run = Pipeline(ws, [CommandStep(["sleep", "5"], name="s")], name="p").submit("e")
    with pytest.raises(TimeoutError, match="it goes on"):
        run.wait_for_completion(show_output=False, timeout_seconds=0.2)
    run.cancel()
    assert run.wait_for_completion(show_output=False, raise_on_error=False) == "Canceled"


def test_a_run_whose_runner_died_says_so_and_is_not_waited_for(world: World) -> None:
    ws = Workspace.from_config(world.root)
    run = Pipeline(ws, [CommandStep(["sleep", "60"], name="s")], name="p").submit("e")
    (step,) = run.find_step_run("s")
    wait_for(lambda: step.get_status() == "Running")
    os.kill(runner_of(run), signal.SIGKILL)
    wait_for(lambda: run.get_status() == "Interrupted")
    assert step.get_status() == "Interrupted"
    with pytest.raises(RunFailedError, match="run 1 ended as Interrupted") as caught:
        run.wait_for_completion(show_output=False)
    assert caught.value.hint == "Go on with `mlpipe-tui resume 1`."
    with pytest.raises(RunFailedError, match="step s ended as Interrupted"):
        step.wait_for_completion(show_output=False)
    run.cancel()
    assert (run.get_status(), step.get_status()) == ("Canceled", "Canceled")


def runner_of(run: PipelineRun) -> int:
    return int(Path(run.workspace.root, ".mlpipe/locks/runs", run.id).read_text().split()[1])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in 20 s"
        time.sleep(0.02)


def test_waiting_for_one_step(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    ws = Workspace.from_config(world.root)
    quick, slow = CommandStep(["true"], name="quick"), CommandStep(["sleep", "60"], name="slow")
    run = Pipeline(ws, [quick, slow], name="p").submit("e")
    assert run.find_step_run("quick")[0].wait_for_completion() == "Finished"
    (step,) = run.find_step_run("slow")
    with pytest.raises(TimeoutError, match="step slow is still .* after 0.1 s; it goes on"):
        step.wait_for_completion(timeout_seconds=0.1)
    run.cancel()
    with pytest.raises(RunFailedError, match="step slow ended as Canceled"):
        step.wait_for_completion()
    assert capsys.readouterr().out == "StepRun quick: Finished\nStepRun slow: Canceled\n"
    run.display()
    assert capsys.readouterr().out == "PipelineRun 1: p, experiment e: Canceled\n  quick: Finished\n  slow: Canceled\n"
    assert run.get_details_with_logs()["logFiles"] == {
        "quick/stdout.log": "", "quick/stderr.log": "", "slow/stdout.log": "", "slow/stderr.log": "",
    }  # fmt: skip


def test_outputs_are_copied_out_and_never_lost_on_the_way(world: World, tmp_path: Path) -> None:
    ws = Workspace.from_config(world.root)
    o = PipelineData("o", pipeline_output_name="result")
    run = Pipeline(ws, [CommandStep("mkdir $o; echo 1 > $o/a; echo 2 > $o/b", name="s", outputs=[o])], name="p").submit("e")
    run.wait_for_completion(show_output=False)
    output = run.get_pipeline_output("result")
    place = tmp_path / "azureml" / f"{run.id}_s" / "o"
    assert output.download(str(tmp_path), show_progress=False) == 2
    (place / "a").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        output.download(str(tmp_path))
    assert output.download(str(tmp_path), overwrite=True) == 2 and (place / "a").read_text() == "1\n"
    with pytest.raises(RunNotFoundError, match="no pipeline output 'reslt'; did you mean 'result'"):
        run.get_pipeline_output("reslt")
    with pytest.raises(RunNotFoundError, match="no output 'oo'"):
        run.find_step_run("s")[0].get_output_data("oo").download(str(tmp_path), overwrite=True)
    with pytest.raises(FilesystemError, match="cannot write"):
        run.save(str(tmp_path / "no" / "folder.yml"))


def test_a_run_can_stand_under_another(world: World) -> None:
    ws = Workspace.from_config(world.root)
    pipeline = Pipeline(ws, [CommandStep(["true"], name="s", allow_reuse=False)], name="p")
    first = pipeline.submit("e")
    first.wait_for_completion(show_output=False)
    second = pipeline.submit("e", parent_run_id=first.id, tags={"a": 1})
    second.wait_for_completion(show_output=False)
    assert first.parent is None and second.parent is not None and second.parent.id == first.id
    assert second.get_tags() == {"a": "1"}
    with pytest.raises(RunNotFoundError):
        pipeline.submit("e", parent_run_id="nobody")


def test_parameters_of_a_submission_are_checked_before_anything_starts(world: World) -> None:
    ws = Workspace.from_config(world.root)
    pipeline = Pipeline(ws, [CommandStep(["echo", PipelineParameter("x", None)], name="s")], name="p")
    for value, says in (({"a": 1}, "a dict cannot be a parameter"), (Path("x"), "a PosixPath cannot be a parameter")):
        with pytest.raises(TypeError, match=says):
            pipeline.submit("e", pipeline_parameters={"x": value})
    with pytest.raises(DefinitionError, match="no parameter 'y'"):
        pipeline.submit("e", pipeline_parameters={"y": 1})
    assert not (world.root / ".mlpipe").exists()


def test_many_run_objects_share_one_connection(world: World) -> None:
    ws = Workspace.from_config(world.root)
    Pipeline(ws, [CommandStep(["true"], name="s")], name="p").submit("e").wait_for_completion(show_output=False)
    runs = [ws.get_run("1") for _ in range(30)]
    before = len(os.listdir("/proc/self/fd"))
    assert {run.get_status() for run in [*runs, *Experiment(ws, "e").get_runs()]} == {"Finished"}
    assert len(os.listdir("/proc/self/fd")) == before
