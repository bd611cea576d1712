"""Rows of what the steps of a run read and wrote. Counted when a step ends where that is cheap, else when somebody asks.

Reads the store; writes nothing. Called by `engine`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mlpipe_engine.model.encoding import fingerprint
from mlpipe_engine.model.manifest import Manifest, Section
from mlpipe_engine.model.records import PortRows, StepRecord
from mlpipe_engine.store.documents import read_manifest
from mlpipe_engine.store.rows import RowQueries

if TYPE_CHECKING:
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database

COUNTED_BYTES = 64 << 20
"""CSV up to this size is counted while somebody waits."""


def port_rows(steps: Iterable[StepRecord], database: Database, artifacts: ArtifactStore) -> tuple[PortRows, ...]:
    """Of every input and output that is a table, in the order of the steps."""
    queries, ports = RowQueries(database), []
    for step in steps:
        manifest = read_manifest(database, step.fingerprint) if step.fingerprint else None
        ports += [(step.name, name, "input", digest) for name, digest in _inputs(manifest, queries) if digest]
        ports += [(step.name, name, "output", digest) for name, digest in step.outputs if digest]
    known = queries.counts(digest for *_, digest in ports)
    seen: dict[str, int | None] = {}
    found = []
    for step_name, name, kind, digest in ports:
        rows = known.get(digest)
        if rows is None:
            if digest not in seen:
                seen[digest] = csv_rows(artifacts.path(digest))
            rows = seen[digest]
        if rows is not None:
            found.append(PortRows(step_name, name, kind, rows))
    return tuple(found)


def _inputs(manifest: Manifest | None, queries: RowQueries) -> Iterator[tuple[str, str]]:
    """(input, the artifact that the step read): what was made of a dataset, or an output of another step."""
    for entry in manifest.entries if manifest is not None else ():
        if entry.section is Section.INPUT and isinstance(entry.value, list | tuple):
            content, made = str(entry.value[2]), list(entry.value[3:])
            yield entry.name, (queries.table(fingerprint("made", [content, *made])) or "") if made else content


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
