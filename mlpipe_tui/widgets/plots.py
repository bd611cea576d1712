"""A plot of metric series. What it shows is drawn by `viewmodels.plot`; here it gets colours and a size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from mlpipe_tui.clean import one_line
from mlpipe_tui.glyphs import UNICODE, Glyphs
from mlpipe_tui.viewmodels.plot import Marker, Picture, Series, draw
from mlpipe_tui.widgets.painting import wrapped

_REDRAW_SECONDS = 1.0


class Plot(Widget):
    """Lines of metrics over their steps. Drawn anew at most once a second, however often it is told."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"plot--axis", "plot--line-0", "plot--line-1", "plot--line-2", "plot--line-3"}
    DEFAULT_CSS = """
    Plot {
        width: 1fr;
        height: 1fr;
        background: $surface;
        color: $text;
        & > .plot--axis { color: $text-muted; }
        & > .plot--line-0 { color: $text-primary; }
        & > .plot--line-1 { color: $text-error; }
        & > .plot--line-2 { color: $text-accent; }
        & > .plot--line-3 { color: $text-warning; }
    }
    """

    def __init__(self, signs: Glyphs = UNICODE, marker: Marker | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.marker: Marker = marker or ("ascii" if signs.name == "ascii" else "braille")
        self.series: tuple[Series, ...] = ()
        self.x_title = "step"
        self.empty = ""
        """Said where there is no point to draw."""
        self._picture: Picture | None = None
        self._drawn_at = 0.0
        self._due = False

    def show(self, series: Sequence[Series], *, empty: str = "", x_title: str = "step") -> None:
        """Other lines, or the same with more points."""
        if tuple(series) == self.series and (empty, x_title) == (self.empty, self.x_title):
            return
        blank = not any(one.points for one in self.series)
        self.series, self.empty, self.x_title = tuple(series), empty, x_title
        wait = self._drawn_at + _REDRAW_SECONDS - time.monotonic()
        if wait <= 0 or blank:
            self._redraw()
        elif not self._due:
            self._due = True
            self.set_timer(wait, self._redraw)

    def _redraw(self) -> None:
        self._due = False
        self._picture = None
        self.refresh()

    def on_resize(self) -> None:
        self._redraw()

    def _drawn(self) -> Picture:
        if self._picture is None:
            self._picture = draw(self.series, self.size.width, self.size.height, self.marker, self.x_title)
            self._drawn_at = time.monotonic()
        return self._picture

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        rows = self._drawn().rows
        axis = base + self.get_component_rich_style("plot--axis", partial=True)
        if not any(series.points for series in self.series):
            shown = one_line(self.empty)
            lines = wrapped(shown, max(width, 1)) if shown else []
            text = shown[lines[y][0] : lines[y][1]] if y < len(lines) else ""
            return Strip([Segment(text, axis)]).extend_cell_length(width, base)
        if y >= len(rows):
            return Strip.blank(width, base)
        segments: list[Segment] = []
        run, owner = "", -2
        for character, found in (*rows[y], ("", -3)):
            if found != owner:
                if run:
                    style = axis if owner < 0 else base + self.get_component_rich_style(f"plot--line-{owner % 4}", partial=True)
                    segments.append(Segment(run, style))
                run, owner = "", found
            run += character
        return Strip(segments).crop_extend(0, width, base)
