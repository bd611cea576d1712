"""Datasets as values: how one is defined, what was found for it, and what is recorded of a version.

Nothing here reads a file. `sdk` builds definitions, `data` turns them and the files found for them into tables, `store` keeps versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from mlpipe_engine.model.encoding import Value, fingerprint

# -- what a column holds ---------------------------------------------------------------------------------------------

TypeName = Literal["string", "long", "float", "bool", "datetime", "stream"]


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What the text of a column is read as, instead of what its values look like."""

    name: TypeName
    decimal_mark: str = "."
    formats: tuple[str, ...] = ()
    """Of a datetime, in strptime's signs, tried in order; (): ISO 8601 and what the engine takes for a date."""


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """One column as the engine reads it; `type` is DuckDB's word for it."""

    name: str
    type: str


# -- expressions over the columns of a row ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ColumnRef:
    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal. `type` says what a text stands for where it is no plain text: a date or a point in time (UTC), in ISO 8601.

    An interval is a number of seconds.
    """

    value: bool | int | float | str | None
    type: Literal["", "datetime", "date", "interval"] = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A function of expressions. The names are those of `FUNCTIONS`."""

    function: str
    arguments: tuple[Expression, ...]


Expression = ColumnRef | Constant | Call

FUNCTIONS: dict[str, int] = {
    "==": 2, "!=": 2, "<": 2, "<=": 2, ">": 2, ">=": 2,
    "and": 2, "or": 2, "not": 1,
    "+": 2, "-": 2, "*": 2, "/": 2, "%": 2, "negative": 1,
    "is_null": 1, "starts_with": 2, "ends_with": 2, "contains": 2, "lower": 1, "upper": 1, "length": 1, "abs": 1,
}  # fmt: skip
"""Function -> number of arguments. "in" takes one expression and any number of constants."""


def columns_of(expression: Expression) -> frozenset[str]:
    """The columns an expression reads. Iterative: filters made by a loop may be deep."""
    found: set[str] = set()
    pending: list[Expression] = [expression]
    while pending:
        item = pending.pop()
        if isinstance(item, ColumnRef):
            found.add(item.name)
        elif isinstance(item, Call):
            pending.extend(item.arguments)
    return frozenset(found)


# -- operations, applied in the order written ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SkipRows:
    count: int


@dataclass(frozen=True, slots=True)
class TakeRows:
    count: int


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Each row with this probability; the same rows for the same seed and content, on every machine."""

    probability: float
    seed: int


@dataclass(frozen=True, slots=True)
class SplitRows:
    """The rows whose rank, in an order made by hashing file and position with the seed, lies in [low, high) of all rows.

    Exact: of n rows round(high * n) - round(low * n) are taken, in their old order. Splits of one seed do not overlap.
    """

    low: float
    high: float
    seed: int


@dataclass(frozen=True, slots=True)
class KeepColumns:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DropColumns:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FilterRows:
    """Rows for which the expression is true; null is not true."""

    expression: Expression


@dataclass(frozen=True, slots=True)
class RecentRows:
    """Rows whose `column` lies within so many seconds before the moment of evaluation. `DatasetDefinition.at` makes it a filter."""

    column: str
    seconds: float
    include_boundary: bool = True


Operation = SkipRows | TakeRows | SampleRows | SplitRows | KeepColumns | DropColumns | FilterRows | RecentRows


# -- readers ---------------------------------------------------------------------------------------------------------

Header = Literal["all_same", "none", "first_file", "combine"]
OnError = Literal["fail", "null"]
"""What becomes of a value that does not fit the type of its column, and of a row with too few or too many values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DelimitedReader:
    """Text with separators. The defaults are those of `Dataset.Tabular.from_delimited_files`."""

    separator: str = ","
    header: Header = "all_same"
    include_path: bool = False
    """Add the column Path with the address of the file."""
    infer_column_types: bool = True
    infer_rows: int | None = None
    """Rows looked at for types; None: all rows of files up to a documented size, else a large sample."""
    column_types: tuple[tuple[str, ColumnType], ...] = ()
    """Sorted by name; they go before what would be inferred."""
    partition_format: str | None = None
    hive_partitions: bool = False
    """Folders called key=value become columns."""
    support_multi_line: bool = False
    """False: a quoted value that goes on in the next line is an error, never a row in two pieces."""
    empty_as_string: bool = False
    encoding: str = "utf8"
    quote: str = '"'
    on_error: OnError = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetReader:
    include_path: bool = False
    column_types: tuple[tuple[str, ColumnType], ...] = ()
    partition_format: str | None = None
    hive_partitions: bool = False
    on_error: OnError = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLinesReader:
    include_path: bool = False
    column_types: tuple[tuple[str, ColumnType], ...] = ()
    partition_format: str | None = None
    hive_partitions: bool = False
    invalid_lines: Literal["error", "drop"] = "error"
    encoding: str = "utf8"
    on_error: OnError = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlReader:
    """A query over a database; the definition's one address names it: a file, or a SQL datastore (`datastore://NAME`)."""

    query: str
    column_types: tuple[tuple[str, ColumnType], ...] = ()
    timeout_seconds: float = 30.0
    on_error: OnError = "fail"


Reader = DelimitedReader | ParquetReader | JsonLinesReader | SqlReader


# -- the definition ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DatasetDefinition:
    """A lazy list of operations over what lies at addresses. Equal definitions over equal content give equal rows.

    An address is a path or glob of the project, `datastore://NAME/path/or/glob`, or `http(s)://...`.
    """

    kind: Literal["file", "tabular"]
    paths: tuple[str, ...]
    reader: Reader | None = None
    """None for a file dataset."""
    operations: tuple[Operation, ...] = ()
    validate: bool = True
    """At least one file must match when the dataset is used; for a table, its columns must be readable."""
    partition_format: str | None = None
    """Of a file dataset: columns that filters over files may use. A table has it in its reader."""
    timestamp: str | None = None
    """The column that the time filters mean; the index of `to_pandas_dataframe`."""
    partition_timestamp: str | None = None
    """A column made from the path, by which whole files are left out before they are read."""

    @cached_property
    def digest(self) -> str:
        """Identity of the definition, addresses and all: `k1:<hex>`."""
        return fingerprint("dataset", lowered(self))

    @cached_property
    def recipe(self) -> str:
        """Identity of what is done to the files, wherever they lie: the definition without addresses and `validate`.

        Together with `consumed_digest` of the files it names the rows. Columns made from addresses count there.
        """
        return fingerprint("recipe", lowered(replace(self, paths=(), validate=True)))

    @property
    def depends_on_clock(self) -> bool:
        return any(isinstance(operation, RecentRows) for operation in self.operations)

    def at(self, now: str) -> DatasetDefinition:
        """The definition with the clock stopped at `now` (ISO 8601 in UTC, without a zone): every RecentRows becomes a filter."""
        return replace(self, operations=tuple(_stopped(operation, now) for operation in self.operations))

    def then(self, *operations: Operation) -> DatasetDefinition:
        return replace(self, operations=self.operations + operations)

    @property
    def path_options(self) -> tuple[bool, str | None, bool]:
        """(include_path, partition_format, hive_partitions): what of an address becomes a column."""
        reader = self.reader
        if reader is None:
            return False, self.partition_format, False
        if isinstance(reader, SqlReader):
            return False, None, False
        return reader.include_path, reader.partition_format, reader.hive_partitions


def _stopped(operation: Operation, now: str) -> Operation:
    if not isinstance(operation, RecentRows):
        return operation
    end = Constant(now, "datetime")
    start = Call("-", (end, Constant(operation.seconds, "interval")))
    column = ColumnRef(operation.column)
    signs = (">=", "<=") if operation.include_boundary else (">", "<")
    return FilterRows(Call("and", (Call(signs[0], (column, start)), Call(signs[1], (column, end)))))


def lowered(value: object) -> Value:
    """A value of this module as plain lists and mappings, fields at their default left out: what identities are made of.

    A field added later with a default that means "as before" does not change an identity.
    """
    if isinstance(value, tuple | list):
        return [lowered(member) for member in value]
    if is_dataclass(value) and not isinstance(value, type):
        body: dict[str, Value] = {}
        for name, default in _shape(type(value)):
            member = getattr(value, name)
            if type(member) is not type(default) or member != default:
                body[name] = lowered(member)
        return [type(value).__name__, body]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} is no part of a definition")


@lru_cache
def _shape(kind: type) -> tuple[tuple[str, object], ...]:
    return tuple((item.name, item.default) for item in fields(kind))


# -- what was found ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """One object of a dataset."""

    path: str
    """Within the dataset: below the last folder that all of its objects share."""
    address: str
    """Where it is: relative to the project, absolute, `datastore://...` or a URL."""
    size: int
    digest: str
    """`b3:<hex>` of its bytes."""
    local: str = field(compare=False)
    """A readable local file with these bytes: the file itself, or the cached copy."""


def manifest_digest(found: Iterable[Found]) -> str:
    """Identity of the content of a dataset: names within it and bytes."""
    return fingerprint("content", [[item.path, item.digest] for item in found])


def consumed_digest(definition: DatasetDefinition, found: Sequence[Found]) -> str:
    """Identity of everything `definition.recipe` reads: bytes, names and order of the files, and what addresses add as columns.

    Equal recipe and equal consumed digest: equal rows. Moving the data elsewhere changes nothing unless a column is made from it.
    """
    from mlpipe_engine.model.partitions import PartitionFormat, hive_values

    include_path, partition_format, hive = definition.path_options
    parser = PartitionFormat.parse(partition_format) if partition_format else None
    rows: list[Value] = []
    for item in found:
        row: list[Value] = [item.path, item.digest]
        if include_path:
            row.append(item.address)
        if parser is not None:
            row.append(parser.values(item.address))
        if hive:
            row.append([list(pair) for pair in hive_values(item.address)])
        rows.append(row)
    return fingerprint("consumed", rows)


# -- expectations --------------------------------------------------------------------------------------------------------

Severity = Literal["fail", "warn"]


@dataclass(frozen=True, slots=True)
class ExpectColumns:
    """These columns are there, with these types where one is named ("": any). `exact`: and no others."""

    columns: tuple[tuple[str, TypeName | Literal[""]], ...]
    exact: bool = False
    severity: Severity = "fail"


@dataclass(frozen=True, slots=True)
class ExpectRows:
    """The number of rows lies between these, both included; None: no bound."""

    minimum: int | None = None
    maximum: int | None = None
    severity: Severity = "fail"


@dataclass(frozen=True, slots=True)
class ExpectMaxAge:
    """The newest value of `column`, or without one the newest modification time of a file, is at most this old."""

    seconds: float
    column: str | None = None
    severity: Severity = "fail"


@dataclass(frozen=True, slots=True)
class ExpectNulls:
    """At most this share of the values of a column is null (0.0: none)."""

    column: str
    maximum_share: float = 0.0
    severity: Severity = "fail"


@dataclass(frozen=True, slots=True)
class ExpectUnique:
    """No two rows agree in all of these columns, and none of them is null."""

    columns: tuple[str, ...]
    severity: Severity = "fail"


@dataclass(frozen=True, slots=True)
class ExpectRange:
    """Every value of a column that is not null lies between these, both included."""

    column: str
    minimum: int | float | str | None = None
    maximum: int | float | str | None = None
    severity: Severity = "fail"


Expectation = ExpectColumns | ExpectRows | ExpectMaxAge | ExpectNulls | ExpectUnique | ExpectRange


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one expectation fared."""

    expectation: Expectation
    holds: bool
    text: str
    """What was expected and what was found, for people."""

    @property
    def severity(self) -> Severity:
        return self.expectation.severity


# -- versions ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersionRecord:
    """A registered version: the definition and the content it had then, pinned."""

    name: str
    version: int
    definition: DatasetDefinition
    content: str
    """`manifest_digest` of the files it was registered with."""
    file_count: int
    size_bytes: int
    schema: tuple[ColumnSchema, ...] = ()
    """The columns as read then; () for a file dataset."""
    expectations: tuple[Expectation, ...] = ()
    created_at: str = ""
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """How the files under a version differ from those it was registered with. Nothing anywhere: it is as it was."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


# -- statistics ----------------------------------------------------------------------------------------------------------

QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)

Scalar = None | bool | int | float | str
"""A value as shown: numbers stay numbers, everything else is its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    name: str
    type: str
    count: int
    """Rows, nulls included."""
    missing: int
    errors: int = 0
    """Values that did not fit the type and became null, where that was asked for."""
    empty: int | None = None
    """Empty texts; None where the column holds no text."""
    minimum: Scalar = None
    maximum: Scalar = None
    distinct: int | None = None
    """Exact up to 1,000, above that approximate."""
    distinct_exact: bool = False
    mean: float | None = None
    std: float | None = None
    variance: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    quantiles: tuple[Scalar, ...] = ()
    """At QUANTILES; of numbers and times; approximate."""
    lower_whisker: float | None = None
    upper_whisker: float | None = None
    histogram: tuple[tuple[float, float, int], ...] = ()
    """(from, to, values); the last bin holds its upper edge too."""
    top_values: tuple[tuple[Scalar, int], ...] = ()
    """The most frequent values with their counts, most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Statistics of a table. `rows` counts all rows; where `sampled`, the columns describe `sample_rows` of them."""

    rows: int | None
    """None where only a sample was read and counting would have meant reading all."""
    sampled: bool
    sample_rows: int
    columns: tuple[ColumnProfile, ...]
    core: bool = False
    """Only count, nulls, distinct, extremes, mean and quantiles."""
    problems: tuple[str, ...] = ()
    """Values that became null because they did not fit, as messages."""


# -- difference of two versions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One column that is there on one side only, or has another type. "" where it is not there."""

    column: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticChange:
    """One statistic of one column that differs."""

    column: str
    statistic: str
    before: Scalar
    after: Scalar


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row of one key with other values: (column, before, after) for each that differs."""

    key: tuple[Scalar, ...]
    changes: tuple[tuple[str, Scalar, Scalar], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsDiff:
    """Rows of two tables compared: by key where one was given, else as a multiset."""

    key: tuple[str, ...]
    before: int
    after: int
    added: int
    removed: int
    changed: int
    """Rows of the same key with other values; 0 without a key."""
    added_examples: tuple[tuple[Scalar, ...], ...] = ()
    removed_examples: tuple[tuple[Scalar, ...], ...] = ()
    changed_examples: tuple[ChangedRow, ...] = ()
    note: str = ""
    """Why whole rows are compared although a key was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetDiff:
    """What differs between two datasets. A file dataset has `files` only."""

    before: str
    after: str
    """What is compared, as a person names it: `flights v3`."""
    definition: tuple[tuple[str, str, str], ...] = ()
    """(part, before, after) of the definition."""
    files: Moved = Moved()
    schema: tuple[SchemaChange, ...] = ()
    rows: RowsDiff | None = None
    statistics: tuple[StatisticChange, ...] = ()

    @property
    def same(self) -> bool:
        rows = self.rows
        changed = rows is not None and bool(rows.added or rows.removed or rows.changed)
        return not (self.definition or self.files or self.schema or changed or self.statistics)
