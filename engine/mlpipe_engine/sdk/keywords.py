"""Misspelt keyword arguments are errors with the nearest name, by one mechanism for all of the SDK; and where a call stands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from mlpipe_engine.errors import nearest

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def strict(function: Callable[P, R]) -> Callable[P, R]:
    """Adds the nearest name to Python's own TypeError for an unexpected keyword."""
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                close = nearest(name, [choice for choice in known if choice not in ("self", "cls")])
                owner = function.__qualname__.removesuffix(".__init__")
                raise TypeError(
                    f"{owner}() got an unexpected keyword argument {name!r}" + (f"; did you mean {close!r}?" if close else "")
                )
        return function(*args, **kwargs)

    return checked


def caller() -> str:
    """`file:line` of the first frame outside this package."""
    frame = sys._getframe(1)
    while frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_PACKAGE + os.sep):
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
