"""A log that may have a million lines: the file is the buffer, and only the rows that are seen are read and drawn.

`LogView` shows and scrolls, `LogPane` adds the line in which one types what to look for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.timer import Timer
from textual.widgets import Input
from textual.worker import get_current_worker

from mlpipe_tui.clean import one_line
from mlpipe_tui.viewmodels.log_file import LogFile
from mlpipe_tui.viewmodels.log_line import LogLine, Query, read_line
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.painting import character_at, overlay, style_of, wrapped

_BUDGET_BYTES = 64 << 20
"""What is looked at in one go: some 40 ms."""
_LOOK_SECONDS = 0.2
_COPY_LINES = 100_000
_SHOWN_LIMIT = 50_000


class LogView(ScrollView, can_focus=True):
    """One log file. `show()` names it; while `live` it is followed until one scrolls away from its end."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log-view--note", "log-view--match", "log-view--current", "log-view--hit"}
    DEFAULT_CSS = """
    LogView {
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        overflow-x: auto;
        background: $surface;
        color: $text;
        & > .log-view--note { color: $text-muted; text-style: italic; }
        & > .log-view--match { background: $warning 40%; }
        & > .log-view--current { background: $warning; color: $background; text-style: bold; }
        & > .log-view--hit { text-style: underline; }
    }
    """
    HELP = "What a step wrote, as it is in the file. Scrolling up stops following; G goes to the end and follows again."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "Page down", show=False),
        Binding("left,h", "sideways(-8)", "Left", show=False),
        Binding("right,l", "sideways(8)", "Right", show=False),
        Binding("home,g", "first", "First line", show=False),
        Binding("end,G", "last", "Follow", id="log.follow"),
        Binding("w", "wrap", "Wrap", id="log.wrap"),
        Binding("n", "match(1)", "Next match", show=False, id="log.next"),
        Binding("N", "match(-1)", "Match before", show=False, id="log.previous"),
        Binding("ampersand", "only_hits", "Only hits", show=False, id="log.only"),
        Binding("y", "copy", "Copy", id="log.copy"),
    ]

    class Searched(Message):
        """Numbers of the lines with what was looked for, on their way from the thread that looked."""

        def __init__(self, query: Query, found: array[int], top: int, problem: str) -> None:
            super().__init__()
            self.query, self.found, self.top, self.problem = query, found, top, problem

    class Changed(Message):
        """Something the badge says is different now."""

        def __init__(self, view: LogView) -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> LogView:
            return self.view

    def __init__(self, path: str | None = None, *, live: bool = False, empty: str = "", **more: Any) -> None:
        super().__init__(**more)
        self.file: LogFile | None = None
        self.live = live
        self.following = True
        self.wrap = False
        self.wanted: Query | None = None
        self.only_hits = False
        self.searching = False
        self.problem = ""
        """Why a search could not be done."""
        self.empty = empty
        """Said in place of a log that has no line."""
        self._first_path = path
        self._hits = array("Q")
        self._current = -1
        """Index into the hits of the match one went to."""
        self._sub = 0
        """Rows of the top line that are above the view, when lines are wrapped."""
        self._width = 0
        self._lines: LRUCache[int, LogLine] = LRUCache(1024)
        self._rows: list[tuple[int, tuple[int, int]]] = []
        """The rows on the screen when lines are wrapped: (row of the log, characters of it)."""
        self._timer: Timer | None = None
        self._badge = ""

    @property
    def view(self) -> Size:
        """What is left for rows once scroll bars are there; `size` would count them."""
        return self.scrollable_content_region.size

    # What it shows

    def show(self, path: str | None, *, live: bool = False, empty: str = "") -> None:
        """Another file; the same one again keeps place and search. `empty` is said while there is no line."""
        self.empty = empty
        if self.file is not None and self.file.path == path:
            self.live = live
            self._look()
            return
        self._close()
        self.live, self.following = live, True
        self.wanted, self.only_hits, self.problem = None, False, ""
        self._hits, self._current, self._width, self._sub = array("Q"), -1, 0, 0
        self.file = LogFile(path) if path is not None else None
        self.scroll_to(0, 0, animate=False)
        self._look()

    def on_mount(self) -> None:
        self._timer = self.set_interval(_LOOK_SECONDS, self._look, pause=True)
        self.show(self._first_path, live=self.live, empty=self.empty)

    def on_unmount(self) -> None:
        self._close()

    def _close(self) -> None:
        self.workers.cancel_node(self)
        if self.file is not None:
            self.file.close()
        self.file = None
        self._lines.clear()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.refresh()

    def _look(self) -> None:
        """See what was added to the file."""
        file = self.file
        cut = file.cut if file is not None else 0
        last = len(file) - 1 if file is not None else -1
        grew = file is not None and file.grow(_BUDGET_BYTES)
        if grew and file is not None:
            self._lines.discard(last)
            if file.cut != cut:
                self._lines.clear()
                self._hits, self._current = array("Q"), -1
            self._search_grown(last if file.cut == cut else 0)
        if self._timer is not None:
            behind = file is not None and file.behind > 0
            if self.live and not behind:
                self._timer.resume()
            else:
                self._timer.pause()
            if behind:
                self.set_timer(0.01, self._look)
        self._fit(grew)

    def _fit(self, grew: bool) -> None:
        height = max(len(self), 1) + (max(self.view.height, 1) - 1 if self.wrap else 0)
        size = Size(0 if self.wrap else self._width, height)
        if size != self.virtual_size:
            self.virtual_size = size
        if self.following and grew:
            self._to_end()
        elif grew:
            self.refresh()
        self._rows = []
        self._update_badge()

    def __len__(self) -> int:
        """Rows there are to scroll through: lines, or only those that match."""
        if self.file is None:
            return 0
        return len(self._hits) if self.only_hits else len(self.file)

    def line_of(self, row: int) -> int:
        """Number of the line that a row shows, from 0."""
        return int(self._hits[row]) if self.only_hits else row

    def read(self, row: int) -> LogLine:
        number = self.line_of(row)
        found = self._lines.get(number)
        if found is None:
            assert self.file is not None
            found = read_line(*self.file.line(number))
            self._lines[number] = found
        return found

    @property
    def badge(self) -> str:
        """One line about what is seen: how much, whether it is followed, what was found."""
        if self.file is None:
            return ""
        if self.file.problem:
            return one_line(self.file.problem)
        lines = len(self.file)
        parts = [f"{lines:,} line{'' if lines == 1 else 's'}"]
        if self.wanted is not None:
            found = f"{len(self._hits):,}{'…' if self.searching else ''} match{'' if len(self._hits) == 1 else 'es'}"
            parts.append(f"{self._current + 1:,} of {found}" if self._current >= 0 else found)
        if self.problem:
            parts.append(self.problem)
        if self.only_hits:
            parts.append("only matches (&)")
        if self.live:
            parts.append("following" if self.following else "follow off (G)")
        return " · ".join(parts)

    def _update_badge(self) -> None:
        badge = self.badge
        if badge != self._badge:
            self._badge = badge
            self.border_subtitle = Content(badge)
            self.post_message(self.Changed(self))

    # Scrolling: by rows of the log, and within a line that is higher than the view

    @property
    def _top(self) -> tuple[int, int]:
        """(row, rows of it above the view)"""
        if not self.wrap:
            return round(self.scroll_y), 0
        return min((round(self.scroll_y), self._sub), self._end())

    def _end(self) -> tuple[int, int]:
        """The top at which the last line stands on the last row."""
        if not self.wrap:
            return max(len(self) - self.view.height, 0), 0
        left = self.view.height
        for row in range(len(self) - 1, -1, -1):
            left -= self._height(row)
            if left <= 0:
                return row, -left
        return 0, 0

    def _height(self, row: int) -> int:
        return len(self._wraps(row))

    def _wraps(self, row: int) -> list[tuple[int, int]]:
        return wrapped(self._shown(row), max(self.view.width, 1))

    def _shown(self, row: int) -> str:
        line = self.read(row)
        return line.text + _note(line)

    def _go(self, top: tuple[int, int]) -> None:
        top = max(min(top, self._end()), (0, 0))
        self._sub = top[1]
        self.scroll_to(y=top[0], animate=False)
        self._sub = top[1]
        self.following = top >= self._end()
        self._rows = []
        self.refresh()
        self._update_badge()

    def _to_end(self) -> None:
        self._go(self._end())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self._sub = 0
            self._rows = []
            self.following = self._top >= self._end()
            self._update_badge()

    def action_move(self, rows: int) -> None:
        row, sub = self._top
        if not self.wrap:
            self._go((row + rows, 0))
            return
        sub += rows
        while sub < 0 and row > 0:
            row -= 1
            sub += self._height(row)
        while row < len(self) - 1 and sub >= (height := self._height(row)):
            sub -= height
            row += 1
        self._go((row, max(sub, 0)))

    def action_page(self, pages: int) -> None:
        self.action_move(pages * max(self.view.height - 1, 1))

    def action_sideways(self, cells: int) -> None:
        if not self.wrap:
            self.scroll_to(x=self.scroll_x + cells, animate=False)

    def action_first(self) -> None:
        self._go((0, 0))

    def action_last(self) -> None:
        self._to_end()
        self.following = True
        self._update_badge()

    def action_wrap(self) -> None:
        row, _ = self._top
        following = self.live and self.following
        self.wrap = not self.wrap
        self._fit(False)
        if following:
            self._to_end()
        else:
            self._go((row, 0))

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 3)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, -3)

    def _wheel(self, event: events.MouseScrollDown | events.MouseScrollUp, rows: int) -> None:
        event.stop()
        event.prevent_default()
        if event.ctrl or event.shift:
            self.action_sideways(rows * 4)
        else:
            self.action_move(rows)

    def on_resize(self) -> None:
        following = self.following
        self._fit(False)
        if following:
            self._to_end()

    # Looking for text

    def search(self, typed: str) -> None:
        """Find all lines with it, in another thread; "" ends the search. The view goes to the first match below its top."""
        self.workers.cancel_group(self, "search")
        self.wanted, self.problem, self.only_hits = None, "", False
        self._hits, self._current = array("Q"), -1
        if typed and self.file is not None:
            query = Query.of(typed)
            self.wanted, self.searching = query, True
            self._search(self.file, query, self.line_of(self._top[0]) if len(self) else 0)
        self._fit(False)
        self.refresh()

    @work(thread=True, group="search", exit_on_error=False)
    def _search(self, file: LogFile, query: Query, top: int) -> None:
        """Posts what it found and waits for nobody: an app that is being taken down answers no thread."""
        worker = get_current_worker()
        found = array("Q")
        try:
            for lines in file.hits(query.matcher(), lambda: worker.is_cancelled):
                found.extend(lines)
        except (OSError, ValueError) as error:
            self.post_message(self.Searched(query, array("Q"), top, one_line(error)))
            return
        if not worker.is_cancelled:
            self.post_message(self.Searched(query, found, top, ""))

    def on_log_view_searched(self, message: Searched) -> None:
        message.stop()
        query, found, top, problem = message.query, message.found, message.top, message.problem
        if self.wanted is not query:
            return
        self.searching, self.problem, self._hits = False, problem, found
        self._current = -1
        if found:
            self._current = min(bisect_left(found, top), len(found) - 1) - 1
            self.action_match(1)
        else:
            self.refresh()
            self._update_badge()

    def _search_grown(self, start: int) -> None:
        """Lines that came while a search stands."""
        if self.wanted is None or self.searching or self.file is None or self.problem:
            return
        try:
            matches = self.wanted.matcher()
        except ValueError:
            return
        numbers = range(max(start, 0), min(len(self.file), max(start, 0) + _COPY_LINES))
        while self._hits and self._hits[-1] >= numbers.start:
            self._hits.pop()
        self._hits.extend(numbers[index] for index in matches([self.file.line(number)[0] for number in numbers]))

    def action_match(self, step: int) -> None:
        if not self._hits:
            return
        self._current = (self._current + step) % len(self._hits)
        line = int(self._hits[self._current])
        row = self._current if self.only_hits else line
        top, height = self._top[0], self.view.height
        if not top <= row < top + max(height - 1, 1) or self.wrap:
            self._go((max(row - height // 3, 0) if not self.wrap else row, 0))
        self.following = False
        self._show_match(row)
        self.refresh()
        self._update_badge()

    def _show_match(self, row: int) -> None:
        """Sideways too, where lines are not wrapped."""
        spans = self.wanted.spans(self.read(row).text) if self.wanted is not None else []
        if not spans or self.wrap:
            return
        start, end = spans[0]
        if not self.scroll_x <= start <= end <= self.scroll_x + self.view.width:
            self._width = max(self._width, end + 8)
            self._fit(False)
            self.call_after_refresh(self.scroll_to, x=max(start - self.view.width // 3, 0), animate=False)

    def action_only_hits(self) -> None:
        if self.wanted is None:
            return
        line = self.line_of(self._top[0]) if len(self) else 0
        self.only_hits = not self.only_hits
        self._fit(False)
        self._go((bisect_right(self._hits, line) - 1 if self.only_hits else line, 0))

    # Copying

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        if not len(self):
            return None
        first = selection.start.y if selection.start is not None else 0
        last = min(selection.end.y if selection.end is not None else len(self) - 1, len(self) - 1)
        last = min(last, first + _COPY_LINES - 1)
        texts = [self.read(row).text for row in range(first, last + 1)]
        if selection.end is not None and selection.end.y == last and texts:
            texts[-1] = texts[-1][: selection.end.x]
        if selection.start is not None and texts:
            texts[0] = texts[0][selection.start.x :]
        return "\n".join(texts), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def action_copy(self) -> None:
        """The selection, else the lines on the screen."""
        selection = self.text_selection
        if selection is not None and (found := self.get_selection(selection)) is not None:
            text = found[0]
        else:
            top = self._top[0]
            last = self._rows[-1][0] + 1 if self._rows else min(top + self.view.height, len(self))
            text = "\n".join(self.read(row).text for row in range(top, last))
        if text:
            count = text.count("\n") + 1
            self.post_message(Copy(text, f"{count:,} line{'' if count == 1 else 's'}"))

    # Drawing

    def render_line(self, y: int) -> Strip:
        width = self.view.width
        base = self.rich_style
        if not len(self):
            return self._empty_line(y, width, base)
        if self.wrap:
            rows = self._wrapped_rows()
            if y >= len(rows):
                return Strip.blank(width, base)
            row, (start, end) = rows[y]
            text = self._shown(row)
            segments = Strip(self._segments(row, base)).crop(_cells(text[:start]), _cells(text[:end]))
            return segments.extend_cell_length(width, base).apply_offsets(start, row)
        row = round(self.scroll_y) + y
        if row >= len(self):
            return Strip.blank(width, base)
        segments = Strip(self._segments(row, base))
        if segments.cell_length > self._width:
            self._width = segments.cell_length
            self.call_next(self._fit, False)
        left = round(self.scroll_x)
        strip = segments.crop_extend(left, left + width, base)
        return strip.apply_offsets(character_at(self._shown(row), left), row)

    def _empty_line(self, y: int, width: int, base: Style) -> Strip:
        problem = self.file.problem if self.file is not None else ""
        text = problem or ("no line matches" if self.only_hits else self.empty)
        rows = wrapped(shown, max(width, 1)) if (shown := one_line(text)) else []
        if y >= len(rows):
            return Strip.blank(width, base)
        start, end = rows[y]
        note = base + self.get_component_rich_style("log-view--note", partial=True)
        return Strip([Segment(shown[start:end], note)]).extend_cell_length(width, base)

    def _wrapped_rows(self) -> list[tuple[int, tuple[int, int]]]:
        if not self._rows:
            row, sub = self._top
            found: list[tuple[int, tuple[int, int]]] = []
            while len(found) < self.view.height and row < len(self):
                found += [(row, part) for part in self._wraps(row)[sub:]]
                row, sub = row + 1, 0
            self._rows = found[: self.view.height]
        return self._rows

    def _segments(self, row: int, base: Style) -> list[Segment]:
        line = self.read(row)
        segments = [Segment(text, base + style_of(look)) for text, look in line.spans]
        if note := _note(line):
            segments.append(Segment(note, base + self.get_component_rich_style("log-view--note", partial=True)))
        marks: list[tuple[int, int, Style]] = []
        length = len(line.text)
        if self.wanted is not None and self._hits:
            marks += self._match_marks(row, line, length)
        if (selection := self.text_selection) is not None and (span := selection.get_span(row)) is not None:
            start, end = span
            marks.append((start, length if end == -1 else end, self.screen.get_component_rich_style("screen--selection")))
        return overlay(segments, marks) if marks else segments

    def _match_marks(self, row: int, line: LogLine, length: int) -> list[tuple[int, int, Style]]:
        assert self.wanted is not None
        number = self.line_of(row)
        at = bisect_left(self._hits, number)
        if at >= len(self._hits) or self._hits[at] != number:
            return []
        name = "log-view--current" if at == self._current else "log-view--match"
        spans = self.wanted.spans(line.text)
        if not spans:
            name, spans = ("log-view--current" if at == self._current else "log-view--hit"), [(0, length)]
        style = self.get_component_rich_style(name)
        return [(start, end, style) for start, end in spans]


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _note(line: LogLine) -> str:
    """What the program wrote but the row does not show."""
    text = f" (+{line.more_bytes:,} more bytes)" if line.more_bytes else ""
    return text + (f" (written over {line.overwritten:,} times)" if line.overwritten else "")


class LogPane(Vertical):
    """A `LogView` with a line to type into: "/" opens it, Enter looks for the text, Esc ends the search."""

    DEFAULT_CSS = """
    LogPane { height: 1fr; }
    LogPane > Input { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    LogPane > Input.-open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "find", "Search", id="log.search"),
        Binding("escape", "forget", "End search", show=False),
    ]

    def __init__(self, path: str | None = None, *, live: bool = False, empty: str = "", **more: Any) -> None:
        super().__init__(**more)
        self.log_view = LogView(path, live=live, empty=empty)

    def compose(self) -> ComposeResult:
        yield self.log_view
        yield Input(placeholder="text, or /regular expression/   Enter finds, Esc closes", compact=True)

    def show(self, path: str | None, *, live: bool = False, empty: str = "") -> None:
        self.log_view.show(path, live=live, empty=empty)

    def action_find(self) -> None:
        box = self.query_one(Input)
        box.add_class("-open")
        box.focus()

    def action_forget(self) -> None:
        self.query_one(Input).remove_class("-open")
        self.log_view.search("")
        self.log_view.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc is ours only while there is a search to end."""
        if action == "forget" and self.is_mounted:
            return self.log_view.wanted is not None or self.query_one(Input).has_class("-open")
        return True

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(Input).remove_class("-open")
        self.log_view.search(event.value)
        self.log_view.focus()
