"""The directory of a step that was put away (`executors.spare`), made anew when somebody opens it.

Links to its outputs and inputs, empty logs, step.json, command.sh: what it would hold had it stayed. command.sh comes last, so a
directory that has it is whole. Called by `engine`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from mlpipe_engine.errors import FilesystemError, MlpipeError
from mlpipe_engine.executors import staging
from mlpipe_engine.model.execution import StepTask
from mlpipe_engine.model.plan import Execute, StepPlan
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.runner.collect import leave_links

if TYPE_CHECKING:
    from mlpipe_engine.model.manifest import Manifest
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.results import ResultQueries


def is_open(step_dir: str) -> bool:
    """Whether a directory that had been put away was made anew."""
    return os.path.exists(f"{step_dir}/command.sh")


def open_step(
    run: RunRecord, record: StepRecord, step_dir: str, artifacts: ArtifactStore,
    stage: Callable[[str], tuple[staging.Layout, StepTask]],
) -> None:  # fmt: skip
    """`stage` lays the step out as the run did. Where that is no longer possible (an input is gone) there are its outputs and logs.

    Raises FilesystemError: a project that can only be read stays as it is.
    """
    try:
        shutil.rmtree(step_dir, ignore_errors=True)
        task = None
        try:
            layout, task = stage(step_dir)
            paths = layout.outputs
        except FilesystemError:
            raise
        except MlpipeError:
            os.makedirs(f"{step_dir}/out", exist_ok=True)
            paths = {name: f"{step_dir}/out/{name}" for name, _ in record.outputs}
        for name in ("logs", "code/outputs", "code/logs"):
            os.makedirs(f"{step_dir}/{name}", exist_ok=True)
        for stream in ("stdout", "stderr"):
            os.close(os.open(f"{step_dir}/logs/{stream}.log", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        for path in paths.values():
            with suppress(OSError):
                os.rmdir(path)  # the folder a step finds in the place of an output that is one
        leave_links(paths, [item for item in record.outputs if os.path.lexists(artifacts.path(item[1]))], artifacts)
        if task is not None:
            staging.write_command_file(task)
    except OSError as error:
        raise FilesystemError.of(error, f"make the folder of step {record.name!r} of run {run.number} in", step_dir) from error


def stager(
    run: RunRecord, record: StepRecord, manifest: Manifest | None, decisions: Decisions, artifacts: ArtifactStore, queries: ResultQueries,
    where: tuple[str, str, str],
) -> Callable[[str], tuple[staging.Layout, StepTask]]:  # fmt: skip
    """Lays a step out as the run did. `where`: project, its state folder, its name."""

    def stage(step_dir: str) -> tuple[staging.Layout, StepTask]:
        from mlpipe_engine.model.plan import Cause
        from mlpipe_engine.runner.debugging import await_inputs, bench_parts, recall
        from mlpipe_engine.store.recorder import Recorder

        wanted = recall(run, record, manifest, decisions)
        recorder = Recorder(where[1], lambda: None)
        try:
            parts = bench_parts(run, decisions, decisions.snapshots, artifacts, queries, recorder, where, step_dir)
            plan = StepPlan(step=record.name, decision=Execute((Cause(kind="view", subject="opened"),)), code=wanted.code)
            await_inputs(parts, wanted.step)
            layout, _ = parts.stage(run, wanted.step, plan, record.attempt)
            _, watch = parts.task(run, wanted.step, layout, record.attempt)
        finally:
            recorder.close()
        assert watch.plain is not None
        with suppress(OSError):
            os.unlink(f"{step_dir}/audit")
            os.unlink(f"{step_dir}/command.sh")
        return layout, watch.plain

    return stage
