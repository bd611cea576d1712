"""Small windows over a screen: a choice, a text, a list to pick from, the form before a run, help, the log of commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from mlpipe_tui import questions
from mlpipe_tui.clean import one_line
from mlpipe_tui.viewmodels import form, steps
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import Graph, PlanShot, Trouble
from mlpipe_tui.widgets.tones import contents

if TYPE_CHECKING:
    from mlpipe_tui.app import PipelineApp

_FRAME = """
{name} {{ align: center middle; background: $background 60%; }}
{name} > Vertical {{ width: 90%; max-width: 100; height: auto; max-height: 90%; border: round $border; background: $surface; padding: 0 1; }}
{name}.-ascii > Vertical {{ border: ascii $border; }}
{name} Static, {name} Label {{ width: 1fr; height: auto; background: $surface; }}
"""


class Dialog(ModalScreen[Any]):
    """Esc leaves it without an answer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close")]
    title_text = ""

    def on_mount(self) -> None:
        self.set_class(bool(getattr(self.app, "ascii_only", False)), "-ascii")
        self.query_one(Vertical).border_title = Content(one_line(self.title_text, limit=80))

    def action_leave(self) -> None:
        self.dismiss(None)

    @property
    def tui(self) -> PipelineApp:
        return cast("PipelineApp", self.app)


class Choice(Dialog):
    """A question with a key for each answer. The key that opened it is never one of them."""

    DEFAULT_CSS = _FRAME.format(name="Choice")

    def __init__(self, title: str, lines: Sequence[Line], choices: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.title_text, self._lines, self._choices = title, lines, tuple(choices)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(contents(self._lines), markup=False)
            yield OptionList(
                *(
                    Option(Content.assemble((f" {key} ", "$text-accent bold"), one_line(text)), id=key)
                    for key, text in self._choices
                ),
                compact=True,
            )

    def on_key(self, event: events.Key) -> None:
        if event.character is not None and event.character in dict(self._choices):
            event.stop()
            self.dismiss(event.character)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class Ask(Dialog):
    """One line of text."""

    DEFAULT_CSS = _FRAME.format(name="Ask")

    def __init__(self, title: str, lines: Sequence[Line], value: str = "", check: Callable[[str], str] = lambda text: "") -> None:
        super().__init__()
        self.title_text, self._lines, self._value, self._check = title, lines, value, check

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(contents(self._lines), markup=False)
            yield Input(self._value, compact=True)
            yield Static("", id="problem", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        problem = self._check(event.value)
        if problem:
            self.query_one("#problem", Static).update(Content.styled(one_line(problem), "$text-error"))
        else:
            self.dismiss(event.value)


class Pick(Dialog):
    """One of a list."""

    DEFAULT_CSS = _FRAME.format(name="Pick")

    def __init__(self, title: str, choices: Sequence[tuple[str, str]], chosen: str = "") -> None:
        super().__init__()
        self.title_text, self._choices, self._chosen = title, tuple(choices), chosen

    def compose(self) -> ComposeResult:
        with Vertical():
            yield OptionList(*(Option(Content.assemble((one_line(name), "bold"), ("  " + one_line(about), "$text-muted")), id=f"c{number}")
                               for number, (name, about) in enumerate(self._choices)), compact=True)  # fmt: skip

    def on_mount(self) -> None:
        super().on_mount()
        names = [name for name, _ in self._choices]
        self.query_one(OptionList).highlighted = names.index(self._chosen) if self._chosen in names else 0

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._choices[event.option_index][0])


class RunForm(Dialog):
    """Parameters, what the run would cost and reuse, and its command line. Enter starts it."""

    DEFAULT_CSS = (
        _FRAME.format(name="RunForm")
        + """
    RunForm VerticalScroll { height: auto; max-height: 12; background: $surface; }
    RunForm Input { border: none; height: 1; padding: 0 1; margin-bottom: 0; background: $panel; }
    RunForm Input:focus { background: $block-cursor-blurred-background; text-style: bold; }
    RunForm Label { color: $text-muted; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "Start", show=True),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(self, spec: PipelineSpec, graph: Graph, base: SubmitOptions, given: dict[str, Any], what: str) -> None:
        super().__init__()
        self.title_text = f"Run {spec.name}{what}"
        self._spec, self._graph, self._base = spec, graph, base
        self._fields = form.fields(spec, given)
        self._inputs = [Input(field.text, compact=True) for field in self._fields]
        self.options: SubmitOptions | None = None
        """As typed; None while it does not fit."""
        self._asked = ""

    def compose(self) -> ComposeResult:
        with Vertical():
            with VerticalScroll(can_focus=False):
                for number, field in enumerate(self._fields):
                    yield Label(
                        Content.assemble((one_line(field.name), "$text bold"), ("  " + one_line(field.about), "$text-muted"))
                    )
                    yield self._inputs[number]
            yield Static("", id="plan", markup=False)

    def on_mount(self) -> None:
        super().on_mount()
        if not self._fields:
            self.query_one(VerticalScroll).display = False
        self._say([Line.of(("looking at what would run ...", "muted"))])
        self._ask()

    def _texts(self) -> dict[str, str]:
        return {field.name: box.value for field, box in zip(self._fields, self._inputs, strict=True)}

    def on_input_changed(self, event: Input.Changed) -> None:
        self.options = None
        self.set_timer(0.25, self._ask)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_start()

    def _ask(self) -> None:
        if not self.is_current:
            return
        texts = form.changed(self._spec, self._texts())
        if str(texts) == self._asked and self.options is not None:
            return
        self._asked = str(texts)
        asked = self._asked
        question = questions.plan_typed(self._spec, self._graph, texts, self._base)
        self.tui.bridge.work("form", question, lambda found: self._planned(found, asked))

    def _planned(self, shot: PlanShot | Trouble, asked: str) -> None:
        """`asked`: what was typed then. An answer to something else would start a run nobody asked for."""
        if not self.is_current or str(form.changed(self._spec, self._texts())) != asked:
            return
        self.options = None
        trouble = shot if isinstance(shot, Trouble) else shot.trouble
        if trouble is not None:
            self._say([Line.of((trouble.what, "bad")), *([Line.of(("hint: ", "muted"), trouble.hint)] if trouble.hint else [])])
            return
        assert isinstance(shot, PlanShot) and shot.plan is not None
        self.options = shot.options
        rows = [Line.of((steps.plan_title(shot).partition(" · plan · ")[2], "strong"))]
        rows += [Line.of(("warning: ", "warning"), text) for text in shot.warnings[:2]]
        rows += [
            Line(),
            Line.of((form.command_line(form.run_words(self._spec, shot.options)), "accent")),
            Line.of(("Enter starts it, Esc leaves it", "muted")),
        ]
        self._say(rows)

    def _say(self, lines: list[Line]) -> None:
        self.query_one("#plan", Static).update(contents(lines))

    def action_start(self) -> None:
        if self.options is not None:
            self.dismiss(self.options)
        else:
            self._ask()


class Pages(Dialog):
    """Lines to read: help, the log of commands."""

    DEFAULT_CSS = _FRAME.format(name="Pages") + "Pages VerticalScroll { height: auto; max-height: 1fr; background: $surface; }"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,question_mark,tilde,f1", "leave", show=False)]

    def __init__(self, title: str, lines: Sequence[Line]) -> None:
        super().__init__()
        self.title_text, self._lines = title, tuple(lines)

    def compose(self) -> ComposeResult:
        with Vertical(), VerticalScroll():
            yield Static(contents(self._lines), markup=False)

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(VerticalScroll).focus()
