"""What all screens share: a list pane and a detail pane, how they are placed at each size, zoom, and the filter line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.filters import Filter, parse_filter
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from mlpipe_tui.clean import one_line
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import Trouble
from mlpipe_tui.widgets.frame import Pane

if TYPE_CHECKING:
    from mlpipe_tui.app import PipelineApp


class View(Vertical):
    """One screen of the app. Made when it is first opened; `wake` each time it is shown, `pulse` four times a second while it is."""

    NAME: ClassVar[str] = ""
    CHANGING: ClassVar[frozenset[str]] = frozenset()
    """Actions that change something: not offered in read-only mode."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "tab(-1)", "Tab before", show=False, id="pane.tab_before"),
        Binding("right_square_bracket", "tab(1)", "Next tab", show=False, id="pane.tab_after"),
    ]
    DEFAULT_CSS = """
    View { height: 1fr; width: 1fr; background: $background; }
    View.-wide { layout: horizontal; }
    View.-tiny Pane { display: none; }
    View.-tiny Pane.-front { display: block; }
    View.-zoomed Pane { display: none; }
    View.-zoomed Pane.-front { display: block; }
    """

    @property
    def tui(self) -> PipelineApp:
        return cast("PipelineApp", self.app)

    def wake(self) -> None:
        """The screen is shown now."""

    def pulse(self) -> None:
        """Something may have changed: time at least."""

    def focus_first(self) -> None:
        """Where keys go when the screen is opened."""
        for pane in self.query(Pane):
            for widget in pane.query("*"):
                if widget.focusable:
                    widget.focus()
                    return

    def panes(self) -> list[Pane]:
        return list(self.query(Pane))

    def on_mount(self) -> None:
        self.set_class(self.tui.ascii_only, "-ascii")
        if panes := self.panes():
            panes[0].add_class("-front")
        self.place()

    def on_resize(self, event: events.Resize) -> None:
        self.place()

    def place(self) -> None:
        size = self.app.size
        self.set_class(size.width >= 140 and size.height >= 20, "-wide")
        self.set_class(size.width < 80 or size.height < 20, "-tiny")
        self.set_class(size.width < 100, "-narrow")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        for pane in self.panes():
            if pane in event.widget.ancestors_with_self:
                self.front(pane)

    def front(self, chosen: Pane) -> None:
        """The pane that is shown where there is room for one."""
        for pane in self.panes():
            pane.set_class(pane is chosen, "-front")

    def next_pane(self, step: int) -> None:
        panes = [pane for pane in self.panes() if self.has_class("-tiny") or self.has_class("-zoomed") or pane.display]
        if not panes:
            return
        here = next((number for number, pane in enumerate(panes) if pane.has_class("-front")), 0)
        chosen = panes[(here + step) % len(panes)]
        self.front(chosen)
        for widget in chosen.query("*"):
            if widget.focusable and widget.display and not isinstance(widget, Input):
                widget.focus()
                break

    def action_tab(self, step: int) -> None:
        """Of the pane in front, or of the one that has tabs."""
        panes = sorted(self.panes(), key=lambda pane: not pane.has_class("-front"))
        for pane in panes:
            if pane.bar.tabs:
                pane.turn(step)
                return

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (self.tui.read_only and action in self.CHANGING)


class FilterLine(Vertical):
    """The line one types a filter into, and what is wrong with it. Hidden until it is asked for."""

    DEFAULT_CSS = """
    FilterLine {
        height: auto; display: none; background: $surface; padding: 0 1;
        border-left: round $border; border-right: round $border;
    }
    .-ascii FilterLine { border-left: ascii $border; border-right: ascii $border; }
    FilterLine.-open { display: block; }
    FilterLine > Input { height: 1; border: none; padding: 0; background: $panel; }
    FilterLine > Static { height: auto; max-height: 3; color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Clear", id="filter.clear")]

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.wanted = Filter()

    def compose(self) -> ComposeResult:
        yield Input(placeholder="state:failed step:train metric.auc>0.9 param.lr=0.1 since:2d !word", compact=True)
        yield Static(markup=False)

    def open(self) -> None:
        self.add_class("-open")
        self.display = True  # at once, so that the next key is for the line already
        self.screen.set_focus(self.query_one(Input))

    def clear(self) -> None:
        self.query_one(Input).value = ""
        self._say("")
        self.remove_class("-open")
        self.display = False
        self._set(Filter())

    def action_close(self) -> None:
        self.clear()
        self._leave()

    def _leave(self) -> None:
        view = next((node for node in self.ancestors if isinstance(node, View)), None)
        if view is not None:
            view.focus_list()  # type: ignore[attr-defined]

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        try:
            wanted = parse_filter(event.value)
        except UsageError as error:
            self._say(str(error))
            return
        self._say("")
        self._set(wanted)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not self.wanted:
            self.clear()
        self._leave()

    def _say(self, text: str) -> None:
        self.query_one(Static).update(Content(one_line(text)))
        self.query_one(Static).display = bool(text)

    def _set(self, wanted: Filter) -> None:
        if wanted != self.wanted:
            self.wanted = wanted
            view = next((node for node in self.ancestors if isinstance(node, View)), None)
            if view is not None:
                view.filter_changed(wanted)  # type: ignore[attr-defined]


def fault_lines(trouble: Trouble, log: str) -> list[Line]:
    """What a pane says that failed itself."""
    return [Line.of(("This pane failed; runs go on.", "bad")), Line.of(trouble.what), Line(), Line.of(("traceback: ", "muted"), log),
            Line.of(("ctrl+r tries again", "muted"))]  # fmt: skip


__all__ = ["FilterLine", "View", "Widget", "fault_lines"]
