"""A list of rows in columns: the cursor stays with its row when rows change, and only rows that changed are drawn again.

For lists of the app's own values, up to some thousand rows. Tables of data are `paged_table`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard, cast

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mlpipe_tui.clean import clipped
from mlpipe_tui.viewmodels.rich_lines import Span, Tone

Cell = str | Span | tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`width` 0 is as wide as its content (at most `most`); `share` columns divide what is left between them."""

    title: str
    width: int = 0
    most: int = 40
    share: int = 0
    right: bool = False
    from_width: int = 0
    """Shown only where the list has so many cells."""


@dataclass(frozen=True, slots=True)
class Row:
    key: str
    cells: tuple[Cell, ...]
    copy: str = ""
    """What `y` copies; "" is the text of the cells."""


class RowList(ScrollView, can_focus=True):
    """The rows of a screen. `Highlighted` when the cursor is on another row, `Chosen` for Enter and a second click."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--muted", "rows--good", "rows--bad", "rows--warning", "rows--accent", "rows--primary", "rows--strong", "rows--head",
        "rows--cursor", "rows--cursor-blurred",
    }  # fmt: skip
    DEFAULT_CSS = """
    RowList {
        overflow-x: hidden; overflow-y: auto; background: $surface; color: $text; scrollbar-size-vertical: 1;
        & > .rows--muted { color: $text-muted; }
        & > .rows--good { color: $text-success; }
        & > .rows--bad { color: $text-error; }
        & > .rows--warning { color: $text-warning; }
        & > .rows--accent { color: $text-accent; }
        & > .rows--primary { color: $text-primary; }
        & > .rows--strong { color: $text; text-style: bold; }
        & > .rows--head { color: $text-muted; text-style: bold; }
        & > .rows--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
        & > .rows--cursor-blurred { background: $panel; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(0)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False, id="list.open"),
    ]

    class Highlighted(Message):
        def __init__(self, rows: RowList, key: str | None) -> None:
            super().__init__()
            self.rows, self.key = rows, key

        @property
        def control(self) -> RowList:
            return self.rows

    class Chosen(Highlighted):
        pass

    class NearEnd(Message):
        """The cursor is close to the last row: there may be more."""

        def __init__(self, rows: RowList) -> None:
            super().__init__()
            self.rows = rows

        @property
        def control(self) -> RowList:
            return self.rows

    class HeadClicked(Message):
        def __init__(self, rows: RowList, title: str) -> None:
            super().__init__()
            self.rows, self.title = rows, title

        @property
        def control(self) -> RowList:
            return self.rows

    def __init__(self, columns: Sequence[Column], **more: Any) -> None:
        super().__init__(**more)
        self.columns = tuple(columns)
        self.rows: tuple[Row, ...] = ()
        self.cursor = 0
        self.empty: tuple[str, ...] = ()
        """Said in place of rows."""
        self._widths: tuple[int, ...] = ()
        self._styles: dict[str, Style] = {}

    # Content

    def set_columns(self, columns: Sequence[Column]) -> None:
        if tuple(columns) != self.columns:
            self.columns = tuple(columns)
            self._measure()
            self.refresh()

    def set_rows(self, rows: Sequence[Row], *, empty: Sequence[str] = ()) -> None:
        """The cursor goes with its row; where that is gone it stays at its place."""
        before, key = self.rows, self.key
        self.rows, self.empty = tuple(rows), tuple(empty)
        at = next((number for number, row in enumerate(self.rows) if row.key == key), None)
        self.cursor = at if at is not None else max(0, min(self.cursor, len(self.rows) - 1))
        widths = self._widths
        self._measure()
        if len(before) != len(self.rows) or widths != self._widths or not self.rows:
            self.refresh()
        else:
            for number, (old, new) in enumerate(zip(before, self.rows, strict=True)):
                if old is not new and old != new:
                    self._refresh_row(number)
        if self.key != key:
            self.post_message(self.Highlighted(self, self.key))

    @property
    def key(self) -> str | None:
        return self.rows[self.cursor].key if self.cursor < len(self.rows) else None

    @property
    def row(self) -> Row | None:
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def go_to(self, key: str) -> bool:
        for number, row in enumerate(self.rows):
            if row.key == key:
                self._set_cursor(number)
                return True
        return False

    # Layout

    def _shown(self) -> list[int]:
        return [number for number, column in enumerate(self.columns) if self.size.width >= column.from_width]

    def _measure(self) -> None:
        width = self.size.width
        shown = self._shown()
        widths = [0] * len(self.columns)
        for number in shown:
            column = self.columns[number]
            if column.share:
                continue
            longest = column.width or max([len(column.title), *(_cell_width(row.cells[number]) for row in self.rows)], default=0)
            widths[number] = min(longest, column.most) if not column.width else column.width
        rest = width - sum(widths) - 2 * max(0, len(shown) - 1)
        shares = sum(self.columns[number].share for number in shown)
        for number in shown:
            if self.columns[number].share:
                widths[number] = max(4, rest * self.columns[number].share // shares)
        self._widths = tuple(widths)
        self.virtual_size = Size(width, len(self.rows) + 1)

    def on_resize(self) -> None:
        self._measure()
        self.refresh()
        self._show_cursor()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles.clear()

    def _style(self, name: str) -> Style:
        if name not in self._styles:
            self._styles[name] = self.get_component_rich_style(f"rows--{name}") if name else self.rich_style
        return self._styles[name]

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y == 0:
            return self._strip([column.title for column in self.columns], width, self._style("head"))
        number = y - 1 + self.scroll_offset.y
        if not self.rows and self.empty:
            text = self.empty[y - 1] if 0 <= y - 1 < len(self.empty) else ""
            return Strip([Segment(set_cell_size(clipped(text, width), width), self._style("" if y == 1 else "muted"))])
        if number >= len(self.rows):
            return Strip.blank(width, self.rich_style)
        over = None
        if number == self.cursor:
            over = self._style("cursor" if self.has_focus else "cursor-blurred")
        return self._strip(self.rows[number].cells, width, over)

    def _strip(self, cells: Sequence[Cell], width: int, over: Style | None) -> Strip:
        segments: list[Segment] = []
        base = self.rich_style if over is None else over
        for place, number in enumerate(self._shown()):
            column, room = self.columns[number], self._widths[number] if number < len(self._widths) else 0
            if place:
                segments.append(Segment("  ", base))
            segments += self._cell(cells[number], room, over, right=column.right)
        return Strip(segments).adjust_cell_length(width, base)

    def _cell(self, cell: Cell, room: int, over: Style | None, *, right: bool) -> list[Segment]:
        spans = _spans(cell)
        text = "".join(part for part, _ in spans)
        if cell_len(text) > room or not text.isprintable() or len(spans) == 1:
            shown = clipped(text, room)
            pad = " " * (room - cell_len(shown))
            tone = spans[0][1] if spans else ""
            return [Segment(pad + shown if right else shown + pad, over or self._style(tone))]
        segments = [Segment(part, over or self._style(tone)) for part, tone in spans]
        blank = Segment(" " * (room - cell_len(text)), over or self._style(""))
        return [blank, *segments] if right else [*segments, blank]

    # Moving

    def _refresh_row(self, number: int) -> None:
        y = number + 1 - self.scroll_offset.y
        if 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def _set_cursor(self, number: int) -> None:
        number = max(0, min(number, len(self.rows) - 1))
        if number == self.cursor or not self.rows:
            return
        self._refresh_row(self.cursor)
        self.cursor = number
        self._show_cursor()
        self._refresh_row(number)
        self.post_message(self.Highlighted(self, self.key))
        if number >= len(self.rows) - 10:
            self.post_message(self.NearEnd(self))

    def _show_cursor(self) -> None:
        room = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + room:
            self.scroll_to(y=self.cursor - room + 1, animate=False)

    def action_move(self, step: int) -> None:
        self._set_cursor(self.cursor + step)

    def action_page(self, step: int) -> None:
        self._set_cursor(self.cursor + step * max(1, self.size.height - 2))

    def action_edge(self, last: int) -> None:
        self._set_cursor(len(self.rows) - 1 if last else 0)

    def action_choose(self) -> None:
        if self.key is not None:
            self.post_message(self.Chosen(self, self.key))

    def on_focus(self) -> None:
        self._refresh_row(self.cursor)

    def on_blur(self) -> None:
        self._refresh_row(self.cursor)

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            at = 0
            for number in self._shown():
                if at <= event.x < at + self._widths[number] + 2:
                    self.post_message(self.HeadClicked(self, self.columns[number].title))
                at += self._widths[number] + 2
            return
        number = event.y - 1 + self.scroll_offset.y
        if number < len(self.rows):
            if number == self.cursor and event.chain > 1:
                self.action_choose()
            self._set_cursor(number)

    def text_of(self, row: Row) -> str:
        return row.copy or "\t".join("".join(part for part, _ in _spans(cell)).strip() for cell in row.cells)


def _spans(cell: Cell) -> tuple[Span, ...]:
    if isinstance(cell, str):
        return ((cell, ""),)
    if _is_span(cell):
        return (cell,)
    return cast("tuple[Span, ...]", cell)


def _is_span(cell: Span | tuple[Span, ...]) -> TypeGuard[Span]:
    return bool(cell) and isinstance(cell[0], str)


def _cell_width(cell: Cell) -> int:
    return sum(cell_len(part) for part, _ in _spans(cell))


__all__ = ["Cell", "Column", "Row", "RowList", "Tone"]
