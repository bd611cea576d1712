"""Rows of what the steps of a run read and wrote. Counted when a step ends where that is cheap, else when somebody asks.

Reads the store; writes nothing. Called by `engine`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mlpipe_engine.data.footers import rows_of
from mlpipe_engine.model.encoding import fingerprint
from mlpipe_engine.model.manifest import Section
from mlpipe_engine.model.records import PortRows, StepRecord
from mlpipe_engine.model.spec import InputSpec, PipelineSpec, StepOutputSource
from mlpipe_engine.store.documents import read_manifest
from mlpipe_engine.store.row_counts import RowQueries

if TYPE_CHECKING:
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database

COUNTED_BYTES = 64 << 20
"""CSV up to this size is counted while somebody waits."""


def port_rows(
    spec: PipelineSpec, steps: tuple[StepRecord, ...], database: Database, artifacts: ArtifactStore
) -> tuple[PortRows, ...]:
    """Of every input and output that is a table, in the order of the steps."""
    queries, ports = RowQueries(database), []
    outputs = {step.name: dict(step.outputs) for step in steps}
    declared = {step.name: step.inputs for step in spec.steps}
    for step in steps:
        found = _inputs(step, declared.get(step.name, ()), outputs, database, queries)
        ports += [(step.name, name, "input", digest) for name, digest in found if digest]
        ports += [(step.name, name, "output", digest) for name, digest in step.outputs if digest]
    known = queries.counts(digest for *_, digest in ports)
    seen: dict[str, int | None] = {}
    counted = []
    for step_name, name, kind, digest in ports:
        rows = known.get(digest)
        if rows is None:
            if digest not in seen:
                seen[digest] = _rows_now(artifacts.path(digest))
            rows = seen[digest]
        if rows is not None:
            counted.append(PortRows(step_name, name, kind, rows))
    return tuple(counted)


def _inputs(
    step: StepRecord,
    declared: tuple[InputSpec, ...],
    outputs: Mapping[str, Mapping[str, str]],
    database: Database,
    queries: RowQueries,
) -> Iterator[tuple[str, str]]:
    """(input, the artifact that the step read): what was made of a dataset, or an output of another step."""
    for item in declared:
        if item.use is None and isinstance(item.source, StepOutputSource):
            yield item.name, outputs.get(item.source.step, {}).get(item.source.output, "")
    if not step.fingerprint or not any(item.use is not None for item in declared):
        return  # a manifest is large: it is read only where it says something new
    manifest = read_manifest(database, step.fingerprint)
    for entry in manifest.entries if manifest is not None else ():
        if entry.section is Section.INPUT and isinstance(entry.value, list | tuple) and len(entry.value) > 3:
            yield entry.name, queries.table(fingerprint("made", list(entry.value[2:]))) or ""


def _rows_now(path: str) -> int | None:
    """Of what was made before rows were counted, or is counted only when somebody asks."""
    rows = rows_of(path)
    return rows if rows is not None else csv_rows(path)


def csv_rows(path: str) -> int | None:
    """Rows below the header of a folder of CSV files; None for anything else, and for more than anybody would wait for."""
    if not os.path.isdir(path):
        return None
    files = [
        os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if not name.startswith((".", "_"))
    ]
    if not files or not all(name.lower().endswith(".csv") for name in files):
        return None
    try:
        if sum(map(os.path.getsize, files)) > COUNTED_BYTES:
            return None
        return sum(max(0, _records(name) - 1) for name in files)
    except (OSError, ValueError, csv.Error):
        return None


def _records(path: str) -> int:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return sum(1 for row in csv.reader(file) if row)
