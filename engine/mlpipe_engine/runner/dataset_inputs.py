"""Inputs that are read as datasets: what of them counts in a fingerprint, and the files they are made of.

Looks things up and writes nothing; `tables` makes the file a step gets. Used by `decisions` and `tables`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import (
    DatasetDefinition,
    Found,
    SampleRows,
    SplitRows,
    SqlReader,
    consumed_digest,
    manifest_digest,
)
from mlpipe_engine.model.encoding import Value, fingerprint
from mlpipe_engine.model.spec import DatasetUse, InputSpec, PathSource, StepSpec

if TYPE_CHECKING:
    from mlpipe_engine.data.places import Places
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.store.artifacts import ArtifactStore


class DatasetInputs:
    """One per plan or run: the clock of time filters stands still in it."""

    def __init__(self, places: Places, stats: StatCache, now: str) -> None:
        self._places = places
        self._stats = stats
        self._now = now

    def definition(self, item: InputSpec) -> DatasetDefinition:
        use = _use_of(item)
        assert use.definition is not None, "versions are looked up before anything is decided"
        if not use.definition.depends_on_clock:
            return use.definition
        self._stats.unwatchable = True  # the rows change while no file does
        return use.definition.at(self._now)

    def identity(self, item: InputSpec, step: StepSpec, content: str, artifacts: ArtifactStore) -> tuple[Value, ...]:
        """What stands behind the content in the fingerprint: the form it is handed over in, and all that is done to it.

        Names of files count only where columns or choices of rows are made of them: moving data changes nothing.
        """
        definition, use = self.definition(item), _use_of(item)
        if definition.kind == "file":
            return ()
        names = None
        if any(definition.path_options) or any(isinstance(made, SampleRows | SplitRows) for made in definition.operations):
            names = consumed_digest(definition, self.found(item, step, content, artifacts))
        return use.format, definition.recipe, names

    def asks_database(self, item: InputSpec) -> bool:
        """Whether its rows are what a server says to a query."""
        return (
            isinstance(item.source, PathSource)
            and self._query(item) is not None
            and self._places.answers_queries(item.source.paths[0])
        )

    def answer(self, item: InputSpec, step: StepSpec) -> Found:
        """What the server says: asked once by each plan or run. Raises InputError and its kinds."""
        query = self._query(item)
        assert query is not None and isinstance(item.source, PathSource)
        return self._places.query(item.source.paths[0], query.query, timeout_seconds=query.timeout_seconds, where=step.where)

    @staticmethod
    def _query(item: InputSpec) -> SqlReader | None:
        reader = item.use.definition.reader if item.use is not None and item.use.definition is not None else None
        return reader if isinstance(reader, SqlReader) else None

    def chosen_content(self, item: InputSpec, step: StepSpec) -> str:
        """Of a file dataset that leaves files out: what lies in the others does not count."""
        assert isinstance(item.source, PathSource), "only files outside the store are chosen among"
        return manifest_digest(self.found(item, step, "", None))

    def key(self, item: InputSpec, step: StepSpec, content: str, artifacts: ArtifactStore) -> str:
        """Names the table that is made of it: equal keys, equal rows in equal form."""
        return fingerprint("made", [content, *self.identity(item, step, content, artifacts)])

    def found(self, item: InputSpec, step: StepSpec, content: str, artifacts: ArtifactStore | None) -> tuple[Found, ...]:
        """The files, one by one. `content`: of an output of another step, its digest. Raises InputError and its kinds."""
        return self.registered_part(self.definition(item), self.all_found(item, step, content, artifacts))

    def all_found(self, item: InputSpec, step: StepSpec, content: str, artifacts: ArtifactStore | None) -> tuple[Found, ...]:
        """Of a file dataset also the files its operations leave out."""
        if self.asks_database(item):
            return (self.answer(item, step),)
        if isinstance(item.source, PathSource):
            return self._places.find(
                item.source.paths, validate=item.source.validate, need=f"step {step.name!r} needs", where=step.where
            )
        assert artifacts is not None
        return self._in_artifact(item, content, artifacts)

    def registered_part(self, definition: DatasetDefinition, found: tuple[Found, ...]) -> tuple[Found, ...]:
        """What a version of this definition pins: all files of a table, those that are chosen of a file dataset."""
        from mlpipe_engine.data.files import chosen

        return chosen(definition, found) if definition.kind == "file" else found

    def _in_artifact(self, item: InputSpec, digest: str, artifacts: ArtifactStore) -> tuple[Found, ...]:
        tree, path = artifacts.tree(digest), artifacts.path(digest)
        if tree is None:
            raise InputError(f"input {item.name!r}: the output it is made of is damaged", hint="Run the same command again.")
        if "" in tree.by_path and tree.by_path[""].kind in "fx":
            entry = tree.by_path[""]
            return (Found(item.name, item.name, entry.size_bytes, entry.digest, path),)
        return tuple(
            Found(entry.path, entry.path, entry.size_bytes, entry.digest, os.path.join(path, entry.path))
            for entry in sorted(tree.entries, key=lambda entry: entry.path.encode("utf-8", "surrogateescape"))
            if entry.kind in "fx" and not any(part.startswith((".", "_")) for part in entry.path.split("/"))
        )


def _use_of(item: InputSpec) -> DatasetUse:
    assert item.use is not None
    return item.use
