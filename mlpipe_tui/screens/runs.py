"""The Runs screen: every run of the project, a page at a time, with a filter, marks, a baseline and what differs from it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, ClassVar

from mlpipe_engine.model.filters import Filter
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import FINAL, GOOD
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from mlpipe_tui import questions
from mlpipe_tui.clean import one_line
from mlpipe_tui.screens.base import FilterLine, View
from mlpipe_tui.screens.dialogs import Choice, Pick
from mlpipe_tui.viewmodels import details, runs, words
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import RunDetail, RunLine, RunShot, RunsPage, Trouble
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.document import Document
from mlpipe_tui.widgets.frame import Pane
from mlpipe_tui.widgets.rows import Column, Row, RowList

TABS = ("Summary", "Changes", "Metrics", "Params")
PAGE = 100


class RunsView(View):
    """`page` is what is shown; it grows by `PAGE` runs when the cursor comes near its end."""

    NAME = "Runs"
    HELP = (
        "All runs, newest first. Enter shows a run on the Pipeline screen. Space marks runs, c compares the marked ones.\n"
        "/ filters: state:failed step:train metric.auc>0.9 param.lr=0.1 since:2d !word, as `mlpipe-tui runs --filter` does."
    )
    CHANGING = frozenset({"remove", "again", "cancel", "pin", "export"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="runs.mark"),
        Binding("c", "compare", "Compare", id="runs.compare", tooltip="The marked runs side by side"),
        Binding(
            "b", "baseline", "Baseline", id="runs.baseline", tooltip="What other runs are compared with; once more takes it back"
        ),
        Binding("m", "metric", "Metric", show=False, id="runs.metric", tooltip="Which metric the list shows"),
        Binding(
            "R",
            "again",
            "Retry",
            show=False,
            id="runs.again",
            tooltip="Go on with a run that failed, was canceled or interrupted",
        ),
        Binding("x", "cancel", "Cancel", show=False, id="runs.cancel"),
        Binding("D", "remove", "Delete", show=False, id="runs.remove", tooltip="Into the trash, for a day"),
        Binding("e", "export", "Export", show=False, id="runs.export", tooltip="The run as one file, in the project's folder"),
        Binding("K", "pin", "Keep", show=False, id="runs.pin", tooltip="Never let gc take it"),
        Binding("T", "stream", "Stream", show=False, id="runs.stream", tooltip="Leave to the plain output of this run"),
        Binding("slash", "filter", "Filter", id="runs.filter"),
        Binding("escape", "back", "Back", show=False, id="runs.back"),
    ]
    DEFAULT_CSS = """
    RunsView #list { height: 3fr; }
    RunsView #run { height: 2fr; }
    RunsView.-wide #list { width: 3fr; height: 1fr; }
    RunsView.-wide #run { width: 2fr; height: 1fr; }
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.page: RunsPage | None = None
        self.detail: RunDetail | None = None
        self.marked: set[str] = set()
        self.metric = ""
        self._limit = PAGE
        self._asked: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        self.list = RowList(self._columns(""))
        self.filter = FilterLine()
        self.document = Document()
        self.list_pane = Pane(self.list, title="Runs", id="list")
        self.run_pane = Pane(self.document, tabs=TABS, id="run")
        yield self.list_pane
        yield self.run_pane

    def on_mount(self) -> None:
        super().on_mount()
        pane = self.list_pane
        pane.mount(self.filter, after=pane.bar)

    def _columns(self, metric: str) -> tuple[Column, ...]:
        changed = "Changed vs baseline" if self._baseline() is not None else "Parameters"
        return (
            Column(title="", width=1),
            Column(title="Run", right=True),
            Column(title="State", width=13),
            Column(title="Started", width=12),
            Column(title="Time", width=8, right=True),
            Column(title="By", width=6, from_width=110),
            Column(title="Reused", width=7, right=True, from_width=70),
            Column(title=changed, share=1),
            Column(title=one_line(metric or "metric", limit=12), width=9, right=True, from_width=60),
            Column(title="Trend", width=8, from_width=80),
        )

    def _baseline(self) -> RunRecord | None:
        return self.tui.baseline if self.is_attached else None

    # What is shown

    def wake(self) -> None:
        self.ask()

    def pulse(self) -> None:
        if self.page is not None and any(line.run.state not in FINAL for line in self.page.lines[:20]):
            self.redraw()

    def run_changed(self, before: RunShot | None, shot: RunShot) -> None:
        self.ask()

    def ask(self) -> None:
        self.tui.bridge.look("runs", questions.runs(self._limit, self.filter.wanted, self.metric), self._got)

    def _got(self, found: RunsPage | Trouble) -> None:
        if isinstance(found, Trouble):
            self.document.show(details.trouble_lines(found))
            return
        if found.wanted != self.filter.wanted:
            return
        self.page = found
        self.redraw()
        self._ask_detail()

    def redraw(self) -> None:
        page = self.page
        if page is None:
            return
        glyphs, now, baseline = self.tui.glyphs, self.tui.now(), self.tui.baseline
        self.list.set_columns(self._columns(page.metric))
        rows = []
        for line in page.lines:
            row = runs.row(line, baseline, glyphs, now, marked=line.run.id in self.marked)
            rows.append(Row(line.run.id, (
                (row.mark, "accent"), row.number, (f"{row.sign} {row.word}", row.tone), row.started, row.time, (row.by, "muted"), row.reused,
                (row.changed, "muted"), row.metric, (row.trend, "primary"),
            )))  # fmt: skip
        self.list.set_rows(rows, empty=runs.nothing(page))
        self.list_pane.bar.title = one_line(runs.title(page, len(self.marked)))
        if not rows:
            self.document.show([])

    @property
    def line(self) -> RunLine | None:
        return next((line for line in self.page.lines if line.run.id == self.list.key), None) if self.page is not None else None

    def _ask_detail(self) -> None:
        line = self.line
        if line is not None:
            self.tui.bridge.look("run", questions.run_detail(line), self._got_detail)

    def _got_detail(self, found: RunDetail | Trouble) -> None:
        if isinstance(found, Trouble):
            self.document.show(details.trouble_lines(found))
        elif self.list.key == found.line.run.id:
            self.detail = found
            self.redraw_detail()

    def redraw_detail(self) -> None:
        pane, detail = self.run_pane, self.detail
        if detail is None:
            return
        glyphs = self.tui.glyphs
        pane.bar.title = f"run {detail.line.run.number}"
        match pane.tab:
            case "Summary":
                self.document.show(details.run_lines(detail, self.tui.now()))
            case "Metrics":
                found = details.series(detail.metrics)
                named = tuple(replace(item, name=f"{item.step}.{item.name}" if item.step else item.name) for item in found)
                lines = details.metric_lines(named, self.run_pane.bar.title, glyphs, width=self.document.size.width)
                self.document.show(lines, copied="" if found else details.HOW_TO_LOG)
            case "Params":
                values = dict(detail.line.run.parameters)
                rows = [Line.of(f"  {name:<20} ", (words.value(value), "strong")) for name, value in values.items()]
                self.document.show(rows or [Line.of(("The run had no parameters.", "muted"))])
            case _:
                self._show_changes(detail)

    def _show_changes(self, detail: RunDetail) -> None:
        baseline = self.tui.baseline
        asked = (detail.line.run.id, baseline.id if baseline is not None else "")
        if detail.baseline is not None or baseline is None or detail.trouble is not None:
            self.document.show(details.changes_lines(detail, self.tui.glyphs))
            return
        self.document.show([Line.of(("comparing ...", "muted"))])
        if asked != self._asked:
            self._asked = asked
            self.tui.bridge.work("changes", questions.run_changes(detail, baseline), self._got_changes)

    def _got_changes(self, found: RunDetail | Trouble) -> None:
        self._asked = ()
        if isinstance(found, Trouble):
            self.document.show(details.trouble_lines(found))
        elif self.list.key == found.line.run.id:
            self.detail = found
            self.redraw_detail()

    # Messages

    @on(RowList.Highlighted)
    def _highlighted(self) -> None:
        self._ask_detail()

    @on(RowList.NearEnd)
    def _near_end(self) -> None:
        if self.page is not None and len(self.page.lines) >= self._limit and self.page.total > self._limit:
            self._limit += PAGE
            self.ask()

    @on(RowList.Chosen)
    async def _chosen(self) -> None:
        line = self.line
        if line is not None and line.run.kind == "run":
            self.tui.pin_run(line.run)
            await self.tui.open_screen("Pipeline")

    @on(Pane.TabChosen)
    def _tab_chosen(self) -> None:
        self.redraw_detail()

    def focus_list(self) -> None:
        self.list.focus()

    focus_first = focus_list

    def filter_changed(self, wanted: Filter) -> None:
        self._limit = PAGE
        self.ask()

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not super().check_action(action, parameters):
            return False
        if action == "compare":
            return len(self.marked) >= 2 or self.tui.baseline is not None
        line = self.line if self.is_attached and self.page is not None else None
        if action == "cancel":
            return line is not None and line.run.state not in FINAL
        if action == "again":
            return line is not None and (line.interrupted or (line.run.state in FINAL and line.run.state not in GOOD))
        return True

    def action_filter(self) -> None:
        self.filter.open()

    def action_back(self) -> None:
        if self.filter.has_class("-open") or self.filter.wanted:
            self.filter.clear()
        elif self.marked:
            self.marked.clear()
            self.redraw()
        self.focus_list()

    def action_mark(self) -> None:
        if self.list.key is not None:
            self.marked ^= {self.list.key}
            self.list.action_move(1)
            self.redraw()
            self.tui.refresh_bindings()

    def action_baseline(self) -> None:
        line = self.line
        if line is not None:
            same = self.tui.baseline is not None and self.tui.baseline.id == line.run.id
            self.tui.baseline = None if same else line.run
            self._asked = ()
            self.redraw()
            self._ask_detail()
            self.tui.refresh_bindings()

    def chosen_runs(self) -> tuple[RunRecord, ...]:
        """The baseline first, then what is marked, else what is under the cursor."""
        base = self.tui.baseline
        marked = [line.run for line in (self.page.lines if self.page is not None else ()) if line.run.id in self.marked]
        marked = marked or [line.run for line in (self.line,) if line is not None]
        return tuple(([base] if base is not None else []) + [run for run in marked if base is None or run.id != base.id])

    async def action_compare(self) -> None:
        found = self.chosen_runs()
        self.tui.log_command(("compare", *(str(run.number) for run in found)))
        await self.tui.compare(found)

    def action_metric(self) -> None:
        names: list[str] = []
        if self.detail is not None:
            names = list(dict.fromkeys(item.name for item in details.series(self.detail.metrics) if item.values))
        if not names:
            self.tui.tell("this run logged no number")
            return

        def chosen(name: str | None) -> None:
            if name is not None:
                self.metric = name
                self.ask()

        self.app.push_screen(Pick("Metric of the list", [(name, "") for name in names], self.metric), chosen)

    def action_cancel(self) -> None:
        line = self.line
        if line is not None:
            self.app.push_screen(
                Choice(
                    f"Cancel run {line.run.number}?",
                    [Line.of("Finished steps keep their results.")],
                    [("c", "cancel it"), ("l", "leave it alone")],
                ),
                lambda key: self.tui.cancel_run(line.run) if key == "c" else None,
            )

    def action_again(self) -> None:
        line = self.line
        if line is not None:
            self.tui.resume_run(line.run, self._started)

    def _started(self, found: RunRecord | Trouble) -> None:
        if isinstance(found, Trouble):
            self.tui.trouble(found)
        else:
            self.tui.tell(f"run {found.number} goes on")
            self.ask()

    def action_remove(self) -> None:
        chosen = [line.run for line in (self.page.lines if self.page is not None else ()) if line.run.id in self.marked]
        chosen = chosen or [line.run for line in (self.line,) if line is not None]
        if not chosen:
            return
        names = ", ".join(str(run.number) for run in chosen[:10]) + (f" and {len(chosen) - 10} more" if len(chosen) > 10 else "")
        lines = [Line.of(f"Move {words.count(len(chosen), 'run')} into the trash: {names}."),
                 Line.of(("They lie there for a day: `mlpipe-tui gc --undo` brings them back.", "muted"))]  # fmt: skip

        def answered(key: str | None) -> None:
            if key == "t":
                self.tui.log_command(("rm", *(str(run.number) for run in chosen)))
                self.tui.bridge.work("rm", lambda engine: engine.remove_runs(tuple(chosen)), self._removed)

        self.app.push_screen(Choice("Delete", lines, [("t", "into the trash"), ("l", "leave them")]), answered)

    def _removed(self, found: object) -> None:
        if isinstance(found, Trouble):
            self.tui.trouble(found)
        else:
            self.marked.clear()
            self.tui.tell("moved into the trash; mlpipe-tui gc --undo brings it back within a day")
        self.ask()

    def action_export(self) -> None:
        line = self.line
        if line is not None:
            path = os.path.join(self.tui.root, f"{line.run.pipeline}-{line.run.number}.zip".replace(os.sep, "_"))
            self.tui.log_command(("export", str(line.run.number), "-o", path))
            self.tui.bridge.work("export", lambda engine: engine.export(line.run.id, path), self._exported)

    def _exported(self, found: Any) -> None:
        if isinstance(found, Trouble):
            self.tui.trouble(found)
        else:
            self.tui.tell(f"wrote {found.path}: {words.size(found.size_bytes)}")

    def action_pin(self) -> None:
        line = self.line
        if line is not None:
            self.tui.log_command(("pin", str(line.run.number)))
            self.tui.bridge.work("pin", lambda engine: engine.pin(str(line.run.number)), self._pinned)

    def _pinned(self, found: Any) -> None:
        if isinstance(found, Trouble):
            self.tui.trouble(found)
        else:
            self.tui.tell(f"run {found[0].run} is kept for ever; mlpipe-tui unpin {found[0].run} takes it back")

    def action_stream(self) -> None:
        line = self.line
        if line is not None:
            live = line.run.state not in FINAL and not line.interrupted
            self.tui.leave_to(("attach" if live else "show", str(line.run.number)), wait=not live)

    def copied(self) -> Copy | None:
        row = self.list.row
        return Copy(self.list.text_of(row), "one row") if row is not None else None
