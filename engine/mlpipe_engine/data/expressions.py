"""Expressions over columns as SQL text, and evaluated over one row of plain values.

The SQL has names and texts quoted by the two functions here and nothing else from outside. The evaluation serves rows that are
few and no table: files of a file dataset, values made from addresses. Both treat null as SQL does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import FUNCTIONS, Call, ColumnRef, Constant, Expression

T = TypeVar("T")


def identifier(name: str) -> str:
    """A name for DuckDB. Raises InputError for what no name can hold."""
    if "\0" in name:
        raise InputError(f"the column name {name!r} holds a null character")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text for DuckDB: there are no escapes in it but the doubled quote."""
    if "\0" in text:
        raise InputError(f"the text {text!r} holds a null character")
    return "'" + text.replace("'", "''") + "'"


_INFIX = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "and": "AND", "or": "OR"} | {
    sign: sign for sign in ("+", "-", "*", "/", "%")
}
_PREFIX = {"not": "NOT", "negative": "-"}
_NAMED = {
    "starts_with": "starts_with", "ends_with": "suffix", "contains": "contains", "lower": "lower", "upper": "upper",
    "length": "length", "abs": "abs",
}  # fmt: skip


def to_sql(expression: Expression) -> str:
    """One SQL expression in parentheses."""
    return _fold(expression, lambda column: identifier(column.name), _constant, _call_sql)


def _fold(
    expression: Expression, column: Callable[[ColumnRef], T], constant: Callable[[Constant], T], call: Callable[[str, list[T]], T]
) -> T:  # fmt: skip
    """From the leaves up. Iterative, because filters made by a loop may be deep."""
    done: list[T] = []
    pending: list[tuple[Expression, bool]] = [(expression, False)]
    while pending:
        item, ready = pending.pop()
        if isinstance(item, ColumnRef):
            done.append(column(item))
        elif isinstance(item, Constant):
            done.append(constant(item))
        elif not ready:
            check_call(item)
            pending.append((item, True))
            pending.extend((argument, False) for argument in reversed(item.arguments))
        else:
            count = len(item.arguments)
            arguments, done = done[len(done) - count :], done[: len(done) - count]
            done.append(call(item.function, arguments))
    return done[0]


def check_call(call: Call) -> None:
    """Raises InputError for a function nobody knows, which only a foreign document can hold."""
    if call.function == "in" and call.arguments:
        return
    if FUNCTIONS.get(call.function) != len(call.arguments):
        raise InputError(
            f"a filter uses the function {call.function!r} with {len(call.arguments)} arguments",
            expected=f"one of {', '.join(sorted(FUNCTIONS))}",
        )


def _call_sql(function: str, arguments: list[str]) -> str:
    if function in _INFIX:
        return f"({arguments[0]} {_INFIX[function]} {arguments[1]})"
    if function in _PREFIX:
        return f"({_PREFIX[function]} {arguments[0]})"
    if function == "is_null":
        return f"({arguments[0]} IS NULL)"
    if function == "in":
        return f"({arguments[0]} IN ({', '.join(arguments[1:])}))" if len(arguments) > 1 else "(false)"
    return f"{_NAMED[function]}({', '.join(arguments)})"


def _constant(constant: Constant) -> str:
    value = constant.value
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if constant.type == "interval":
        return f"to_microseconds({round(float(value) * 1_000_000)})"
    if isinstance(value, int):
        return f"({value})" if value < 0 else str(value)
    if isinstance(value, float):
        return f"CAST({literal(repr(value))} AS DOUBLE)"
    if constant.type == "datetime":
        return f"CAST({literal(value)} AS TIMESTAMP)"
    if constant.type == "date":
        return f"CAST({literal(value)} AS DATE)"
    return literal(value)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "%": operator.mod,
    "starts_with": lambda text, start: text.startswith(start),
    "ends_with": lambda text, end: text.endswith(end),
    "contains": lambda text, part: part in text,
}  # fmt: skip
_UNARY: dict[str, Callable[[Any], Any]] = {
    "negative": operator.neg, "lower": str.lower, "upper": str.upper, "length": len, "abs": abs,
}  # fmt: skip


def evaluate(expression: Expression, row: Mapping[str, object]) -> object:
    """The value for one row; None is null. Raises InputError for a column that is not there or values that do not compare."""
    return _fold(expression, lambda column: _column(column.name, row), _value, _call)


def _column(name: str, row: Mapping[str, object]) -> object:
    if name not in row:
        from mlpipe_engine.errors import nearest

        close = nearest(name, row)
        raise InputError(
            f"there is no column {name!r}" + (f"; did you mean {close!r}?" if close else ""), expected=", ".join(row)
        )
    return row[name]


def _value(constant: Constant) -> object:
    if isinstance(constant.value, str) and constant.type == "datetime":
        return datetime.fromisoformat(constant.value)
    if isinstance(constant.value, str) and constant.type == "date":
        return date.fromisoformat(constant.value)
    if isinstance(constant.value, int | float) and constant.type == "interval":
        return timedelta(seconds=constant.value)
    return constant.value


def _call(function: str, arguments: list[Any]) -> object:
    first = arguments[0]
    if function == "is_null":
        return first is None
    if function == "not":
        return None if first is None else not first
    if function in ("and", "or"):
        decided = function == "or"
        if decided in arguments:
            return decided
        return None if None in arguments else not decided
    if function == "in":
        return None if first is None else first in arguments[1:]
    if None in arguments:
        return None
    try:
        if function in _UNARY:
            return _UNARY[function](first)
        return _BINARY[function](first, arguments[1])
    except (TypeError, AttributeError):
        kinds = " and ".join(type(argument).__name__ for argument in arguments)
        raise InputError(f"{function!r} cannot be applied to {kinds}", hint="Compare values of one type.") from None
    except ZeroDivisionError:
        return None
