"""Runs as a script sees them: status, steps, logs, metrics, outputs. Everything is asked of the engine when it is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mlpipe_engine.errors import FilesystemError, InputError, RunFailedError, RunNotFoundError, nearest
from mlpipe_engine.model.events import Event, RunFinished, StepChanged
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.states import FINAL, GOOD, State
from mlpipe_engine.model.text import clean
from mlpipe_engine.sdk.keywords import strict

if TYPE_CHECKING:
    from mlpipe_engine.sdk.experiment import Experiment
    from mlpipe_engine.sdk.workspace import Workspace

_RUN_WORDS = {
    State.QUEUED: "NotStarted", State.RUNNING: "Running", State.SUCCEEDED: "Finished", State.REUSED: "Finished",
    State.FAILED: "Failed", State.CANCELED: "Canceled",
}  # fmt: skip
_UNFINISHED = ("Queued", "Running")
_STEP_WORDS = {**_RUN_WORDS, State.QUEUED: "Queued", State.PREPARING: "Queued", State.SKIPPED: "Bypassed"}


def _metrics(records: tuple[MetricRecord, ...], name: str | None) -> dict[str, object]:
    """A name logged once gives its value, one logged repeatedly a list, as the Azure SDK does."""
    found: dict[str, list[object]] = {}
    for record in records:
        if name is None or record.name == name:
            found.setdefault(record.name, []).append(json.loads(record.value))
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


@strict
class PipelineRun:
    """One execution of a pipeline. `str(run)` is its id.

    >>> import tempfile
    >>> from mlpipe_engine import CommandStep, Pipeline, Workspace
    >>> workspace = Workspace.create("demo", path=tempfile.mkdtemp())
    >>> run = Pipeline(workspace, [CommandStep(["echo", "hello"], name="greet")]).submit("first_try")
    >>> run.wait_for_completion(show_output=False)
    'Finished'
    >>> [(step.name, step.get_stdout_log()) for step in run.get_steps()]
    [('greet', 'hello\\n')]
    """

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        self.workspace = workspace
        self.id = run_id
        self._engine = workspace.engine

    @property
    def record(self) -> RunRecord:
        return self._engine.find_run(self.id)

    @property
    def number(self) -> int:
        return self.record.number

    @property
    def experiment(self) -> Experiment:
        from mlpipe_engine.sdk.experiment import Experiment

        return Experiment(self.workspace, self.record.experiment)

    @property
    def status(self) -> str:
        return self.get_status()

    def get_status(self) -> str:
        """NotStarted, Running, Finished, Failed or Canceled; Interrupted when its runner died."""
        record = self.record
        return "Interrupted" if self._engine.is_interrupted(record) else _RUN_WORDS[record.state]

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float = sys.maxsize, raise_on_error: bool = True
    ) -> str:
        """Wait for the end; returns the status. Raises RunFailedError when it failed, TimeoutError.

        Ctrl-C ends the waiting, not the run.
        """
        deadline = time.monotonic() + min(timeout_seconds, 1e9)
        if show_output:
            print(f"PipelineRun {self.number}: {self.record.pipeline}, experiment {self.record.experiment}")
        try:
            record = self._engine.follow(self.id, _printer if show_output else _silent, deadline=deadline)
        except KeyboardInterrupt:
            print(
                f"\nThe run goes on. Follow it with `mlpipe-tui attach {self.number}`, stop it with `mlpipe-tui cancel {self.number}`.",
                file=sys.stderr,
            )
            raise
        if record.state not in FINAL and not self._engine.is_interrupted(record):
            raise TimeoutError(f"run {record.number} is still {record.state} after {timeout_seconds} s; it goes on")
        status = self.get_status()
        if raise_on_error and record.state not in GOOD:
            failed = [step.name for step in self._engine.steps(self.id) if step.state is State.FAILED]
            way_on = f"Read its log with `mlpipe-tui logs {record.number}{' ' + failed[0] if failed else ''}`."
            raise RunFailedError(
                f"run {record.number} ended as {status}" + (f": step {', '.join(failed)} failed" if failed else "")
                + (f": {record.error}" if record.error and not failed else ""),
                hint=way_on if record.state in FINAL else f"Go on with `mlpipe-tui resume {record.number}`.",
            )  # fmt: skip
        return status

    def get_steps(self) -> Iterator[StepRun]:
        return iter([StepRun(self, step.name) for step in self._engine.steps(self.id)])

    def get_children(self, recursive: bool = False) -> Iterator[StepRun]:
        return self.get_steps()

    def find_step_run(self, name: str) -> list[StepRun]:
        """The step runs of that name: one, or none."""
        return [step for step in self.get_steps() if step.name == name]

    def get_pipeline_output(self, pipeline_output_name: str) -> OutputData:
        """The output whose producer gave it this name for the whole pipeline. Raises RunNotFoundError."""
        found = {
            output.pipeline_output_name: OutputData(self, step.name, output.name)
            for step in self._engine.spec(self.id).steps
            for output in step.outputs
            if output.pipeline_output_name is not None
        }
        if pipeline_output_name in found:
            return found[pipeline_output_name]
        close = nearest(pipeline_output_name, found)
        raise RunNotFoundError(
            f"run {self.number} has no pipeline output {pipeline_output_name!r}"
            + (f"; did you mean {close!r}?" if close else ""),
            expected="" if close else ", ".join(found) or "none: no PipelineData has a pipeline_output_name",
        )

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: object = None, populate: bool = False
    ) -> dict[str, object]:
        """Metrics of the run itself; with `recursive` of its steps too."""
        return _metrics(self._engine.metrics(self.id, None if recursive else ""), name)

    def get_tags(self) -> dict[str, str]:
        return dict(self.record.tags)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self._engine.set_tags(self.id, tags)

    def tag(self, key: str, value: str = "") -> None:
        self.set_tags({key: value})

    def get_properties(self) -> dict[str, str]:
        return dict(self.record.properties)

    def get_details(self) -> dict[str, object]:
        record = self.record
        return {
            "target": "local", "runId": record.id, "number": record.number, "status": self.get_status(), "startTimeUtc": record.started_at,
            "endTimeUtc": record.finished_at, "properties": dict(record.properties), "tags": dict(record.tags), "parameters": dict(record.parameters),
        }  # fmt: skip

    def get_details_with_logs(self) -> dict[str, object]:
        """The details, and under "logFiles" what each step printed."""
        logs = {f"{step.name}/{name}": text for step in self.get_steps() for name, text in step.logs().items()}
        return self.get_details() | {"logFiles": logs}

    @property
    def parent(self) -> PipelineRun | None:
        """The run it was submitted under, if any."""
        parent = self.record.parent or self.get_properties().get("parent_run_id")
        return PipelineRun(self.workspace, parent) if parent is not None else None

    def display(self) -> None:
        """Print the run and the state of its steps."""
        record = self.record
        print(f"PipelineRun {record.number}: {clean(record.pipeline)}, experiment {record.experiment}: {self.get_status()}")
        for step in self.get_steps():
            print(f"  {clean(step.name)}: {step.get_status()}")

    def get_graph(self) -> dict[str, tuple[str, ...]]:
        """Step name -> the steps it needs."""
        from mlpipe_engine.planning.graph import upstream

        return upstream(self._engine.spec(self.id))

    def save(self, path: str | None = None) -> str:
        """Write the pipeline of this run as JSON, which is YAML too; returns the path."""
        from mlpipe_engine.model import wire

        target = path or f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.record.pipeline)}.yml"
        try:
            with open(target, "x", encoding="ascii") as file:
                json.dump(json.loads(wire.dump(self._engine.spec(self.id))), file, indent=2)
        except OSError as error:
            raise FilesystemError.of(error, "write", target) from error
        return target

    def cancel(self) -> None:
        """Stop the run and everything it started."""
        self._engine.cancel(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"PipelineRun(number={self.number}, id={self.id!r})"


@strict
class StepRun:
    """One step of a run.

    >>> import tempfile
    >>> from mlpipe_engine import CommandStep, Pipeline, PipelineData, Workspace
    >>> workspace = Workspace.create("demo", path=tempfile.mkdtemp())
    >>> names = PipelineData("names")
    >>> run = Pipeline(workspace, [CommandStep("echo ada > $names", name="collect", outputs=[names])]).submit("first_try")
    >>> step = run.find_step_run("collect")[0]
    >>> step.wait_for_completion(show_output=False), open(step.get_output_data("names").path).read()
    ('Finished', 'ada\\n')
    """

    def __init__(self, run: PipelineRun, name: str) -> None:
        self.pipeline_run = run
        self.name = name
        self._engine = run._engine

    @property
    def parent(self) -> PipelineRun:
        return self.pipeline_run

    @property
    def record(self) -> StepRecord:
        return self._engine.find_step(self.pipeline_run.id, self.name)

    @property
    def id(self) -> str:
        return f"{self.pipeline_run.id}_{self.name}"

    def get_status(self) -> str:
        """Queued, Running, Finished, Failed, Canceled or Bypassed; Interrupted when the runner died before its end."""
        record = self.record
        gone = record.state not in FINAL and self._engine.is_interrupted(self.pipeline_run.record)
        return "Interrupted" if gone else _STEP_WORDS[record.state]

    @property
    def status(self) -> str:
        return self.get_status()

    def get_outputs(self) -> dict[str, OutputData]:
        return {name: OutputData(self.pipeline_run, self.name, name) for name, _ in self.record.outputs}

    def get_output_data(self, name: str) -> OutputData:
        return OutputData(self.pipeline_run, self.name, name)

    get_output = get_output_data

    def get_stdout_log(self) -> str:
        return _text(self._engine.log_path(self.pipeline_run.id, self.name, "stdout"))

    def get_stderr_log(self) -> str:
        return _text(self._engine.log_path(self.pipeline_run.id, self.name, "stderr"))

    def get_job_log(self) -> str:
        return self.get_stdout_log() + self.get_stderr_log()

    def get_details(self) -> dict[str, object]:
        record = self.record
        return {
            "runId": self.id, "status": self.get_status(), "startTimeUtc": record.started_at, "endTimeUtc": record.finished_at,
            "exit": record.exit, "error": record.error, "reusedFrom": record.reused_from, "causes": [str(cause) for cause in record.causes],
        }  # fmt: skip

    def get_details_with_logs(self) -> dict[str, object]:
        return self.get_details() | {"logFiles": self.logs()}

    def logs(self) -> dict[str, str]:
        return {"stdout.log": self.get_stdout_log(), "stderr.log": self.get_stderr_log()}

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: object = None, populate: bool = False
    ) -> dict[str, object]:
        return _metrics(self._engine.metrics(self.pipeline_run.id, self.name), name)

    def get_file_names(self) -> list[str]:
        return list(self._engine.files(self.pipeline_run.id, self.name))

    def download_file(self, name: str, output_file_path: str | None = None) -> str:
        """Copy a file out; returns where it is. Raises RunNotFoundError with the nearest name."""
        source = self._engine.file_path(self.pipeline_run.id, self.name, name)
        target = output_file_path or os.path.basename(name)
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise FilesystemError.of(error, "write", target) from error
        return target

    def cancel(self) -> None:
        """Stop the run this step belongs to: a step is not canceled alone, because what needs it could not go on."""
        self.pipeline_run.cancel()

    def wait_for_completion(
        self, show_output: bool = True, timeout_seconds: float = sys.maxsize, raise_on_error: bool = True
    ) -> str:
        """Wait for this step alone. Raises RunFailedError when it did not end well, TimeoutError."""
        deadline = time.monotonic() + min(timeout_seconds, 1e9)
        while self.get_status() in _UNFINISHED:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"step {self.name} is still {self.record.state} after {timeout_seconds} s; it goes on")
            time.sleep(0.05)
        record, status = self.record, self.get_status()
        if show_output:
            print(f"StepRun {clean(self.name)}: {status}")
        if raise_on_error and status in ("Failed", "Canceled", "Interrupted"):
            why = record.error or record.exit
            raise RunFailedError(
                f"step {self.name} ended as {status}" + (f": {why}" if why else ""),
                hint=f"Read its log with `mlpipe-tui logs {self.pipeline_run.number} {self.name}`.",
            )
        return status

    def __repr__(self) -> str:
        return f"StepRun({self.name!r}, run={self.pipeline_run.number})"


@strict
class OutputData:
    """An output of a step run: a file or folder in the store, read in place or copied out."""

    def __init__(self, run: PipelineRun, step: str, name: str) -> None:
        self._run, self._step, self.name = run, step, name

    @property
    def path(self) -> str:
        """Where it lies; read-only. Raises RunNotFoundError."""
        return self._run._engine.artifact(self._run.id, self._step, self.name)

    def download(self, local_path: str, overwrite: bool | None = None, show_progress: bool = True) -> int:
        """A private copy at <local_path>/azureml/<step run>/<name>, as the Azure SDK lays it out; returns the number of files."""
        target = os.path.join(local_path, "azureml", f"{self._run.id}_{self._step}", self.name)
        if os.path.lexists(target) and not overwrite:
            raise InputError(f"{target} exists", hint="Use overwrite=True, or another folder.")
        source = self.path  # raises before anything is removed
        try:
            if os.path.lexists(target):
                shutil.rmtree(target) if os.path.isdir(target) and not os.path.islink(target) else os.unlink(target)
            os.makedirs(os.path.dirname(target), exist_ok=True)
        except OSError as error:
            raise FilesystemError.of(error, "replace", target) from error
        self._run._engine.fetch(self._run.id, self._step, self.name, target)
        count = sum(len(names) for _, _, names in os.walk(target)) if os.path.isdir(source) else 1
        if show_progress:
            print(f"Downloaded {self.name}: {count} file{'s' if count != 1 else ''} to {target}")
        return count


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _silent(event: Event) -> None:
    return


def _printer(event: Event) -> None:
    match event:
        case StepChanged(state=State.REUSED):
            print(f"  {clean(event.step)}: reused from run {event.reused_from}")
        case StepChanged(state=state) if state in FINAL:
            cause = f" ({clean(event.error or event.exit)})" if state is State.FAILED else ""
            print(f"  {clean(event.step)}: {state.value}{cause}" + (f" in {event.seconds:.1f} s" if event.seconds else ""))
        case StepChanged(state=State.RUNNING):
            print(f"  {clean(event.step)}: running")
        case RunFinished():
            print(
                f"PipelineRun {event.number}: {_RUN_WORDS[event.state]}; {event.executed} ran, {event.reused} reused, {event.seconds:.1f} s"
            )
