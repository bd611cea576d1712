"""The list of steps with its rails: the Pipeline screen's main widget.

What changes about one step repaints one row: `update_line` while a run is live costs a row, not a screen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from mlpipe_engine.model.states import State
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mlpipe_tui.clean import clipped, one_line
from mlpipe_tui.glyphs import COLOUR, UNICODE, Glyphs
from mlpipe_tui.viewmodels.columns import GAP, Column, fit
from mlpipe_tui.viewmodels.rails import Node, Row, StepLine, gathered, lay_out, tally
from mlpipe_tui.widgets.copying import Copy

_NOTHING = StepLine()
_STATE_CSS = "\n".join(f"        & > .rails--{state} {{ color: ${colour}; }}" for state, colour in COLOUR.items())


class Rails(ScrollView, can_focus=True):
    """Rows of steps. Names and texts are data; the widget cleans what it draws."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rails--header", "rails--cursor", "rails--cursor-blurred", "rails--rail", "rails--own", "rails--dim", *(f"rails--{state}" for state in State),
    }  # fmt: skip
    DEFAULT_CSS = f"""
    Rails {{
        overflow-y: auto;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        background: $surface;
        color: $text;
        & > .rails--header {{ color: $text-muted; text-style: bold; }}
        & > .rails--cursor {{ background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }}
        & > .rails--cursor-blurred {{ background: $block-cursor-blurred-background; color: $block-cursor-blurred-foreground; }}
        & > .rails--rail {{ color: $border-blurred; }}
        & > .rails--own {{ color: $text-accent; text-style: bold; }}
        & > .rails--dim {{ color: $text-muted; }}
{_STATE_CSS}
    }}
    """
    HELP = "One row a step, above what needs it. Rails lead results down; those of the step under the cursor are marked. Enter opens a fold."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "to(0)", "First", show=False),
        Binding("end,G", "to(-1)", "Last", show=False),
        Binding("right,plus", "fold(False)", "Unfold", show=False, id="rails.unfold"),
        Binding("left,minus", "fold(True)", "Fold", show=False, id="rails.fold"),
        Binding("enter", "open", "Open", id="rails.open"),
        Binding("y", "copy", "Copy", show=False, id="rails.copy"),
    ]

    class Highlighted(Message):
        """The cursor is on another row now."""

        def __init__(self, rails: Rails, row: Row) -> None:
            super().__init__()
            self.rails, self.row = rails, row

        @property
        def control(self) -> Rails:
            return self.rails

    class Opened(Highlighted):
        """Enter, or a double click, on a row that is no fold."""

    def __init__(self, columns: Sequence[Column] = (), signs: Glyphs = UNICODE, *, words: bool = True, **more: Any) -> None:
        super().__init__(**more)
        self.columns = tuple(columns)
        self.signs = signs
        self.words = words
        """A column of states after that of names; states are never told by colour alone."""
        self.nodes: tuple[Node, ...] = ()
        self.rows: tuple[Row, ...] = ()
        self.cursor = 0
        self.empty = ""
        """Said in place of a graph without steps."""
        self._lines: dict[str, StepLine] = {}
        self._place: dict[str, int] = {}
        self._open_folds: set[str] = set()
        self._only: frozenset[str] | None = None
        self._names_width = self._graph_width = 0

    @property
    def view(self) -> Size:
        """What is left for rows once scroll bars are there; `size` would count them."""
        return self.scrollable_content_region.size

    # What it shows

    def show(self, nodes: Sequence[Node], lines: Mapping[str, StepLine]) -> None:
        """Another graph or the same one; the cursor stays on its step where that is still there."""
        self._lines = dict(lines)
        if tuple(nodes) != self.nodes:
            self.nodes = tuple(nodes)
            self._arrange()
        else:
            self.refresh()

    def update_line(self, name: str, line: StepLine) -> None:
        """What is known of one step changed. Nothing is drawn if it looks the same."""
        if self._lines.get(name) != line:
            self._lines[name] = line
            if (place := self._place.get(name)) is not None:
                self.refresh_line(place + 1)

    def show_only(self, names: Collection[str] | None) -> None:
        """Rows of these steps alone, without rails, which would lead nowhere; None: all again."""
        self._only = None if names is None else frozenset(names)
        self._arrange()

    @property
    def selected(self) -> Row | None:
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def select(self, name: str) -> bool:
        """Put the cursor on a step, opening nothing; False where it is not shown."""
        if (place := self._place.get(name)) is None:
            return False
        self._go(place)
        return True

    def _arrange(self) -> None:
        held = self.selected
        open_folds = self._open_folds if self._only is None else {node.name for node in self.nodes} | self._open_folds
        rows = lay_out(self.nodes, self.signs, open_folds=open_folds)
        if self._only is not None:
            rows = tuple(
                Row(name=row.name, members=row.members, cells="  ", owners=("", ""), column=0)
                for row in lay_out(self.nodes, self.signs, open_folds=_every_fold(rows))
                if row.name in self._only
            )
        self.rows = rows
        self._place = {member: place for place, row in enumerate(rows) for member in (row.name, *row.members)}
        widest = max((len(row.cells) for row in rows), default=0)
        self._graph_width = widest if self._only is not None else max(widest, len("Graph"))
        self._names_width = max((cell_len(one_line(self._label(row), limit=60)) for row in rows), default=0)
        self.cursor = self._place.get(held.name if held is not None else "", min(self.cursor, max(len(rows) - 1, 0)))
        self.virtual_size = Size(0, len(rows) + 1)
        self.refresh()
        self._show_cursor()
        if (now := self.selected) is not None and now != held:
            self.post_message(self.Highlighted(self, now))

    def _label(self, row: Row) -> str:
        if len(row.members) > 1:
            return f"{row.name} ×{len(row.members)}" if self.signs.name != "ascii" else f"{row.name} x{len(row.members)}"
        return row.name

    def line_of(self, row: Row) -> StepLine:
        if len(row.members) == 1:
            return self._lines.get(row.name, _NOTHING)
        states = [self._lines.get(member, _NOTHING).state for member in row.members]
        return StepLine(state=gathered(states), cells=(tally(states, self.signs),))

    # The cursor

    def _go(self, place: int) -> None:
        place = max(0, min(place, len(self.rows) - 1))
        if not self.rows or place == self.cursor:
            return
        before, self.cursor = self.cursor, place
        owned = self._marked(before) | self._marked(place)
        if owned:
            self.refresh()
        else:
            self.refresh_line(before + 1)
            self.refresh_line(place + 1)
        self._show_cursor()
        self.post_message(self.Highlighted(self, self.rows[place]))

    def _marked(self, place: int) -> bool:
        """Moving the cursor to or from that row changes how rails look elsewhere."""
        row = self.rows[place] if place < len(self.rows) else None
        return row is not None and any(row.name in other.owners for other in self.rows[place + 1 : place + 2])

    def _show_cursor(self) -> None:
        top, height = round(self.scroll_y), self.view.height - 1
        if height <= 0:
            return
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False)

    def action_move(self, rows: int) -> None:
        self._go(self.cursor + rows)

    def action_page(self, pages: int) -> None:
        self._go(self.cursor + pages * max(self.view.height - 2, 1))

    def action_to(self, place: int) -> None:
        self._go(place if place >= 0 else len(self.rows) - 1)

    def action_fold(self, close: bool) -> None:
        row = self.selected
        if row is not None and row.can_fold:
            (self._open_folds.discard if close else self._open_folds.add)(row.can_fold)
            self.cursor = self._place.get(row.name, self.cursor)
            self._arrange()
            if close:
                self.select(row.can_fold)

    def action_open(self) -> None:
        row = self.selected
        if row is None:
            return
        if len(row.members) > 1:
            self.action_fold(False)
        else:
            self.post_message(self.Opened(self, row))

    def action_copy(self) -> None:
        row = self.selected
        if row is not None:
            line = self.line_of(row)
            state = line.state.value if line.state is not None else ""
            self.post_message(Copy("\t".join([row.name, state, *line.cells]), f"row {one_line(row.name, limit=40)}"))

    def on_click(self, event: events.Click) -> None:
        place = event.y - self.gutter.top + round(self.scroll_y) - 1
        if 0 <= place < len(self.rows) and event.y > self.gutter.top:
            again = place == self.cursor
            self._go(place)
            if again and event.chain == 2:
                self.action_open()

    def on_resize(self) -> None:
        self.refresh()  # columns have other widths now
        self._show_cursor()

    def on_focus(self) -> None:
        self.refresh_line(self.cursor + 1)

    def on_blur(self) -> None:
        self.refresh_line(self.cursor + 1)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.refresh()

    # Drawing

    def _columns(self) -> list[tuple[int, Column, int]]:
        """Sign and graph are always there; -1 is the name, -2 the state."""
        longest = max(len(word) for word in ("interrupted", *State)) + 2
        head = [Column(title="Step", width=max(min(self._names_width, 28), 4))]
        if self.words:
            head.append(Column(title="State", width=longest, drop=1))
        shown = fit([*head, *self.columns], self.view.width - self._graph_width - 1)
        return [(index - len(head), column, width) for index, column, width in shown]

    def render_line(self, y: int) -> Strip:
        width, base = self.view.width, self.rich_style
        if y == 0:
            return self._header(base).crop_extend(0, width, base)
        place = round(self.scroll_y) + y - 1
        if place >= len(self.rows):
            if not self.rows and y == 1:
                text = clipped(self.empty, width)
                return Strip(
                    [Segment(text, base + self.get_component_rich_style("rails--dim", partial=True))]
                ).extend_cell_length(width, base)
            return Strip.blank(width, base)
        return Strip(self._row(place, base)).crop_extend(0, width, self._ground(place, base))

    def _ground(self, place: int, base: Style) -> Style:
        if place != self.cursor:
            return base
        return base + self.get_component_rich_style("rails--cursor" if self.has_focus else "rails--cursor-blurred", partial=True)

    def _header(self, base: Style) -> Strip:
        style = base + self.get_component_rich_style("rails--header", partial=True)
        text = ("Graph" if self._graph_width >= 5 else "").ljust(self._graph_width) + " "
        for _, column, width in self._columns():
            title = clipped(column.title, width, self.signs.ellipsis)
            text += (title.rjust(width) if column.right else title.ljust(width)) + " " * GAP
        return Strip([Segment(text, style)])

    def _row(self, place: int, base: Style) -> list[Segment]:
        row = self.rows[place]
        line = self.line_of(row)
        under = place == self.cursor
        ground = self._ground(place, base)

        def toned(name: str) -> Style:
            # On the cursor only the cursor's own pair of colours has a contrast that was measured.
            return (
                ground if under and self.has_focus else ground + Style(**_ink(self.get_component_rich_style(name, partial=True)))
            )

        own = self.selected.name if self.selected is not None else ""
        sign = line.sign or (self.signs.state(line.state) if line.state is not None else self.signs.data)
        state = toned(f"rails--{line.state}") if line.state is not None else toned("rails--dim")
        segments: list[Segment] = []
        rail, mine = toned("rails--rail"), toned("rails--own")
        for at, cell in enumerate(row.cells.ljust(self._graph_width)):
            if at == row.column:
                segments.append(Segment(one_line(sign, limit=1)[:1] or " ", state))
            else:
                segments.append(Segment(cell, mine if at < len(row.owners) and own and row.owners[at] == own else rail))
        if under and not self.has_focus and self.signs.name == "ascii":
            segments.append(Segment(self.signs.cursor, ground))
        else:
            segments.append(Segment(self.signs.cursor if under else " ", ground))
        plain = toned("rails--dim") if line.dim else ground
        for index, column, width in self._columns():
            if index == -1 - int(self.words):
                text, style = self._label(row), plain
            elif index == -1 and self.words:
                text, style = (
                    (self.signs.labelled(line.state) if line.state is not None else "") if not line.sign else line.sign,
                    state,
                )
            else:
                text, style = line.cells[index] if index < len(line.cells) else "", plain
            shown = clipped(text, width, self.signs.ellipsis)
            blank = " " * (width - cell_len(shown))
            segments.append(Segment((blank + shown if column.right else shown + blank) + " " * GAP, style))
        return segments


def _every_fold(rows: Sequence[Row]) -> set[str]:
    return {row.can_fold for row in rows if row.can_fold}


def _ink(style: Style) -> dict[str, Any]:
    """What of a style is about the letters, so that the ground of the row stays."""
    return {"color": style.color, "bold": style.bold, "italic": style.italic}
