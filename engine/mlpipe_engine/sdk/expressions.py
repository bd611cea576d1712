"""Expression objects: `dataset["price"] > 10`, `(a & b) | ~c`, `dataset["name"].starts_with("x")`. Built, never evaluated here."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from mlpipe_engine.errors import DefinitionTypeError
from mlpipe_engine.model.datasets import Call, ColumnRef, Constant, Expression
from mlpipe_engine.sdk.keywords import caller


class DatasetExpression:
    """A value for each row. Compare, calculate and combine it with `&`, `|` and `~`; null compares as in SQL: not true.

    >>> (DatasetExpression(ColumnRef("a")) > 1).expression.function
    '>'
    """

    __slots__ = ("expression",)

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def _call(self, function: str, *others: object, turned: bool = False) -> DatasetExpression:
        arguments = [self.expression, *(constant_or_expression(other) for other in others)]
        return DatasetExpression(Call(function, tuple(arguments[::-1] if turned else arguments)))

    def __eq__(self, other: object) -> DatasetExpression:  # type: ignore[override]
        return self.is_null() if other is None else self._call("==", other)

    def __ne__(self, other: object) -> DatasetExpression:  # type: ignore[override]
        return ~self.is_null() if other is None else self._call("!=", other)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: object) -> DatasetExpression:
        return self._call("<", other)

    def __le__(self, other: object) -> DatasetExpression:
        return self._call("<=", other)

    def __gt__(self, other: object) -> DatasetExpression:
        return self._call(">", other)

    def __ge__(self, other: object) -> DatasetExpression:
        return self._call(">=", other)

    def __and__(self, other: object) -> DatasetExpression:
        return self._call("and", other)

    def __or__(self, other: object) -> DatasetExpression:
        return self._call("or", other)

    def __rand__(self, other: object) -> DatasetExpression:
        return self._call("and", other, turned=True)

    def __ror__(self, other: object) -> DatasetExpression:
        return self._call("or", other, turned=True)

    def __invert__(self) -> DatasetExpression:
        return self._call("not")

    def __add__(self, other: object) -> DatasetExpression:
        return self._call("+", other)

    def __radd__(self, other: object) -> DatasetExpression:
        return self._call("+", other, turned=True)

    def __sub__(self, other: object) -> DatasetExpression:
        return self._call("-", other)

    def __rsub__(self, other: object) -> DatasetExpression:
        return self._call("-", other, turned=True)

    def __mul__(self, other: object) -> DatasetExpression:
        return self._call("*", other)

    def __rmul__(self, other: object) -> DatasetExpression:
        return self._call("*", other, turned=True)

    def __truediv__(self, other: object) -> DatasetExpression:
        return self._call("/", other)

    def __rtruediv__(self, other: object) -> DatasetExpression:
        return self._call("/", other, turned=True)

    def __mod__(self, other: object) -> DatasetExpression:
        return self._call("%", other)

    def __neg__(self) -> DatasetExpression:
        return self._call("negative")

    def __abs__(self) -> DatasetExpression:
        return self._call("abs")

    def is_null(self) -> DatasetExpression:
        return self._call("is_null")

    def is_in(self, values: Any) -> DatasetExpression:
        return self._call("in", *values)

    def starts_with(self, text: object) -> DatasetExpression:
        return self._call("starts_with", text)

    def ends_with(self, text: object) -> DatasetExpression:
        return self._call("ends_with", text)

    def contains(self, text: object) -> DatasetExpression:
        return self._call("contains", text)

    def lower(self) -> DatasetExpression:
        return self._call("lower")

    def upper(self) -> DatasetExpression:
        return self._call("upper")

    def length(self) -> DatasetExpression:
        return self._call("length")

    def __bool__(self) -> bool:
        raise DefinitionTypeError(
            "an expression has no truth value before it is evaluated",
            where=caller(),
            hint="Combine with & | ~ instead of and, or, not.",
        )

    def __repr__(self) -> str:
        return f"DatasetExpression({self.expression!r})"


def constant_or_expression(value: object) -> Expression:
    """Raises DefinitionTypeError for what can be no literal."""
    if isinstance(value, DatasetExpression):
        return value.expression
    if value is None or isinstance(value, bool | int | float | str):
        return Constant(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return Constant(value.isoformat(), "date")
    item = getattr(value, "item", None)  # numpy's scalars know their Python value
    if callable(item):
        return constant_or_expression(item())
    raise DefinitionTypeError(
        f"a {type(value).__name__} cannot stand in a filter",
        where=caller(),
        expected="a column, a number, a text, True, False, a date",
    )


def moment(value: datetime) -> Constant:
    """Without a zone, in UTC."""
    naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
    return Constant(naive.isoformat(), "datetime")


def col(name: str) -> DatasetExpression:
    """A column by its name, where no dataset is at hand."""
    return DatasetExpression(ColumnRef(name))
