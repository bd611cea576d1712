"""Makes the table a step gets of a dataset: one Parquet or CSV file, made once for equal content, kept like any output.

The work is done by a process of its own (`data.making`), started from a thread beside the loop: a file that crashes a reader, or
takes all memory, ends a step and not the run. `loop` asks `ready` before it starts a step.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import mlpipe_engine
from mlpipe_engine.errors import FilesystemError, InputError, MlpipeError
from mlpipe_engine.model import wire
from mlpipe_engine.model.datasets import Verdict
from mlpipe_engine.model.records import ArtifactRecord, CheckRecord
from mlpipe_engine.model.spec import InputSpec, PathSource, StepSpec
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.store import results, row_counts
from mlpipe_engine.store.locks import is_held

if TYPE_CHECKING:
    from mlpipe_engine.model.records import RunRecord
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.recorder import Recorder

BENCH = "0" * 32
"""The run that a step which is laid out by hand belongs to: it holds no lock."""
_AT_ONCE = 2
"""DuckDB uses all cores for one table already."""


@dataclass(frozen=True)
class Made:
    """What became of the dataset inputs of one step."""

    artifacts: dict[str, str]
    """Input -> the artifact that holds its table."""
    warnings: tuple[str, ...] = ()
    error: MlpipeError | None = None


@dataclass(frozen=True)
class _Job:
    input: str
    key: str
    """"" for files: nothing is made of them, they are only checked."""
    known: str | None
    """The artifact, where the table was made earlier."""
    source: PathSource | None
    content: str
    document: dict[str, object]


class Tables:
    """One per run. `ready`, `made` and `close` are called from the loop's thread."""

    def __init__(
        self, root: str, state_dir: str, run: RunRecord, decisions: Decisions, artifacts: ArtifactStore, recorder: Recorder,
        wake: Callable[[], None],
    ) -> None:  # fmt: skip
        self._root = root
        self._state_dir = state_dir
        self._folder = os.path.join(state_dir, "cache", "making")
        self._run = run
        self._decisions = decisions
        self._artifacts = artifacts
        self._recorder = recorder
        self._wake = wake
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: dict[str, Future[Made]] = {}
        self._done: dict[str, Made] = {}
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._made: dict[str, str] = {}
        self._one_each: dict[str, threading.Lock] = {}
        """By key: two steps that take the same rows wait for one table."""
        self._closed = False

    def ready(self, step: StepSpec) -> bool:
        """Whether what the step needs is made, or could not be. Starts making it when asked for the first time."""
        if not needs_tables(step) or step.name in self._done:
            return True
        future = self._under_way.get(step.name)
        if future is None:
            try:
                jobs = [self._job(step, item) for item in step.inputs if _concerns(item)]
            except MlpipeError as error:
                self._done[step.name] = Made({}, error=error)
                return True
            if all(job.known and not job.document["expectations"] for job in jobs):
                self._done[step.name] = Made({job.input: job.known for job in jobs if job.known})
                return True
            if self._pool is None:
                self._sweep()
                self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tables")
            future = self._under_way[step.name] = self._pool.submit(self._make, step, jobs)
            future.add_done_callback(lambda _: self._wake())
        if not future.done():
            return False
        self._done[step.name] = self._under_way.pop(step.name).result()
        return True

    def made(self, step: StepSpec) -> Made:
        """Prereq: `ready`. Raises why it could not be made, or that something expected of it does not hold."""
        done = self._done[step.name]
        if done.error is not None:
            raise done.error
        return done

    def close(self) -> None:
        self._closed = True
        for process in list(self._processes):
            process.kill()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _job(self, step: StepSpec, item: InputSpec) -> _Job:
        decisions, inputs = self._decisions, self._decisions.datasets
        assert item.use is not None
        content = decisions.content(item, step)
        key = inputs.key(item, step, content, self._artifacts) if item.use.is_table else ""
        known = decisions.table(key) if key else None
        document: dict[str, object] = {
            "definition": wire.dump(inputs.definition(item)), "format": item.use.format, "expectations": wire.dump(item.use.expectations),
            "found": wire.dump(inputs.found(item, step, content, self._artifacts)), "known": known and self._artifacts.path(known),
        }  # fmt: skip
        if not item.use.expectations:
            document["expectations"] = ""
        source = item.source if isinstance(item.source, PathSource) and not inputs.asks_database(item) else None
        return _Job(item.name, key, known, source, content, document)

    def _make(self, step: StepSpec, jobs: list[_Job]) -> Made:
        """In a thread of its own."""
        found: dict[str, str] = {}
        checks: list[CheckRecord] = []
        for job in jobs:
            place = os.path.join(self._folder, f"{self._run.id}-{uuid4().hex}")
            try:
                with self._one_each.setdefault(job.key or place, threading.Lock()):
                    answer = self._made_and_checked(job, place, step, found)
            except MlpipeError as error:
                return Made(
                    found, error=type(error)(f"input {job.input!r}: {error.what}", hint=error.hint, expected=error.expected)
                )
            finally:
                shutil.rmtree(place, ignore_errors=True)
            verdicts = [wire.load(Verdict, text) for text in answer["verdicts"]]
            checks += [CheckRecord(step.name, job.input, verdict.severity, verdict.holds, verdict.text) for verdict in verdicts]
            checks += [CheckRecord(step.name, job.input, "note", False, text) for text in answer["notes"]]
        if checks and self._run.number:
            self._recorder.put(lambda db: row_counts.put_checks(db, self._run.number, checks))
        broken = [check for check in checks if not check.holds]
        failed = [f"input {check.input!r}: {check.text}" for check in broken if check.severity == "fail"]
        unfit = InputError("; ".join(failed), hint="Repair the data, or change what is expected of it.") if failed else None
        return Made(found, tuple(f"input {check.input!r}: {check.text}" for check in broken if check.severity != "fail"), unfit)

    def _made_and_checked(self, job: _Job, place: str, step: StepSpec, found: dict[str, str]) -> dict[str, Any]:
        known = job.known or self._made.get(job.key)
        if known is not None:
            found[job.input] = known
            if not job.document["expectations"]:
                return {"verdicts": [], "notes": []}
            job.document["known"] = self._artifacts.path(known)
        answer = self._ask(job, place)
        if job.key and known is None:
            found[job.input] = self._made[job.key] = self._publish(job, place, step, int(answer["rows"]))
        return answer

    def _sweep(self) -> None:
        """What runs left that were killed while they made a table."""
        for name in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
            run = name.partition("-")[0]
            if run not in (self._run.id, BENCH) and not is_held(os.path.join(self._state_dir, "locks", "runs", run)):
                shutil.rmtree(os.path.join(self._folder, name), ignore_errors=True)

    def _ask(self, job: _Job, place: str) -> dict[str, Any]:
        try:
            os.makedirs(place)
        except OSError as error:
            raise FilesystemError.of(error, "make a table in", place) from error
        request = json.dumps(job.document | {"place": place}).encode("ascii")
        engine_root = os.path.dirname(os.path.dirname(os.path.abspath(mlpipe_engine.__file__)))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [engine_root, os.environ.get("PYTHONPATH", "")]))}
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlpipe_engine.data.making"],  # -P: a module of the project is none of ours
                cwd=self._root, env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise FilesystemError.of(error, "start the program that makes tables") from error
        self._processes.add(process)
        try:
            if self._closed:
                process.kill()
            said, complaint = process.communicate(request)
        finally:
            self._processes.discard(process)
        return _answered(process.returncode, said, complaint)

    def _publish(self, job: _Job, place: str, step: StepSpec, count: int) -> str:
        """Into the artifact store, unless the files changed while they were read."""
        if job.source is not None:
            now = self._decisions.resolver.fresh_path_input(job.source, step).tree.digest
            if now != job.content:
                raise InputError("it changed while it was read", hint="Run the same command again.")
        tree = self._artifacts.publish(os.path.join(place, "table"))
        record = ArtifactRecord(digest=tree.digest, kind="file", size_bytes=tree.size_bytes, file_count=tree.file_count)
        signature = self._artifacts.signature(tree.digest)

        def statement(db: Any) -> None:
            results.upsert_artifact(db, record, signature, utc_now())
            row_counts.put_table(db, job.key, tree.digest)
            row_counts.put_counts(db, [(tree.digest, count)])

        self._recorder.put(statement, durable=True)
        return tree.digest


def _answered(code: int, said: bytes, complaint: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(said)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and "error" not in answer:
        return answer
    if isinstance(answer, dict):
        error = answer["error"]
        raise InputError(error["what"], hint=error["hint"], expected=error["expected"])
    last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"it ended with {code}"]
    killed = " (was it killed for want of memory?)" if code == -9 else ""
    raise InputError(
        f"the program that reads tables ended{killed}: {last[0]}", hint="Look at the file with `mlpipe-tui data head`."
    )


def needs_tables(step: StepSpec) -> bool:
    """Whether something has to be made, or checked, before it can start."""
    return any(map(_concerns, step.inputs))


def _concerns(item: InputSpec) -> bool:
    return item.use is not None and (item.use.is_table or bool(item.use.expectations))
