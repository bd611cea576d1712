"""Whether loaded values have the types their fields are declared with: for documents that others may have written."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mlpipe_engine.model import datasets


def check_types(value: object) -> None:
    """Every field of a loaded value, all the way down, is of the type it is declared with. Raises ValueError naming the field.

    For documents from outside: `load` trusts the types of what we wrote ourselves.
    """
    pending: list[tuple[object, Any, str]] = [(value, type(value), type(value).__name__)]
    while pending:
        item, hint, name = pending.pop()
        if not _fits(item, hint):
            raise ValueError(f"{name} cannot be {str(item)[:40]!r}")
        if isinstance(item, tuple):
            pending.extend((member, inner, name) for member, inner in _members(item, hint))
        elif is_dataclass(item) and not isinstance(item, type):
            hints = _hints(type(item))
            pending.extend((getattr(item, field), inner, f"{type(item).__name__}.{field}") for field, inner in hints.items())


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind, localns=vars(datasets))  # what `spec` names of it without having it
    return {item.name: hints[item.name] for item in fields(kind)}


def _fits(item: object, hint: Any) -> bool:
    """The outermost layer only. What is no class, union, literal or tuple (recursive JSON) was limited by the parser already."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(item, choice) for choice in get_args(hint))
    if origin is Literal:
        return any(item == choice and type(item) is type(choice) for choice in get_args(hint))
    if origin is tuple:
        arguments = get_args(hint)
        return isinstance(item, tuple) and (arguments[1:] == (...,) or len(item) == len(arguments))
    if hint is None or hint is type(None):
        return item is None
    if hint is float:
        return isinstance(item, int | float) and not isinstance(item, bool)
    if hint is int:
        return isinstance(item, int) and not isinstance(item, bool) and abs(item) < 1 << 63
    return isinstance(item, hint) if isinstance(hint, type) else True


def _members(item: tuple[object, ...], hint: Any) -> list[tuple[object, Any]]:
    """Members with their hints; of a union, the first tuple that fits."""
    if get_origin(hint) in (Union, UnionType):
        hint = next((choice for choice in get_args(hint) if get_origin(choice) is tuple and _fits(item, choice)), None)
    arguments = get_args(hint)
    if get_origin(hint) is not tuple:
        return []
    return [(member, arguments[0] if arguments[1:] == (...,) else arguments[at]) for at, member in enumerate(item)]
