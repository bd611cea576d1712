"""A run hosted in this process: its parts are made, signals are taken, the loop is driven, what was learnt is kept.

Called by `engine` in the process that holds the run's lock.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from mlpipe_engine.errors import FilesystemError, MlpipeError
from mlpipe_engine.executors.leases import Leases
from mlpipe_engine.executors.process import ProcessExecutor
from mlpipe_engine.executors.routing import RoutingExecutor
from mlpipe_engine.executors.spare import Laid, SpareFolders, sweep
from mlpipe_engine.model.events import Event
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import GOOD
from mlpipe_engine.planning.graph import upstream
from mlpipe_engine.runner.loop import Run
from mlpipe_engine.runner.parts import RunParts
from mlpipe_engine.runner.tables import Tables
from mlpipe_engine.store import results, runs
from mlpipe_engine.store.documents import pairs
from mlpipe_engine.store.flights import Flights
from mlpipe_engine.store.journal import Journal
from mlpipe_engine.store.locks import is_held, try_lock
from mlpipe_engine.store.recorder import Recorder

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ProjectConfig
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.runner.delivering import Deliveries
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database


class Ahead:
    """What the next run needs, whichever it will be, made while nobody waits for it."""

    def __init__(self, state_dir: str, config: ProjectConfig, executor: ProcessExecutor | None = None) -> None:
        self.executor = executor or ProcessExecutor()
        self.executor.launch()
        self.journal = Journal(state_dir)
        window = {"window_seconds": 0.0} if executor is not None else {}  # of a rehearsal nobody waits for the end
        self.recorder = Recorder(state_dir, _nothing_yet, self.journal, merges=False, **window)
        self.leases = _leases(config)
        self.laid = Laid(os.path.join(state_dir, "spare", uuid4().hex))
        self._life = f"{self.laid.folder}/life"
        self._lock: int | None = None
        with suppress(MlpipeError):  # the run tries again, and tells what is wrong
            self.leases.open()
            self._lock = try_lock(self._life, f"pid {os.getpid()}")

    def take_lock(self, path: str) -> int | None:
        """That of the run, as `locks.try_lock` gives it; made ahead, it only gets its name now."""
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                os.rename(self._life, path)
                return lock
            except OSError:  # cleaned up
                os.close(lock)
        return try_lock(path, f"pid {os.getpid()}")

    def close(self) -> None:
        """For one that no run has taken."""
        self.executor.close()
        self.recorder.close()
        self.leases.close()
        if self._lock is not None:
            os.close(self._lock)
        shutil.rmtree(self.laid.folder, ignore_errors=True)


def _nothing_yet() -> None:
    raise AssertionError("the recorder is told how to sync before anything is put")


def _leases(config: ProjectConfig) -> Leases:
    return Leases(cpus=config.compute(config.default_compute).cpus)


@dataclass(frozen=True, kw_only=True)
class Site:
    """The project a run is hosted in."""

    root: str
    state_dir: str
    config: ProjectConfig
    database: Database
    artifacts: ArtifactStore
    """The store the recorder syncs is the one the loop publishes to."""
    can_trace: bool
    """Whether this file system shows which code files a step read."""
    ahead: Ahead | None = None


def host_run(site: Site, run: RunRecord, decisions: Decisions, selection: frozenset[str], sink: Callable[[Event], None]) -> None:
    """Returns when the run is final. Raises FilesystemError, StoreError when the machine gives up; the run can be resumed then."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wake() -> None:
        try:
            os.write(writing, b".")
        except OSError:
            pass  # full: it wakes anyway; closed: nobody sleeps any more

    journal = site.ahead.journal if site.ahead is not None else Journal(site.state_dir)
    journal.begin(site.database)
    is_watched = run.source == "watch"  # the next save follows soon, and is not to wait for the disk
    recorder = (
        site.ahead.recorder
        if site.ahead is not None
        else Recorder(site.state_dir, site.artifacts.sync, journal, merges=not is_watched)
    )
    recorder.syncs_with(site.artifacts.sync)
    recorder.on_failure(wake)
    recorder.after_group(wake)
    leases = site.ahead.leases if site.ahead is not None else _leases(site.config)
    with Signals(wake) as signals:
        try:
            parts = _parts(site, run, decisions, selection, recorder, journal, leases, signals, wake, reading)
            loop = Run(
                run, parts, sink, partial(_keep_git_facts, site, run, recorder), is_new=site.ahead is not None
            )  # fmt: skip
            loop.number_steps(*_rows(site, run))
            _keep_learnt(decisions, recorder)
            loop.execute()
        finally:
            leases.close()
            os.close(reading)
            os.close(writing)


def _parts(
    site: Site, run: RunRecord, decisions: Decisions, selection: frozenset[str], recorder: Recorder, journal: Journal,
    leases: Leases, signals: Signals, wake: Callable[[], None], wake_fd: int,
) -> RunParts:  # fmt: skip
    queries = runs.RunQueries(site.database)
    snapshots = decisions.snapshots
    snapshots.trace_if(site.can_trace)
    before = {
        step.name: dict(step.outputs) for step in queries.steps(run) if step.state in GOOD
    } if site.ahead is None else {}  # fmt: skip
    results_of = results.ResultQueries(site.database)
    decisions.use_store(site.database, results_of, site.artifacts)
    executor = site.ahead.executor if site.ahead is not None else ProcessExecutor()
    executor.wake_by(wake_fd)
    return RunParts(
        root=site.root, state_dir=site.state_dir, workspace=site.config.name, spec=decisions.spec, options=decisions.options,
        parameters=decisions.parameters, selection=selection, parents=decisions.parents or upstream(decisions.spec), finished_before=before,
        decisions=decisions, snapshots=snapshots, artifacts=site.artifacts, queries=results_of,
        executor=RoutingExecutor(executor, wake), leases=leases, flights=Flights(site.state_dir), spare=_spare(site, run),
        recorder=recorder, journal=journal, max_log_bytes=site.config.store.max_log_bytes,
        deliveries=_deliveries(site, run, decisions, recorder, wake),
        place=_place(site.state_dir), signaled=lambda: signals.received,
        cancel_requested=lambda: queries.cancel_requested(run.id), superseded=lambda: _superseded(queries, run), wake=wake,
        maker=lambda fingerprint, step: queries.maker(fingerprint, run.number, step),
        tables=Tables(site.root, site.state_dir, run, decisions, site.artifacts, recorder, wake),
    )  # fmt: skip


def _spare(site: Site, run: RunRecord) -> SpareFolders:
    folder, lives = os.path.join(site.state_dir, "spare"), os.path.join(site.state_dir, "locks", "runs")
    if site.ahead is not None:
        return SpareFolders(site.ahead.laid.folder, site.ahead.laid)
    sweep(
        folder, lambda name: name != run.id and is_held(os.path.join(lives, name))
    )  # that of this run may be there after a crash
    return SpareFolders(os.path.join(folder, run.id))


def _deliveries(
    site: Site, run: RunRecord, decisions: Decisions, recorder: Recorder, wake: Callable[[], None]
) -> Deliveries | None:  # fmt: skip
    if not decisions.spec.uses_datastores:
        return None  # nothing of it is imported where nothing is delivered
    from mlpipe_engine.runner.delivering import Deliveries, delivers

    if not delivers(decisions.spec) or decisions.resolver.datastores is None:
        return None
    return Deliveries(
        run, decisions.resolver.datastores, site.artifacts, site.database, recorder, decisions.parameters, wake
    )  # fmt: skip


def _superseded(queries: runs.RunQueries, run: RunRecord) -> tuple[str, ...]:
    """Only runs of a watcher are."""
    return queries.superseded(run.id) if run.source == "watch" else ()


def _place(folder: str) -> tuple[int, int]:
    info = os.stat(folder)
    return info.st_dev, info.st_ino


def _rows(site: Site, run: RunRecord) -> tuple[dict[str, int], int]:
    """Row numbers of the steps, and the next free change mark (a resumed run goes on counting)."""
    database = site.database
    rows = database.query("SELECT name, idx, changed FROM step_runs WHERE run = ?", (run.number,))
    return {str(row[0]): int(str(row[1])) for row in rows}, max((int(str(row[2])) for row in rows), default=0) + 1


def _keep_git_facts(site: Site, run: RunRecord, recorder: Recorder) -> None:
    """In a thread beside the run: asking git takes longer than many a run."""

    def ask() -> None:
        from mlpipe_engine.snapshots.git import git_facts

        facts, diff = git_facts(site.root)
        if not facts:
            return
        if diff:
            folder = os.path.join(site.state_dir, "runs", run.experiment, str(run.number))
            try:
                os.makedirs(folder, exist_ok=True)
                with open(os.path.join(folder, "git.diff"), "wb") as file:
                    file.write(diff)
            except OSError:
                facts["azureml.git.diff"] = "could not be saved"
        merged = pairs(sorted((dict(run.properties) | facts).items()))
        try:
            recorder.put(lambda db: runs.update_run(db, run.id, properties=merged))
        except (FilesystemError, RuntimeError):
            return

    if os.path.isdir(os.path.join(site.root, ".git")) or _inside_git(site.root):
        thread = threading.Thread(target=ask, name="git", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: the run goes on without git's facts
            return
        recorder.before_close(thread.join)


def _inside_git(folder: str) -> bool:
    while folder != os.path.dirname(folder):
        if os.path.exists(os.path.join(folder, ".git")):
            return True
        folder = os.path.dirname(folder)
    return False


def _keep_learnt(decisions: Decisions, recorder: Recorder) -> None:
    """Digests of files and descriptions of environments that are worth remembering."""
    rows, texts = decisions.resolver.stat_rows(), dict(decisions.resolver.to_cache)
    if rows or texts:

        def statement(db: object) -> None:
            results.put_stat_rows(db, rows)  # type: ignore[arg-type]
            for key, text in texts.items():
                results.put_cached(db, key, text)  # type: ignore[arg-type]

        recorder.put(statement)


class Signals:
    """SIGINT and SIGTERM as a flag, while a run is hosted in the main thread of a process."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.received: int | None = None
        self._wake = wake
        self._old: dict[int, object] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._take)
        return self

    def _take(self, number: int, frame: object) -> None:
        self.received = number
        self._wake()

    def __exit__(self, *_: object) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)  # type: ignore[arg-type]
