"""Everything one run works with, wired together, and the file work that is the same for every executor.

Built by `engine` from its adapters; `loop` only sees this. Holds no state of the run besides what it was built with.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import mlpipe_engine
from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.executors import staging, tools
from mlpipe_engine.model.execution import StepTask
from mlpipe_engine.model.plan import StepPlan
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.spec import InputSpec, Json, PathSource, PipelineSpec, StepOutputSource, StepSpec, SubmitOptions
from mlpipe_engine.ports import Executor
from mlpipe_engine.runner import watching
from mlpipe_engine.runner.collect import Borrowed, leave_links
from mlpipe_engine.runner.decisions import Decisions
from mlpipe_engine.runner.tables import Tables, needs_tables
from mlpipe_engine.runner.warming import warmed
from mlpipe_engine.runner.watching import Watch
from mlpipe_engine.store import results
from mlpipe_engine.store.journal import Journal
from mlpipe_engine.store.recorder import Recorder

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig
    from mlpipe_engine.executors.interpreters import EnvironmentDescription
    from mlpipe_engine.executors.leases import Leases
    from mlpipe_engine.executors.shared import SharedLease, Shares
    from mlpipe_engine.executors.spare import SpareFolders
    from mlpipe_engine.runner.delivering import Deliveries
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.flights import Flights
    from mlpipe_engine.store.results import ResultQueries


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RunParts:
    root: str
    state_dir: str
    workspace: str
    spec: PipelineSpec
    options: SubmitOptions
    parameters: Mapping[str, Json]
    selection: frozenset[str]
    parents: Mapping[str, tuple[str, ...]]
    finished_before: Mapping[str, Mapping[str, str]]
    """Outputs of steps that were final when an interrupted run was resumed."""
    decisions: Decisions
    snapshots: SourceSnapshots
    artifacts: ArtifactStore
    queries: ResultQueries
    executor: Executor
    leases: Leases
    flights: Flights
    spare: SpareFolders | None
    recorder: Recorder
    journal: Journal
    max_log_bytes: int
    place: tuple[int, int]
    """Device and inode of the state folder when the run began."""
    signaled: Callable[[], int | None]
    """The signal that asked for the end of the run."""
    cancel_requested: Callable[[], bool]
    """Another process asked for it."""
    superseded: Callable[[], tuple[str, ...]]
    """Steps that another process says are made from files that have changed."""
    wake: Callable[[], None]
    tables: Tables
    maker: Callable[[str, str], int | None]
    """The run that makes the result of a fingerprint, other than for the step of that name."""
    deliveries: Deliveries | None = None
    """Where an output of the pipeline goes to a datastore."""

    def require_project(self) -> None:
        """Raises FilesystemError when the project's state was deleted under the run: nothing may make half of it anew."""
        try:
            info = os.stat(self.state_dir)
        except OSError:
            info = None
        if info is None or (info.st_dev, info.st_ino) != self.place:
            raise FilesystemError(
                f"{self.state_dir} was deleted or replaced while the run was going on; the run was stopped",
                hint="Run the pipeline again; what was stored there is gone.",
            )

    def step_dir(self, run: RunRecord, step: str) -> str:
        return f"{self.state_dir}/runs/{run.experiment}/{run.number}/{step}"

    def stage(self, run: RunRecord, step: StepSpec, plan: StepPlan, attempt: int) -> tuple[staging.Layout, list[Borrowed]]:
        """Raises StagingError, SnapshotError, FilesystemError."""
        step_dir = self.step_dir(run, step.name)
        self._move_earlier(step_dir)
        lent, borrowed = self.inputs(step)
        lay_out = None
        if plan.code is not None:
            self.snapshots.save(plan.code, self.decisions.resolver.directory(step))
            lay_out = partial(self.snapshots.lay_out, plan.code)
        about = self.about(run, step, attempt)
        if self.spare is None or not self.is_plain(step):
            return staging.lay_out(step, step_dir, lent, lay_out, about), borrowed
        return staging.lay_out(step, step_dir, lent, lay_out, about, self.spare.take, self.spare.link), borrowed

    def is_plain(self, step: StepSpec) -> bool:
        """Whether its directory may turn out to hold nothing worth keeping."""
        return (
            self.spare is not None
            and step.kind != "python"
            and step.source_directory is None
            and self._compute(step).kind != "docker"
        )

    def put_away(self, step: StepSpec, layout: staging.Layout, watch: Watch) -> str:
        """Take back the directory of a plain step that ended well; "" when something in it is worth keeping, and then it stays.

        What is given is what its row says of it: the interpreter, which step.json would have told.
        """
        assert self.spare is not None
        return self._interpreter(step) if watch.is_silent() and self.spare.put_away(layout) else ""

    def keep(self, layout: staging.Layout, watch: Watch, outputs: tuple[tuple[str, str], ...]) -> None:
        """The directory of a plain step stays: it gets what people look for in it. A full disk is the step's own trouble."""
        assert watch.plain is not None
        try:
            leave_links(layout.outputs, outputs, self.artifacts)
            staging.write_command_file(watch.plain)
        except (OSError, FilesystemError):
            with suppress(OSError):
                os.unlink(f"{layout.step_dir}/command.sh")

    def about(self, run: RunRecord, step: StepSpec, attempt: int) -> staging.Circumstances:
        return staging.Circumstances(
            run_id=run.id, run_number=run.number, attempt_id=f"{run.id}_{step.name}_{attempt}", experiment=run.experiment,
            pipeline=run.pipeline, workspace=self.workspace, root=self.root, parameters=self.parameters,
            tags=dict(run.tags), properties=dict(run.properties), interpreter=self._interpreter(step),
        )  # fmt: skip

    def _interpreter(self, step: StepSpec) -> str:
        interpreter, description = self.decisions.resolver.interpreter(step, self.decisions.compute_of(step))
        return f"{interpreter.path}, {description.version.split()[0]} ({interpreter.how})"

    def _move_earlier(self, step_dir: str) -> None:
        """An earlier attempt keeps its files beside the new one."""
        if not os.path.lexists(step_dir):
            return
        number = 1
        while os.path.lexists(f"{step_dir}.attempt-{number}"):
            number += 1
        try:
            os.rename(step_dir, f"{step_dir}.attempt-{number}")
        except OSError as error:
            raise FilesystemError.of(error, "move aside", step_dir) from error

    def inputs(self, step: StepSpec) -> tuple[list[staging.Lent], list[Borrowed]]:
        lent, borrowed = [], []
        tables = self.tables.made(step).artifacts if needs_tables(step) else {}
        for item in step.inputs:
            if item.name in tables:
                digest = tables[item.name]
                borrowed.append(self._borrowed(item.name, digest))
                assert item.use is not None
                lent.append(staging.Lent(
                    name=item.name, source=self.artifacts.path(digest), files=None, mode=item.mode,
                    path_on_compute=item.path_on_compute or f"{item.name}.{item.use.format}", format=item.use.format,
                    copy=partial(self.artifacts.copy_out, digest),
                ))  # fmt: skip
                continue
            if item.use is not None and item.use.chooses_files:
                lent.append(self._chosen(item, step))
                changed = partial(self._choice_changed, item, step, self.decisions.content(item, step))
                borrowed.append(Borrowed(name=item.name, digest="", signature="", changed_since=changed))
                continue
            match item.source:
                case StepOutputSource(producer, output):
                    digest = self.decisions.output(producer, output) or ""
                    source, files = self.artifacts.path(digest), None
                    copy: Callable[[str], None] = partial(self.artifacts.copy_out, digest)
                    borrowed.append(self._borrowed(item.name, digest))
                case PathSource():
                    found = self.decisions.resolver.path_input(item.source, step)
                    source, files = found.base, found.files
                    copy = partial(_copy_path, found.base, found.files)
                    changed = partial(self._path_changed, item.source, step, found.tree.digest)
                    borrowed.append(Borrowed(name=item.name, digest=found.tree.digest, signature="", changed_since=changed))
            lent.append(staging.Lent(
                name=item.name, source=source, files=files, mode=item.mode, path_on_compute=item.path_on_compute, copy=copy
            ))  # fmt: skip
        return lent, borrowed

    def warnings(self, step: StepSpec) -> tuple[str, ...]:
        """What was expected of its inputs with "warn" and does not hold. Prereq: it was staged."""
        return self.tables.made(step).warnings if needs_tables(step) else ()

    def _chosen(self, item: InputSpec, step: StepSpec) -> staging.Lent:
        """A folder of links to the files that were chosen."""
        found = self.decisions.datasets.found(item, step, "", None)
        links = tuple((file.path, file.local) for file in found)
        return staging.Lent(
            name=item.name, source=self.root, files=(), links=links, mode=item.mode, path_on_compute=item.path_on_compute,
            copy=partial(_copy_files, links),
        )  # fmt: skip

    def _choice_changed(self, item: InputSpec, step: StepSpec, content: str) -> bool:
        from mlpipe_engine.errors import MlpipeError

        try:
            assert isinstance(item.source, PathSource)
            self.decisions.resolver.fresh_path_input(item.source, step)
            return self.decisions.content(item, step) != content
        except MlpipeError:
            return True

    def _borrowed(self, name: str, digest: str) -> Borrowed:
        return Borrowed(name=name, digest=digest, signature=self.artifacts.signature(digest), changed_since=None)

    def inputs_ready(self, step: StepSpec) -> bool:
        """Whether the step can be staged now; if not, `wake` is called when it can."""
        return not needs_tables(step) or self.tables.ready(step)

    def _path_changed(self, source: PathSource, step: StepSpec, digest: str) -> bool:
        from mlpipe_engine.errors import MlpipeError

        try:
            return self.decisions.resolver.fresh_path_input(source, step).tree.digest != digest
        except MlpipeError:
            return True

    def shares(self, step: StepSpec) -> bool:
        """Whether the step needs something of which there are a few: GPUs, a slot of its pool."""
        compute = self._compute(step)
        return bool(step.resources.gpus or compute.max_nodes or compute.gpus_per_node)

    def lease_shared(self, run: RunRecord, step: StepSpec) -> SharedLease | None:
        """None while others hold too many. Prereq: `shares`. Raises FilesystemError."""
        from mlpipe_engine.executors.shared import lease_shared

        return lease_shared(step.resources, self._compute_shares(step), f"step {step.name} of run {run.number}")

    def shared_holders(self, step: StepSpec) -> str:
        """Who has what the step waits for."""
        from mlpipe_engine.executors.shared import holders

        return holders(step.resources, self._compute_shares(step))

    def _compute_shares(self, step: StepSpec) -> Shares:
        from mlpipe_engine.executors.shared import Shares

        compute = self._compute(step)
        folder = f"{self.state_dir}/locks/pools/{compute.name}"
        return Shares(gpus=compute.gpus, gpus_per_node=compute.gpus_per_node, slots=compute.max_nodes, folder=folder)

    def in_order(self, attempts: list[T], step_of: Callable[[T], StepSpec]) -> list[T]:
        """As they should start: those of targets with low priority last."""
        if not self.decisions.resolver.has_low_priority:
            return list(attempts)
        return sorted(attempts, key=lambda attempt: self._compute(step_of(attempt)).priority == "lowpriority")

    def _compute(self, step: StepSpec) -> ComputeConfig:
        return self.decisions.resolver.compute(self.decisions.compute_of(step))

    def adopt(
        self, run: RunRecord, step: StepSpec, plan: StepPlan
    ) -> tuple[staging.Layout, list[Borrowed], StepTask, Watch] | None:  # fmt: skip
        """A container of this step that outlived an earlier runner of the run; None where there is none."""
        if not os.path.isdir(f"{self.state_dir}/locks/containers"):
            return None
        from mlpipe_engine.runner.containers import adopt

        return adopt(self, run, step, plan)

    def task(
        self, run: RunRecord, step: StepSpec, layout: staging.Layout, attempt: int, plan: StepPlan, shared: SharedLease | None = None
    ) -> tuple[StepTask, Watch]:  # fmt: skip
        """Raises FilesystemError, EnvironmentProblem, ExecutorUnavailableError."""
        from mlpipe_engine.executors import interpreters

        attempt_id = uuid4().hex
        image = self.decisions.resolver.image(step, self.decisions.compute_of(step))
        if image is not None:
            from mlpipe_engine.runner.containers import container_task

            return container_task(self, run, step, layout, attempt_id, self.about(run, step, attempt), image, plan, shared)
        interpreter, description = self.decisions.resolver.interpreter(step, self.decisions.compute_of(step))
        environment = interpreters.base_environment(interpreter, layout.step_dir, f"{self.state_dir}/home")
        if description.loose_sources:
            # Python trusts a .pyc whose second and size match; one left beside code that is edited twice in a second would be stale
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment |= staging.variables(step, layout, self.parameters, self.about(run, step, attempt))
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [sdk_dir(self.state_dir), roots_hook(layout), dict(step.environment_variables).get("PYTHONPATH")])
        )
        environment |= {"MLPIPE_ATTEMPT": attempt_id, "MLPIPE_RUN": run.id}
        if shared is not None and shared.gpus is not None:
            environment |= shared.gpus.variables()
            shared.gpus.record(f"{layout.step_dir}/logs/gpu.csv")
        words = staging.argv(step, layout, self.parameters, interpreter.path, sdk_dir(self.state_dir))
        task = StepTask(
            attempt_id=attempt_id, step_dir=layout.step_dir,
            argv=(interpreters.program_path(words[0], interpreter, layout.code), *words[1:]),
            cwd=layout.code, environment=tuple(sorted(environment.items())),
            stdout_path=f"{layout.step_dir}/logs/stdout.log", stderr_path=f"{layout.step_dir}/logs/stderr.log",
            timeout_seconds=step.timeout_seconds, resources=step.resources,
        )  # fmt: skip
        if not self.is_plain(step):
            staging.write_command_file(task)
        return self._watched(step, layout, task, description)

    def _watched(
        self, step: StepSpec, layout: staging.Layout, task: StepTask, description: EnvironmentDescription
    ) -> tuple[StepTask, Watch]:
        resolver, sdk, home = self.decisions.resolver, sdk_dir(self.state_dir), f"{self.state_dir}/home"
        compute = resolver.compute(self.decisions.compute_of(step))
        source = resolver.directory(step) if step.source_directory is not None else ""
        known = (sdk, home, task.argv[0])
        scope = watching.scope_of(step, layout, compute, description, root=self.root, known=known, source=source)
        strict = compute.isolation == "strict"
        task = watching.watched(task, scope, compute, layout, sdk, home)
        return warmed(task, step, compute, scope, self.state_dir), Watch(scope, resolver.stats, strict, task)

    def keep_digests(self) -> None:
        """Digests of undeclared files that were computed while the run went on."""
        rows = self.decisions.resolver.stat_rows()
        if rows:
            self.recorder.put(lambda db: results.put_stat_rows(db, rows))

    def quarantine(self, digest: str, why: str) -> None:
        """Never offered again; its bytes are kept for inspection."""
        self.artifacts.quarantine(digest)

        def statement(db: sqlite3.Connection) -> None:
            results.withdraw_results_with(db, digest, why)
            db.execute("DELETE FROM artifacts WHERE digest = ?", (digest,))

        self.recorder.put(statement)
        print(f"mlpipe-tui: a stored output was damaged ({why}); it was moved to quarantine and is made again", file=sys.stderr)


def _copy_path(base: str, files: tuple[str, ...] | None, destination: str) -> None:
    """A private, writable copy of an input outside the store."""
    if files is None and not os.path.isdir(base):
        shutil.copyfile(base, destination)
        return
    if files is None:
        shutil.copytree(base, destination, symlinks=True)
        return
    for file in files:
        target = os.path.join(destination, file)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.join(base, file), target)


def _copy_files(links: tuple[tuple[str, str], ...], destination: str) -> None:
    os.makedirs(destination)
    for inside, local in links:
        target = os.path.join(destination, inside)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(local, target)


def roots_hook(layout: staging.Layout) -> str | None:
    """Where a step has private copies of code from beside its source directory."""
    from mlpipe_engine.snapshots.roots import hook_folder

    folder = hook_folder(layout.step_dir)
    return folder if os.path.isdir(folder) else None


@lru_cache(maxsize=4)
def sdk_dir(state_dir: str) -> str:
    """A copy of the step side in the project: a step imports nothing from where the engine is installed."""
    from hashlib import sha256

    step_side = os.path.join(
        os.path.dirname(os.path.dirname(mlpipe_engine.__file__)), "mlpipe_run.py"
    )  # not by name: another may stand before it
    witness = os.path.join(os.path.dirname(staging.__file__), "step_audit.py")
    bodies = {}
    for name, origin in (("mlpipe_run.py", step_side), ("audit/sitecustomize.py", witness), *tools.programs().items()):
        with open(origin, "rb") as file:
            bodies[name] = file.read()
    folder = f"{state_dir}/sdk/{sha256(b''.join(bodies.values())).hexdigest()[:16]}"
    path = folder
    try:
        os.makedirs(f"{state_dir}/home", exist_ok=True)
        for name in bodies:
            os.makedirs(os.path.dirname(f"{folder}/{name}"), exist_ok=True)
        for name, body in bodies.items():
            path = f"{folder}/{name}"
            if not os.path.exists(path):
                temporary = f"{path}.{uuid4().hex}"
                with open(temporary, "wb") as copy:
                    copy.write(body)
                os.replace(temporary, path)
    except OSError as error:
        raise FilesystemError.of(error, "write", path) from error
    _drop_torn_bytecode(folder)
    return folder


def _drop_torn_bytecode(folder: str) -> None:
    """Python writes a short .pyc on a full disk, takes it for whole ever after, and every step would fail on it."""
    from importlib.machinery import SourcelessFileLoader

    caches = (f"{place}/__pycache__" for place in (folder, f"{folder}/audit"))
    for path in [f"{cache}/{name}" for cache in caches if os.path.isdir(cache) for name in os.listdir(cache)]:
        try:
            SourcelessFileLoader("torn", path).get_code("torn")
        except ImportError:
            continue  # of another Python
        except (EOFError, ValueError, TypeError):
            with suppress(OSError):
                os.unlink(path)
        except OSError:
            continue
