"""After a step ended well: its declared outputs go into the artifact store, what was lent is compared.

May run in a thread beside the loop: touches files only, no state of the run. Called by `loop`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.data.footers import rows_of
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.executors.staging import Layout
from mlpipe_engine.model.plan import NOTHING_UNDECLARED, Undeclared
from mlpipe_engine.model.records import ArtifactRecord
from mlpipe_engine.model.spec import StepSpec
from mlpipe_engine.model.trees import Tree
from mlpipe_engine.planning.fingerprint import named_files

if TYPE_CHECKING:
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore

INLINE_BYTES = 1 << 20
"""Outputs up to this size are hashed in the loop; larger ones in a thread, so that other steps are not kept waiting."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    outputs: tuple[tuple[str, str], ...] = ()
    artifacts: tuple[tuple[ArtifactRecord, str], ...] = ()
    """(artifact, stat signature)."""
    rows: tuple[tuple[str, int], ...] = ()
    """Rows of the outputs that are Parquet; others are counted when somebody asks."""
    reads: tuple[tuple[str, str], ...] | None = None
    error: str = ""
    """Not empty: the step failed after all."""
    damaged: tuple[str, ...] = ()
    """Artifacts the step changed although they were only lent."""
    undeclared: Undeclared = NOTHING_UNDECLARED
    not_reusable: str = ""
    """The step is fine, but its result may not serve again: why."""


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """An input that was lent to a step."""

    name: str
    digest: str
    signature: str
    """Of the artifact; "" for a path outside the store."""
    changed_since: Callable[[], bool] | None
    """For paths outside the store: whether their content is another now."""


def collect(
    step: StepSpec,
    layout: Layout,
    code: Tree | None,
    borrowed: list[Borrowed],
    artifacts: ArtifactStore,
    snapshots: SourceSnapshots,
    audited: Callable[[], tuple[Undeclared, str]],
    *,
    link: bool = True,
) -> Collected:
    """`link`: leave a link where an output was.

    Never raises for what a step did; its `error` says it. FilesystemError (the machine's trouble) passes.
    """
    damaged = tuple(item.digest for item in borrowed if item.signature and artifacts.lent_changed(item.digest, item.signature))
    if damaged:
        names = ", ".join(item.name for item in borrowed if item.digest in damaged)
        return Collected(error=f"the step changed its input {names}, which was only lent to it", damaged=damaged)
    missing = [item.name for item in step.outputs if not item.allow_missing and not os.path.lexists(layout.outputs[item.name])]
    if missing:
        plural = "outputs" if len(missing) > 1 else "output"
        return Collected(
            error=f"declared {plural} {', '.join(missing)} missing: the step exited 0 without writing {'them' if len(missing) > 1 else 'it'}"
        )
    reads = _reads(step, code, layout, snapshots)
    undeclared, unhashed = audited()
    outputs: list[tuple[str, str]] = []
    records: list[tuple[ArtifactRecord, str]] = []
    for item in step.outputs:
        path = layout.outputs[item.name]
        if not os.path.lexists(path):
            outputs.append((item.name, ""))
            continue
        try:
            tree = artifacts.publish(path)
        except MlpipeError as error:
            if type(error).__name__ == "FilesystemError":
                raise
            return Collected(error=f"output {item.name}: {error}")
        outputs.append((item.name, tree.digest))
        kind = "folder" if (tree.entries and tree.entries[0].kind == "d") or "" not in tree.by_path else "file"
        record = ArtifactRecord(digest=tree.digest, kind=kind, size_bytes=tree.size_bytes, file_count=tree.file_count)
        records.append((record, artifacts.signature(tree.digest)))
        if link:
            _leave_link(path, artifacts.path(tree.digest))
    counts = ((digest, rows_of(artifacts.path(digest))) for _, digest in outputs if digest)
    moved = [item.name for item in borrowed if item.changed_since is not None and item.changed_since()]
    return Collected(
        outputs=tuple(outputs),
        artifacts=tuple(records),
        rows=tuple((digest, rows) for digest, rows in counts if rows is not None),
        reads=reads,
        undeclared=undeclared,
        not_reusable=f"input {', '.join(moved)} changed while the step ran" if moved else unhashed,
    )


def _reads(step: StepSpec, code: Tree | None, layout: Layout, snapshots: SourceSnapshots) -> tuple[tuple[str, str], ...] | None:
    """What the step used of its code. Where that cannot be told, hash_paths (with the script) says what counts."""
    if code is None:
        return None
    used = None if step.code == "snapshot" else snapshots.reads(code, layout.code)
    if used is not None or not step.hash_paths:
        return used
    named = {(entry.path, entry.digest) for entry in named_files(step, code)}
    named |= {(entry.path, entry.digest) for entry in code.entries if entry.kind in "fx" and entry.path.startswith("/")}
    script = code.by_path.get(step.script or "")
    return tuple(sorted(named | ({(script.path, script.digest)} if script else set())))


def leave_links(paths: Mapping[str, str], outputs: Iterable[tuple[str, str]], artifacts: ArtifactStore) -> None:
    """Where the step wrote, people find what it wrote. `paths`: by output; outputs with their digests. Raises OSError."""
    for name, digest in outputs:
        if digest and not os.path.lexists(paths[name]):
            _leave_link(paths[name], artifacts.path(digest))


def _leave_link(path: str, target: str) -> None:
    os.symlink(os.path.relpath(target, os.path.dirname(path)), path)


def total_size(step: StepSpec, layout: Layout) -> int:
    """Bytes of outputs that are single files; a folder counts as large."""
    size = 0
    for item in step.outputs:
        try:
            found = os.lstat(layout.outputs[item.name])
        except OSError:
            continue
        size += found.st_size if not os.path.isdir(layout.outputs[item.name]) else INLINE_BYTES + 1
    return size
