"""Columns of a list: which fit a width, and how wide they are then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    title: str
    width: int
    """Cells it has at least."""
    stretch: int = 0
    """Its share of what is left over; 0: it stays as it is."""
    right: bool = False
    """Numbers stand at the right."""
    drop: int = 0
    """The higher, the sooner it goes where there is too little room; 0 stays always."""


GAP = 2


def fit(columns: Sequence[Column], available: int) -> list[tuple[int, Column, int]]:
    """(index, column, width) of those that are shown, in their order. The sum with gaps is at most `available`, if any fits at all."""
    shown = list(enumerate(columns))

    def needed() -> int:
        return sum(column.width for _, column in shown) + GAP * (len(shown) - 1)

    while needed() > available and any(column.drop for _, column in shown):
        shown.remove(max(shown, key=lambda pair: (pair[1].drop, pair[0])))
    left = max(available - needed(), 0)
    shares = sum(column.stretch for _, column in shown)
    found = []
    for index, column in shown:
        more = left * column.stretch // shares if shares else 0
        found.append((index, column, column.width + more))
    over = sum(width for _, _, width in found) + GAP * (len(found) - 1) - available
    if over > 0 and found:
        index, column, width = found[-1]
        found[-1] = (index, column, max(width - over, 0))
    return found
