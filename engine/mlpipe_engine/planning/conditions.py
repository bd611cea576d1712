"""The language of `when`: comparisons of param("x") and metric("step", "name"), kept as text, never a callable.

Parsed by Python's own parser and walked through an allow-list: nothing is ever evaluated by Python.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

from mlpipe_engine.errors import DefinitionError
from mlpipe_engine.model.spec import Json

MAX_LENGTH = 1000
_MAX_NODES = 200

_COMPARE: dict[type[ast.cmpop], Callable[[object, object], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,  # type: ignore[dict-item]
    ast.LtE: operator.le,  # type: ignore[dict-item]
    ast.Gt: operator.gt,  # type: ignore[dict-item]
    ast.GtE: operator.ge,  # type: ignore[dict-item]
    ast.In: lambda left, right: left in right,  # type: ignore[operator]
    ast.NotIn: lambda left, right: left not in right,  # type: ignore[operator]
}


class ConditionError(DefinitionError):
    """A `when` that is not of this language."""

    hint = 'Write for example: param("tune") and metric("evaluate", "rmse") < 20'


def check(text: str) -> ConditionError | None:
    """What is wrong with it, or None."""
    try:
        _parse(text)
    except ConditionError as error:
        return error
    return None


def names(text: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Parameters, and (step, metric) pairs it asks for. Raises ConditionError."""
    parameters, metrics = [], []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.Call):
            words = [str(word.value) for word in node.args if isinstance(word, ast.Constant)]
            if len(words) == 1:
                parameters.append(words[0])
            else:
                metrics.append((words[0], words[1]))
    return tuple(parameters), tuple(metrics)


def evaluate(text: str, parameters: Mapping[str, Json], metric: Callable[[str, str], float | None]) -> bool:
    """Raises DefinitionError when a metric was never logged or two values cannot be compared."""
    return bool(_value(_parse(text).body, parameters, metric))


def _parse(text: str) -> ast.Expression:
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"a condition of {len(text)} characters", expected=f"at most {MAX_LENGTH}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = getattr(error, "offset", None) or 1
        raise ConditionError(f"cannot read the condition {text!r} at column {column}") from None
    nodes = list(ast.walk(tree))
    if len(nodes) > _MAX_NODES:
        raise ConditionError("a condition that is too long", expected=f"at most {_MAX_NODES} parts")
    for node in nodes:
        _allow(node, text)
    return tree


def _allow(node: ast.AST, text: str) -> None:
    plain = (
        ast.Expression,
        ast.BoolOp,
        ast.And,
        ast.Or,
        ast.UnaryOp,
        ast.Not,
        ast.USub,
        ast.Compare,
        ast.List,
        ast.Tuple,
        ast.Load,
        *_COMPARE,
    )
    if isinstance(node, plain) or (
        isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool | int | float | str))
    ):
        return
    if isinstance(node, ast.Name) and node.id in ("param", "metric"):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        wanted = {"param": 1, "metric": 2}.get(node.func.id)
        if wanted == len(node.args) and all(isinstance(word, ast.Constant) and isinstance(word.value, str) for word in node.args):
            return
    column = getattr(node, "col_offset", 0) + 1
    raise ConditionError(
        f"the condition {text!r} uses something it may not at column {column}",
        expected='comparisons, and, or, not, in, literals, param("name"), metric("step", "name")',
    )


def _value(node: ast.expr, parameters: Mapping[str, Json], metric: Callable[[str, str], float | None]) -> object:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_value(part, parameters, metric) for part in values)
        case ast.BoolOp(values=values):
            return any(_value(part, parameters, metric) for part in values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, parameters, metric)
        case ast.UnaryOp(operand=operand):
            return -_value(operand, parameters, metric)  # type: ignore[operator]
        case ast.List(elts=members) | ast.Tuple(elts=members):
            return [_value(member, parameters, metric) for member in members]
        case ast.Call(func=ast.Name(id="param"), args=[ast.Constant(value=name)]):
            if name not in parameters:
                raise ConditionError(f"the condition asks for parameter {name!r}, which does not exist")
            return parameters[str(name)]
        case ast.Call(args=[ast.Constant(value=step), ast.Constant(value=name)]):
            value = metric(str(step), str(name))
            if value is None:
                raise DefinitionError(f"a condition asks for metric {name!r} of step {step!r}, which was never logged")
            return value
        case ast.Compare(left=left, ops=operators, comparators=rights):
            current = _value(left, parameters, metric)
            for kind, right in zip(operators, rights, strict=True):
                after = _value(right, parameters, metric)
                try:
                    if not _COMPARE[type(kind)](current, after):
                        return False
                except TypeError:
                    raise DefinitionError(f"a condition compares {current!r} with {after!r}, which have no order") from None
                current = after
            return True
    raise ConditionError("a condition that cannot be evaluated")
