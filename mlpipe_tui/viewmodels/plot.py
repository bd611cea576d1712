"""Lines over steps, drawn with characters: braille, blocks or ASCII, ticks at round numbers, each line named at its end.

Lines are told apart by being solid, dashed or dotted and by their names, and only then by colour. Pure: numbers in, cells out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len

from mlpipe_tui.clean import clipped

Marker = Literal["braille", "block", "ascii"]
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLOCKS = " ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"
_DASHES = ((1,), (1, 1, 1, 0, 0), (1, 0, 0), (1, 1, 1, 0, 1, 0))
_ASCII = "*o+x"
_FAR = 1e300
"""What is further out is drawn as a gap, like what is not finite: no range may be too long for a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line. Points need no order."""

    name: str
    points: tuple[tuple[float, float], ...]
    note: str = ""
    """Said after the name: "best .894 at 58"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Rows of cells. Each cell is a character and the line it belongs to: -1 for axes, labels and blanks."""

    rows: tuple[tuple[tuple[str, int], ...], ...]

    @property
    def text(self) -> str:
        return "\n".join("".join(text for text, _ in row).rstrip() for row in self.rows)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers that lie between, evenly spaced: multiples of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or most < 1:
        return []
    if _same(low, high):
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        first = math.ceil(low / (step * factor) - 1e-9)
        last = math.floor(high / (step * factor) + 1e-9)
        if last - first + 1 <= most:
            return [round(number * step * factor, 12) + 0.0 for number in range(first, last + 1)]
    return []


def _same(low: float, high: float) -> bool:
    """Too close for a float to have anything between them."""
    return high - low <= max(abs(low) * 1e-12, abs(high) * 1e-12, 1e-300)


def tick_label(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-4):
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.10g}"


def bucketed(points: Iterable[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """The same line from at most about 2 x `most` points: of each stretch its lowest and its highest, in their order."""
    ordered = sorted((x, y) for x, y in points if abs(x) <= _FAR and abs(y) <= _FAR)
    if len(ordered) <= 2 * most or most < 1:
        return ordered
    first, span = ordered[0][0], ordered[-1][0] - ordered[0][0]
    stretches: dict[int, list[tuple[float, float]]] = {}
    for point in ordered:
        at = min(int((point[0] - first) / span * most), most - 1) if span else 0
        stretches.setdefault(at, []).append(point)
    found = []
    for stretch in stretches.values():
        low, high = min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])
        found += sorted({low, high})
    return found


def draw(series: Sequence[Series], width: int, height: int, marker: Marker = "braille", x_title: str = "") -> Picture:
    """A picture of exactly this size; an empty one where there is no room or nothing to draw."""
    kept = [(index, one, bucketed(one.points, max(width, 1))) for index, one in enumerate(series)]
    points = [point for _, _, found in kept for point in found]
    if not points or width < 12 or height < 4:
        return Picture(rows=tuple(tuple((" ", -1) for _ in range(max(width, 0))) for _ in range(max(height, 0))))
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = _roomy(min(y for _, y in points), max(y for _, y in points))
    ticks = nice_ticks(low_y, high_y, max(2, (height - 2) // 2 + 1))
    labels = [tick_label(tick) for tick in ticks]
    left = max((len(label) for label in labels), default=0) + 2
    names = [f"{one.name} {one.note}".strip() for _, one, _ in kept]
    right = min(max(map(cell_len, names), default=0) + 3, width // 3) if width >= 44 and any(names) else 0
    inner, tall = width - left - right, height - 2
    canvas = _Canvas(inner, tall, marker, (low_x, high_x), (low_y, high_y))
    for index, _, found in kept:
        canvas.line(found, index)
    cells = [[(" ", -1)] * width for _ in range(height)]
    _axes(cells, left, inner, tall, canvas, [*zip(ticks, labels)], marker, x_title)
    for y in range(tall):
        for x in range(inner):
            character, owner = canvas.cell(x, y)
            if character != " ":
                cells[y][left + x] = (character, owner)
    if right:
        _names(cells, kept, names, left + inner + 1, right - 1, tall, canvas, marker)
    return Picture(rows=tuple(tuple(row) for row in cells))


def _roomy(low: float, high: float) -> tuple[float, float]:
    if _same(low, high):
        pad = abs(low) * 0.05 or 1.0
        return low - pad, high + pad
    return low, high


def _put(row: list[tuple[str, int]], at: int, text: str, owner: int = -1) -> None:
    for character in text:
        if 0 <= at < len(row):
            row[at] = (character, owner)
        at += 1


def _axes(
    cells: list[list[tuple[str, int]]], left: int, inner: int, tall: int, canvas: _Canvas, ticks: list[tuple[float, str]], marker: Marker, title: str
) -> None:  # fmt: skip
    upright, flat, corner, mark, below = ("|", "-", "+", "+", "+") if marker == "ascii" else ("│", "─", "└", "┤", "┬")
    for y in range(tall):
        cells[y][left - 1] = (upright, -1)
    for value, label in ticks:
        y = canvas.row(value)
        _put(cells[y], left - 1 - len(label), label)
        cells[y][left - 1] = (mark, -1)
    cells[tall][left - 1] = (corner, -1)
    for x in range(inner):
        cells[tall][left + x] = (flat, -1)
    behind = -1
    for value in nice_ticks(*canvas.xs, max(2, inner // 12)):
        x, label = canvas.column(value), tick_label(value)
        start = max(min(left + x - len(label) // 2, left + inner - len(label)), 0)
        if start > behind:
            cells[tall][left + x] = (below, -1)
            _put(cells[tall + 1], start, label)
            behind = start + len(label)
    if title and left + inner - behind > len(title) + 1:
        _put(cells[tall + 1], left + inner - len(title), title)


def _names(
    cells: list[list[tuple[str, int]]], kept: list[tuple[int, Series, list[tuple[float, float]]]], names: list[str],
    start: int, room: int, tall: int, canvas: _Canvas, marker: Marker,
) -> None:  # fmt: skip
    """Each name at the height where its line ends, moved as little as it takes for all to have a row."""
    wanted = sorted((canvas.row(found[-1][1]), index, names[at]) for at, (index, _, found) in enumerate(kept) if found)
    if len(wanted) > tall:
        wanted = wanted[:tall]
    rows: list[int] = []
    for at, (row, _, _) in enumerate(wanted):
        rows.append(max(row, rows[-1] + 1 if rows else 0))
        over = rows[-1] - (tall - 1)
        for back in range(at, -1, -1):
            limit = tall - 1 - (at - back)
            rows[back] = min(rows[back], limit) if over > 0 else rows[back]
    for row, (_, index, name) in zip(rows, wanted):
        sample = _ASCII[index % len(_ASCII)] if marker == "ascii" else ("─", "╌", "┈", "╴")[index % 4]
        _put(cells[row], start, f"{sample} {clipped(name, max(room - 2, 0), '~' if marker == 'ascii' else '…')}", index)


class _Canvas:
    """Dots, several to a cell, each with the line that drew it last."""

    def __init__(self, width: int, height: int, marker: Marker, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self.marker, self.width, self.height, self.xs, self.ys = marker, width, height, xs, ys
        self.across, self.down = {"braille": (2, 4), "block": (2, 2), "ascii": (1, 1)}[marker]
        self._bits: dict[tuple[int, int], int] = {}
        self._owner: dict[tuple[int, int], int] = {}

    def column(self, x: float) -> int:
        return self._dot_x(x) // self.across

    def row(self, y: float) -> int:
        return self._dot_y(y) // self.down

    def _dot_x(self, x: float) -> int:
        low, high = self.xs
        most = self.width * self.across - 1
        return 0 if _same(low, high) else max(0, min(round((x - low) / (high - low) * most), most))

    def _dot_y(self, y: float) -> int:
        low, high = self.ys
        share = (y / 2 - low / 2) / (high / 2 - low / 2)  # halves: the range of two floats may be too long for one
        most = self.height * self.down - 1
        return max(0, min(round((1 - share) * most), most))

    def line(self, points: list[tuple[float, float]], owner: int) -> None:
        pattern = _DASHES[owner % len(_DASHES)] if self.marker != "ascii" else (1,)
        drawn = 0
        dots = [(self._dot_x(x), self._dot_y(y)) for x, y in points]
        for at, (x, y) in enumerate(dots):
            if at == 0:
                self._set(x, y, owner)
                continue
            before_x, before_y = dots[at - 1]
            steps = max(abs(x - before_x), abs(y - before_y))
            for step in range(1, steps + 1):
                if pattern[drawn % len(pattern)]:
                    self._set(
                        before_x + round((x - before_x) * step / steps), before_y + round((y - before_y) * step / steps), owner
                    )
                drawn += 1

    def _set(self, x: int, y: int, owner: int) -> None:
        cell = (x // self.across, y // self.down)
        if self.marker == "braille":
            bit = _BRAILLE[y % 4][x % 2]
        else:
            bit = 1 << (y % self.down * 2 + x % self.across)
        self._bits[cell] = self._bits.get(cell, 0) | bit
        self._owner[cell] = owner

    def cell(self, x: int, y: int) -> tuple[str, int]:
        bits = self._bits.get((x, y), 0)
        if not bits:
            return " ", -1
        owner = self._owner[x, y]
        if self.marker == "braille":
            return chr(0x2800 + bits), owner
        return (_BLOCKS[bits] if self.marker == "block" else _ASCII[owner % len(_ASCII)]), owner


def sparkline(values: Sequence[float | None], width: int, signs: str) -> str:
    """The course of some values in one row, at most `width` cells: the last value of each stretch. Missing ones are blanks."""
    if not values or width < 1:
        return ""
    if len(values) > width:
        values = [values[(at + 1) * len(values) // width - 1] for at in range(width)]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return " " * len(values)
    low, high = min(finite), max(finite)
    span = high / 2 - low / 2
    shown = []
    for value in values:
        if value is None or not math.isfinite(value):
            shown.append(" ")
        else:
            shown.append(signs[round((value / 2 - low / 2) / span * (len(signs) - 1))] if span else signs[len(signs) // 2])
    return "".join(shown)


def summary(points: Sequence[tuple[float, float]], goal: Literal["min", "max", ""] = "") -> str:
    """ "best .894 at 58, last .861" for a line with a goal, "last .861" for another."""
    finite = sorted((x, y) for x, y in points if math.isfinite(y))
    if not finite:
        return ""
    last = f"last {finite[-1][1]:.4g}"
    if not goal:
        return last
    best = (min if goal == "min" else max)(finite, key=lambda point: point[1])
    return f"best {best[1]:.4g} at {best[0]:g}" + (f", {last}" if best != finite[-1] else "")
