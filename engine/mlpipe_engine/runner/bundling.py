"""A run taken out of a project as one file, and brought into another one. Called by `engine`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import uuid4

from mlpipe_engine.errors import ArtifactCorruptedError, FilesystemError, InputError, MlpipeError, UsageError, nearest
from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.hashing.scan import walk_artifact
from mlpipe_engine.model.bundle import Bundle, BundleFacts
from mlpipe_engine.model.manifest import Manifest, Section
from mlpipe_engine.model.plan import Result
from mlpipe_engine.model.records import ArtifactRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import PathSource, PipelineSpec, StepOutputSource, StepSpec
from mlpipe_engine.model.states import FINAL
from mlpipe_engine.model.trees import Tree
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.runner.versions import without_names
from mlpipe_engine.snapshots.git import without_credentials
from mlpipe_engine.store import imported
from mlpipe_engine.store.bundles import Archive, lay_out
from mlpipe_engine.store.documents import read_manifest
from mlpipe_engine.store.results import ResultQueries
from mlpipe_engine.store.runs import RunQueries

if TYPE_CHECKING:
    from mlpipe_engine.runner.resolve import Resolver
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database


@dataclass(frozen=True, kw_only=True)
class Source:
    """The project a run is taken out of."""

    root: str
    name: str
    database: Database
    artifacts: ArtifactStore
    snapshots: SourceSnapshots
    resolver: Resolver | None
    """None where the run has no steps of its own."""


class Gathering:
    """Collects what of a run goes into a bundle, and where each of its bytes lies."""

    def __init__(self, source: Source, run: RunRecord) -> None:
        """Raises UsageError for what cannot be exported."""
        if run.kind != "run":
            kind = "a sweep: export its runs" if run.kind == "sweep" else "a child run of a step, which has no steps of its own"
            raise UsageError(
                f"run {run.number} is {kind}",
                hint=f"List them with `mlpipe-tui show {run.number}`." if run.kind == "sweep" else "",
            )
        if run.state not in FINAL:
            raise UsageError(f"run {run.number} is {run.state}; only a run that has ended can be taken along")
        self._source, self._run = source, run
        queries = RunQueries(source.database)
        self._spec, self._options = without_names(queries.spec(run), source.database), queries.options(run.id)
        self._steps = queries.steps(run)
        self.places: dict[str, str] = {}
        """Digest -> where its bytes lie."""
        self._left_out: list[str] = []

    def bundle(self, outputs: str, *, inputs: bool, logs: bool = True) -> Bundle:
        """`outputs`: "last" (of steps that feed no other), "all", "none", or names `output` or `step.output` with commas."""
        results = {step.name: found for step in self._steps if (found := self._result(step)) is not None}
        manifests = self._manifests(results)
        artifacts = self._artifacts(outputs)
        code = self._code(results)
        path_inputs = self._inputs(results, manifests) if inputs else {}
        shown = self._run if self._run.mirrors is None else RunQueries(self._source.database).get(self._run.mirrors)
        metrics = ResultQueries(self._source.database).metrics(shown.number, None)
        properties = tuple((name, without_credentials(value)) for name, value in self._run.properties)
        return Bundle(
            project=self._source.name, run=replace(self._run, properties=properties, mirrors=None, parent=None, resumed_from=None),
            options=replace(self._options, resumed_from=None), spec=_without_machine_paths(self._spec, self._source.root),
            steps=tuple(replace(step, result_id=None, compared_with=None, reused_from=None) for step in self._steps),
            results=results, manifests=manifests, metrics=tuple(replace(metric, run_id="", seq=0) for metric in metrics),
            artifacts=artifacts, code=code, inputs=path_inputs, logs=self._logs() if logs else (), left_out=tuple(self._left_out),
        )  # fmt: skip

    def _result(self, step: StepRecord) -> Result | None:
        found = ResultQueries(self._source.database).get(step.result_id) if step.result_id is not None else None
        return replace(found, id=0, run_id="", run_number=0) if found is not None else None

    def _manifests(self, results: dict[str, Result]) -> dict[str, Manifest]:
        found = {}
        for fingerprint in {result.fingerprint for result in results.values()} | {step.fingerprint for step in self._steps}:
            manifest = read_manifest(self._source.database, fingerprint)
            if manifest is not None:
                found[fingerprint] = manifest
        return found

    def _artifacts(self, outputs: str) -> dict[str, Tree]:
        found: dict[str, Tree] = {}
        for step, name, digest in self._chosen(outputs):
            path = self._source.artifacts.path(digest)
            if not os.path.lexists(path):
                self._left_out.append(f"output {name} of step {step}: its bytes are no longer in the store")
                continue
            tree = walk_artifact(path)[0]
            if tree.digest != digest:
                raise ArtifactCorruptedError(
                    f"the stored output {name} of step {step} is damaged", hint="Run the pipeline again."
                )
            found[digest] = tree
            self._take(tree, path)
        return found

    def _chosen(self, outputs: str) -> list[tuple[str, str, str]]:
        made = [(step.name, name, digest) for step in self._steps for name, digest in step.outputs if digest]
        if outputs == "all":
            return made
        if outputs == "none":
            return []
        if outputs == "last":
            feeds = {
                item.source.step for step in self._spec.steps for item in step.inputs if isinstance(item.source, StepOutputSource)
            }
            return [item for item in made if item[0] not in feeds]
        names = {name: item for item in made for name in (item[1], f"{item[0]}.{item[1]}")}
        chosen = []
        for word in outputs.split(","):
            if word not in names:
                close = nearest(word, names)
                raise UsageError(
                    f"run {self._run.number} made no output {word!r}" + (f"; did you mean {close!r}?" if close else ""),
                    expected="last, all, none, or names of outputs: " + ", ".join(f"{item[0]}.{item[1]}" for item in made),
                )
            chosen += [item for item in made if word in (item[1], f"{item[0]}.{item[1]}")]
        return chosen

    def _take(self, tree: Tree, base: str) -> None:
        for entry in tree.entries:
            if entry.kind in "fx":
                self.places.setdefault(entry.digest, f"{base}/{entry.path}" if entry.path else base)

    def _code(self, results: dict[str, Result]) -> dict[str, Tree]:
        found: dict[str, Tree] = {}
        for step in self._steps:
            snapshot = results[step.name].snapshot if step.name in results else step.snapshot
            if not snapshot or snapshot in found:
                continue
            tree = self._source.snapshots.load(snapshot)
            if tree is None:
                self._left_out.append(f"code of step {step.name}: it is no longer kept")
                continue
            found[snapshot] = tree
            for entry in tree.entries:
                if entry.kind in "fx":
                    self.places.setdefault(entry.digest, self._source.snapshots.blob_path(entry.digest))
        return found

    def _inputs(self, results: dict[str, Result], manifests: dict[str, Manifest]) -> dict[str, Tree]:
        """Files outside the store, where they are still what the step read."""
        found: dict[str, Tree] = {}
        specs = {step.name: step for step in self._spec.steps}
        for record in self._steps:
            step = specs[record.name]
            fingerprint = results[step.name].fingerprint if step.name in results else record.fingerprint
            wanted = input_digests(manifests.get(fingerprint))
            for item in step.inputs:
                if not isinstance(item.source, PathSource) or item.name not in wanted or wanted[item.name] in found:
                    continue
                base, tree = self._path(item.source, step)
                if tree is None or tree.digest != wanted[item.name]:
                    self._left_out.append(f"input {item.name} of step {step.name}: it is no longer what the step read")
                    continue
                found[tree.digest] = tree
                self._take(tree, base)
        return found

    def _path(self, source: PathSource, step: StepSpec) -> tuple[str, Tree | None]:
        assert self._source.resolver is not None
        try:
            found = self._source.resolver.path_input(source, step)
        except MlpipeError:
            return "", None
        return found.base, found.tree

    def _logs(self) -> tuple[tuple[str, str, str], ...]:
        found = []
        queries = RunQueries(self._source.database)
        for step in self._steps:
            made_in = queries.get(step.reused_from) if step.reused_from is not None else self._run
            result = ResultQueries(self._source.database).get(step.result_id) if step.result_id is not None else None
            name = result.step if result is not None else step.name
            folder = os.path.join(self._source.root, ".mlpipe", "runs", made_in.experiment, str(made_in.number), name, "logs")
            for stream in ("stdout", "stderr"):
                path = os.path.join(folder, f"{stream}.log")
                if os.path.isfile(path) and os.path.getsize(path):
                    digest = hash_file(path)
                    self.places.setdefault(digest, path)
                    found.append((step.name, stream, digest))
        return tuple(found)


def input_digests(manifest: Manifest | None) -> dict[str, str]:
    """Input name -> content digest, as it was hashed."""
    entries = manifest.entries if manifest is not None else ()
    return {
        entry.name: str(entry.value[2])
        for entry in entries
        if entry.section is Section.INPUT and isinstance(entry.value, list | tuple)
    }


def _without_machine_paths(spec: PipelineSpec, root: str) -> PipelineSpec:
    """`file:line` relative to the project: nobody needs to know whose home folder it lay in."""
    steps = tuple(replace(step, where=step.where.removeprefix(root + "/")) for step in spec.steps)
    return replace(spec, steps=steps, where=spec.where.removeprefix(root + "/"))


def facts_of(path: str, bundle: Bundle, places: Mapping[str, str]) -> BundleFacts:
    """What was written."""
    return _facts(path, bundle, len(places), os.stat(path).st_size)


def verify(path: str) -> BundleFacts:
    """Every byte of a bundle compared with its digest. Raises InputError. Needs no project."""
    with Archive(path) as archive:
        archive.verify()
        return _facts(path, archive.bundle, archive.files, os.stat(path).st_size)


def _facts(path: str, bundle: Bundle, files: int, size_bytes: int) -> BundleFacts:
    outputs = tuple(f"{step.name}.{name}" for step in bundle.steps for name, digest in step.outputs if digest in bundle.artifacts)
    return BundleFacts(
        path=path, run=bundle.run, project=bundle.project, files=files, size_bytes=size_bytes, steps=len(bundle.steps), outputs=outputs,
        left_out=bundle.left_out,
    )  # fmt: skip


@contextmanager
def scratch(*, keep: bool) -> Iterator[str]:
    """An empty folder outside the project, removed afterwards."""
    place = os.path.realpath(tempfile.mkdtemp(prefix="mlpipe-replay-"))
    try:
        yield place
    finally:
        if not keep:
            _clear(place)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The project a run is brought into."""

    state_dir: str
    database: Database
    artifacts: ArtifactStore
    snapshots: SourceSnapshots


def bring_in(archive: Archive, target: Target) -> str:
    """Unpack beside the store, verify, move, then one transaction. Returns the run's id. Raises InputError; then no run is added."""
    bundle = archive.bundle
    known = target.database.query("SELECT number FROM runs WHERE id = ?", (bundle.run.id,))
    if known:
        raise InputError(
            f"this run is in the project already, as run {known[0][0]}", hint=f"Look at it with `mlpipe-tui show {known[0][0]}`."
        )
    folder = os.path.join(target.state_dir, "tmp", f"import-{uuid4().hex}")
    try:
        blobs = archive.unpack(os.path.join(folder, "blobs"))
        records = _publish(bundle, blobs, folder, target.artifacts)
        for number, (digest, tree) in enumerate(bundle.code.items()):
            place = os.path.join(folder, f"code-{number}")
            lay_out(tree, blobs.__getitem__, place, links=False)
            target.snapshots.save(Tree.of(list(tree.entries)), place)
            assert target.snapshots.load(digest) is not None, "its digest was computed from these entries"
        target.artifacts.sync()
        _insert(bundle, blobs, records, target)
    finally:
        _clear(folder)
    return bundle.run.id


def _publish(bundle: Bundle, blobs: dict[str, str], folder: str, artifacts: ArtifactStore) -> list[tuple[ArtifactRecord, str]]:
    records = []
    for number, (digest, tree) in enumerate(bundle.artifacts.items()):
        place = os.path.join(folder, f"output-{number}")
        lay_out(tree, blobs.__getitem__, place)
        stored = artifacts.publish(place)
        if stored.digest != digest:
            raise InputError("an output of the bundle is not what its digest says", hint="Export it again.")
        kind = "file" if "" in stored.by_path else "folder"
        record = ArtifactRecord(digest=digest, kind=kind, size_bytes=stored.size_bytes, file_count=stored.file_count)
        records.append((record, artifacts.signature(digest)))
    return records


def _insert(bundle: Bundle, blobs: dict[str, str], records: Sequence[tuple[ArtifactRecord, str]], target: Target) -> None:
    """The logs are moved inside the transaction, because their place has the run's new number in it."""
    with target.database.write() as db:
        number = imported.insert(db, bundle, records, utc_now())
        base = os.path.join(target.state_dir, "runs", bundle.run.experiment, str(number))
        try:
            for step, stream, digest in bundle.logs:
                logs = os.path.join(base, step, "logs")
                os.makedirs(logs, exist_ok=True)
                shutil.copyfile(blobs[digest], os.path.join(logs, f"{stream}.log"))
        except OSError as error:
            shutil.rmtree(base, ignore_errors=True)
            raise FilesystemError.of(error, "write the logs to", base) from error


def _clear(folder: str) -> None:
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        os.rmdir(os.path.dirname(folder))
    except OSError:
        pass
