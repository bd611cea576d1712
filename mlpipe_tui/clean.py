"""Text from outside, made fit for one row of a widget. Nothing here, or that calls it, ever reads markup from data."""

from __future__ import annotations

from mlpipe_engine.model.text import MAX_SHOWN, clean

__all__ = ["MAX_SHOWN", "clean", "clipped", "one_line"]


def one_line(text: object, *, limit: int = MAX_SHOWN) -> str:
    """Any value as one line without control characters: line breaks and tabs become visible signs too."""
    shown = clean(text if isinstance(text, bytes) else str(text), limit=limit)
    return shown.replace("\t", "\u2409")


def clipped(text: object, width: int, ellipsis: str = "…") -> str:
    """`one_line` cut to `width` cells, with the sign of the cut inside them. Wide characters are never halved."""
    from rich.cells import cell_len, set_cell_size

    shown = one_line(text, limit=max(width * 8, 64))
    if cell_len(shown) <= width:
        return shown
    if width <= cell_len(ellipsis):
        return set_cell_size(shown, max(width, 0))
    return set_cell_size(shown, width - cell_len(ellipsis)).rstrip(" ") + ellipsis
