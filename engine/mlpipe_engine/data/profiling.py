"""Statistics of the columns of a table: one pass of aggregates over all rows, a second one only for what the first found small.

Quantiles, distinct counts and histograms are approximate (t-digest, HyperLogLog); counts, extremes, means and moments are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mlpipe_engine.data.expressions import identifier
from mlpipe_engine.model.datasets import QUANTILES, ColumnProfile, ColumnSchema, Found, Profile, Scalar

if TYPE_CHECKING:
    from mlpipe_engine.data.tabular import Table

SAMPLE_ABOVE_BYTES = 512 << 20
"""Files together larger than this are sampled unless all rows are asked for."""
SAMPLE_ROWS = 1_000_000
EXACT_DISTINCT = 1_000
TOP_VALUES = 10
BINS = 20
_GRID = tuple(step / 100 for step in range(1, 100))
"""Further quantiles, from which a histogram is drawn."""
_POINTS = tuple(sorted({*QUANTILES, *_GRID}))

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
            "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip


def kind_of(engine_type: str) -> str:
    """number, time, text, bool, or other for what has no order worth showing."""
    head = engine_type.split("(")[0].upper()
    if "[" in engine_type or head in ("STRUCT", "MAP", "UNION", "LIST"):
        return "other"
    if head in _NUMBERS:
        return "number"
    if head.startswith("TIMESTAMP") or head == "DATE":
        return "time"
    if head in ("VARCHAR", "ENUM", "UUID"):
        return "text"
    return "bool" if head == "BOOLEAN" else "other"


def profile(table: Table, found: Sequence[Found], *, full: bool = False, core: bool = False) -> Profile:
    """`full`: all rows whatever their size; `core`: without moments, histograms and frequent values. Interrupting it is safe.

    Raises InputError when the rows cannot be read.
    """
    share = 1.0 if full else _share(table, found)
    source = table.sql if share >= 1.0 else f"SELECT * FROM ({table.sql}) TABLESAMPLE SYSTEM({share * 100:.6f}%)"
    columns = table.columns
    rows, facts = _first_pass(table, source, columns, core=core)
    exact = {} if core else _second_pass(table, source, columns, facts)
    errors = dict(table.problems())
    described = tuple(_column(column, rows, facts[column.name], exact.get(column.name), errors) for column in columns)
    problems = tuple(
        f"column {name!r}: {count:,} value{'s' if count != 1 else ''} did not fit and became null"
        for name, count in errors.items()
    )
    sampled = share < 1.0
    return Profile(
        rows=_counted(table) if sampled else rows,
        sampled=sampled,
        sample_rows=rows,
        columns=described,
        core=core,
        problems=problems + table.notes,
    )


def _share(table: Table, found: Sequence[Found]) -> float:
    """Of the rows to look at. Rows of text are estimated from the first ones."""
    total = sum(item.size for item in found)
    if total <= SAMPLE_ABOVE_BYTES:
        return 1.0
    rows = _counted(table)
    if rows is None:
        text = table.query(
            f"SELECT sum(strlen(CAST(__row AS VARCHAR))), count(*) FROM (SELECT * FROM ({table.sql}) LIMIT 10000) __row"
        )
        rows = int(total / max(1.0, float(text[0][0] or 1) / max(1, int(text[0][1]))))
    return min(1.0, SAMPLE_ROWS / max(1, rows))


def _counted(table: Table) -> int | None:
    """The rows of a table whose files say how many they hold; None where all would have to be read."""
    from mlpipe_engine.model.datasets import ParquetReader

    return table.count() if isinstance(table.definition.reader, ParquetReader) else None


# -- the pass over all columns -------------------------------------------------------------------------------------------


def _questions(column: ColumnSchema, x: str, *, core: bool) -> dict[str, str]:
    kind = kind_of(column.type)
    asked = {"filled": f"count({x})"}
    if kind == "other":
        return asked
    asked |= {"distinct": f"approx_count_distinct({x})", "low": f"min({x})", "high": f"max({x})"}
    if kind == "number":
        points = ", ".join(map(repr, QUANTILES if core else _POINTS))
        number = f"CAST({x} AS DOUBLE)" if column.type not in ("DOUBLE", "FLOAT") else x
        asked |= {"mean": f"avg({x})", "points": f"approx_quantile({x}, [{points}])"}
        if not core:
            asked |= {"std": f"stddev_samp({number})", "skewness": f"skewness({number})", "kurtosis": f"kurtosis({number})"}
    elif kind == "time" and not core:
        points = ", ".join(map(repr, QUANTILES))
        asked["points"] = f"approx_quantile(epoch_us(CAST({x} AS TIMESTAMP)), [{points}])"
    elif kind == "text" and not core:
        asked["empty"] = f"count(*) FILTER ({x} = '')"
    return asked


def _first_pass(
    table: Table, source: str, columns: Sequence[ColumnSchema], *, core: bool
) -> tuple[int, dict[str, dict[str, Any]]]:
    """(rows, column -> answer by name). Columns of floats that hold what is no number are asked again without it."""
    import duckdb

    plain = {column.name: identifier(column.name) for column in columns}
    try:
        rows, facts = _ask(table, source, columns, plain, core=core)
    except duckdb.OutOfRangeException:
        finite = {column.name: _finite(column) for column in columns}
        rows, facts = _ask(table, source, columns, finite, core=core)
        return rows, facts
    odd = [column for column in columns if column.type in ("DOUBLE", "FLOAT") and not _is_finite(facts[column.name].get("mean"))]
    if odd:
        again = _ask(table, source, odd, {column.name: _finite(column) for column in odd}, core=core)[1]
        facts |= again
    return rows, facts


def _finite(column: ColumnSchema) -> str:
    x = identifier(column.name)
    return f"CASE WHEN isfinite({x}) THEN {x} END" if column.type in ("DOUBLE", "FLOAT") else x


def _is_finite(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isfinite(value))


def _ask(
    table: Table, source: str, columns: Sequence[ColumnSchema], named: dict[str, str], *, core: bool
) -> tuple[int, dict[str, dict[str, Any]]]:
    keys: list[tuple[str, str]] = []
    asked = ["count(*)"]
    for column in columns:
        for name, question in _questions(column, named[column.name], core=core).items():
            keys.append((column.name, name))
            asked.append(question)
    rows, *answers = table.raw(f"SELECT {', '.join(asked)} FROM ({source})", "compute statistics of the dataset")[0]
    facts: dict[str, dict[str, Any]] = {column.name: {} for column in columns}
    for (column_name, name), answer in zip(keys, answers, strict=True):
        facts[column_name][name] = answer
    return int(rows), facts


def _second_pass(
    table: Table, source: str, columns: Sequence[ColumnSchema], facts: dict[str, dict[str, Any]]
) -> dict[str, dict[Any, int]]:
    """Value -> count, for columns of few values."""
    small = [
        column
        for column in columns
        if kind_of(column.type) in ("text", "bool", "number", "time") and facts[column.name]["distinct"] <= EXACT_DISTINCT * 1.1
    ]
    if not small:
        return {}
    asked = ", ".join(f"histogram({identifier(column.name)})" for column in small)
    answers = table.raw(f"SELECT {asked} FROM ({source})", "compute statistics of the dataset")[0]
    return {
        column.name: {
            value: count for value, count in (answer or {}).items() if not isinstance(value, float) or math.isfinite(value)
        }
        for column, answer in zip(small, answers, strict=True)
    }


# -- answers into records --------------------------------------------------------------------------------------------------


def scalar(value: object) -> Scalar:
    """A value as shown."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool | int | float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


def _column(
    column: ColumnSchema, rows: int, facts: dict[str, Any], counts: dict[Any, int] | None, errors: dict[str, int]
) -> ColumnProfile:
    kind = kind_of(column.type)
    missing = rows - int(facts["filled"])
    if kind == "other":
        return ColumnProfile(name=column.name, type=column.type, count=rows, missing=missing, errors=errors.get(column.name, 0))
    exact = counts is not None and len(counts) <= EXACT_DISTINCT
    points = facts.get("points")
    quantiles, whiskers, histogram = _quantiles(kind, points, facts)
    if exact and counts and kind == "number" and histogram:
        histogram = _counted_histogram(counts)
    std = _number(facts.get("std"))
    return ColumnProfile(
        name=column.name,
        type=column.type,
        count=rows,
        missing=missing,
        errors=errors.get(column.name, 0),
        empty=int(facts["empty"]) if "empty" in facts else None,
        minimum=scalar(facts["low"]),
        maximum=scalar(facts["high"]),
        distinct=len(counts) if counts is not None and exact else min(int(facts["distinct"]), int(facts["filled"])),
        distinct_exact=exact,
        mean=_number(facts.get("mean")),
        std=std,
        variance=std * std if std is not None else None,
        skewness=_number(facts.get("skewness")),
        kurtosis=_number(facts.get("kurtosis")),
        quantiles=quantiles,
        lower_whisker=whiskers[0],
        upper_whisker=whiskers[1],
        histogram=histogram,
        top_values=_top(counts),
    )


def _quantiles(
    kind: str, points: list[Any] | None, facts: dict[str, Any]
) -> tuple[tuple[Scalar, ...], tuple[float | None, float | None], tuple[tuple[float, float, int], ...]]:
    none = (None, None)
    if not points or points[0] is None:
        return (), none, ()
    if kind == "time":
        return tuple((datetime(1970, 1, 1) + timedelta(microseconds=int(point))).isoformat(" ") for point in points), none, ()
    low, high = _number(facts["low"]), _number(facts["high"])
    if len(points) == len(QUANTILES):
        return tuple(map(scalar, points)), none, ()
    at = dict(zip(_POINTS, map(float, points), strict=True))
    quartile = at[0.25], at[0.75]
    reach = 1.5 * (quartile[1] - quartile[0])
    if low is None or high is None:
        return tuple(scalar(at[point]) for point in QUANTILES), none, ()
    whiskers = max(low, quartile[0] - reach), min(high, quartile[1] + reach)
    return tuple(scalar(at[point]) for point in QUANTILES), whiskers, _histogram(low, high, at, int(facts["filled"]))


def _histogram(low: float, high: float, at: dict[float, float], count: int) -> tuple[tuple[float, float, int], ...]:
    """Bins of equal width from the quantiles: between two of them values are taken to be spread evenly."""
    if count == 0 or not math.isfinite(high - low):
        return ()
    if low == high:
        return ((low, high, count),)
    places = [(low, 0.0), *((at[point], point) for point in _POINTS), (high, 1.0)]
    width = (high - low) / BINS
    edges = [low + width * number for number in range(BINS)] + [high]
    below = [round(_share_below(edge, places) * count) for edge in edges]
    below[0], below[-1] = 0, count
    return tuple((edges[n], edges[n + 1], max(0, below[n + 1] - below[n])) for n in range(BINS))


def _counted_histogram(counts: dict[Any, int]) -> tuple[tuple[float, float, int], ...]:
    """Exact, from every value."""
    values = sorted((float(value), count) for value, count in counts.items())
    low, high = values[0][0], values[-1][0]
    if low == high or not math.isfinite(high - low):
        return ((low, high, sum(count for _, count in values)),)
    bins = [0] * BINS
    for value, count in values:
        bins[min(BINS - 1, int((value - low) / (high - low) * BINS))] += count
    edges = [low + (high - low) / BINS * number for number in range(BINS)] + [high]
    return tuple((edges[n], edges[n + 1], bins[n]) for n in range(BINS))


def _share_below(edge: float, places: Sequence[tuple[float, float]]) -> float:
    last_value, last_share = places[0]
    for value, share in places:
        if value > edge:
            if value == last_value:
                return share
            return last_share + (share - last_share) * (edge - last_value) / (value - last_value)
        last_value, last_share = value, share
    return 1.0


def _top(counts: dict[Any, int] | None) -> tuple[tuple[Scalar, int], ...]:
    if counts is not None:
        ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
        return tuple((scalar(value), int(count)) for value, count in ordered[:TOP_VALUES])
    return ()
