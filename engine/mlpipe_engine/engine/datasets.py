"""Verbs for datasets: find, open, register, look up, profile, compare, ask. Each hands over to `data` or `runner.registry`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from mlpipe_engine.engine.datastores import Storing
from mlpipe_engine.errors import FilesystemError, InputError, MlpipeError

if TYPE_CHECKING:
    from mlpipe_engine.data.asking import Answer
    from mlpipe_engine.data.difference import Side
    from mlpipe_engine.data.glance import Glance
    from mlpipe_engine.data.tabular import Page, Table
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.datasets import (
        ColumnSchema,
        DatasetDefinition,
        DatasetDiff,
        DatasetVersionRecord,
        Expectation,
        Found,
        Moved,
        Profile,
        SqlReader,
        Verdict,
    )


class DatasetVerbs(Storing):
    """What the `data` verbs of the command line, the SDK and the terminal app do with datasets."""

    def find(self, definition: DatasetDefinition) -> tuple[Found, ...]:
        """The files of a dataset, hashed; of a file dataset those its operations choose. Raises InputError and its kinds."""
        from mlpipe_engine.data.files import chosen
        from mlpipe_engine.data.places import Places
        from mlpipe_engine.model.datasets import SqlReader

        if isinstance(definition.reader, SqlReader) and (answered := self._answer(definition, definition.reader)):
            return answered
        stats = self._stats()
        found = Places(self.root, stats, self.data_sources(stats)).find(definition.paths, validate=definition.validate)
        self._remember(stats)
        return chosen(definition, found) if definition.kind == "file" else found

    def _answer(self, definition: DatasetDefinition, reader: SqlReader) -> tuple[Found, ...]:
        """What a SQL datastore says to a query, as a file; () where the address names a file. Asked anew every time."""
        from mlpipe_engine.data.addresses import parse_address
        from mlpipe_engine.hashing.files import hash_file
        from mlpipe_engine.model.datasets import Found

        address = parse_address(definition.paths[0])
        if address.is_local or address.is_url or self.datastore(address.place).kind != "sql":
            return ()
        folder = os.path.join(self.state_dir, "cache", "queries")
        target = os.path.join(folder, f"{definition.digest.removeprefix('k1:')[:32]}.parquet")
        part = f"{target}.{uuid4().hex}.part"
        try:
            os.makedirs(folder, exist_ok=True)
            self.read_sql(address.place, reader.query, part, (), reader.timeout_seconds)
            os.replace(part, target)
        except OSError as error:
            raise FilesystemError.of(error, "keep the answer to a query in", folder) from error
        size = os.path.getsize(target)
        return (Found("answer.parquet", definition.paths[0], size, hash_file(target, size), target),)

    def _remember(self, stats: StatCache) -> None:
        """Digests that were computed, for the next time; where nothing can be written they are computed again."""
        from mlpipe_engine.store import results

        new = stats.new_rows()
        if new and self._database() is not None:
            with suppress(MlpipeError), self._writable().write() as db:
                results.put_stat_rows(db, new)

    def table(self, definition: DatasetDefinition, found: Sequence[Found] | None = None, *, locked: bool = True) -> Table:
        """Close it after use. Raises InputError naming file, line and column."""
        from mlpipe_engine.data.tabular import Table, now_utc

        stopped = definition.at(now_utc())
        return Table.open(stopped, self.find(definition) if found is None else found, scratch=self._scratch(), locked=locked)

    def _scratch(self) -> str | None:
        """Below the state folder, where outputs lie too; where there is no store yet, the system's temporary folder."""
        return os.path.join(self.state_dir, "tmp") if os.path.isdir(self.state_dir) else None

    def page(self, definition: DatasetDefinition, count: int, offset: int = 0) -> Page:
        """Some rows, for people."""
        from mlpipe_engine.data.tabular import now_utc, page

        return page(definition.at(now_utc()), self.find(definition), count, offset=offset, scratch=self._scratch())

    def first_rows(self, definition: DatasetDefinition, count: int) -> Page | Glance:
        """For people, fast: local files are not hashed, plain text is read without an engine and stays text."""
        from mlpipe_engine.data import glance
        from mlpipe_engine.data.tabular import now_utc, page

        found = glance.local_files(self.root, definition)
        if found is None:
            return self.page(definition, count)
        return glance.glance(definition, found, count) or page(definition.at(now_utc()), found, count, scratch=self._scratch())

    def ask(
        self,
        query: str,
        extra: Mapping[str, DatasetDefinition],
        *,
        limit: int | None = 1000,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """One SELECT over registered tables, by their names, and over `extra`. Raises InputError."""
        from mlpipe_engine.data import asking
        from mlpipe_engine.data.tabular import now_utc

        now = now_utc()
        registered = {record.name: record.definition for record in self.datasets() if record.definition.kind == "tabular"}
        known = registered | dict(extra)
        chosen = {name: known[name].at(now) for name in asking.mentioned(query, tuple(known))}
        datasets = {name: (definition, self.find(definition)) for name, definition in chosen.items()}
        return asking.ask(
            query, datasets, limit=limit, timeout_seconds=asking.TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds,
            scratch=self._scratch(), known=tuple(known),
        )  # fmt: skip

    # -- versions --------------------------------------------------------------------------------------------------------

    def register_dataset(
        self,
        name: str,
        definition: DatasetDefinition,
        *,
        expectations: Sequence[Expectation] = (),
        description: str = "",
        tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> tuple[DatasetVersionRecord, bool]:
        """(version, whether it is new). Reads the columns of a table, so that a dataset that cannot be read is not registered."""
        from mlpipe_engine.runner import registry

        registry.check_name(name)
        found = self.find(definition)
        if not found:
            raise InputError(f"no file is there for {', '.join(definition.paths)}", hint="Correct the path, or bring the file.")
        schema: tuple[ColumnSchema, ...] = ()
        if definition.kind == "tabular":
            with self.table(definition, found) as table:
                schema = table.columns
        record, is_new = registry.register(
            self._writable(), name, definition, found, schema, expectations=expectations, description=description,
            tags=tuple((tags or {}).items()), create_new_version=create_new_version,
        )  # fmt: skip
        if is_new:
            self._note_version(record)
        return record, is_new

    def _note_version(self, record: DatasetVersionRecord) -> None:
        """In the journal, from which a damaged store is made anew."""
        from mlpipe_engine.store import journal as journals

        database, journal = self._writable(), journals.Journal(self.state_dir)
        journal.begin(database)
        with database.write(durable=False) as db:
            line = journals.dataset_line(db, journal, record.name, record.version)
        journal.append(line)
        journal.close()

    def dataset(self, name: str, version: int | None = None) -> DatasetVersionRecord:
        """None as version: the newest. Raises DatasetNotFoundError."""
        from mlpipe_engine.runner import registry

        return registry.lookup(self._database(), name, version)

    def datasets(self) -> tuple[DatasetVersionRecord, ...]:
        """The newest version of every name."""
        from mlpipe_engine.store.datasets import DatasetQueries

        database = self._database()
        return DatasetQueries(database).latest() if database is not None else ()

    def dataset_versions(self, name: str) -> tuple[DatasetVersionRecord, ...]:
        """Oldest first. Raises DatasetNotFoundError."""
        from mlpipe_engine.store.datasets import DatasetQueries

        self.dataset(name)
        return DatasetQueries(self._reading()).versions(name)

    def dataset_manifest(self, record: DatasetVersionRecord) -> tuple[Found, ...]:
        """The files a version was registered with, without where they are."""
        from mlpipe_engine.store.datasets import DatasetQueries

        return DatasetQueries(self._reading()).manifest(record.content)

    def moved(self, record: DatasetVersionRecord) -> Moved:
        """How the files under a version differ now from those it was registered with. Raises InputError when none is there."""
        from mlpipe_engine.data.difference import moved

        return moved(self.dataset_manifest(record), self._find_what_is_left(record))

    def moved_here(self, record: DatasetVersionRecord) -> Moved | None:
        """As `moved`; None where a part of the dataset lies elsewhere, which would have to be asked over a network."""
        from mlpipe_engine.data.addresses import parse_address

        is_here = all(parse_address(path).is_local for path in record.definition.paths)
        return self.moved(record) if is_here else None

    def dataset_copy(self, record: DatasetVersionRecord, folder: str) -> str:
        """The rows a table has now, as a Parquet file in `folder` that is made once for each content. Raises InputError, FilesystemError."""
        from mlpipe_engine.data.tabular import now_utc
        from mlpipe_engine.model.datasets import consumed_digest
        from mlpipe_engine.model.encoding import fingerprint

        stopped = record.definition.at(now_utc())
        found = self.find(record.definition)
        key = fingerprint("copy", [stopped.recipe, consumed_digest(stopped, found)])
        target = os.path.join(folder, f"dataset-{key.partition(':')[2][:40]}.parquet")
        if os.path.exists(target):
            return target
        part = f"{target}.{uuid4().hex}.part"
        try:
            os.makedirs(folder, exist_ok=True)
            with self.table(stopped, found) as table:
                table.write_parquet(part)
            os.replace(part, target)
        except OSError as error:
            raise FilesystemError.of(error, "keep the rows of a dataset in", folder) from error
        finally:
            with suppress(OSError):
                os.unlink(part)
        return target

    def _find_what_is_left(self, record: DatasetVersionRecord) -> tuple[Found, ...]:
        from dataclasses import replace

        from mlpipe_engine.errors import InputMissingError

        try:
            return self.find(replace(record.definition, validate=False))
        except InputMissingError:
            return ()

    def unregister_dataset(self, name: str) -> int:
        """Every version; the files stay. Raises DatasetNotFoundError."""
        from mlpipe_engine.runner import registry
        from mlpipe_engine.store.journal import Journal

        removed = registry.unregister(self._writable(), name)
        journal = Journal(self.state_dir)
        journal.append({"e": "dataset_gone", "name": name})
        journal.close()
        return removed

    def describe_dataset(
        self, name: str, version: int, *, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> DatasetVersionRecord:
        from mlpipe_engine.runner import registry

        pairs = tuple(tags.items()) if tags is not None else None
        record = registry.describe(self._writable(), name, version, description=description, tags=pairs)
        self._note_version(record)
        return record

    # -- statistics --------------------------------------------------------------------------------------------------------

    def profile(self, definition: DatasetDefinition, *, full: bool = False, core: bool = False, fresh: bool = False) -> Profile:
        """Kept by what it describes: asked again over the same content, nothing is read but stats. `fresh`: computed anew."""
        from mlpipe_engine.data import profiling
        from mlpipe_engine.data.tabular import now_utc
        from mlpipe_engine.model.datasets import consumed_digest
        from mlpipe_engine.model.encoding import fingerprint
        from mlpipe_engine.store import datasets as rows

        stopped = definition.at(now_utc())
        found = self.find(definition)
        keep = not definition.depends_on_clock
        key = fingerprint("profile", [stopped.recipe, consumed_digest(stopped, found), full, core])
        database = self._database()
        known = rows.DatasetQueries(database).profile(key) if database is not None and keep and not fresh else None
        if known is not None:
            return known
        with self.table(stopped, found) as table:
            made = profiling.profile(table, found, full=full, core=core)
        if keep:
            with self._writable().write() as db:
                rows.put_profile(db, key, made)
        return made

    def check_dataset(self, definition: DatasetDefinition, expectations: Sequence[Expectation]) -> tuple[Verdict, ...]:
        """Raises InputError when the rows cannot be read."""
        from datetime import datetime

        from mlpipe_engine.data import expect
        from mlpipe_engine.data.tabular import now_utc

        found, now = self.find(definition), datetime.fromisoformat(now_utc())
        if definition.kind == "file":
            return expect.check(expectations, None, found, now)
        with self.table(definition, found) as table:
            return expect.check(expectations, table, found, now)

    def diff_datasets(
        self, before: DatasetVersionRecord, after: DatasetVersionRecord | None, *, key: Sequence[str] = (), rows: bool = True
    ) -> DatasetDiff:
        """Two versions; None as `after`: what lies under `before` now. Rows are compared where the files of both are still there."""
        from mlpipe_engine.data.difference import Side, compare
        from mlpipe_engine.model.datasets import ExpectUnique

        left = self._side(before)
        if after is None:
            found = self._find_what_is_left(before)
            right = Side(f"{before.name} v{before.version} as it is now", before.definition, found, found)
        else:
            right = self._side(after)
        unique = next((item for item in before.expectations if isinstance(item, ExpectUnique)), None)
        return compare(
            left,
            right,
            key=tuple(key),
            expected_key=unique.columns if unique is not None else (),
            scratch=self._scratch(),
            rows=rows,
        )

    def _side(self, record: DatasetVersionRecord) -> Side:
        from mlpipe_engine.data.difference import Side, moved

        manifest = self.dataset_manifest(record)
        found = self._find_what_is_left(record)
        still = not moved(manifest, found)
        return Side(f"{record.name} v{record.version}", record.definition, manifest, found if still else None, record.schema)
