"""Whether a dataset is what is expected of it: columns, rows, age, nulls, uniqueness, ranges. Answers with verdicts, raises nothing.

Numbers of all expectations come from one pass over the table; only uniqueness asks again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlpipe_engine.data.expressions import identifier, literal
from mlpipe_engine.model.datasets import (
    ColumnSchema,
    Expectation,
    ExpectColumns,
    ExpectMaxAge,
    ExpectNulls,
    ExpectRange,
    ExpectRows,
    ExpectUnique,
    Found,
    TypeName,
    Verdict,
)

if TYPE_CHECKING:
    from mlpipe_engine.data.tabular import Table


def check(expectations: Sequence[Expectation], table: Table | None, found: Sequence[Found], now: datetime) -> tuple[Verdict, ...]:
    """In the order given. `table` is None for a file dataset, whose rows are its files. `now`: UTC, without a zone.

    Raises InputError when the rows cannot be read at all.
    """
    asked: dict[str, str] = {}
    for expectation in expectations:
        asked |= _questions(expectation, table)
    answers: dict[str, object] = {}
    if table is not None and asked:
        row = table.query(f"SELECT {', '.join(asked.values())} FROM ({table.sql})", "check the dataset")[0]
        answers = dict(zip(asked, row, strict=True))
    return tuple(_verdict(expectation, table, found, now, answers) for expectation in expectations)


def type_name(engine_type: str) -> TypeName | None:
    """The Azure SDK's word for a type of the engine; None for what it has no word for."""
    head = engine_type.split("(")[0].upper()
    if head.endswith("[]") or head.startswith(("STRUCT", "MAP", "UNION")):
        return None
    if head in (
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
    ):
        return "long"
    if head in ("FLOAT", "DOUBLE", "DECIMAL"):
        return "float"
    if head == "BOOLEAN":
        return "bool"
    if head.startswith("TIMESTAMP") or head == "DATE":
        return "datetime"
    return "string" if head in ("VARCHAR", "JSON", "ENUM", "UUID") else None


def _columns(table: Table | None) -> dict[str, ColumnSchema]:
    return {column.name: column for column in table.columns} if table is not None else {}


def _questions(expectation: Expectation, table: Table | None) -> dict[str, str]:
    """Aggregates by a key of their own; nothing for columns that are not there."""
    columns = _columns(table)
    if isinstance(expectation, ExpectRows):
        return {"rows": "count(*)"}
    if isinstance(expectation, ExpectMaxAge) and expectation.column in columns:
        return {f"newest {expectation.column}": f"max({identifier(expectation.column)})::TIMESTAMP"}
    if isinstance(expectation, ExpectNulls) and expectation.column in columns:
        return {"rows": "count(*)", f"filled {expectation.column}": f"count({identifier(expectation.column)})"}
    if isinstance(expectation, ExpectRange) and expectation.column in columns:
        x, kind = identifier(expectation.column), columns[expectation.column].type
        outside = " OR ".join(
            f"{x} {sign} {_bound(bound, kind)}"
            for sign, bound in (("<", expectation.minimum), (">", expectation.maximum))
            if bound is not None
        )
        key = f"range {expectation.column} {expectation.minimum!r} {expectation.maximum!r}"
        return {key: f"[count(*) FILTER ({outside or 'false'})::VARCHAR, min({x})::VARCHAR, max({x})::VARCHAR]"}
    return {}


def _bound(bound: int | float | str, kind: str) -> str:
    if isinstance(bound, str):
        return f"CAST({literal(bound)} AS {'TIMESTAMP' if type_name(kind) == 'datetime' else 'VARCHAR'})"
    return str(int(bound)) if isinstance(bound, bool | int) else f"{bound!r}::DOUBLE"


def _verdict(
    expectation: Expectation, table: Table | None, found: Sequence[Found], now: datetime, answers: dict[str, object]
) -> Verdict:
    columns = _columns(table)
    needed = _needed(expectation)
    missing = [name for name in needed if name not in columns]
    if missing:
        have = f"there is no column {missing[0]!r}" if table is not None else "a file dataset has no columns"
        return Verdict(expectation, False, f"{wish(expectation)}: {have}")
    if isinstance(expectation, ExpectColumns):
        return _columns_verdict(expectation, columns)
    if isinstance(expectation, ExpectRows):
        rows = int(str(answers["rows"])) if table is not None else len(found)
        low, high = expectation.minimum, expectation.maximum
        holds = (low is None or rows >= low) and (high is None or rows <= high)
        return Verdict(expectation, holds, f"{wish(expectation)}: found {rows:,}")
    if isinstance(expectation, ExpectMaxAge):
        return _age_verdict(expectation, found, now, answers)
    if isinstance(expectation, ExpectNulls):
        rows, filled = int(str(answers["rows"])), int(str(answers[f"filled {expectation.column}"]))
        share = (rows - filled) / rows if rows else 0.0
        text = f"{wish(expectation)}: found {_percent(share)} ({rows - filled:,} of {rows:,})"
        return Verdict(expectation, share <= expectation.maximum_share, text)
    if isinstance(expectation, ExpectUnique):
        assert table is not None
        return _unique_verdict(expectation, table)
    answer = answers[f"range {expectation.column} {expectation.minimum!r} {expectation.maximum!r}"]
    assert isinstance(answer, list)
    outside, low_found, high_found = answer
    text = f"{wish(expectation)}: {int(outside):,} {'value' if outside == '1' else 'values'} outside, found {low_found} to {high_found}"
    return Verdict(expectation, outside == "0", text)


def _needed(expectation: Expectation) -> tuple[str, ...]:
    if isinstance(expectation, ExpectNulls | ExpectRange):
        return (expectation.column,)
    if isinstance(expectation, ExpectUnique):
        return expectation.columns
    if isinstance(expectation, ExpectMaxAge) and expectation.column is not None:
        return (expectation.column,)
    return ()


def wish(expectation: Expectation) -> str:
    """What is expected, for people."""
    if isinstance(expectation, ExpectColumns):
        return f"columns {'exactly ' if expectation.exact else ''}{', '.join(name for name, _ in expectation.columns)}"
    if isinstance(expectation, ExpectRows):
        low, high = expectation.minimum, expectation.maximum
        bounds = [f"at least {low:,}" if low is not None else "", f"at most {high:,}" if high is not None else ""]
        return f"{' and '.join(filter(None, bounds)) or 'any number of'} rows"
    if isinstance(expectation, ExpectMaxAge):
        newest = f"the newest {expectation.column!r}" if expectation.column is not None else "the newest file"
        return f"{newest} at most {_duration(expectation.seconds)} old"
    if isinstance(expectation, ExpectNulls):
        return f"column {expectation.column!r} at most {_percent(expectation.maximum_share)} null"
    if isinstance(expectation, ExpectUnique):
        return f"unique {', '.join(map(repr, expectation.columns))}"
    bounds = [
        f"at least {expectation.minimum}" if expectation.minimum is not None else "",
        f"at most {expectation.maximum}" if expectation.maximum is not None else "",
    ]
    return f"column {expectation.column!r} {' and '.join(filter(None, bounds))}"


def _percent(share: float) -> str:
    return f"{share * 100:.4g}%"


def _columns_verdict(expectation: ExpectColumns, columns: dict[str, ColumnSchema]) -> Verdict:
    wrong = []
    for name, kind in expectation.columns:
        if name not in columns:
            wrong.append(f"there is no column {name!r}")
        elif kind and type_name(columns[name].type) != kind:
            wrong.append(f"{name!r} is {columns[name].type}, not {kind}")
    more = [name for name in columns if name not in dict(expectation.columns)]
    if expectation.exact and more:
        wrong.append(f"{', '.join(map(repr, more[:5]))} too")
    return Verdict(expectation, not wrong, f"{wish(expectation)}: {'; '.join(wrong) or 'they are there'}")


def _age_verdict(expectation: ExpectMaxAge, found: Sequence[Found], now: datetime, answers: dict[str, object]) -> Verdict:
    if expectation.column is not None:
        newest = answers[f"newest {expectation.column}"]
    else:
        newest = max(
            (datetime.fromtimestamp(os.stat(item.local).st_mtime, UTC).replace(tzinfo=None) for item in found), default=None
        )
    if not isinstance(newest, datetime):
        return Verdict(expectation, False, f"{wish(expectation)}: there is none")
    age = (now - newest).total_seconds()
    text = f"{wish(expectation)}: it is {_duration(age)} old ({newest.isoformat(' ', 'seconds')})"
    return Verdict(expectation, age <= expectation.seconds, text)


def _duration(seconds: float) -> str:
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if abs(seconds) >= size:
            return f"{seconds / size:.4g} {word}s" if seconds != size else f"1 {word}"
    return f"{seconds:.4g} seconds"


def _unique_verdict(expectation: ExpectUnique, table: Table) -> Verdict:
    names = ", ".join(map(identifier, expectation.columns))
    holes = " OR ".join(f"{identifier(name)} IS NULL" for name in expectation.columns)
    nulls = int(table.query(f"SELECT count(*) FROM ({table.sql}) WHERE {holes}", "check the dataset")[0][0])
    if nulls:
        return Verdict(
            expectation, False, f"{wish(expectation)}: {nulls:,} {'row holds' if nulls == 1 else 'rows hold'} null there"
        )
    grouped = f"SELECT {names}, count(*) AS __n FROM ({table.sql}) GROUP BY ALL HAVING __n > 1"
    answer = table.query(
        f"SELECT count(*), arg_max(struct_pack({names}), __n)::VARCHAR, max(__n) FROM ({grouped})", "check the dataset"
    )[0]
    count, example, times = int(answer[0]), answer[1], answer[2]
    text = (
        f"{count:,} {'key comes' if count == 1 else 'keys come'} more than once, {example} {times:,} times"
        if count
        else "no two rows agree"
    )
    return Verdict(expectation, count == 0, f"{wish(expectation)}: {text}")
