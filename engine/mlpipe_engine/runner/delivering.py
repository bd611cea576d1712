"""Outputs that belong into a datastore: delivered after their step, beside the steps that follow, verified and recorded.

The result of a step is whole before its delivery begins. A delivery that fails fails the run, not the step: the next run reuses the
result and delivers again. A reused result is looked for at its destination, and delivered again from the store when it is not there.
Called by `loop`, from its thread; the work is done in threads of its own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, MlpipeError
from mlpipe_engine.model.datastores import BUILT_IN
from mlpipe_engine.model.spec import Json, OutputSpec, PipelineSpec, StepSpec
from mlpipe_engine.planning.parameters import render
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.store.deliveries import Delivery, insert_delivery, last_to
from mlpipe_engine.store.runs import RunQueries

if TYPE_CHECKING:
    from mlpipe_engine.data.objects import ObjectStore
    from mlpipe_engine.model.plan import Result
    from mlpipe_engine.model.records import RunRecord
    from mlpipe_engine.runner.sources import DataSources
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database
    from mlpipe_engine.store.recorder import Recorder

_THREADS = 2


def delivered(step: StepSpec) -> tuple[OutputSpec, ...]:
    """The outputs that go to a datastore. A PipelineData of a built-in one is where it belongs already: in the project's store."""
    return tuple(
        item for item in step.outputs if item.datastore and (item.destination is not None or item.datastore not in BUILT_IN)
    )  # fmt: skip


def delivers(spec: PipelineSpec) -> bool:
    """Such a run is never taken for done by stats alone: what lies at a destination, they do not tell."""
    return any(delivered(step) for step in spec.steps)


@dataclass(frozen=True, slots=True)
class _Parcel:
    run: int
    step: str
    output: str
    artifact: str
    datastore: str
    path: str
    globs: str | None
    overwrite: bool
    last: Delivery | None
    reused: bool

    @property
    def address(self) -> str:
        return f"datastore://{self.datastore}/{self.path}"


class Deliveries:
    """Of one run."""

    def __init__(
        self, run: RunRecord, sources: DataSources, artifacts: ArtifactStore, database: Database, recorder: Recorder,
        parameters: Mapping[str, Json], wake: Callable[[], None],
    ) -> None:  # fmt: skip
        self._run = run
        self._sources = sources
        self._artifacts = artifacts
        self._database = database
        self._recorder = recorder
        self._parameters = parameters
        self._wake = wake
        self._pool: ThreadPoolExecutor | None = None
        self._going: dict[Future[Delivery | None], _Parcel] = {}
        self.errors: list[str] = []

    def begin(self, step: StepSpec, outputs: Mapping[str, str], reused: Result | None = None) -> None:
        """`outputs`: output -> digest of its artifact."""
        for item in delivered(step):
            digest = outputs.get(item.name, "")
            if not digest:
                continue
            try:
                parcel = self._parcel(step, item, digest, reused)
            except MlpipeError as error:
                self._failed(step.name, item.name, f"datastore://{item.datastore}/{item.destination or ''}", error)
                continue
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="deliver")
            future = self._pool.submit(self._deliver, parcel)
            future.add_done_callback(lambda _: self._wake())
            self._going[future] = parcel

    def _parcel(self, step: StepSpec, item: OutputSpec, digest: str, reused: Result | None) -> _Parcel:
        run = RunQueries(self._database).get(reused.run_id) if reused is not None else self._run
        store = item.datastore or ""
        if self._sources.spec(store).is_read_only:
            raise DatastoreError(f"datastore {store!r} is read only", hint="Deliver to another datastore.")
        path = place_of(item, step.name, run, self._parameters)
        address = f"datastore://{store}/{path}"
        return _Parcel(
            self._run.number, step.name, item.name, digest, store, path, item.source_globs, item.overwrite, last_to(self._database, address),
            reused is not None,
        )  # fmt: skip

    def take(self) -> bool:
        """Record what was delivered since the last call; False when nothing is under way any more."""
        for future in [future for future in self._going if future.done()]:
            parcel = self._going.pop(future)
            try:
                delivery = future.result()
            except MlpipeError as error:
                self._failed(parcel.step, parcel.output, parcel.address, error)
                continue
            if delivery is not None:
                self._recorder.put(lambda db, delivery=delivery: insert_delivery(db, delivery))  # type: ignore[misc]
        return bool(self._going)

    def wait(self, seconds: float) -> None:
        wait(self._going, timeout=seconds, return_when=FIRST_COMPLETED)

    def cancel(self) -> None:
        for future in list(self._going):
            if future.cancel():
                self._going.pop(future)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _failed(self, step: str, output: str, address: str, error: MlpipeError) -> None:
        self.errors.append(f"output {output} of step {step} was made, but not delivered to {address}: {error}")

    # In a thread of its own from here on

    def _deliver(self, parcel: _Parcel) -> Delivery | None:
        """None: it lies there already, as it was recorded."""
        from mlpipe_engine.data.transfer import upload

        store = self._sources.store(parcel.datastore)
        try:
            if (
                parcel.last is not None
                and parcel.last.artifact == parcel.artifact
                and _lies_there(store, parcel.path, parcel.last)
            ):
                return None
        except DatastoreUnreachableError as error:
            if not parcel.reused:
                raise
            print(
                f"mlpipe-tui: whether {parcel.address} still holds output {parcel.output} of step {parcel.step} could not be seen: {error}",
                file=sys.stderr,
            )
            return None
        files = _files(self._artifacts.path(parcel.artifact), parcel)
        if not parcel.overwrite:
            _refuse_foreign(store, parcel, files)
        done = upload(store, files, overwrite=True)
        _sweep(store, parcel, {path for _, path in files})
        return Delivery(
            run=parcel.run, step=parcel.step, output=parcel.output, artifact=parcel.artifact, address=parcel.address,
            files=tuple((_below(item.path, parcel.path), item.size, item.version, item.digest) for item in done), delivered_at=utc_now(),
        )  # fmt: skip


def place_of(item: OutputSpec, step: str, run: RunRecord, parameters: Mapping[str, Json]) -> str:
    """Where in its datastore an output of `run` goes. Raises DatastoreError for a parameter nobody knows and for a way out."""
    template = item.destination if item.destination is not None else f"azureml/{{run-id}}/{step}/{item.name}"
    known = {"run-id": run.id, "output-name": item.name, "date": run.created_at[:10], "step": step}

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("param."):
            if name[6:] not in parameters:
                raise DatastoreError(
                    f"the destination {template!r} names the parameter {name[6:]!r}, which the pipeline does not have"
                )
            return re.sub(r"[/\\\0]", "_", render(parameters[name[6:]]))
        return known.get(name, found[0])

    path = re.sub(r"\{([^{}]*)\}", value, template)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise DatastoreError(f"the destination {path!r} leaves the datastore", hint="Use a path without '..'.")
    if path.endswith("/") or not parts:
        parts.append(item.name)
    return "/".join(parts)


def _files(source: str, parcel: _Parcel) -> list[tuple[str, str]]:
    """(local file, path in the datastore): a file goes to the place itself, a folder below it."""
    from mlpipe_engine.data.addresses import translated_glob
    from mlpipe_engine.data.transfer import local_files

    if not os.path.isdir(source):
        return [(source, parcel.path)]
    wanted = translated_glob(parcel.globs) if parcel.globs else None
    found = []
    for file in local_files(source):
        relative = os.path.relpath(file, source).replace(os.sep, "/")
        if wanted is None or wanted.fullmatch(relative):
            found.append((os.path.realpath(file), f"{parcel.path}/{relative}"))
    return found


def _lies_there(store: ObjectStore, path: str, last: Delivery) -> bool:
    from mlpipe_engine.data.objects import retried
    from mlpipe_engine.data.transfer import hash_of

    for name, size, version, digest in last.files:
        item = retried(lambda name=name: store.stat(f"{path}/{name}" if name else path))  # type: ignore[misc]
        if item is None or ((item.size, item.version) != (size, version) and hash_of(store, item) != digest):
            return False
    return True


def _refuse_foreign(store: ObjectStore, parcel: _Parcel, files: list[tuple[str, str]]) -> None:
    """What no run of this project delivered is not overwritten. Raises DatastoreError naming both digests."""
    from mlpipe_engine.data.objects import retried
    from mlpipe_engine.data.transfer import hash_of
    from mlpipe_engine.hashing.files import hash_file

    ours = {name: (version, digest) for name, _, version, digest in parcel.last.files} if parcel.last is not None else {}
    for local, path in files:
        there = retried(lambda path=path: store.stat(path))  # type: ignore[misc]
        if there is None:
            continue
        version, delivered_digest = ours.get(_below(path, parcel.path), ("", ""))
        if version == there.version:
            continue
        digest, given = hash_of(store, there), hash_file(local)
        if digest not in (delivered_digest, given):
            raise DatastoreError(
                f"{path} is there with other bytes ({digest}) than the output ({given}), and no run of this project put it there",
                hint="Remove it, choose another destination, or use as_upload(overwrite=True).",
            )


def _sweep(store: ObjectStore, parcel: _Parcel, kept: set[str]) -> None:
    """Files of the last delivery to this place that are no longer part of the output, as long as nobody changed them since."""
    from mlpipe_engine.data.objects import retried

    for name, _, version, _ in parcel.last.files if parcel.last is not None else ():
        path = f"{parcel.path}/{name}" if name else parcel.path
        if path in kept:
            continue
        there = retried(lambda path=path: store.stat(path))  # type: ignore[misc]
        if there is not None and there.version == version:
            retried(lambda path=path: store.delete(path))  # type: ignore[misc]


def _below(path: str, place: str) -> str:
    """ "" for the place itself."""
    return path[len(place) + 1 :]
