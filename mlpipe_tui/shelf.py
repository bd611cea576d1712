"""What there is to look into, asked of the engine: the files a pipeline reads, and what its steps wrote in a run."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.model.spec import DatasetUse, PathSource, PipelineSpec, StepOutputSource
from mlpipe_engine.model.states import GOOD, State

from mlpipe_tui.clean import one_line
from mlpipe_tui.tables import Table, TableProblem, kind_of, tables_in, writable
from mlpipe_tui.viewmodels.data import Item, ShelfShot, TableFacts

if TYPE_CHECKING:
    from mlpipe_engine.model.datasets import DatasetDiff, DatasetVersionRecord

_SIZED_FILES = 2000
_VERSIONS_FROM = 60
"""Runs that are looked at for earlier versions of an output."""


def shelf(run_id: str | None, pipeline: str | None = None) -> Callable[[Engine], ShelfShot]:
    """Of that run, else of the newest run of the pipeline."""

    def ask(engine: Engine) -> ShelfShot:
        datasets, versions = _datasets(engine)
        runs = [run for run in engine.runs(limit=_VERSIONS_FROM, pipeline=pipeline or None) if run.kind == "run"]
        run = engine.find_run(run_id) if run_id is not None else (runs[0] if runs else None)
        if run is None:
            found = engine.definitions.pipelines
            spec = next((each for each in found if each.name == pipeline), found[0] if found else None)
            sources, needs = (_sources(engine, spec), _needs(spec)) if spec is not None else ([], ())
            return ShelfShot(items=(*datasets, *sources), needs=needs, datasets=versions)
        spec = engine.spec(run.id)
        steps = engine.steps(run.id)
        outputs = [item for step in steps for item in _outputs(engine, run, step, spec)]
        return ShelfShot(
            items=(*datasets, *_sources(engine, spec), *outputs), run=run, needs=_needs(spec),
            versions=_versions(engine, run, runs, outputs), datasets=versions,
        )  # fmt: skip

    return ask


def _datasets(engine: Engine) -> tuple[list[Item], dict[str, tuple[DatasetVersionRecord, ...]]]:
    """Registered datasets, the newest version of each, and all their versions, newest first."""
    items, versions = [], {}
    for record in engine.datasets():
        item = Item(
            key=f"dataset/{record.name}", section="Datasets", name=record.name, path=", ".join(record.definition.paths),
            kind="table" if record.definition.kind == "tabular" else "", size_bytes=record.size_bytes, version=record.version,
        )  # fmt: skip
        items.append(item)
        versions[item.key] = tuple(reversed(engine.dataset_versions(record.name)))
    return items, versions


def moved(records: Sequence[DatasetVersionRecord]) -> Callable[[Engine], frozenset[str]]:
    """Names of those whose files are others now; what lies behind a network is not asked."""

    def ask(engine: Engine) -> frozenset[str]:
        found = set()
        for record in records:
            with suppress(MlpipeError):
                if engine.moved_here(record):
                    found.add(record.name)
        return frozenset(found)

    return ask


def rows_of(root: str, name: str, version: int, previews: str | None) -> str:
    """Where the rows of a dataset lie, as one file; made where it is not there. For any thread. Raises TableProblem."""
    engine = Engine.open(root)
    try:
        return engine.dataset_copy(engine.dataset(name, version), writable(previews))
    except MlpipeError as error:
        raise TableProblem(one_line(str(error), limit=400)) from error
    finally:
        engine.close()


def difference(name: str) -> Callable[[Engine], list[DatasetDiff]]:
    """How the newest version differs from what lies there now, where it does, and from the version before."""

    def ask(engine: Engine) -> list[DatasetDiff]:
        versions = engine.dataset_versions(name)
        found = [engine.diff_datasets(versions[-1], None)] if engine.moved(versions[-1]) else []
        return [*found, *(engine.diff_datasets(versions[-2], versions[-1]) for _ in versions[1:2])]

    return ask


def _needs(spec: PipelineSpec) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for step in spec.steps:
        needs: list[str] = list(step.run_after)
        for given in step.inputs:
            if isinstance(given.source, StepOutputSource):
                needs.append(given.source.step)
            elif isinstance(given.source, PathSource):
                needs += [f"source:{path}" for path in given.source.paths]
                needs += [f"dataset:{name}" for name in [_dataset_name(given.use)] if name]
        found.append((step.name, tuple(dict.fromkeys(needs))))
    return tuple(found)


def _dataset_name(use: DatasetUse | None) -> str:
    if use is None:
        return ""
    return use.register.name if use.register is not None else use.version.rpartition(" v")[0]


def _sources(engine: Engine, spec: PipelineSpec) -> list[Item]:
    items: dict[str, Item] = {}
    for step in spec.steps:
        for given in step.inputs:
            if not isinstance(given.source, PathSource):
                continue
            for path in given.source.paths:
                if path not in items:
                    items[path] = _source(engine.root, path)
    return list(items.values())


def _source(root: str, path: str) -> Item:
    full = os.path.join(root, path)
    if not os.path.lexists(full) and any(sign in path for sign in "*?["):
        found = sorted(glob.glob(full, recursive=True))
        full = os.path.commonpath(found) if found else full
    if not os.path.exists(full):
        return Item(key=f"source/{path}", section="Sources", name=path, note="not there")
    return Item(key=f"source/{path}", section="Sources", name=path, path=full, kind=_kind(full), size_bytes=_size(full))


def _outputs(engine: Engine, run: RunRecord, step: StepRecord, spec: PipelineSpec) -> list[Item]:
    written = dict(step.outputs)
    declared = next((each.outputs for each in spec.steps if each.name == step.name), ())
    items = []
    for output in dict.fromkeys((*(each.name for each in declared), *written)):
        digest = written.get(output, "")
        name = f"{step.name}/{output}"
        item = Item(
            key=f"{step.name}/{output}",
            section="Outputs",
            name=name,
            state=step.state,
            step=step.name,
            output=output,
            digest=digest,
        )
        path, note = "", _why_not(step)
        if digest and step.state in GOOD:
            note = "no longer kept"
            with suppress(MlpipeError, OSError):
                path = engine.artifact(run.id, step.name, output)
        if path and os.path.exists(path):
            items.append(Item(key=item.key, section=item.section, name=name, path=path, kind=_kind(path), size_bytes=_size(path), state=step.state,
                              step=step.name, output=output, digest=digest))  # fmt: skip
        else:
            items.append(
                Item(key=item.key, section=item.section, name=name, state=step.state, step=step.name, output=output, note=note)
            )
    return items


def _why_not(step: StepRecord) -> str:
    if step.state in (State.RUNNING, State.PREPARING):
        return "being written"
    return str(step.state) if step.state not in GOOD else "not written"


def _versions(
    engine: Engine, run: RunRecord, runs: list[RunRecord], outputs: list[Item]
) -> dict[str, tuple[tuple[int, str], ...]]:
    """Runs in which an output was another than in the run before, the shown run first."""
    found: dict[str, list[tuple[int, str]]] = {item.key: [(run.number, item.digest)] for item in outputs if item.digest}
    for older in runs:
        if older.number >= run.number or older.pipeline != run.pipeline:
            continue
        for step in engine.steps(older.id):
            for output, digest in step.outputs:
                versions = found.get(f"{step.name}/{output}")
                if versions is not None and digest and step.state in GOOD and versions[-1][1] != digest:
                    versions.append((older.number, digest))
    return {key: tuple(versions) for key, versions in found.items()}


def _kind(path: str) -> str:
    with suppress(OSError):
        files = tables_in(path)
        return kind_of(files[0]) if files else ""
    return ""


def _size(path: str) -> int | None:
    """Of all files; None for a folder with too many to add up."""
    try:
        if not os.path.isdir(path):
            return os.stat(path).st_size
        total = count = 0
        for folder, _, names in os.walk(path):
            for name in names:
                total += os.lstat(os.path.join(folder, name)).st_size
                count += 1
                if count > _SIZED_FILES:
                    return None
        return total
    except OSError:
        return None


def facts(path: str, label: str, previews: str | None) -> TableFacts:
    """What a version of a table is, for a difference. Raises TableProblem. Opens and closes the table itself."""
    table = Table.open(path, previews)
    try:
        profiles = tuple(table.profile(column.name) for column in table.columns[:200])
        return TableFacts(label=label, rows=table.total, columns=table.columns, profiles=profiles)
    finally:
        table.close()
