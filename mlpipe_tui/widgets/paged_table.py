"""A table of any length: rows are read by pages in a thread of its own, and only those on the screen are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mlpipe_tui.clean import clipped, one_line
from mlpipe_tui.glyphs import UNICODE, Glyphs
from mlpipe_tui.tables import Interrupted, Profile, Table, TableProblem
from mlpipe_tui.viewmodels.cells import cell, plain, spark
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.desk import Desk

_PAGE = 512
_SCATTERED_PAGE = 128
"""Rows of a sorted or filtered table lie anywhere in the file: fewer at a time, or the first would wait for the last."""
_KEPT_PAGES = 64
_WIDEST = 40
_GAP = 2


class PagedTable(ScrollView, can_focus=True):
    """Shows what `open` gives it. Everything slow happens elsewhere: keys are answered while a table is opened, sorted or read."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "paged-table--header",
        "paged-table--type",
        "paged-table--cursor",
        "paged-table--row",
        "paged-table--missing",
    }
    DEFAULT_CSS = """
    PagedTable {
        overflow-y: scroll;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        background: $surface;
        color: $text;
        & > .paged-table--header { text-style: bold; color: $text-primary; }
        & > .paged-table--type { color: $text-muted; }
        & > .paged-table--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
        & > .paged-table--row { background: $panel; }
        & > .paged-table--missing { color: $text-muted; text-style: italic; }
    }
    """
    HELP = "Rows are read as they are needed. s sorts by the column under the cursor, f keeps columns at the left, H hides one, Esc stops a query."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1, 0)", "Up", show=False),
        Binding("down,j", "move(1, 0)", "Down", show=False),
        Binding("left", "move(0, -1)", "Left", show=False),
        Binding("right", "move(0, 1)", "Right", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown,space", "page(1)", "Page down", show=False),
        Binding("home,g", "to(0)", "First row", show=False),
        Binding("end,G", "to(-1)", "Last row", show=False),
        Binding("s", "sort", "Sort", id="table.sort"),
        Binding("f", "freeze", "Freeze column", id="table.freeze"),
        Binding("H", "hide", "Hide column", id="table.hide"),
        Binding("p", "bars", "Profile", show=False, id="table.profile"),
        Binding("y", "copy", "Copy cell", id="table.copy"),
        Binding("enter", "open_row", "Whole row", show=False, id="table.row"),
        Binding("escape", "stop", "Stop", show=False),
    ]

    class Moved(Message):
        """Another cell, another view of the rows, or another thing to say about them."""

        def __init__(self, table: PagedTable) -> None:
            super().__init__()
            self.table = table

        @property
        def control(self) -> PagedTable:
            return self.table

    class RowOpened(Message):
        """Enter: all values of a row, as they are in the table."""

        def __init__(self, table: PagedTable, row: int, values: tuple[tuple[str, Any], ...]) -> None:
            super().__init__()
            self.table, self.row, self.values = table, row, values

        @property
        def control(self) -> PagedTable:
            return self.table

    def __init__(self, signs: Glyphs = UNICODE, **more: Any) -> None:
        super().__init__(**more)
        self.signs = signs
        self.table: Table | None = None
        """Read from the desk's thread only, but for its fields."""
        self.problem = ""
        self.busy = ""
        """What it is at that takes time."""
        self.empty = ""
        self.row = self.column = 0
        self.bars = True
        self._desk = Desk("table", self._fault)
        self._generation = 0
        self._pages: LRUCache[int, list[tuple[Any, ...]]] = LRUCache(_KEPT_PAGES)
        self._wanted: set[int] = set()
        self._profiles: dict[str, Profile] = {}
        self._widths: list[int] = []
        self._hidden: set[int] = set()
        self._frozen = 0
        self._left = 0
        """First of the columns that are not kept at the left, counting only those that are shown."""
        self._stop: Callable[[], None] | None = None

    # What it shows

    def open(self, opener: Callable[[], Table] | None, *, empty: str = "") -> None:
        """Show another table; `opener` runs in the table's thread and may raise TableProblem. None: none, and `empty` says why."""
        self._interrupt()
        self._desk.forget()
        self._generation += 1
        old, self.table = self.table, None
        self.problem, self.empty, self.busy = "", empty, "opening" if opener is not None else ""
        self.row = self.column = self._left = self._frozen = 0
        self._hidden.clear()
        self._profiles.clear()
        self._forget_pages()
        self.virtual_size = Size(0, 0)
        self.scroll_to(0, 0, animate=False)
        generation = self._generation
        if old is not None:
            self._desk.ask(("close", generation), old.close)
        if opener is not None:
            self._desk.ask("open", lambda: self._opening(opener, generation))
        self._changed()

    def stopping_with(self, stop: Callable[[], None]) -> None:
        """From an opener: how what it is at can be stopped, until there is a table."""
        self._stop = stop

    def _opening(self, opener: Callable[[], Table], generation: int) -> None:
        try:
            table = opener()
            first = table.page(0, _PAGE)
        except TableProblem as problem:
            self._tell(self._failed, generation, str(problem))
            return
        self._tell(self._opened, generation, table, first)

    def _opened(self, generation: int, table: Table, first: list[tuple[Any, ...]]) -> None:
        if generation != self._generation:
            self._desk.ask(("close", id(table)), table.close)
            return
        self.table, self.busy, self._stop = table, "", None
        self._widths = [min(max(4, cell_len(one_line(column.name, limit=_WIDEST))), _WIDEST) for column in table.columns]
        self._widen(first[:100])
        self._pages[0] = first
        self._measure()
        self._changed()
        self._ask_profiles()

    def _widen(self, rows: list[tuple[Any, ...]]) -> None:
        """Columns grow with what is read, and never shrink under the reader."""
        for at, width in enumerate(self._widths):
            if width < _WIDEST:
                found = max((cell_len(cell(row[at], limit=_WIDEST * 2, missing=self.signs.null)) for row in rows), default=0)
                self._widths[at] = min(max(width, found), _WIDEST)

    def _failed(self, generation: int, problem: str) -> None:
        if generation == self._generation:
            self.problem, self.busy, self._stop = problem, "", None
            self._changed()

    def _fault(self, error: Exception) -> None:
        """A bug, or a file that makes DuckDB say something unheard of: told in the table, which can be opened anew."""
        self._tell(self._failed, self._generation, f"internal error: {type(error).__name__}: {error}")

    def _tell(self, call: Callable[..., None], *values: Any) -> None:
        """Into the app's thread; nobody is there any more when the app ended."""
        if self.is_running:
            try:
                self.app.call_later(call, *values)
            except RuntimeError:
                return

    def on_unmount(self) -> None:
        self._interrupt()
        table = self.table
        self._desk.close(table.close if table is not None else _nothing)

    def _interrupt(self) -> None:
        if self._stop is not None:
            self._stop()
        if self.table is not None:
            self.table.interrupt()

    def action_stop(self) -> None:
        """Give up what takes long."""
        if self.busy:
            self._interrupt()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self.busy) if action == "stop" else True

    # Its view of the rows

    @property
    def rows(self) -> int:
        return self.table.rows if self.table is not None else 0

    @property
    def head(self) -> int:
        """Lines above the rows."""
        return 3 if self.bars and self.view.height >= 8 else 2

    @property
    def view(self) -> Size:
        return self.scrollable_content_region.size

    @property
    def badge(self) -> str:
        """Where one is, for the frame around the table."""
        if self.table is None:
            return one_line(self.busy)
        shown = [at for at in range(len(self.table.columns)) if at not in self._hidden]
        parts = [f"row {self.row + 1:,} of {self.rows:,}" if self.rows else "no rows"]
        if self.table.filter:
            parts[0] += f" ({self.table.total:,} in all)"
        parts.append(f"column {self.column + 1} of {len(shown)}" + (f", {len(self._hidden)} hidden" if self._hidden else ""))
        if self.table.order is not None:
            name, down = self.table.order
            parts.append(f"by {one_line(name, limit=30)} {self.signs.down if down else self.signs.up}")
        if self.busy:
            parts.append(f"{self.busy}… (Esc stops)")
        return " · ".join(parts)

    def _changed(self) -> None:
        self.border_subtitle = Content(self.badge)
        self.refresh()
        self.post_message(self.Moved(self))

    def _measure(self) -> None:
        self.virtual_size = Size(0, self.rows + self.head if self.rows else 0)

    def rearrange(self, order: tuple[str, bool] | None, filter_text: str) -> None:
        """Sort and filter, in the table's thread; the view changes when it is done. What is wrong with a filter goes to `problem`."""
        table, generation = self.table, self._generation
        if table is None:
            return

        def job() -> None:
            try:
                table.arrange(order, filter_text)
            except TableProblem as problem:
                self._tell(self._arranged, generation, "" if isinstance(problem, Interrupted) else str(problem))
            else:
                self._tell(self._arranged, generation, "")

        self.busy, self.problem = "filtering" if filter_text != table.filter else "sorting", ""
        self._desk.ask("arrange", job)
        self._changed()

    def _arranged(self, generation: int, problem: str) -> None:
        if generation != self._generation:
            return
        self.busy, self.problem = "", problem
        if not problem:
            self.row = 0
            self.scroll_to(y=0, animate=False)
        self._forget_pages()
        self._measure()
        self._changed()

    def action_sort(self) -> None:
        """Lowest first, highest first, as in the file."""
        if (at := self._here()) is None or self.table is None:
            return
        name, order = self.table.columns[at].name, self.table.order
        fresh = (name, False) if order is None or order[0] != name else (name, True) if not order[1] else None
        self.rearrange(fresh, self.table.filter)

    def _ask_profiles(self) -> None:
        """Of the columns on the screen, one after the other, so that pages come in between."""
        if self.table is None or not self.bars:
            return
        for at, _ in self._shown_columns():
            name = self.table.columns[at].name
            if name not in self._profiles:
                self.profile(name)
                return

    def profile(self, name: str, *, full: bool = False) -> None:
        """Look into a column: a sample at once, all rows only when asked."""
        table, generation = self.table, self._generation
        if table is None:
            return

        def job() -> None:
            try:
                found = table.profile(name, full=full)
            except TableProblem:
                found = Profile(column=name, rows=0, nulls=0, distinct=0)
            self._tell(self._profiled, generation, found, full)

        if full:
            self.busy = "profiling all rows"
            self._changed()
        self._desk.ask(("profile", name, full), job)

    def _profiled(self, generation: int, found: Profile, full: bool) -> None:
        if generation != self._generation:
            return
        if full:
            self.busy = ""
        if found.rows or found.column not in self._profiles:
            self._profiles[found.column] = found
            at = next(at for at, column in enumerate(self.table.columns if self.table else ()) if column.name == found.column)
            self._widths[at] = max(self._widths[at], min(cell_len(self._bar(found.column)), _WIDEST))
        self._changed()
        self._ask_profiles()

    def export(self, path: str, told: Callable[[str, bool], None]) -> None:
        """Write the view into a new file, in the table's thread; `told` gets what came of it, and whether that is bad."""
        table, generation = self.table, self._generation
        if table is None:
            return

        def job() -> None:
            try:
                rows = table.export(path)
            except TableProblem as problem:
                self._tell(self._exported, generation, told, str(problem), True)
            else:
                self._tell(self._exported, generation, told, f"wrote {rows:,} rows to {one_line(path)}", False)

        self.busy = "exporting"
        self._desk.ask("export", job)
        self._changed()

    def _exported(self, generation: int, told: Callable[[str, bool], None], text: str, bad: bool) -> None:
        if generation == self._generation:
            self.busy = ""
            self._changed()
        told(text, bad)

    def profile_of(self, name: str) -> Profile | None:
        return self._profiles.get(name)

    # Pages

    def _size_of_page(self) -> int:
        scattered = self.table is not None and (self.table.order is not None or self.table.filter)
        return _SCATTERED_PAGE if scattered else _PAGE

    def _forget_pages(self) -> None:
        self._pages.clear()
        self._wanted.clear()
        self._desk.forget()

    def values(self, row: int) -> tuple[Any, ...] | None:
        """A row, once its page was read; asking for it gets it read."""
        number, at = divmod(row, self._size_of_page())
        page = self._pages.get(number)
        if page is None:
            self._want(number)
            return None
        return page[at] if at < len(page) else ()

    def _want(self, number: int) -> None:
        table, generation, size = self.table, self._generation, self._size_of_page()
        if table is None or number in self._wanted or self.busy in ("sorting", "filtering"):
            return
        self._wanted.add(number)

        def job() -> None:
            try:
                page = table.page(number * size, size)
            except Interrupted:
                self._tell(self._wanted.discard, number)
            except TableProblem as problem:
                self._tell(self._failed, generation, str(problem))
            else:
                self._tell(self._arrived, generation, number, page, size)

        self._desk.ask(("page", number), job)

    def _arrived(self, generation: int, number: int, page: list[tuple[Any, ...]], size: int) -> None:
        if generation != self._generation or size != self._size_of_page() or number not in self._wanted:
            return
        self._wanted.discard(number)
        self._pages[number] = page
        self._widen(page[:: max(len(page) // 64, 1)])
        top = round(self.scroll_y)
        if number * size < top + self.view.height and (number + 1) * size > top:
            self.refresh()
            self.post_message(self.Moved(self))

    # Columns

    def _order(self) -> list[int]:
        return [at for at in range(len(self._widths)) if at not in self._hidden]

    def _here(self) -> int | None:
        """Index of the column under the cursor."""
        shown = self._order()
        return shown[self.column] if self.column < len(shown) else None

    def _shown_columns(self) -> list[tuple[int, int]]:
        """(index, width) of the columns on the screen: those kept at the left, then from the first of the others."""
        order = self._order()
        found: list[tuple[int, int]] = []
        left = self.view.width - 1
        for at in [*order[: self._frozen], *order[max(self._left, self._frozen) :]]:
            if left <= 0:
                break
            found.append((at, min(self._widths[at], left)))
            left -= self._widths[at] + _GAP
        return found

    def _show_column(self) -> None:
        if self.column < self._frozen:
            return
        if self.column < self._left:
            self._left = self.column
        order = self._order()
        while self._left < self.column and (order[self.column], self._widths[order[self.column]]) not in self._shown_columns():
            self._left += 1
        self._ask_profiles()

    def action_freeze(self) -> None:
        """Keep the columns up to the cursor at the left; again: let them go."""
        self._frozen = 0 if self._frozen == self.column + 1 else self.column + 1
        self._left = max(self._left, self._frozen)
        self._changed()

    def action_hide(self) -> None:
        """Hide the column; on the last one: show all again."""
        if (at := self._here()) is None:
            return
        if len(self._order()) > 1:
            self._hidden.add(at)
            self._frozen = min(self._frozen, len(self._order()))
        else:
            self._hidden.clear()
        self.column = min(self.column, len(self._order()) - 1)
        self._left = min(self._left, self.column)
        self._changed()

    def show_all_columns(self) -> None:
        self._hidden.clear()
        self._changed()

    def action_bars(self) -> None:
        self.bars = not self.bars
        self._measure()
        self._ask_profiles()
        self._changed()

    # The cursor

    def action_move(self, rows: int, columns: int) -> None:
        self._go(self.row + rows, self.column + columns)

    def _go(self, row: int, column: int) -> None:
        row, column = max(0, min(row, self.rows - 1)), max(0, min(column, len(self._order()) - 1))
        if (row, column) == (self.row, self.column):
            return
        old, self.row, moved = self.row, row, column != self.column
        self.column = column
        left, top = self._left, self.scroll_y
        self._show_column()
        self._show_row()
        if moved or left != self._left or top != self.scroll_y:
            self.refresh()
        else:
            self.refresh_lines(old + self.head)
            self.refresh_lines(row + self.head)
        self.border_subtitle = Content(self.badge)
        self.post_message(self.Moved(self))

    def _show_row(self) -> None:
        top, height = round(self.scroll_y), self.view.height - self.head
        if height <= 0:
            return
        if self.row < top:
            self.scroll_to(y=self.row, animate=False)
        elif self.row >= top + height:
            self.scroll_to(y=self.row - height + 1, animate=False)

    def action_page(self, pages: int) -> None:
        self._go(self.row + pages * max(self.view.height - self.head - 1, 1), self.column)

    def action_to(self, row: int) -> None:
        self._go(row if row >= 0 else self.rows - 1, self.column)

    def on_click(self, event: events.Click) -> None:
        x, y = event.x - self.gutter.left - 1, event.y - self.gutter.top
        for at, width in self._shown_columns():
            if 0 <= x < width + _GAP:
                if 0 <= y < self.head:
                    self._go(self.row, self._order().index(at))
                    self.action_sort()
                elif y >= self.head and (row := round(self.scroll_y) + y - self.head) < self.rows:
                    self._go(row, self._order().index(at))
                    if event.chain == 2:
                        self.action_open_row()
                return
            x -= width + _GAP

    def on_resize(self) -> None:
        self._measure()
        self._show_row()
        self.refresh()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    @property
    def value(self) -> Any:
        """What is under the cursor; None also while it is not read yet."""
        at, values = self._here(), self.values(self.row) if self.rows else None
        return values[at] if at is not None and values else None

    def action_copy(self) -> None:
        if self.table is not None and (at := self._here()) is not None:
            self.post_message(
                Copy(plain(self.value), f"row {self.row + 1:,}, column {one_line(self.table.columns[at].name, limit=40)}")
            )

    def action_open_row(self) -> None:
        values = self.values(self.row) if self.rows else None
        if self.table is not None and values:
            named = tuple((column.name, value) for column, value in zip(self.table.columns, values))
            self.post_message(self.RowOpened(self, self.row, named))

    # Drawing

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.refresh()

    def render_line(self, y: int) -> Strip:
        width, base = self.view.width, self.rich_style
        if self.table is None or self.problem or not self.rows:
            return self._said(y, width, base)
        if y < self.head:
            return self._header(y, base).crop_extend(0, width, base)
        row = round(self.scroll_y) + y - self.head
        if row >= self.rows:
            return Strip.blank(width, base)
        ground = base + self.get_component_rich_style("paged-table--row", partial=True) if row == self.row else base
        return self._row_strip(row, ground).crop_extend(0, width, ground)

    def _said(self, y: int, width: int, base: Style) -> Strip:
        text = self.problem or (f"{self.busy}…" if self.busy else self.empty)
        if self.table is not None and not self.problem and not self.busy:
            text = f"no row of {self.table.total:,} has: {self.table.filter}" if self.table.filter else "a table without rows"
        from mlpipe_tui.widgets.painting import wrapped

        shown = one_line(text)
        rows = wrapped(shown, max(width, 1)) if shown else []
        if y >= len(rows):
            return Strip.blank(width, base)
        style = base + self.get_component_rich_style("paged-table--missing", partial=True)
        start, end = rows[y]
        return Strip([Segment(shown[start:end], style)]).extend_cell_length(width, base)

    def _header(self, y: int, base: Style) -> Strip:
        assert self.table is not None
        style = base + self.get_component_rich_style("paged-table--header" if y == 0 else "paged-table--type", partial=True)
        segments = [Segment(" ", base)]
        for at, width in self._shown_columns():
            column = self.table.columns[at]
            if y == 0:
                text = column.name
                if self.table.order is not None and self.table.order[0] == column.name:
                    text = f"{self.signs.down if self.table.order[1] else self.signs.up}{text}"
            else:
                text = column.short_type if y == 1 else self._bar(column.name)
            shown = clipped(text, width, self.signs.ellipsis)
            blank = " " * (width - cell_len(shown))
            segments.append(Segment((blank + shown if column.is_number else shown + blank) + " " * _GAP, style))
        return Strip(segments)

    def _bar(self, name: str) -> str:
        found = self._profiles.get(name)
        if found is None or not found.rows:
            return ""
        share = found.nulls / found.rows
        missing = f" {self.signs.null}{share:.0%}" if found.nulls else ""
        if found.bars:
            return spark(found.bars, self.signs.bar) + missing
        return f"{found.distinct:,} val{missing}"

    def _row_strip(self, row: int, ground: Style) -> Strip:
        assert self.table is not None
        values = self.values(row)
        here = self._here() if row == self.row else None
        missing = self.get_component_rich_style("paged-table--missing", partial=True)
        segments = [Segment(self.signs.cursor if row == self.row else " ", ground)]
        for at, width in self._shown_columns():
            waiting = values is None
            value = None if values is None or at >= len(values) else values[at]
            shown = "·" if waiting else clipped(cell(value, missing=self.signs.null), width, self.signs.ellipsis)
            blank = " " * (width - cell_len(shown))
            text = blank + shown if self.table.columns[at].is_number else shown + blank
            style = ground
            if value is None:
                style = ground + Style(color=missing.color, italic=True)
            if at == here and self.has_focus:
                style = ground + self.get_component_rich_style("paged-table--cursor", partial=True)
            segments += [Segment(text, style), Segment(" " * _GAP, ground)]
        return Strip(segments)


def _nothing() -> None:
    return
