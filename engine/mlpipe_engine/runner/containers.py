"""Steps in containers, seen from a run: their images are there before it starts, their tasks show only what they declared.

A container sees its step directory, the step side of the engine and its inputs, each at the path it has on this machine; so argv,
step.json and tracebacks read the same whichever way a step runs (docs/decisions/0045). Called by `parts` and by `engine`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlpipe_engine.errors import FilesystemError, MlpipeError
from mlpipe_engine.executors import staging
from mlpipe_engine.executors.containers import marks
from mlpipe_engine.executors.containers.creation import LABEL, container_name, thread_variables
from mlpipe_engine.executors.containers.engines import EngineAccess
from mlpipe_engine.executors.containers.executor import removed
from mlpipe_engine.executors.leases import machine_memory_bytes
from mlpipe_engine.model.execution import Container, StepTask
from mlpipe_engine.runner import parts as run_parts
from mlpipe_engine.runner.watching import Watch

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig
    from mlpipe_engine.executors.containers.images import StepImage
    from mlpipe_engine.executors.shared import SharedLease
    from mlpipe_engine.model.plan import StepPlan
    from mlpipe_engine.model.records import RunRecord
    from mlpipe_engine.model.spec import StepSpec
    from mlpipe_engine.runner.collect import Borrowed
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.runner.parts import RunParts

MAX_FILE_MOUNTS = 64
"""An input of more single files is copied: every mount costs the start of the container."""


def provide_images(decisions: Decisions, selection: frozenset[str], say: Callable[[str], None]) -> None:
    """Steps that the plan reuses need no engine. Raises EnvironmentProblem, ExecutorUnavailableError, FilesystemError."""
    for step in decisions.spec.steps:
        compute = decisions.compute_of(step)
        if step.name not in selection or decisions.is_planned_reuse(step.name):
            continue
        image = decisions.resolver.image(step, compute)
        if image is not None:
            decisions.resolver.images.provide(image, say)


def container_task(
    parts: RunParts, run: RunRecord, step: StepSpec, layout: staging.Layout, attempt_id: str, about: staging.Circumstances, image: StepImage,
    plan: StepPlan, shared: SharedLease | None,
) -> tuple[StepTask, Watch]:  # fmt: skip
    """Raises FilesystemError, EnvironmentProblem, ExecutorUnavailableError."""
    resolver = parts.decisions.resolver
    compute = resolver.compute(parts.decisions.compute_of(step))
    sdk, hook = run_parts.sdk_dir(parts.state_dir), run_parts.roots_hook(layout)
    declared = dict(step.environment_variables)
    environment = base_environment(step, layout, image)
    environment |= staging.variables(step, layout, parts.parameters, about)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [sdk, hook, declared.get("PYTHONPATH")]))
    # no MLPIPE_RUN and no MLPIPE_ATTEMPT: by them processes of dead runners are found and ended, and containers outlive theirs
    words = staging.argv(step, layout, parts.parameters, image.python, sdk)
    program = (
        words[0] if os.path.isabs(words[0]) or "/" not in words[0] else os.path.normpath(os.path.join(layout.code, words[0]))
    )
    gpus = shared.gpus if shared is not None else None
    container = Container(
        image=resolver.images.provide(image, lambda text: None), engine=compute.engine, user=f"{os.geteuid()}:{os.getegid()}",
        network=compute.network, cpus=cpu_limit(step), memory_bytes=memory_limit(step, compute), shm_bytes=compute.shm_bytes,
        pids=compute.pids, scratch=scratch(image), gpus=gpus.ids if gpus is not None else (), labels=labels(parts.state_dir, run, step),
        mark=_marked(parts.state_dir, run, step, compute, attempt_id, plan),
    )  # fmt: skip
    task = StepTask(
        attempt_id=attempt_id, step_dir=layout.step_dir, argv=(program, *words[1:]), cwd=layout.code,
        environment=tuple(sorted(environment.items())), stdout_path=f"{layout.step_dir}/logs/stdout.log",
        stderr_path=f"{layout.step_dir}/logs/stderr.log", timeout_seconds=step.timeout_seconds, resources=step.resources,
        mounts=((sdk, sdk), *lent_mounts(layout)), container=container,
    )  # fmt: skip
    _write_command_file(task)
    if gpus is not None:
        gpus.record(f"{layout.step_dir}/logs/gpu.csv")
    if not resolver.images.engine(compute.engine).facts.local:
        parts.snapshots.no_reads_seen(layout.code)
    return task, Watch(None, resolver.stats)


def _marked(
    state_dir: str, run: RunRecord, step: StepSpec, compute: ComputeConfig, attempt_id: str, plan: StepPlan
) -> str:  # fmt: skip
    if plan.manifest is None:  # laid out by hand: nobody starts it for a run
        return ""
    fingerprint = plan.manifest.fingerprint
    return marks.write(
        state_dir, marks.Mark(attempt=attempt_id, run=run.id, step=step.name, engine=compute.engine, fingerprint=fingerprint)
    )


def adopt(
    parts: RunParts, run: RunRecord, step: StepSpec, plan: StepPlan
) -> tuple[staging.Layout, list[Borrowed], StepTask, Watch] | None:  # fmt: skip
    """The newest container of this execution that still runs or has ended by itself; others of the step are removed."""
    assert plan.manifest is not None
    for mark in [mark for mark in marks.read_all(parts.state_dir) if (mark.run, mark.step) == (run.id, step.name)]:
        engine = parts.decisions.resolver.images.engine(mark.engine)
        found = _container_of(engine, mark, project_label(parts.state_dir))
        step_dir = parts.step_dir(run, step.name)
        started = found is not None and found["State"]["Status"] in ("running", "paused", "exited")
        if found is None or not started or mark.fingerprint != plan.manifest.fingerprint or not os.path.isdir(step_dir):
            if found is None or removed(engine, found["Id"]):
                marks.remove(marks.path_of(parts.state_dir, mark.attempt))
            continue
        _forget_reports(parts, run, step)
        layout = staging.laid_out(step, step_dir)
        container = Container(
            image=found["Image"], engine=mark.engine, memory_bytes=found["HostConfig"]["Memory"] or None, adopted=found["Id"],
            mark=marks.path_of(parts.state_dir, mark.attempt),
        )  # fmt: skip
        task = StepTask(
            attempt_id=mark.attempt, step_dir=step_dir, argv=(), cwd=layout.code, environment=(), stdout_path=f"{step_dir}/logs/stdout.log",
            stderr_path=f"{step_dir}/logs/stderr.log", timeout_seconds=step.timeout_seconds, resources=step.resources, container=container,
        )  # fmt: skip
        return layout, parts.inputs(step)[1], task, Watch(None, parts.decisions.resolver.stats)
    return None


def _container_of(engine: EngineAccess, mark: marks.Mark, project: str) -> dict[str, Any] | None:
    """Raises ExecutorUnavailableError. One of another project (this folder is a copy) is not ours."""
    from docker.errors import NotFound

    from mlpipe_engine.executors.containers.engines import unavailable

    try:
        found: dict[str, Any] = engine.client().inspect_container(container_name(mark.attempt))
    except NotFound:
        return None
    except Exception as error:
        raise unavailable(engine.url, error) from error
    return found if (found["Config"].get("Labels") or {}).get(f"{LABEL}.project") == project else None


def _forget_reports(parts: RunParts, run: RunRecord, step: StepSpec) -> None:
    """What the step reported is read again from its first line."""

    def statement(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM metrics WHERE run = ? AND (step = ? OR origin = ?)", (run.number, step.name, step.name))

    parts.recorder.put(statement)


def reap_containers(state_dir: str, is_over: Callable[[str], bool]) -> int:
    """Remove what runs that are over left behind; how many. An engine that does not answer is asked another time."""
    gone, silent = 0, set[str]()
    for mark in marks.read_all(state_dir):
        if mark.engine in silent or not is_over(mark.run):
            continue
        try:
            engine = EngineAccess(mark.engine)
            found = _container_of(engine, mark, project_label(state_dir))
        except MlpipeError:
            silent.add(mark.engine)
            continue
        if found is None or removed(engine, found["Id"]):
            gone += found is not None
            marks.remove(marks.path_of(state_dir, mark.attempt))
    return gone


def base_environment(step: StepSpec, layout: staging.Layout, image: StepImage) -> dict[str, str]:
    """What a step gets besides what the image says and the step declares; PATH is the image's own."""
    home = next(iter(scratch(image)), f"{layout.step_dir}/tmp")
    found = {
        "HOME": home, "USER": "mlpipe", "LOGNAME": "mlpipe", "LANG": "C.UTF-8", "TZ": "UTC", "SHELL": "/bin/sh", "TMPDIR": f"{layout.step_dir}/tmp",
        "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1", **thread_variables(cpu_limit(step)),
    }  # fmt: skip
    if image.contents is not None and any(path.endswith("/pyvenv.cfg") for path, _ in image.contents.files):
        found["VIRTUAL_ENV"] = os.path.dirname(os.path.dirname(image.python))
    return found


def scratch(image: StepImage) -> tuple[str, ...]:
    """None of our own where an interpreter lies below /tmp: it would be hidden."""
    contents = image.contents
    below = contents is not None and any(
        path.startswith("/tmp/") for path in (contents.interpreter, *contents.trees, *contents.sites)
    )
    return () if below else ("/tmp",)


def cpu_limit(step: StepSpec) -> float | None:
    """Only what its author asked for: the number of threads a step starts may show in its numbers, so by default it sees what a process sees."""
    return step.resources.cpus if step.resources.cpus_asked and step.resources.cpus else None


def memory_limit(step: StepSpec, compute: ComputeConfig) -> int:
    """What the step asked for, else what its target has, else nine tenths of the machine: a step may not take it down."""
    return step.resources.memory_bytes or compute.memory_bytes or machine_memory_bytes() * 9 // 10


def labels(state_dir: str, run: RunRecord, step: StepSpec) -> tuple[tuple[str, str], ...]:
    values = {"project": project_label(state_dir), "run": run.id, "number": str(run.number), "step": step.name}
    return tuple(sorted((f"{LABEL}.{name}", value) for name, value in values.items()))


def project_label(state_dir: str) -> str:
    """Of this folder on this machine: a copy of a project has containers of its own."""
    info = os.stat(state_dir)
    return f"{info.st_dev}-{info.st_ino}"


def lent_mounts(layout: staging.Layout) -> tuple[tuple[str, str], ...]:
    """(real path, the path a link in in/ names): what is lent is mounted where the links lead. Many single files become copies."""
    found: dict[str, str] = {}
    with _telling(layout.step_dir):
        for place in layout.inputs.values():
            links = list(_links(place))
            if len(links) > MAX_FILE_MOUNTS:
                _copy_links(links)
                continue
            found |= {os.readlink(link): os.path.realpath(link) for link in links}
    return tuple((source, target) for target, source in sorted(found.items()))


def _links(place: str) -> Iterator[str]:
    if os.path.islink(place):
        yield place
        return
    for folder, folders, names in os.walk(place):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            if os.path.islink(path) and os.path.isabs(os.readlink(path)):
                yield path


def _copy_links(links: list[str]) -> None:
    for link in links:
        source = os.path.realpath(link)
        os.unlink(link)
        shutil.copy2(source, link)


@contextmanager
def _telling(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FilesystemError.of(error, "lay out", error.filename or folder) from error


def _write_command_file(task: StepTask) -> None:
    """command.sh repeats the step by hand: the same container, by the docker command."""
    staging.write_command_file(by_hand(task))


def by_hand(task: StepTask) -> StepTask:
    """The docker command that runs the same container, as a process."""
    from dataclasses import replace

    asked = task.container
    assert asked is not None
    words = [
        "docker",
        *(["-H", asked.engine] if asked.engine else []),
        "run",
        "--rm",
        "--init",
        "--read-only",
        "--network",
        asked.network,
    ]
    words += [
        "--tmpfs",
        "/tmp:rw,exec,mode=1777",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "-u",
        asked.user,
        "-w",
        task.cwd,
    ]
    words += ["--mount", f"type=bind,src={task.step_dir},dst={task.step_dir}"]
    for source, target in task.mounts:
        words += ["--mount", f"type=bind,src={source},dst={target},readonly"]
    values: Mapping[str, str] = dict(task.environment)
    words += [word for name in values for word in ("-e", f"{name}={values[name]}")]
    program = shutil.which("docker") or "docker"
    return replace(
        task,
        argv=(program, *words[1:], "--entrypoint", task.argv[0], asked.image, *task.argv[1:]),
        environment=(("PATH", os.defpath),),
    )
