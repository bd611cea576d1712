"""Tabular datasets: lazy operations over delimited text, Parquet, JSON lines and queries. Content is read by the `to_*` methods only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from mlpipe_engine.errors import DatasetTimestampMissingError, DefinitionTypeError, DefinitionValueError, InputError, nearest
from mlpipe_engine.model.datasets import (
    Call,
    ColumnRef,
    ColumnSchema,
    ColumnType,
    Constant,
    DatasetDefinition,
    DelimitedReader,
    DropColumns,
    FilterRows,
    Header,
    JsonLinesReader,
    KeepColumns,
    OnError,
    Operation,
    ParquetReader,
    Reader,
    RecentRows,
    SampleRows,
    SkipRows,
    SplitRows,
    SqlReader,
    TakeRows,
)
from mlpipe_engine.model.partitions import PartitionFormat
from mlpipe_engine.sdk import loading
from mlpipe_engine.sdk.expressions import DatasetExpression, moment
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.versions import Registered

if TYPE_CHECKING:
    import polars
    from duckdb import DuckDBPyRelation

    from mlpipe_engine.sdk.dataset import DatasetConsumptionConfig, FileDataset, OnePath


class PromoteHeadersBehavior:
    """What `header` of `from_delimited_files` may be.

    >>> PromoteHeadersBehavior.COMBINE_ALL_FILES_HEADERS
    'combine'
    """

    NO_HEADERS = "none"
    """Columns are called Column1, Column2, ..."""
    ONLY_FIRST_FILE_HAS_HEADERS = "first_file"
    COMBINE_ALL_FILES_HEADERS = "combine"
    """Every file has its own; columns are put together by name."""
    ALL_FILES_HAVE_SAME_HEADERS = "all_same"
    """That they are the same is checked."""


_HEADERS: dict[str, Header] = {
    "none": "none", "first_file": "first_file", "combine": "combine", "all_same": "all_same",
    "NO_HEADERS": "none", "ONLY_FIRST_FILE_HAS_HEADERS": "first_file", "COMBINE_ALL_FILES_HEADERS": "combine",
    "ALL_FILES_HAVE_SAME_HEADERS": "all_same",
}  # fmt: skip


@strict
class DataType:
    """Types for `set_column_types`.

    >>> DataType.to_float(decimal_mark=",").decimal_mark
    ','
    """

    @staticmethod
    def to_string() -> ColumnType:
        return ColumnType("string")

    @staticmethod
    def to_long() -> ColumnType:
        return ColumnType("long")

    @staticmethod
    def to_float(decimal_mark: str = ".") -> ColumnType:
        if decimal_mark not in (".", ","):
            raise DefinitionValueError(f"decimal_mark is {decimal_mark!r}", where=caller(), expected="'.' or ','")
        return ColumnType("float", decimal_mark=decimal_mark)

    @staticmethod
    def to_bool() -> ColumnType:
        return ColumnType("bool")

    @staticmethod
    def to_datetime(formats: str | Sequence[str] | None = None) -> ColumnType:
        """`formats` in strptime's signs, tried in order; without them ISO 8601."""
        given = (formats,) if isinstance(formats, str) else tuple(formats or ())
        return ColumnType("datetime", formats=given)

    @staticmethod
    def to_stream(workspace: object = None) -> ColumnType:
        """A text that is the address of a file; see `TabularDataset.download`."""
        return ColumnType("stream")


@strict
@dataclass(frozen=True)
class TabularDataset(Registered):
    """Rows and columns. Every operation gives a new dataset; equal definitions are the same dataset.

    >>> from mlpipe_engine import Dataset
    >>> flights = Dataset.Tabular.from_delimited_files("data/flights*.csv")
    >>> late = flights.filter(flights["delay"] > 15).keep_columns(["carrier", "delay"]).take(100)
    >>> [type(operation).__name__ for operation in late.definition.operations]
    ['FilterRows', 'KeepColumns', 'TakeRows']
    """

    def __getitem__(self, name: str) -> DatasetExpression:
        return DatasetExpression(ColumnRef(name))

    # -- lazy operations ---------------------------------------------------------------------------------------------------

    def skip(self, count: int) -> TabularDataset:
        return self._then(SkipRows(whole(count, "count")))

    def take(self, count: int) -> TabularDataset:
        return self._then(TakeRows(whole(count, "count")))

    def take_sample(self, probability: float, seed: int | None = None) -> TabularDataset:
        """Each row with this probability, decided by hashing which row of which file it is: the same rows everywhere."""
        return self._then(SampleRows(share(probability, "probability"), seed or 0))

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[TabularDataset, TabularDataset]:
        """Two datasets that share no row; the first has exactly round(percentage * rows) of them. Stable, also without a seed."""
        first, second = split(percentage, seed)
        return self._then(first), self._then(second)

    def keep_columns(self, columns: str | Sequence[str], validate: bool = False) -> TabularDataset:
        """In the order given. `validate`: look now whether they are there; else when rows are read."""
        kept = names(columns, "columns")
        made = self._then(KeepColumns(kept))
        definition = made.definition
        if definition.timestamp is not None and definition.timestamp not in kept:
            definition = replace(definition, timestamp=None, partition_timestamp=None)
        elif definition.partition_timestamp is not None and definition.partition_timestamp not in kept:
            definition = replace(definition, partition_timestamp=None)
        return made._validated(definition, validate)

    def drop_columns(self, columns: str | Sequence[str]) -> TabularDataset:
        """Dropping the timestamp column drops the trait."""
        dropped = names(columns, "columns")
        definition = self.definition.then(DropColumns(dropped))
        if definition.timestamp in dropped:
            definition = replace(definition, timestamp=None, partition_timestamp=None)
        elif definition.partition_timestamp in dropped:
            definition = replace(definition, partition_timestamp=None)
        return self._with(definition)

    def filter(self, expression: DatasetExpression) -> TabularDataset:
        """Rows for which it is true; null is not true.

        >>> from mlpipe_engine import Dataset
        >>> ds = Dataset.Tabular.from_parquet_files("data/flights.parquet")
        >>> ds.filter((ds["delay"] > 15) & ds["carrier"].starts_with("U")).definition.depends_on_clock
        False
        """
        if not isinstance(expression, DatasetExpression):
            raise DefinitionTypeError(
                f"the filter is a {type(expression).__name__}", where=caller(), expected="an expression such as dataset['a'] > 1"
            )
        return self._then(FilterRows(expression.expression))

    # -- time series -------------------------------------------------------------------------------------------------------

    def with_timestamp_columns(
        self, timestamp: str | None = None, partition_timestamp: str | None = None, validate: bool = False
    ) -> TabularDataset:
        """Name the columns that the time filters mean; None for both takes the trait away."""
        if partition_timestamp is not None and timestamp is None:
            raise DefinitionValueError("partition_timestamp needs timestamp too", where=caller(), field="timestamp")
        if timestamp is not None and timestamp == partition_timestamp:
            raise DefinitionValueError("timestamp and partition_timestamp are the same column", where=caller())
        definition = replace(self.definition, timestamp=timestamp, partition_timestamp=partition_timestamp)
        return self._validated(definition, validate and timestamp is not None)

    @property
    def timestamp_columns(self) -> tuple[str | None, str | None]:
        return self.definition.timestamp, self.definition.partition_timestamp

    def time_before(self, end_time: datetime, include_boundary: bool = True, validate: bool = False) -> TabularDataset:
        return self._between(None, end_time, include_boundary, validate)

    def time_after(self, start_time: datetime, include_boundary: bool = True, validate: bool = False) -> TabularDataset:
        return self._between(start_time, None, include_boundary, validate)

    def time_between(
        self, start_time: datetime, end_time: datetime, include_boundary: bool = True, validate: bool = False
    ) -> TabularDataset:
        return self._between(start_time, end_time, include_boundary, validate)

    def time_recent(self, time_delta: timedelta, include_boundary: bool = True, validate: bool = False) -> TabularDataset:
        """Rows of the last `time_delta` before they are read. A step that takes them runs again every time."""
        if not isinstance(time_delta, timedelta):
            raise DefinitionTypeError(f"time_delta is {time_delta!r}", where=caller(), expected="a datetime.timedelta")
        recent = RecentRows(self._timestamp(), time_delta.total_seconds(), include_boundary)
        return self._validated(self.definition.then(recent), validate)

    def _between(self, start: datetime | None, end: datetime | None, include: bool, validate: bool) -> TabularDataset:
        column = ColumnRef(self._timestamp())
        operations: list[Operation] = []
        for value, signs in ((start, (">", ">=")), (end, ("<", "<="))):
            if value is None:
                continue
            if not isinstance(value, datetime):
                raise DefinitionTypeError(f"found {value!r}", where=caller(), expected="a datetime")
            coarse = self._coarse(value, after=value is start)
            if coarse is not None:
                operations.append(FilterRows(coarse))
            operations.append(FilterRows(Call(signs[include], (column, moment(value)))))
        return self._validated(self.definition.then(*operations), validate)

    def _coarse(self, value: datetime, *, after: bool) -> Call | None:
        """What holds for the partition of every row that passes: whole files are left out by it."""
        name = self.definition.partition_timestamp
        text = self.definition.path_options[1]
        if name is None or text is None:
            return None
        parser = PartitionFormat.parse(text)
        if parser.date_column != name:
            return None
        limit = moment(value)
        if not after:
            return Call("<=", (ColumnRef(name), limit))
        start = datetime.fromisoformat(str(limit.value)) - timedelta(seconds=parser.seconds)
        return Call(">", (ColumnRef(name), Constant(start.isoformat(), "datetime")))

    def _timestamp(self) -> str:
        if self.definition.timestamp is None:
            raise DatasetTimestampMissingError(
                "this dataset has no timestamp column",
                where=caller(),
                hint="Name it first: dataset.with_timestamp_columns(timestamp='...').",
            )
        return self.definition.timestamp

    # -- reading -----------------------------------------------------------------------------------------------------------

    @property
    def schema(self) -> tuple[ColumnSchema, ...]:
        """Columns and their types. Reads the files' headers and, for text, rows."""
        with self._engine().table(self.definition) as table:
            return table.columns

    def to_polars(self) -> polars.DataFrame:
        """All rows. Raises InputError naming file, line and column of a value that does not fit its type."""
        with self._engine().table(self.definition) as table:
            frame = table.polars()
            self._tell(table.problems())
            return frame

    def to_pandas_dataframe(
        self, on_error: Literal["fail", "null"] = "fail", out_of_range_datetime: Literal["fail", "null"] = "fail"
    ) -> Any:
        """All rows as a pandas.DataFrame, where pandas is installed. The timestamp column becomes the index.

        A value that does not fit its type is an error here, where the Azure SDK makes it null without a word; with
        `on_error="null"` it becomes null, and how many did is printed.
        """
        dataset = self if on_error == "fail" else self._lenient()
        with dataset._engine().table(dataset.definition) as table:
            frame = table.pandas()
            self._tell(table.problems())
            return frame

    def to_arrow(self) -> Any:
        """All rows as a pyarrow.Table, where pyarrow is installed."""
        with self._engine().table(self.definition) as table:
            return table.arrow()

    def to_duckdb(self) -> DuckDBPyRelation:
        """A lazy relation over the files. Its temporary files are kept until the process ends; errors are DuckDB's own."""
        import atexit

        table = self._engine().table(self.definition, locked=False)
        atexit.register(table.close)
        return table.relation()

    def to_parquet_files(self, target_path: str | os.PathLike[str] | None = None) -> FileDataset:
        """One Parquet file: at `target_path`, else in the default datastore under a name made of definition and content."""
        return self._written("parquet", target_path)

    def to_csv_files(self, separator: str = ",", target_path: str | os.PathLike[str] | None = None) -> FileDataset:
        return self._written("csv", target_path, separator)

    def partition_by(
        self,
        partition_keys: str | Sequence[str],
        target: Any,
        name: str | None = None,
        show_progress: bool = True,
        partition_as_file_dataset: bool = False,
    ) -> TabularDataset | FileDataset:
        """Write the rows as Parquet files in folders key=value below `target` (a folder, or (datastore, path)).

        `name`: register what was written. Raises InputError when the folder is there already.
        """
        from mlpipe_engine.sdk.dataset import FileDataset, local_path

        keys = names(partition_keys, "partition_keys")
        folder = local_path(target)
        if loading.active:
            loading.note(f"partition_by({', '.join(keys)})")
        else:
            place = os.path.join(self._engine().root, folder)
            if os.path.lexists(place):
                raise InputError(f"{folder} is there already", field="target", hint="Remove it, or write to another folder.")
            with self._engine().table(self.definition) as table:
                missing = [key for key in keys if key not in {column.name for column in table.columns}]
                if missing:
                    raise InputError(f"there is no column {missing[0]!r}", field="partition_keys")
                count = table.write_partitions(place, keys)
            if show_progress:
                print(f"Wrote {count:,} rows to {folder}")
        if partition_as_file_dataset:
            return FileDataset.of((folder,))
        made = TabularDataset(DatasetDefinition(kind="tabular", paths=(folder,), reader=ParquetReader(hive_partitions=True)))
        return made if name is None else made.register(self._workspace(), name, create_new_version=True)

    def download(
        self,
        stream_column: str | None = None,
        target_path: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        ignore_not_found: bool = False,
    ) -> list[str]:
        """The files whose addresses stand in `stream_column`; without one, the dataset's own files. Gives the local paths."""
        return self._files(stream_column, ignore_not_found).download(target_path, overwrite, ignore_not_found)

    def mount(self, stream_column: str | None = None, mount_point: str | None = None) -> Any:
        return self._files(stream_column, False).mount(mount_point)

    def _files(self, stream_column: str | None, ignore_missing: bool) -> FileDataset:
        from mlpipe_engine.sdk.dataset import FileDataset

        if stream_column is None:
            return FileDataset.of(self.definition.paths, workspace=self.workspace)
        with self._engine().table(self.keep_columns(stream_column).definition) as table:
            addresses = tuple(dict.fromkeys(str(value) for (value,) in table.rows() if value is not None))
        return FileDataset.of(addresses, validate=not ignore_missing, workspace=self.workspace)

    def _written(self, kind: str, target: str | os.PathLike[str] | None, separator: str = ",") -> FileDataset:
        from mlpipe_engine.data.tabular import now_utc
        from mlpipe_engine.model.datasets import consumed_digest
        from mlpipe_engine.model.encoding import fingerprint
        from mlpipe_engine.sdk.dataset import FileDataset

        engine = self._engine()
        stopped = self.definition.at(now_utc())
        found = engine.find(self.definition)
        if target is None:
            name = fingerprint("written", [stopped.recipe, consumed_digest(stopped, found), separator])[3:35]
            target = os.path.join(".mlpipe", "datastores", "workspaceblobstore", "datasets", f"{name}.{kind}")
        path = os.fspath(target)
        with engine.table(stopped, found) as table:
            place = os.path.join(engine.root, path)
            _ = table.write_csv(place, separator) if kind == "csv" else table.write_parquet(place)
            self._tell(table.problems())
        return FileDataset.of((path,), workspace=self.workspace)

    def _lenient(self) -> TabularDataset:
        reader = self.definition.reader
        assert reader is not None
        return self._with(replace(self.definition, reader=replace(reader, on_error="null")))

    @staticmethod
    def _tell(problems: Sequence[tuple[str, int]]) -> None:
        for name, count in problems:
            print(f"mlpipe-tui: column {name!r}: {count:,} value{'s' if count != 1 else ''} did not fit and became null")

    def _then(self, *operations: Operation) -> TabularDataset:
        return self._with(self.definition.then(*operations))

    def _with(self, definition: DatasetDefinition) -> TabularDataset:
        """A new, unregistered dataset."""
        return TabularDataset(definition, self.workspace, self.expectations, reference=self.reference)

    def _validated(self, definition: DatasetDefinition, validate: bool) -> TabularDataset:
        made = self._with(definition)
        if validate and not loading.active:
            with made._engine().table(definition):
                pass
        return made

    # -- in steps ----------------------------------------------------------------------------------------------------------

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """An input of that name. The step gets the rows as one file: see `mlpipe_run.Dataset`."""
        from mlpipe_engine.sdk.dataset import DatasetConsumptionConfig

        return DatasetConsumptionConfig(name, self, mode="direct")

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._unnamed().as_mount(path_on_compute)

    def as_download(self, path_on_compute: str | None = None, format: str | None = None) -> DatasetConsumptionConfig:
        """A private copy. `format`: "parquet" or "csv"."""
        return self._unnamed().as_download(path_on_compute, format)

    def as_direct(self) -> DatasetConsumptionConfig:
        return self._unnamed()

    def _unnamed(self) -> DatasetConsumptionConfig:
        from mlpipe_engine.sdk.dataset import DatasetConsumptionConfig, derived_name

        name = derived_name(self.reference.source.name if self.reference is not None else self.definition.paths[0])
        return DatasetConsumptionConfig(name, self, mode="direct", named=False)


# -- checked arguments ---------------------------------------------------------------------------------------------------------


def whole(count: int, field: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise DefinitionValueError(
            f"{field} is {count!r}", where=caller(), field=field, expected="a whole number of rows, 0 or more"
        )
    return count


def share(value: float, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DefinitionValueError(f"{field} is {value!r}", where=caller(), field=field, expected="a number from 0 to 1")
    return float(value)


def split(percentage: float, seed: int | None) -> tuple[SplitRows, SplitRows]:
    part = share(percentage, "percentage")
    return SplitRows(0.0, part, seed or 0), SplitRows(part, 1.0, seed or 0)


def names(given: str | Sequence[str], field: str) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else tuple(given)
    if not found or not all(isinstance(name, str) for name in found):
        raise DefinitionValueError(f"{field} is {given!r}", where=caller(), field=field, expected="one or more column names")
    if len(set(found)) < len(found):
        raise DefinitionValueError(f"{field} names a column twice", where=caller(), field=field)
    return found


# -- making them ---------------------------------------------------------------------------------------------------------------


@strict
class TabularFactory:
    """`Dataset.Tabular`. Nothing is read here, also with `validate`: that happens when the dataset is used or registered."""

    @staticmethod
    def from_delimited_files(
        path: OnePath | Sequence[OnePath],
        validate: bool = True,
        include_path: bool = False,
        infer_column_types: bool = True,
        set_column_types: Mapping[str, ColumnType] | None = None,
        separator: str = ",",
        header: bool | str = True,
        partition_format: str | None = None,
        support_multi_line: bool = False,
        empty_as_string: bool = False,
        encoding: str = "utf8",
        *,
        infer_rows: int | None = None,
        hive_partitions: bool = False,
        on_error: OnError = "fail",
    ) -> TabularDataset:
        """Text with separators.

        A quoted value may hold line breaks whatever `support_multi_line` says; rows are never torn. `infer_rows`: how many rows
        are looked at for types. `on_error="null"`: a value that does not fit, or is missing at the end of a line, is null and counted.
        """
        if not isinstance(separator, str) or not 1 <= len(separator.encode()) <= 4 or set(separator) & set('\n\r"'):
            raise DefinitionValueError(
                f"separator is {separator!r}", where=caller(), field="separator", expected="1 to 4 characters"
            )
        reader = DelimitedReader(
            separator=separator, header=_header(header), include_path=include_path, infer_column_types=infer_column_types,
            infer_rows=None if infer_rows is None else whole(infer_rows, "infer_rows"), column_types=_types(set_column_types),
            partition_format=_partition(partition_format), hive_partitions=hive_partitions, support_multi_line=support_multi_line,
            empty_as_string=empty_as_string, encoding=_encoding(encoding), on_error=_on_error(on_error),
        )  # fmt: skip
        return _made(path, reader, validate)

    @staticmethod
    def from_parquet_files(
        path: OnePath | Sequence[OnePath],
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, ColumnType] | None = None,
        partition_format: str | None = None,
        *,
        hive_partitions: bool = False,
    ) -> TabularDataset:
        """Parquet files with the same columns; others are an error that names the first column that differs."""
        reader = ParquetReader(
            include_path=include_path, column_types=_types(set_column_types), partition_format=_partition(partition_format),
            hive_partitions=hive_partitions,
        )  # fmt: skip
        return _made(path, reader, validate)

    @staticmethod
    def from_json_lines_files(
        path: OnePath | Sequence[OnePath],
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, ColumnType] | None = None,
        partition_format: str | None = None,
        invalid_lines: Literal["error", "drop"] = "error",
        encoding: str = "utf8",
    ) -> TabularDataset:
        """One JSON object a line."""
        if invalid_lines not in ("error", "drop"):
            raise DefinitionValueError(
                f"invalid_lines is {invalid_lines!r}", where=caller(), field="invalid_lines", expected="'error' or 'drop'"
            )
        reader = JsonLinesReader(
            include_path=include_path, column_types=_types(set_column_types), partition_format=_partition(partition_format),
            invalid_lines=invalid_lines, encoding=_encoding(encoding),
        )  # fmt: skip
        return _made(path, reader, validate)

    @staticmethod
    def from_sql_query(
        query: Any,
        validate: bool = True,
        set_column_types: Mapping[str, ColumnType] | None = None,
        query_timeout: float = 30,
    ) -> TabularDataset:
        """`query`: (datastore, SQL), or (path of a DuckDB or SQLite file, SQL). One SELECT; nothing is written."""
        from mlpipe_engine.sdk.dataset import database_address

        if not isinstance(query, tuple) or len(query) != 2 or not isinstance(query[1], str) or not query[1].strip():
            raise DefinitionTypeError(
                f"query is {query!r}", where=caller(), field="query", expected="(datastore or database file, SQL text)"
            )
        if isinstance(query_timeout, bool) or not isinstance(query_timeout, int | float) or query_timeout < 0:
            raise DefinitionValueError(
                f"query_timeout is {query_timeout!r}", where=caller(), field="query_timeout", expected="seconds"
            )
        reader = SqlReader(query=query[1], column_types=_types(set_column_types), timeout_seconds=float(query_timeout))
        definition = DatasetDefinition(kind="tabular", paths=(database_address(query[0]),), reader=reader, validate=validate)
        return TabularDataset(definition)

    @staticmethod
    def register_pandas_dataframe(
        dataframe: Any, target: Any, name: str, description: str | None = None, tags: Mapping[str, str] | None = None,
        show_progress: bool = True, row_group_size: int | None = None, make_target_path_unique: bool = True,
    ) -> TabularDataset:  # fmt: skip
        """Write a pandas.DataFrame as Parquet below `target`, (datastore, path), and register it. Needs Polars only."""
        import polars

        return _registered_frame(
            lambda: polars.from_pandas(dataframe), target, name, description, tags, show_progress, row_group_size
        )

    @staticmethod
    def register_polars_dataframe(
        dataframe: Any, target: Any, name: str, description: str | None = None, tags: Mapping[str, str] | None = None,
        show_progress: bool = True, row_group_size: int | None = None,
    ) -> TabularDataset:  # fmt: skip
        return _registered_frame(lambda: dataframe, target, name, description, tags, show_progress, row_group_size)


def _registered_frame(
    frame: Any,
    target: Any,
    name: str,
    description: str | None,
    tags: Mapping[str, str] | None,
    show_progress: bool,
    rows: int | None,
) -> TabularDataset:
    from mlpipe_engine.errors import FilesystemError
    from mlpipe_engine.hashing.files import hash_file
    from mlpipe_engine.sdk.dataset import local_path, workspace_of

    workspace, folder = workspace_of(target), local_path(target)
    if loading.active:
        loading.note(f"register_dataframe({name!r})")
        return TabularDataset(DatasetDefinition(kind="tabular", paths=(folder,), reader=ParquetReader()), workspace=workspace)
    place = os.path.join(workspace.root, folder)
    part = os.path.join(place, f".{os.getpid()}.part")
    try:
        os.makedirs(place, exist_ok=True)
        frame().write_parquet(part, row_group_size=rows)
        # The name is made of the content: registered again, the same frame is the same file and the same version.
        file = f"{hash_file(part)[3:35]}.parquet"
        os.replace(part, os.path.join(place, file))
    except OSError as error:
        raise FilesystemError.of(error, "write the dataframe to", place) from error
    if show_progress:
        print(f"Wrote {os.path.join(folder, file)}")
    definition = DatasetDefinition(kind="tabular", paths=(os.path.join(folder, file),), reader=ParquetReader())
    return TabularDataset(definition, workspace=workspace).register(workspace, name, description, tags, create_new_version=True)


def _made(path: OnePath | Sequence[OnePath], reader: Reader, validate: bool) -> TabularDataset:
    from mlpipe_engine.sdk.dataset import addresses_of, workspace_among

    definition = DatasetDefinition(kind="tabular", paths=addresses_of(path), reader=reader, validate=validate)
    return TabularDataset(definition, workspace=workspace_among(path))


def _header(header: bool | str) -> Header:
    if isinstance(header, bool):
        return "all_same" if header else "none"
    text = str(getattr(header, "name", header))
    if text not in _HEADERS:
        raise DefinitionValueError(
            f"header is {header!r}", where=caller(), field="header",
            expected="True, False or one of PromoteHeadersBehavior: " + ", ".join(key for key in _HEADERS if key.isupper()),
        )  # fmt: skip
    return _HEADERS[text]


def _types(given: Mapping[str, ColumnType] | None) -> tuple[tuple[str, ColumnType], ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise DefinitionTypeError(
            f"set_column_types is a {type(given).__name__}", where=caller(), expected="{column: DataType.to_...()}"
        )
    for name, kind in given.items():
        if not isinstance(name, str) or not isinstance(kind, ColumnType):
            raise DefinitionTypeError(
                f"set_column_types has {name!r}: {kind!r}", where=caller(), field="set_column_types", expected="DataType.to_...()"
            )
    return tuple(sorted(given.items(), key=lambda item: item[0]))


def _partition(text: str | None) -> str | None:
    if text is not None:
        try:
            PartitionFormat.parse(text)
        except ValueError as error:
            raise DefinitionValueError(str(error), where=caller(), field="partition_format") from None
    return text


def _encoding(name: str) -> str:
    from mlpipe_engine.data.delimited import codec_of

    try:
        codec_of(name)
    except (LookupError, TypeError, AttributeError):
        known = ("utf8", "utf8bom", "utf16", "utf32", "iso88591", "latin1", "ascii", "windows1252")
        close = nearest(str(name), known)
        raise DefinitionValueError(
            f"encoding is {name!r}" + (f"; did you mean {close!r}?" if close else ""), where=caller(), field="encoding",
            expected=f"one of {', '.join(known)}, or a codec of Python",
        ) from None  # fmt: skip
    return name


def _on_error(value: OnError) -> OnError:
    if value not in ("fail", "null"):
        raise DefinitionValueError(f"on_error is {value!r}", where=caller(), field="on_error", expected="'fail' or 'null'")
    return value
