"""Misspelt keyword arguments are errors with the nearest name, by one mechanism for all of the SDK; and where a call stands.

Every public class of the SDK is decorated with `strict`. What a value may be is checked where it is used, not here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import CodeType, FrameType
from typing import Any, TypeVar

from mlpipe_engine.errors import DefinitionTypeError, nearest

C = TypeVar("C", bound=type)
_VAR_KEYWORDS = 0x08
_PACKAGE = "mlpipe_engine."
"""By module name, not by file: methods that dataclasses generate have no file."""


def strict(cls: C) -> C:
    """Makes every public method of `cls`, and its constructor, name the nearest keyword for one it does not know."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, staticmethod | classmethod):
            setattr(cls, name, type(member)(_checked(member.__func__)))
        elif callable(member) and hasattr(member, "__code__"):
            setattr(cls, name, _checked(member))
    return cls


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    code: CodeType = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if code.co_flags & _VAR_KEYWORDS:
        return function

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                close = nearest(name, [choice for choice in known if choice not in ("self", "cls")])
                owner = function.__qualname__.removesuffix(".__init__")
                raise DefinitionTypeError(
                    f"{owner}() got an unexpected keyword argument {name!r}" + (f"; did you mean {close!r}?" if close else ""),
                    where=caller(),
                )
        return function(*args, **kwargs)

    return checked


def calling_frame() -> FrameType | None:
    """The first frame outside of this package: the user's own code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def caller() -> str:
    """`file:line` of the user's own code."""
    frame = calling_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
