"""The Pipeline screen: the steps of one run, or of the plan of the next one, and everything about the step under the cursor."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from mlpipe_engine.model.filters import Filter
from mlpipe_engine.model.records import Acceptance, RunRecord
from mlpipe_engine.model.spec import PipelineSpec, StepSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, GOOD, State
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from mlpipe_tui import questions
from mlpipe_tui.clean import one_line
from mlpipe_tui.screens.base import FilterLine, View
from mlpipe_tui.screens.dialogs import Ask, Choice, Pick, RunForm
from mlpipe_tui.viewmodels import details, form, steps, why, words
from mlpipe_tui.viewmodels.columns import Column
from mlpipe_tui.viewmodels.rails import Node, StepLine
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import Graph, PlanShot, RunShot, StepShot, Trouble
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.document import Document
from mlpipe_tui.widgets.frame import Pane
from mlpipe_tui.widgets.log_view import LogPane
from mlpipe_tui.widgets.plots import Plot
from mlpipe_tui.widgets.rails import Rails

TABS = ("Why", "Log", "Metrics", "In/Out", "Params", "Files", "Code")
_ASKS_ABOVE_SECONDS = 30.0
_STATES = {"reused": State.REUSED, "queued": State.QUEUED, "skipped": State.SKIPPED, "interrupted": State.FAILED}


class PipelineView(View):
    """`tui.shot` is the run that is shown; `planned` what the next one would do."""

    NAME = "Pipeline"
    HELP = (
        "The steps of a run: rails lead from a step to those that need it. p shows what the next run would do and why, r starts it.\n"
        "The pane below answers for the step under the cursor: why it ran or was reused, what it wrote, what it used and made."
    )
    CHANGING = frozenset({"run", "again", "force", "cancel", "accept", "shell", "watch"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run", "Run", id="pipeline.run", tooltip="Parameters, cost and reuse of the next run; Enter starts it"),
        Binding("p", "plan", "Plan", id="pipeline.plan", tooltip="What the next run would do, or the last run again"),
        Binding("x", "cancel", "Cancel", id="pipeline.cancel", tooltip="Stop the run and everything it started"),
        Binding("w", "watch", "Watch", id="pipeline.watch", tooltip="Run what a saved file touches, from now on; again: no more"),
        Binding("R", "again", "Retry", id="pipeline.again", tooltip="Go on with a run that failed, was canceled or interrupted"),
        Binding(
            "f",
            "force",
            "Force",
            show=False,
            id="pipeline.force",
            tooltip="Run this step, or from it on, or everything, reusing nothing",
        ),
        Binding(
            "E",
            "edit",
            "Edit",
            show=False,
            id="pipeline.edit",
            tooltip="Open the place of the error, else the step's script, in $EDITOR",
        ),
        Binding(
            "exclamation_mark",
            "shell",
            "Shell",
            show=False,
            id="pipeline.shell",
            tooltip="A shell in the step's directory, laid out anew",
        ),
        Binding(
            "T",
            "stream",
            "Stream",
            show=False,
            id="pipeline.stream",
            tooltip="Leave to plain lines of this run; the end or Ctrl-C returns",
        ),
        Binding(
            "a",
            "accept",
            "Accept",
            show=False,
            id="pipeline.accept",
            tooltip="Keep the earlier result although code or environment changed",
        ),
        Binding(
            "s",
            "stream_choice",
            "Other log",
            show=False,
            id="pipeline.stream_choice",
            tooltip="Standard output or standard error",
        ),
        Binding("P", "pick", "Pipeline", show=False, id="pipeline.pick", tooltip="Another pipeline of the project"),
        Binding("slash", "filter", "Filter", id="pipeline.filter"),
        Binding(
            "escape",
            "back",
            "Back",
            show=False,
            id="pipeline.back",
            tooltip="Close the filter, then the plan, then return to the newest run",
        ),
    ]
    DEFAULT_CSS = """
    PipelineView #notice {
        height: auto; max-height: 3; color: $text-error; background: $surface; display: none; padding: 0 1;
        border-left: round $border-blurred; border-right: round $border-blurred;
    }
    PipelineView.-ascii #notice { border-left: ascii $border-blurred; border-right: ascii $border-blurred; }
    PipelineView #steps { height: 3fr; }
    PipelineView #detail { height: 2fr; }
    PipelineView.-wide #steps { width: 3fr; height: 1fr; }
    PipelineView.-wide #detail { width: 2fr; height: 1fr; }
    PipelineView LogPane { padding: 0; }
    PipelineView .numbers { height: auto; max-height: 50%; }
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.planned: PlanShot | None = None
        self.planning = False
        """The list shows the plan."""
        self.wanted_plan = False
        self.step_shot: StepShot | None = None
        self.table: steps.Table | None = None
        self._asked_step = 0.0
        self._stream = ""
        self._planned_at = ""

    def compose(self) -> ComposeResult:
        columns = (
            Column(title="Why", width=12, stretch=1, drop=2), Column(title="Time", width=13, right=True, drop=1),
            Column(title="Output", width=10, drop=3),
        )  # fmt: skip
        self.rails = Rails(columns, self.tui.glyphs)
        self.filter = FilterLine()
        self.notice = Static("", id="notice", markup=False)
        self.notice.display = False
        self.document = Document()
        self.log_pane = LogPane()
        self.steps_pane = Pane(self.rails, title="steps", id="steps")
        self.plot = Plot(self.tui.glyphs)
        self.numbers = Document(classes="numbers")
        self.metrics = Vertical(self.numbers, self.plot)
        self.detail_pane = Pane(self.document, self.log_pane, self.metrics, title="", tabs=TABS, id="detail")
        self.log_pane.display = self.metrics.display = False
        yield self.steps_pane
        yield self.detail_pane

    def on_mount(self) -> None:
        super().on_mount()
        pane = self.steps_pane
        pane.mount(self.notice, after=pane.bar)
        pane.mount(self.filter, after=pane.bar)

    # What is shown

    def wake(self) -> None:
        self.redraw()

    def pulse(self) -> None:
        """Times go on; a running step is asked about again once a second."""
        shot = self.tui.shot
        if shot is not None and shot.going_on:
            self.redraw_list()
            if (
                time.monotonic() - self._asked_step > 1.0
                and self.step_shot is not None
                and self.step_shot.step.state not in FINAL
            ):
                self.ask_step()

    @property
    def spec(self) -> PipelineSpec | None:
        """The pipeline as it is defined now, else as the shown run had it."""
        defined = self._defined()
        return defined[0] if defined is not None else self.tui.shot.spec if self.tui.shot is not None else None

    def _defined(self) -> tuple[PipelineSpec, Graph] | None:
        found = self.tui.definitions
        if found is None or not found.pipelines:
            return None
        wanted = self.tui.pipeline_name
        return found.named(wanted) if wanted else (found.pipelines[0], found.graphs[0])

    def redraw(self) -> None:
        """Everything: the shown run, the plan or the definitions are others."""
        if not self.is_mounted:
            return
        self._say_notice()
        self.redraw_list()
        self.ask_step()

    def redraw_list(self) -> None:
        table = self._table()
        if table is None:
            self._show_nothing()
            return
        before, self.table = self.table, table
        pane = self.steps_pane
        count = f" · {len(table.lines)}/{table.all}" if self.filter.wanted else ""
        pane.bar.title = one_line(table.title + count)
        lines = {line.name: self._line(line) for line in table.lines}
        nodes = tuple(Node(name=name, needs=parents) for name, parents in table.graph)
        if before is None or tuple(before.graph) != tuple(table.graph):
            self.rails.empty = f"No step fits {self.filter.wanted}. Esc clears the filter." if self.filter.wanted else ""
            self.rails.show(nodes, lines)
            if before is None:
                self.ask_step()
        else:
            for name, line in lines.items():
                self.rails.update_line(name, line)
        self._fit()

    def place(self) -> None:
        super().place()
        self._fit()

    def _fit(self) -> None:
        """Stacked, the list is as high as its rows, so that few steps leave more room for the answer about one."""
        if not self.is_mounted:
            return
        above, below = self.steps_pane.styles, self.detail_pane.styles
        if self.has_class("-wide") or self.has_class("-tiny"):
            above.height = below.height = None
            return
        wanted = len(self.rails.rows) + 3 + (2 if self.filter.display or self.notice.display else 0)
        above.height = max(7, min(wanted, (self.app.size.height - 2) * 3 // 5))
        below.height = "1fr"

    def _line(self, line: steps.StepLine) -> StepLine:
        state = _STATES.get(line.state) or next((state for state in State if state.value == line.state), None)
        text = line.short_why if self.has_class("-narrow") and line.short_why else line.why
        return StepLine(
            state=state, sign=f"{line.sign} {line.word}", cells=(text, line.time, line.output), dim=line.word == "left out"
        )

    def _table(self) -> steps.Table | None:
        now, glyphs, wanted = self.tui.now(), self.tui.glyphs, self.filter.wanted
        if self.planning and self.planned is not None:
            return steps.of_plan(self.planned, glyphs, wanted)
        if self.tui.shot is not None:
            return steps.of_run(self.tui.shot, glyphs, now, wanted)
        if self.planned is not None and self.planned.plan is not None:
            return steps.of_plan(self.planned, glyphs, wanted)
        defined = self._defined()
        return steps.of_definition(*defined, glyphs, wanted) if defined is not None else None

    def _show_nothing(self) -> None:
        """No run and no definition that could be shown."""
        self.table = None
        found = self.tui.definitions
        if found is None:
            self.rails.empty = "loading the definitions ..."
        elif found.trouble is not None:
            self.rails.empty = "No pipeline can be shown: see below."
            self.document.show(details.trouble_lines(found.trouble))
        self.steps_pane.bar.title = "steps"
        self.rails.show((), {})

    def _say_notice(self) -> None:
        """A broken definition, and runs that lost their runner."""
        notice = self.notice
        text = ""
        found = self.tui.definitions
        if (
            found is not None
            and found.trouble is not None
            and found.trouble.kind != "ProjectNotFoundError"
            and self.table is not None
        ):
            first = found.trouble.what.split("\n")[0].replace(self.tui.root + os.sep, "")
            text = f"definition broken (E opens it): {first}; shown is what was sound at {self.tui.sound_at}"
        notice.display = bool(text)
        notice.update(Content(one_line(text)))

    # The step under the cursor

    @property
    def selected(self) -> str | None:
        row = self.rails.selected
        return row.name if row is not None else None

    def ask_step(self) -> None:
        name, shot = self.selected, self.tui.shot
        self._title_detail()
        if name is None:
            return
        if shot is not None and any(step.name == name for step in shot.steps):
            self._asked_step = time.monotonic()
            self.tui.bridge.look("step", questions.step(shot.run.id, name), self._got_step)
        else:
            self.step_shot = None
            self.redraw_detail()

    def _got_step(self, found: StepShot | Trouble) -> None:
        if isinstance(found, Trouble):
            self.document.show(details.trouble_lines(found))
            return
        if found.step.name == self.selected:
            self.step_shot = found
            self.redraw_detail()

    def _title_detail(self) -> None:
        pane = self.detail_pane
        name = self.selected or ""
        line = next((line for line in self.table.lines if line.name == name), None) if self.table is not None else None
        pane.bar.title = one_line(f"{name} {line.sign}" if line is not None else name or "detail")

    def redraw_detail(self) -> None:
        """The open tab, from what is known."""
        tab = self.detail_pane.tab
        self._title_detail()
        self.log_pane.display = tab == "Log"
        self.metrics.display = tab == "Metrics"
        self.document.display = tab not in ("Log", "Metrics")
        name = self.selected
        spec = self._step_spec(name)
        if name is None or spec is None:
            if self.table is not None:
                self.document.show([])
            return
        shot = self.step_shot if self.step_shot is not None and self.step_shot.step.name == name else None
        if tab == "Log":
            self._show_log(shot)
        elif tab == "Metrics":
            self._show_metrics(name, spec, shot)
        else:
            lines, copied = self._lines(tab, name, spec, shot)
            self.document.show(lines, copied=copied)

    def _step_spec(self, name: str | None) -> StepSpec | None:
        shown = [self.planned.spec] if self.planning and self.planned is not None else []
        shown += [self.tui.shot.spec] if self.tui.shot is not None else []
        shown += [self.spec] if self.spec is not None else []
        return next((step for spec in shown for step in spec.steps if step.name == name), None)

    def _lines(self, tab: str, name: str, step: StepSpec, shot: StepShot | None) -> tuple[list[Line], str]:
        glyphs, now = self.tui.glyphs, self.tui.now()
        width = max(20, self.document.size.width)
        if tab == "Why":
            return self._why_lines(name, shot, now)
        if tab == "Code":
            return [*(details.state_lines(shot, now) if shot is not None else []), *details.code_lines(step, shot)], ""
        if tab == "Params":
            run = self.tui.shot.run if self.tui.shot is not None and not self.planning else None
            values = (
                dict(run.parameters)
                if run is not None
                else dict(self.planned.options.parameters)
                if self.planned is not None
                else {}
            )
            spec = self.spec
            return (details.parameter_lines(spec, step, values), "") if spec is not None else ([], "")
        if shot is None and self._is_asked(name):
            return [Line.of(("looking ...", "muted"))], ""
        if shot is None:
            return [
                Line.of("The step was never run here."),
                Line.of(("r runs the pipeline, p shows what that would do.", "muted")),
            ], ""
        if tab == "Metrics":
            found = details.series(shot.metrics)
            return details.metric_lines(found, name, glyphs, width=width), "" if found else details.HOW_TO_LOG
        if tab == "In/Out":
            run_spec = self.tui.shot.spec if self.tui.shot is not None else None
            return (details.in_out_lines(shot, run_spec), "") if run_spec is not None else ([], "")
        return details.file_lines(shot), ""

    def _why_lines(self, name: str, shot: StepShot | None, now: datetime) -> tuple[list[Line], str]:
        answer = self._why(name, shot, now)
        if answer is None:
            trouble = self.planned.trouble if self.planned is not None else None
            if trouble is not None:
                return details.trouble_lines(trouble), ""
            if self._is_asked(name):
                return [Line.of(("looking ...", "muted"))], ""
            return [
                Line.of(
                    "Never run here; looking at what a run would do ..."
                    if self.wanted_plan
                    else "Never run here. p shows what a run would do."
                )
            ], ""
        lines = why.lines(answer, self.tui.glyphs, self.document.size.width)
        if shot is not None and not self.planning and shot.fault is not None:
            place = os.path.relpath(shot.fault.path, self.tui.root)
            lines = [
                Line.of((shot.fault.message, "bad"), (f"  {place}:{shot.fault.line}", "strong"), ("   E opens it", "muted")),
                Line(),
                *lines,
            ]
        return lines, why.markdown(answer, name)

    def _is_asked(self, name: str) -> bool:
        """The answer about that step is on its way."""
        return not self.planning and self.tui.shot is not None and any(step.name == name for step in self.tui.shot.steps)

    def _why(self, name: str, shot: StepShot | None, now: datetime) -> why.Why | None:
        if (self.planning or shot is None) and self.planned is not None and self.planned.plan is not None:
            plan = next((step for step in self.planned.plan.steps if step.step == name), None)
            if plan is not None:
                return self._here(why.of_plan(plan, self.planned.spec, now))
        if shot is not None and self.tui.shot is not None and not self.planning:
            return self._here(why.of_step(shot, self.tui.shot.spec, now))
        return None

    def _here(self, answer: why.Why) -> why.Why:
        """With the place of its definition as seen from the project."""
        return replace(answer, where=answer.where.removeprefix(self.tui.root + os.sep))

    def _show_metrics(self, name: str, step: StepSpec, shot: StepShot | None) -> None:
        """Numbers in rows; those with a course also as lines, where there is room below."""
        lines, copied = self._lines("Metrics", name, step, shot)
        self.numbers.show(lines, copied=copied)
        drawn = [item for item in details.series(shot.metrics if shot is not None else ()) if len(item.values) > 1][:4]
        self.plot.display = bool(drawn)
        self.plot.show([details.curve(item) for item in drawn])

    def _show_log(self, shot: StepShot | None) -> None:
        if shot is None:
            self.log_pane.show(None, empty=details.no_log(None, (), ran=False))
            return
        path, stream = self._log_path(shot)
        live = shot.step.state is State.RUNNING and self.tui.shot is not None and not self.tui.shot.interrupted
        source = f" of run {shot.made_in}" if shot.made_in is not None else ""
        self.detail_pane.bar.title = one_line(f"{shot.step.name} · {stream}{source}")
        self.log_pane.show(
            path or None, live=live, empty=details.no_log(shot.step, shot.blocked, ran=bool(path) and os.path.exists(path))
        )

    def _log_path(self, shot: StepShot) -> tuple[str, str]:
        """What a failed step complained about comes first; else its output, else what it has."""

        def has(path: str) -> bool:
            return bool(path) and os.path.exists(path) and os.path.getsize(path) > 0

        choice = self._stream or (
            "stderr" if (shot.step.state is State.FAILED or not has(shot.stdout)) and has(shot.stderr) else "stdout"
        )
        return (shot.stderr if choice == "stderr" else shot.stdout), choice

    # Messages

    @on(Rails.Highlighted)
    def _highlighted(self) -> None:
        self._stream = ""
        self.ask_step()

    @on(Rails.Opened)
    def _opened(self) -> None:
        self.detail_pane.add_class("-front")
        self.next_pane(1)

    @on(Pane.TabChosen)
    def _tab_chosen(self) -> None:
        self.redraw_detail()
        pane = self.detail_pane
        if pane.has_focus_within:
            {"Log": self.log_pane.log_view, "Metrics": self.numbers}.get(pane.tab, self.document).focus()

    def focus_list(self) -> None:
        self.rails.focus()

    focus_first = focus_list

    def filter_changed(self, wanted: Filter) -> None:
        self.redraw_list()

    def run_changed(self, before: RunShot | None, shot: RunShot) -> None:
        """A run that starts takes the plan's place."""
        if before is None or before.run.id != shot.run.id:
            self.planning = False
            self.table = None
        self.redraw()

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not super().check_action(action, parameters):
            return False
        shot = self.tui.shot
        if action == "cancel":
            return shot is not None and shot.run.state not in FINAL
        if action == "again":
            return shot is not None and (shot.interrupted or (shot.run.state in FINAL and shot.run.state not in GOOD))
        return True

    def action_filter(self) -> None:
        self.filter.open()

    def action_back(self) -> None:
        if self.filter.has_class("-open"):
            self.filter.clear()
            self.focus_list()
        elif self.detail_pane.has_focus_within:
            self.focus_list()
        elif self.planning:
            self.planning, self.table = False, None
            self.redraw()
        elif self.tui.pinned is not None:
            self.tui.pin_run(None)
        else:
            self.focus_list()

    def action_plan(self) -> None:
        if self.planning:
            self.action_back()
        else:
            self.plan(show=True)

    def plan(self, *, show: bool = False, options: SubmitOptions | None = None) -> None:
        """Ask what the next run would do. `show`: the list turns to it."""
        defined = self._defined()
        if defined is None:
            self.tui.load_definitions()
            self.tui.tell("there is no sound definition to plan; see the pane below", bad=True)
            return
        self.wanted_plan = True
        if show:
            self.planning = self.planned is not None
            self.steps_pane.bar.title = "looking at what would run ..."
        base = options or form.options_for(defined[0])
        self.tui.log_command(("plan", *form.run_words(defined[0], base)[1:-1]))

        def ask(engine: Any) -> PlanShot:
            spec = engine.pipeline(defined[0].name)
            return questions.plan(spec, engine.graph(spec), base)(engine)

        self.tui.bridge.work("plan", ask, lambda found: self._got_plan(found, show=show))

    def _got_plan(self, found: PlanShot | Trouble, *, show: bool) -> None:
        self.wanted_plan = False
        trouble = found if isinstance(found, Trouble) else found.trouble
        if trouble is not None:
            self.tui.tell(trouble.what, bad=True)
            self.detail_pane.open_tab("Why")
            self.document.show(details.trouble_lines(trouble))
            self.redraw_list()
            self.document.show(details.trouble_lines(trouble))
            return
        assert isinstance(found, PlanShot)
        self.planned = found
        self.planning = self.planning or show
        self.table = None
        for text in found.warnings[:2]:
            self.tui.tell(text)
        self.redraw()

    def action_run(self) -> None:
        defined = self._defined()
        if defined is None:
            self.plan()
            return
        base = form.options_for(defined[0])
        self._open_form(defined, base, "")

    def _open_form(self, defined: tuple[PipelineSpec, Graph], base: SubmitOptions, what: str) -> None:
        shot = self.tui.shot
        given = dict(base.parameters)
        if not given and shot is not None and shot.run.pipeline == defined[0].name and self.tui.pinned is not None:
            given = dict(shot.run.parameters)
        self.app.push_screen(RunForm(defined[0], defined[1], base, given, what), self._start)

    def _start(self, options: SubmitOptions | None) -> None:
        defined = self._defined()
        if options is None or defined is None:
            return
        self.tui.log_command(form.run_words(defined[0], options))
        self.tui.tell(f"starting {defined[0].name} ...")
        say = self.tui.teller()
        self.tui.bridge.work("submit", questions.submit(defined[0].name, options, say), self._started)

    def _started(self, found: RunRecord | Trouble) -> None:
        if isinstance(found, Trouble):
            self.tui.trouble(found)
            return
        self.planning, self.planned, self.table = False, None, None
        self.tui.pin_run(None)
        self.tui.tell(f"run {found.number}: nothing had to run" if found.state is State.REUSED else f"run {found.number} started")

    def action_watch(self) -> None:
        self.tui.switch_watch()

    def action_force(self) -> None:
        defined, name = self._defined(), self.selected
        if defined is None:
            return
        choices = (
            [("s", f"run {name} again, everything else as needed"), ("b", f"run {name} and everything below it")] if name else []
        )
        choices += [("o", f"run {name} alone, on its last inputs")] if name else []
        choices.append(("e", "run everything again, reusing nothing"))

        def chosen(key: str | None) -> None:
            base = form.options_for(defined[0])
            from dataclasses import replace

            made = {
                "s": replace(base, force_steps=(name or "",)), "b": replace(base, from_steps=(name or "",)),
                "o": replace(base, only_steps=(name or "",)), "e": replace(base, force=True),
            }  # fmt: skip
            if key is not None:
                self._open_form(
                    defined,
                    made[key],
                    {"s": f": {name} again", "b": f": from {name} on", "o": f": only {name}", "e": ": all of it again"}[key],
                )

        self.app.push_screen(Choice("Run although nothing changed", [Line.of("What should run?")], choices), chosen)

    def action_cancel(self) -> None:
        shot = self.tui.shot
        if shot is None or shot.run.state in FINAL:
            return
        elapsed = words.since(shot.run.started_at or shot.run.created_at, self.tui.now()) or 0.0
        if elapsed < _ASKS_ABOVE_SECONDS and not shot.interrupted:
            self.tui.cancel_run(shot.run)
            return
        going = [step.name for step in shot.steps if step.state is State.RUNNING]
        lines = [
            Line.of(f"Run {shot.run.number} has been going on for {words.clock(elapsed)}."),
            Line.of(("running: ", "muted"), ", ".join(going) or "nothing"),
            Line.of(("Finished steps keep their results.", "muted")),
        ]
        self.app.push_screen(
            Choice("Cancel?", lines, [("c", "cancel it"), ("l", "leave it alone")]),
            lambda key: self.tui.cancel_run(shot.run) if key == "c" else None,
        )

    def action_again(self) -> None:
        if self.tui.shot is not None:
            self.tui.resume_run(self.tui.shot.run, self._started)

    def action_accept(self) -> None:
        name = self.selected
        answer = self._why(name, self.step_shot, self.tui.now()) if name is not None else None
        if name is None or answer is None or not answer.acceptable or not self.planning:
            self.tui.tell("accept is for a step that a plan (p) would run because only code or environment changed", bad=True)
            return
        lines = [
            Line.of(f"The earlier result of {name} stays, for exactly this change."),
            Line.of(("Why does the change not matter? `why` will show it.", "muted")),
        ]

        def given(because: str | None) -> None:
            if because:
                pipeline = self.spec.name if self.spec is not None else None
                self.tui.log_command(("accept", name, "--because", because))
                self.tui.bridge.work("accept", lambda engine: engine.accept(name, None, because, pipeline), accepted)

        def accepted(found: Acceptance | Trouble) -> None:
            if isinstance(found, Trouble):
                self.tui.trouble(found)
                return
            self.tui.tell(
                f"kept the result of run {found.run_number} for {name}; mlpipe-tui accept --revoke {found.id} takes it back"
            )
            self.plan(show=True)

        check = lambda text: "" if text.strip() else "a reason is needed: it is shown wherever the result is reused"
        self.app.push_screen(Ask(f"Accept {name}", lines, check=check), given)

    def action_pick(self) -> None:
        found = self.tui.definitions
        if found is None or not found.pipelines:
            return
        choices = [(spec.name, f"{words.count(len(spec.steps), 'step')}  {spec.description}") for spec in found.pipelines]
        self.app.push_screen(
            Pick("Pipeline", choices, self.spec.name if self.spec else ""),
            lambda name: self.tui.choose_pipeline(name) if name else None,
        )

    def action_stream_choice(self) -> None:
        if self.step_shot is not None:
            self._stream = "stdout" if self._log_path(self.step_shot)[1] == "stderr" else "stderr"
            self.detail_pane.open_tab("Log")
            self.redraw_detail()

    def action_edit(self) -> None:
        found = self.tui.definitions
        if found is not None and found.trouble is not None and found.trouble.where:
            self.tui.edit(found.trouble.where)
            return
        shot, name = self.step_shot, self.selected
        step = self._step_spec(name)
        if shot is not None and shot.fault is not None and not self.planning:
            self.tui.edit(str(shot.fault))
        elif step is not None and step.script and step.source_directory is not None:
            self.tui.edit(os.path.join(self.tui.root, step.source_directory, step.script))
        elif step is not None and step.where:
            self.tui.edit(step.where)

    def action_shell(self) -> None:
        name, shot = self.selected, self.tui.shot
        if name is None:
            return
        record = next((step for step in shot.steps if step.name == name), None) if shot is not None else None
        run = (
            [str(shot.run.number)] if shot is not None and record is not None and record.decision in ("execute", "reuse") else []
        )
        pipeline = ["--pipeline", self.spec.name] if self.spec is not None and not run else []
        self.tui.leave_to(("debug", name, *run, *pipeline))

    def action_stream(self) -> None:
        shot = self.tui.shot
        if shot is None:
            return
        if shot.going_on:
            self.tui.leave_to(("attach", str(shot.run.number)))
        elif self.selected is not None:
            self.tui.leave_to(("logs", str(shot.run.number), self.selected), wait=True)

    def copied(self) -> Copy | None:
        """What `y` on the list copies."""
        line = next((line for line in self.table.lines if line.name == self.selected), None) if self.table is not None else None
        return Copy("\t".join((line.name, line.word, line.why, line.time)), f"row {line.name}") if line is not None else None
