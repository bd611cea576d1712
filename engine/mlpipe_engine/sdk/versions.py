"""What file and tabular datasets have in common: a definition, expectations, registration, statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from mlpipe_engine.errors import DefinitionTypeError
from mlpipe_engine.model.datasets import (
    DatasetDefinition,
    DatasetVersionRecord,
    Expectation,
    ExpectColumns,
    ExpectMaxAge,
    ExpectNulls,
    ExpectRange,
    ExpectRows,
    ExpectUnique,
    Profile,
    Severity,
    TypeName,
    Verdict,
)
from mlpipe_engine.model.spec import Registration
from mlpipe_engine.sdk import loading
from mlpipe_engine.sdk.in_steps import Reference
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.values import tag_pairs

if TYPE_CHECKING:
    from mlpipe_engine.engine import Engine
    from mlpipe_engine.sdk.workspace import Workspace


@strict
@dataclass(frozen=True)
class Registered:
    """A dataset, registered or not. `name`, `version`, `tags` and `description` are None until it is."""

    definition: DatasetDefinition
    workspace: Workspace | None = field(default=None, compare=False, repr=False)
    expectations: tuple[Expectation, ...] = ()
    record: DatasetVersionRecord | None = field(default=None, compare=False, repr=False)
    reference: Reference | None = field(default=None, repr=False)
    """The name it was looked up by, and what that meant then."""
    registration: Registration | None = field(default=None, repr=False)
    """The name a run keeps it under, where `register` was called in a definition of a pipeline."""

    @property
    def name(self) -> str | None:
        return self.record.name if self.record is not None else None

    @property
    def version(self) -> int | None:
        return self.record.version if self.record is not None else None

    @property
    def id(self) -> str | None:
        """`name:version`."""
        return f"{self.record.name}:{self.record.version}" if self.record is not None else None

    @property
    def description(self) -> str | None:
        return self.record.description if self.record is not None else None

    @property
    def tags(self) -> dict[str, str] | None:
        return dict(self.record.tags) if self.record is not None else None

    @property
    def data_changed_time(self) -> object:
        """When the newest of its files was modified."""
        import os
        from datetime import UTC, datetime

        found = self._engine().find(self.definition)
        return max((datetime.fromtimestamp(os.stat(item.local).st_mtime, UTC) for item in found), default=None)

    def register(
        self,
        workspace: Workspace,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        create_new_version: bool = False,
    ) -> Self:
        """Pin definition, content and expectations under a name. The same again is the same version.

        In the definition of a pipeline, every run that reads it keeps it so. Raises InputError when the name is taken by another
        dataset, and `create_new_version` is False.
        """
        if loading.active:
            return replace(self, registration=Registration(name, description or "", tag_pairs(tags), create_new_version))
        record, _ = workspace.engine.register_dataset(
            name, self.definition, expectations=self.expectations, description=description or "", tags=tags,
            create_new_version=create_new_version,
        )  # fmt: skip
        return replace(self, workspace=workspace, record=record, reference=None)

    def update(self, description: str | None = None, tags: Mapping[str, str] | None = None) -> Self:
        """Change what is said of the registered version."""
        record = self._record()
        changed = self._engine().describe_dataset(record.name, record.version, description=description, tags=tags)
        return replace(self, record=changed)

    def add_tags(self, tags: Mapping[str, str]) -> Self:
        return self.update(tags=dict(self._record().tags) | dict(tags))

    def remove_tags(self, tags: Sequence[str]) -> Self:
        return self.update(tags={key: value for key, value in self._record().tags if key not in tags})

    def unregister_all_versions(self) -> None:
        """The files stay."""
        record = self._record()
        if loading.active:
            loading.note(f"unregister_all_versions({record.name!r})")
            return
        self._engine().unregister_dataset(record.name)

    def _record(self) -> DatasetVersionRecord:
        if self.record is None:
            raise DefinitionTypeError(
                "this dataset is not registered", where=caller(), hint="Register it first: dataset.register(ws, name)."
            )
        return self.record

    # -- expectations and statistics ---------------------------------------------------------------------------------------------

    def with_expectations(
        self,
        *,
        columns: Mapping[str, TypeName | None] | Sequence[str] | None = None,
        exact_columns: bool = False,
        min_rows: int | None = None,
        max_rows: int | None = None,
        max_age: timedelta | None = None,
        max_age_column: str | None = None,
        max_null_share: Mapping[str, float] | None = None,
        unique: str | Sequence[str] | None = None,
        ranges: Mapping[str, tuple[object, object]] | None = None,
        on_failure: Severity = "fail",
    ) -> Self:
        """What has to hold before a step gets the dataset; added to what was expected before. `on_failure`: "fail" or "warn".

        >>> from mlpipe_engine import Dataset
        >>> ds = Dataset.Tabular.from_parquet_files("data/flights.parquet")
        >>> len(ds.with_expectations(min_rows=1, unique="id", ranges={"delay": (-60, None)}).expectations)
        3
        """
        if on_failure not in ("fail", "warn"):
            raise DefinitionTypeError(f"on_failure is {on_failure!r}", where=caller(), expected="'fail' or 'warn'")
        more: list[Expectation] = []
        if columns is not None:
            pairs = columns.items() if isinstance(columns, Mapping) else ((name, None) for name in columns)
            more.append(ExpectColumns(tuple((name, kind or "") for name, kind in pairs), exact_columns, on_failure))
        if min_rows is not None or max_rows is not None:
            more.append(ExpectRows(min_rows, max_rows, on_failure))
        if max_age is not None:
            more.append(ExpectMaxAge(max_age.total_seconds(), max_age_column, on_failure))
        more += [ExpectNulls(name, float(part), on_failure) for name, part in (max_null_share or {}).items()]
        if unique is not None:
            more.append(ExpectUnique((unique,) if isinstance(unique, str) else tuple(unique), on_failure))
        for name, (low, high) in (ranges or {}).items():
            more.append(ExpectRange(name, _bound(low), _bound(high), on_failure))
        return replace(self, expectations=(*self.expectations, *more), record=None)

    def check(self) -> tuple[Verdict, ...]:
        """How each expectation fares now."""
        return self._engine().check_dataset(self.definition, self.expectations)

    def profile(self, full: bool = False) -> Profile:
        """Statistics of every column, kept by content. Large files are sampled unless `full`."""
        return self._engine().profile(self.definition, full=full)

    def get_profile(self, workspace: Workspace | None = None) -> Profile:
        return self.profile()

    def _engine(self) -> Engine:
        return self._workspace().engine

    def _workspace(self) -> Workspace:
        if self.workspace is not None:
            return self.workspace
        from mlpipe_engine.sdk.workspace import Workspace

        found = Workspace.from_config()
        object.__setattr__(self, "workspace", found)  # found once; no part of the value
        return found


def _bound(value: object) -> int | float | str | None:
    from datetime import date

    if value is None or (isinstance(value, int | float | str) and not isinstance(value, bool)):
        return value
    if isinstance(value, date):
        return value.isoformat()
    raise DefinitionTypeError(
        f"a range ends at {value!r}", where=caller(), field="ranges", expected="a number, a text, a date or None"
    )
