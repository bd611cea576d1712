"""Values of a table as text: what a person reads, and what is copied."""

from __future__ import annotations

import json
from typing import Any

from mlpipe_tui.clean import one_line

MISSING = "∅"


def cell(value: Any, *, limit: int = 200, missing: str = MISSING) -> str:
    """For the screen: one line, clean, as long as a cell may be."""
    if value is None:
        return missing
    if isinstance(value, float):
        return f"{value:.6g}"
    return one_line(plain(value), limit=limit)


def plain(value: Any) -> str:
    """For copying: the whole value, as data. Empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def spark(heights: tuple[int, ...], signs: str) -> str:
    """A row of bars, the highest the full height; a stretch with anything in it is never the lowest."""
    top = max(heights, default=0)
    if not top:
        return signs[0] * len(heights)
    return "".join(signs[0] if not height else signs[max(1, round(height / top * (len(signs) - 1)))] for height in heights)
