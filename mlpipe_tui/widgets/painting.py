"""Segments from text and styles. All text is plain by the time it gets here: cleaned, and never read as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from rich.cells import cell_len, get_character_cell_size
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from mlpipe_tui.viewmodels.log_line import Look


@lru_cache(maxsize=512)
def style_of(look: Look) -> Style:
    return Style(
        color=_colour(look.foreground),
        bgcolor=_colour(look.background),
        bold=look.bold or None,
        dim=look.dim or None,
        italic=look.italic or None,
        underline=look.underline or None,
        reverse=look.reverse or None,
        strike=look.strike or None,
    )


def _colour(name: str) -> Color | None:
    if not name:
        return None
    return Color.parse(name) if name.startswith("#") else Color.from_ansi(int(name))


def overlay(segments: Iterable[Segment], marks: Sequence[tuple[int, int, Style]]) -> list[Segment]:
    """The segments with other styles on ranges of characters; where ranges overlap, the later one is on top."""
    found = list(segments)
    for start, end, style in marks:
        if start >= end:
            continue
        cut: list[Segment] = []
        at = 0
        for segment in found:
            text, old, _ = segment
            a, b = max(start - at, 0), min(end - at, len(text))
            at += len(text)
            if a >= b:
                cut.append(segment)
                continue
            if a:
                cut.append(Segment(text[:a], old))
            cut.append(Segment(text[a:b], old + style if old else style))
            if b < len(text):
                cut.append(Segment(text[b:], old))
        found = cut
    return found


def character_at(text: str, cell: int) -> int:
    """Index of the character that covers a cell; the length of the text for cells behind it."""
    if text.isascii():
        return min(cell, len(text))
    width = 0
    for index, character in enumerate(text):
        width += get_character_cell_size(character)
        if width > cell:
            return index
    return len(text)


def wrapped(text: str, width: int) -> list[tuple[int, int]]:
    """(first character, character behind the last) of each row, none wider than `width` cells; at least one row."""
    if text.isascii() or cell_len(text) <= width:
        return [(at, min(at + width, len(text))) for at in range(0, len(text), width)] or [(0, 0)]
    rows = []
    start = cells = 0
    for index, character in enumerate(text):
        size = get_character_cell_size(character)
        if cells + size > width and index > start:
            rows.append((start, index))
            start, cells = index, 0
        cells += size
    rows.append((start, len(text)))
    return rows
