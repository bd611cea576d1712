"""Frozen values as JSON text and back, for process borders and stored documents.

One rule for every dataclass of this package: `{"_": class name, field: value}` with defaults left out; tuples are lists.
Unknown classes and unknown fields are errors, so that a document of a newer version is never half understood.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from importlib import import_module
from typing import Any, TypeVar, cast

from mlpipe_engine.model import events, execution, manifest, plan, records, spec, states, trees

T = TypeVar("T")


def _classes(*modules: object) -> dict[str, type[Any]]:
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == vars(module)["__name__"]
    }


_CLASSES = _classes(spec, manifest, plan, records, events, execution, trees, states)
_LATER = ["datasets", "watch"]
"""Modules that most documents do not need; each is imported when a name is met that the others do not know."""


def _class(name: str) -> type[Any] | None:
    while name not in _CLASSES and _LATER:
        _CLASSES.update(_classes(import_module(f"mlpipe_engine.model.{_LATER.pop()}")))
    return _CLASSES.get(name)


def dump(value: object) -> str:
    """ASCII JSON; equal values give equal text. Lone surrogates survive as escapes."""
    return json.dumps(_lower(value), separators=(",", ":"), sort_keys=True, allow_nan=True)


_last: list[tuple[object, str]] = []


def dump_once(value: object) -> str:
    """`dump`, remembered for the last value: the definition of a run is asked for again and again. Prereq: it is frozen."""
    if not _last or _last[0][0] is not value:
        _last[:] = [(value, dump(value))]
    return _last[0][1]


def load(kind: type[T], text: str) -> T:
    """The value that `dump` wrote. Raises ValueError when the text is anything but a `kind`."""
    value = _raise(json.loads(text))
    if not isinstance(value, kind):
        raise ValueError(f"expected a {kind.__name__}, found {type(value).__name__}")
    return value


_SHAPES: dict[type, tuple[str, tuple[tuple[str, object], ...]]] = {}
"""Class -> its name, (field, default) of every field: reflection costs more than the rest of `dump`."""


def _shape(kind: type) -> tuple[str, tuple[tuple[str, object], ...]]:
    known = _SHAPES.get(kind)
    if known is None:
        known = _SHAPES[kind] = (kind.__name__, tuple((item.name, item.default) for item in fields(kind)))
    return known


def _lower(value: object) -> object:
    kind = type(value)
    if kind is str or value is None or kind is int or kind is float or kind is bool:
        return value
    if kind is tuple:
        return [_lower(member) for member in value]  # type: ignore[attr-defined]
    if kind in _SHAPES:
        return _lower_fields(value, *_SHAPES[kind])
    if isinstance(value, Enum):
        return {"_": type(value).__name__, "value": value.value}
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"_": "bytes", "value": value.hex()}
    if isinstance(value, list | tuple):
        return [_lower(member) for member in value]
    if isinstance(value, dict):
        return {"_": "map", "value": {key: _lower(member) for key, member in value.items()}}
    if is_dataclass(value):
        return _lower_fields(value, *_shape(kind))
    raise TypeError(f"{type(value).__name__} does not cross process borders")


def _lower_fields(value: object, name: str, shape: tuple[tuple[str, object], ...]) -> dict[str, object]:
    lowered: dict[str, object] = {"_": name}
    for field, default in shape:
        member = getattr(value, field)
        if member is default and default is not MISSING:
            continue
        if default is MISSING or member != default or type(member) is not type(default):
            lowered[field] = _lower(member)
    return lowered


def _raise(value: Any) -> object:
    if isinstance(value, list):
        return tuple(_raise(member) for member in value)
    if not isinstance(value, dict):
        return value
    name = value.get("_")
    if name == "bytes":
        return bytes.fromhex(value["value"])
    if name == "map":
        return {key: _raise(member) for key, member in value["value"].items()}
    kind = _class(cast(str, name))
    if kind is None:
        raise ValueError(f"unknown value {name!r}")
    if issubclass(kind, Enum):
        return kind(value["value"])
    try:
        return kind(**{key: _raise(member) for key, member in value.items() if key != "_"})
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
