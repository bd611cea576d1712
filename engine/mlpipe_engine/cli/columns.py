"""Tables of plain text. Imports next to nothing: the first rows of a file are shown before an engine would have started."""

from __future__ import annotations

import os
import sys

from mlpipe_engine.model.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDEST = 40


def width() -> int:
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns if columns > 0 else 100


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as their content; the last one is cut to the terminal, others are never cut."""
    headers = [clean(header) for header in headers]
    cleaned = [[clean(cell) for cell in row] for row in rows]
    widths = [max([len(header), *(len(row[column]) for row in cleaned)]) for column, header in enumerate(headers)]
    limit = width() if sys.stdout.isatty() else 1 << 20
    for row in [headers, *cleaned]:
        line = "  ".join(f"{cell:<{widths[column]}}" for column, cell in enumerate(row)).rstrip()
        print(line if len(line) <= limit else line[: limit - 1] + "…")


def cell(value: object) -> str:
    """One value of a row of data, on one line and not too wide; null is `-`."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value).replace("\n", "\u240a").replace("\r", "\u240d")
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "\u2026"


def row_count(count: int, *, more: bool) -> str:
    return f"{count:,} row{'s' * (count != 1)}" + (", and there are more" if more else "")
