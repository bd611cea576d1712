"""The Compare screen: fields down, runs across, only what differs; curves, code and a reading below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model.records import RunRecord
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from mlpipe_tui.clean import one_line
from mlpipe_tui.screens.base import View
from mlpipe_tui.screens.dialogs import Pick
from mlpipe_tui.viewmodels import compare, details, words
from mlpipe_tui.viewmodels.compare import ComparisonShot, Field, Side
from mlpipe_tui.viewmodels.rich_lines import Line, Tone
from mlpipe_tui.viewmodels.shots import RunShot, Trouble
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.document import Document
from mlpipe_tui.widgets.frame import Pane
from mlpipe_tui.widgets.plots import Plot
from mlpipe_tui.widgets.rows import Column, Row, RowList

TABS = ("Curves", "Reading", "Code diff")
MOST_RUNS = 6
_PATCH_LINES = 4000


def comparison(run_ids: Sequence[str]) -> Callable[[Engine], ComparisonShot]:
    """Of these runs, the first the baseline; (): of the last two runs of the newest run's pipeline."""

    def ask(engine: Engine) -> ComparisonShot:
        records: list[RunRecord] = []
        gone: list[str] = []
        for run_id in run_ids:
            try:
                found = engine.find_run(run_id)
            except MlpipeError:
                gone.append(run_id[:8])
                continue
            records += engine.sweep_runs(found.id)[:MOST_RUNS] if found.kind == "sweep" else [found]
        if not run_ids:
            newest = [run for run in engine.runs(limit=50) if run.kind == "run"]
            records = [run for run in newest if run.pipeline == newest[0].pipeline][:2][::-1] if newest else []
        sides: list[Side] = []
        for run in records[:MOST_RUNS]:
            diff = engine.diff(sides[0].run.id, run.id) if sides else None
            steps, metrics = engine.steps(run.id), engine.metrics(run.id)
            sides.append(Side(run=run, interrupted=engine.is_interrupted(run), steps=steps, metrics=metrics, diff=diff))
        return ComparisonShot(sides=tuple(sides), given_up=tuple(gone))

    return ask


def patch_lines(side: Side) -> Callable[[Engine], list[Line]]:
    """The unified diff of every file whose content differs from the baseline's."""

    def ask(engine: Engine) -> list[Line]:
        lines: list[Line] = []
        for change in side.diff.code if side.diff is not None else ():
            found: Sequence[str] = ()
            with suppress(MlpipeError, OSError):
                found = engine.patch(change)
            if not found:
                lines.append(Line.of((str(change.cause), "strong")))
            for text in found:
                tone: Tone = (
                    "good"
                    if text.startswith("+")
                    else "bad"
                    if text.startswith("-")
                    else "accent"
                    if text.startswith("@@")
                    else ""
                )
                lines.append(Line.of((text, tone)))
                if len(lines) >= _PATCH_LINES:
                    return [*lines, Line.of((f"more than {_PATCH_LINES:,} lines: mlpipe-tui diff --patch shows all", "warning"))]
        return lines

    return ask


class CompareView(View):
    """`shot` is what is shown; `run_ids` what is asked for, the baseline first."""

    NAME = "Compare"
    HELP = (
        "Runs side by side, the first is the baseline. Left and right choose a run, b makes it the baseline, + adds one, - takes it out.\n"
        "Only differences are shown; a shows all. m, or a row of metrics, chooses the curves. y copies the table as Markdown."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "side(-1)", "Run left", show=False),
        Binding("right", "side(1)", "Run right", show=False),
        Binding("a", "everything", "All", id="compare.all", tooltip="Also what is equal; once more hides it"),
        Binding("b", "baseline", "Baseline", id="compare.baseline", tooltip="Compare the others with the chosen run"),
        Binding("m", "metric", "Metric", id="compare.metric"),
        Binding(
            "d", "code", "Code diff", id="compare.code", tooltip="What changed in the code of the chosen run against the baseline"
        ),
        Binding("plus", "add", "Add", id="compare.add"),
        Binding("minus", "remove", "Remove", id="compare.remove"),
        Binding("escape", "back", "Back", show=False, id="compare.back"),
    ]
    DEFAULT_CSS = """
    CompareView #fields { height: 3fr; }
    CompareView #below { height: 2fr; }
    CompareView.-wide #fields { width: 3fr; height: 1fr; }
    CompareView.-wide #below { width: 2fr; height: 1fr; }
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.run_ids: tuple[str, ...] = ()
        self.shot: ComparisonShot | None = None
        self.everything = False
        self.side = 1
        """Index of the chosen run."""
        self.metric: tuple[str, str] | None = None
        self._fields: tuple[Field, ...] = ()
        self._patch_of: tuple[str, str] = ("", "")

    def compose(self) -> ComposeResult:
        self.list = RowList(())
        self.plot = Plot(self.tui.glyphs)
        self.document = Document()
        yield Pane(self.list, title="Compare", id="fields")
        yield Pane(self.plot, self.document, tabs=TABS, id="below")

    # What is shown

    def wake(self) -> None:
        self.ask()

    def run_changed(self, before: RunShot | None, shot: RunShot) -> None:
        if self.shot is None or any(side.run.id == shot.run.id for side in self.shot.sides) or len(self.shot.sides) < 2:
            self.ask()

    def show_runs(self, runs: Sequence[RunRecord]) -> None:
        """Compare these, the first with all others."""
        self.run_ids = tuple(run.id for run in runs)[:MOST_RUNS]
        self.side = 1
        self.ask()

    def ask(self) -> None:
        self.tui.bridge.work("compare", comparison(self.run_ids), self._got)

    def _got(self, found: ComparisonShot | Trouble) -> None:
        if isinstance(found, Trouble):
            self.list.set_rows([], empty=[line.plain for line in details.trouble_lines(found)])
            return
        self.shot = found
        if not self.run_ids and len(found.sides) >= 2:
            self.run_ids = tuple(side.run.id for side in found.sides)
        self.side = max(0, min(self.side, len(found.sides) - 1))
        if self.metric not in compare.metrics_of(found):
            self.metric = next(iter(compare.metrics_of(found)), None)
        self.redraw()
        self.tui.refresh_bindings()

    def redraw(self) -> None:
        shot = self.shot
        if shot is None:
            return
        glyphs = self.tui.glyphs
        pane = self.query_one("#fields", Pane)
        if len(shot.sides) < 2:
            self._fields = ()
            pane.bar.title = "Compare"
            empty = ["No run yet: r on the Pipeline screen starts one." if not shot.sides else "One run so far; a comparison takes two.",
                     "Space on the Runs screen marks runs, c compares them."]  # fmt: skip
            self.list.set_rows([], empty=[*empty, *(f"Run {gone} is gone." for gone in shot.given_up)])
            self.plot.show([], empty="")
            self.document.show([])
            self._show_body()
            return
        self._fields = tuple(compare.fields(shot, glyphs, everything=self.everything))
        marks = [
            f"{glyphs.cursor if at == self.side else ' '}{compare.title(side, glyphs, base=at == 0)}"
            for at, side in enumerate(shot.sides)
        ]
        self.list.set_columns([Column(title="", most=34), *(Column(title=mark, share=1) for mark in marks)])
        rows: list[Row] = []
        section = ""
        for field in self._fields:
            if field.section != section:
                section = field.section
                rows.append(Row(f"{section}:", ((section, "strong"), *("" for _ in shot.sides))))
            muted = not field.differs and field.key.endswith("/")
            name = (f"  {field.name}", "muted" if muted else "")
            key = field.key if all(row.key != field.key for row in rows) else f"{field.key}#{len(rows)}"
            rows.append(Row(key, (name, *(cell or "" for cell in field.cells))))  # type: ignore[arg-type]
        same = "Nothing that decides a result differs, and no result does."
        self.list.set_rows(rows, empty=[same])
        what = "all fields" if self.everything else "only differences"
        pane.bar.title = f"Compare {words.count(len(shot.sides), 'run')} · {what} · baseline {shot.sides[0].run.number}"
        self.redraw_below()

    def redraw_below(self) -> None:
        shot = self.shot
        if shot is None or len(shot.sides) < 2:
            return
        pane = self.query_one("#below", Pane)
        self._show_body()
        match pane.tab:
            case "Curves":
                if self.metric is None:
                    pane.bar.title = "no metric"
                    self.plot.show([], empty="These runs logged no number. run.log('auc', x) in a step's script adds one.")
                else:
                    step, name = self.metric
                    pane.bar.title = one_line(f"{step}.{name} by step" if step else f"{name} by step", limit=50)
                    self.plot.show(compare.curves(shot, step, name))
            case "Reading":
                pane.bar.title = "in words"
                self.document.show(compare.reading(shot))
            case _:
                self._show_patch(pane, shot)

    def _show_body(self) -> None:
        curves = self.query_one("#below", Pane).tab == "Curves"
        self.plot.display, self.document.display = curves, not curves

    def _show_patch(self, pane: Pane, shot: ComparisonShot) -> None:
        side = shot.sides[self.side] if self.side else shot.sides[1]
        pane.bar.title = f"{shot.sides[0].run.number} {self.tui.glyphs.arrow} {side.run.number}"
        wanted = (shot.sides[0].run.id, side.run.id)
        if wanted != self._patch_of:
            self._patch_of = wanted
            self.document.show([Line.of(("reading ...", "muted"))])
            self.tui.bridge.work("patch", patch_lines(side), self._got_patch)

    def _got_patch(self, found: list[Line] | Trouble) -> None:
        self._patch_of = ("", "") if isinstance(found, Trouble) else self._patch_of
        if self.query_one("#below", Pane).tab == "Code diff":
            lines = details.trouble_lines(found) if isinstance(found, Trouble) else found
            self.document.show(lines or [Line.of(("The code is the same.", "muted"))])

    # Messages

    @on(Pane.TabChosen)
    def _tab_chosen(self) -> None:
        self._patch_of = ("", "")
        self.redraw_below()

    @on(RowList.Highlighted)
    def _highlighted(self) -> None:
        key = self.list.key or ""
        for metric in compare.metrics_of(self.shot) if self.shot is not None and key.startswith("metrics/") else ():
            if key.partition("#")[0] == f"metrics/{metric[0]}/{metric[1]}" and metric != self.metric:
                self.metric = metric
                self.redraw_below()

    @on(RowList.HeadClicked)
    def _head_clicked(self, message: RowList.HeadClicked) -> None:
        titles = [column.title for column in self.list.columns]
        if message.title in titles[1:]:
            self._choose(titles.index(message.title) - 1)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not super().check_action(action, parameters):
            return False
        count = len(self.shot.sides) if self.shot is not None else 0
        if action in ("everything", "code", "side"):
            return count >= 2
        if action == "remove":
            return count > 2
        if action == "baseline":
            return count >= 2 and self.side > 0
        if action == "metric":
            return self.shot is not None and bool(compare.metrics_of(self.shot))
        return True

    def _choose(self, side: int) -> None:
        if self.shot is not None:
            self.side = max(0, min(side, len(self.shot.sides) - 1))
            self.redraw()
            self.tui.refresh_bindings()

    def action_side(self, step: int) -> None:
        self._choose(self.side + step)

    def action_everything(self) -> None:
        self.everything = not self.everything
        self.redraw()

    def action_baseline(self) -> None:
        ids = list(self.run_ids)
        if self.shot is not None and 0 < self.side < len(ids):
            ids.insert(0, ids.pop(self.side))
            self.run_ids, self.side = tuple(ids), 1
            self.ask()

    def action_remove(self) -> None:
        if len(self.run_ids) > 2:
            self.run_ids = tuple(run for at, run in enumerate(self.run_ids) if at != self.side)
            self.ask()

    def action_add(self) -> None:
        if len(self.run_ids) >= MOST_RUNS:
            self.tui.tell(f"{MOST_RUNS} runs side by side are as many as fit; - takes one out")
            return
        self.tui.bridge.look("addable", lambda engine: engine.runs(limit=200), self._offer)

    def _offer(self, found: Any) -> None:
        if isinstance(found, Trouble):
            self.tui.trouble(found)
            return
        now = self.tui.now()
        free = [run for run in found if run.id not in self.run_ids and run.kind == "run"]
        if not free:
            self.tui.tell("there is no other run")
            return

        def chosen(name: str | None) -> None:
            run = next((run for run in free if str(run.number) == name), None)
            if run is not None:
                self.run_ids = (*self.run_ids, run.id)
                self.side = len(self.run_ids) - 1
                self.ask()

        about = [(str(run.number), f"{run.state}  {words.when(run.created_at, now)}  {run.pipeline}") for run in free]
        self.app.push_screen(Pick("Add a run", about), chosen)

    def action_metric(self) -> None:
        if self.shot is None:
            return
        names = {f"{step}.{name}" if step else name: (step, name) for step, name in compare.metrics_of(self.shot)}

        def chosen(name: str | None) -> None:
            if name in names:
                self.metric = names[name]
                self.query_one("#below", Pane).open_tab("Curves")
                self.redraw_below()

        now = next((name for name, key in names.items() if key == self.metric), "")
        self.app.push_screen(Pick("Metric of the curves", [(name, "") for name in names], now), chosen)

    def action_code(self) -> None:
        self.query_one("#below", Pane).open_tab("Code diff")
        self.redraw_below()
        if self.shot is not None and len(self.shot.sides) > 1:
            base, other = self.shot.sides[0].run.number, self.shot.sides[self.side or 1].run.number
            self.tui.log_command(("diff", str(base), str(other), "--patch"))

    async def action_back(self) -> None:
        await self.tui.open_screen("Runs")

    def focus_first(self) -> None:
        self.list.focus()

    def focus_list(self) -> None:
        self.list.focus()

    def copied(self) -> Copy | None:
        if self.shot is None or not self._fields:
            return None
        return Copy(compare.markdown(self.shot, self._fields, self.tui.glyphs), "the comparison")
