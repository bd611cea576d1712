"""The Data screen: sources and outputs at the left, rows of the chosen one, SQL over all of them, what columns hold and what changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from mlpipe_engine.errors import MlpipeError
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, TextArea

from mlpipe_tui.clean import one_line
from mlpipe_tui.screens.base import View
from mlpipe_tui.shelf import difference, facts, moved, rows_of, shelf
from mlpipe_tui.tables import Table, TableProblem, query
from mlpipe_tui.viewmodels import data, details, words
from mlpipe_tui.viewmodels.data import Item, ShelfShot
from mlpipe_tui.viewmodels.rich_lines import Line
from mlpipe_tui.viewmodels.shots import RunShot, Trouble
from mlpipe_tui.widgets.copying import Copy
from mlpipe_tui.widgets.document import Document
from mlpipe_tui.widgets.frame import Pane
from mlpipe_tui.widgets.paged_table import PagedTable
from mlpipe_tui.widgets.rows import Column, Row, RowList

TABS = ("Profile", "Schema", "Row", "Diff", "Lineage")


class SqlBox(TextArea):
    """Where one types SQL: Enter runs it, ^J is a new line."""

    DEFAULT_CSS = """
    SqlBox { height: 3; border: none; padding: 0 1; background: $panel; display: none; }
    SqlBox.-open { display: block; }
    """

    class Submitted(Message):
        def __init__(self, sql: str) -> None:
            super().__init__()
            self.sql = sql

    async def _on_key(self, event: events.Key) -> None:
        if event.key in ("enter", "ctrl+j"):
            event.stop()
            event.prevent_default()
            if event.key == "enter":
                self.post_message(self.Submitted(self.text))
            else:
                self.insert("\n")
            return
        await super()._on_key(event)


class DataView(View):
    """`shot` is what there is; `item` the one whose rows are shown. A newer run is told of, and never changes what one looks at."""

    NAME = "Data"
    HELP = (
        "What the pipeline reads and what its steps wrote. Enter shows rows; S asks in SQL over all tables of the list, Esc goes back to the rows.\n"
        "/ keeps rows: plan=fiber tenure>=12 name:ann !word. F looks at all rows of a column; Diff compares with the version before.\n"
        'Datasets are the registered ones; "data moved" means that the files are others now than those the version was registered with.'
    )
    CHANGING = frozenset({"export"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("S", "sql", "SQL", id="data.sql"),
        Binding("slash", "filter", "Filter", id="data.filter"),
        Binding(
            "F",
            "full",
            "Full profile",
            show=False,
            id="data.full",
            tooltip="Look at all rows of the column, not only at the first",
        ),
        Binding(
            "e", "export", "Export", id="data.export", tooltip="The rows as they are shown, into a new CSV, Parquet or JSON file"
        ),
        Binding("L", "step", "To step", show=False, id="data.step", tooltip="The step that wrote it, on the Pipeline screen"),
        Binding("o", "place", "Path", show=False, id="data.path", tooltip="Copy where it lies"),
        Binding("R", "newest", "Newest run", show=False, id="data.newest", tooltip="Show the outputs of the newest run"),
        Binding("escape", "back", "Back", show=False, id="data.back"),
    ]
    DEFAULT_CSS = """
    DataView { layout: vertical; }
    DataView #things { height: 2fr; }
    DataView #right { height: 5fr; }
    DataView #rows { height: 3fr; }
    DataView #about { height: 2fr; }
    DataView.-broad { layout: horizontal; }
    DataView.-broad #things { width: 36; height: 1fr; }
    DataView.-broad #right { width: 1fr; height: 1fr; }
    DataView #line { display: none; height: 1; border: none; padding: 0 1; background: $panel; }
    DataView #line.-open { display: block; }
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.shot: ShelfShot | None = None
        self.item: Item | None = None
        self.newer = 0
        """Number of a run that is newer than the one whose outputs are shown."""
        self._run_id: str | None = None
        self._asked_sql = ""
        self._line_is = ""
        """What the line is open for: "filter" or "export"."""
        self._opened_row: list[Line] = []
        self._diff_of: tuple[str, int] = ("", 0)
        self._diff: list[Line] = []
        self._had_table = False

    def compose(self) -> ComposeResult:
        self.list = RowList((Column(title="Data", share=1, most=60), Column(title="", most=14, right=True)))
        self.table = PagedTable(self.tui.glyphs)
        self.sql = SqlBox(
            show_line_numbers=False,
            compact=True,
            tab_behavior="focus",
            placeholder="SELECT ...   Enter runs it, ^J is a new line, Esc leaves",
        )
        self.line = Input(id="line", compact=True)
        self.document = Document()
        yield Pane(self.list, title="Data", id="things")
        with Vertical(id="right"):
            yield Pane(self.table, title="rows", id="rows")
            yield Pane(self.document, tabs=TABS, id="about")

    def on_mount(self) -> None:
        pane = self.query_one("#rows", Pane)
        pane.mount(self.sql, self.line, after=self.table)

    def place(self) -> None:
        super().place()
        self.set_class(self.app.size.width >= 100 and self.app.size.height >= 20, "-broad")

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._front_box()

    def front(self, chosen: Pane) -> None:
        super().front(chosen)
        self._front_box()

    def _front_box(self) -> None:
        """Where one pane is shown, the box around the two at the right is there only with one of them."""
        alone = self.has_class("-tiny") or self.has_class("-zoomed")
        self.query_one("#right").display = not alone or not self.query_one("#things", Pane).has_class("-front")

    def watch_classes(self) -> None:
        if self.is_mounted:
            self._front_box()

    # What is shown

    @property
    def previews(self) -> str | None:
        """Where converted tables are kept: in the project, where it has a store that can be written."""
        state_dir = self.tui.state_dir
        return os.path.join(state_dir, "previews") if state_dir is not None and os.path.isdir(state_dir) else None

    def wake(self) -> None:
        if self._run_id is None:
            self.ask()
        else:
            self.tui.bridge.look("newest", _newest(self.tui.pipeline_name), self._newer)

    def run_changed(self, before: RunShot | None, shot: RunShot) -> None:
        if self.shot is None or self.shot.run is None or self.shot.run.id == shot.run.id:
            self.ask()
        elif shot.run.number > self.shot.run.number:
            self._newer(shot.run.number)

    def _newer(self, number: int | Trouble) -> None:
        if isinstance(number, int) and self.shot is not None and self.shot.run is not None and number > self.shot.run.number:
            self.newer = number
            self._title()

    def ask(self) -> None:
        self.tui.bridge.work("shelf", shelf(self._run_id, self.tui.pipeline_name or None), self._got)

    def _got(self, found: ShelfShot | Trouble) -> None:
        if isinstance(found, Trouble):
            self.list.set_rows([], empty=[line.plain for line in details.trouble_lines(found)])
            return
        self.shot = found
        self._run_id = found.run.id if found.run is not None else None
        self.newer = self.newer if found.run is not None and self.newer > found.run.number else 0
        self.redraw()
        if found.datasets:
            self.tui.bridge.work("moved", moved([versions[0] for versions in found.datasets.values()]), self._got_moved)
        if self.item is None:
            first = next(
                (item for item in found.items if item.kind and item.step), next((item for item in found.items if item.kind), None)
            )
            if first is not None:
                self.list.go_to(first.key)
                self.choose(first)
            else:
                self.table.open(None, empty="No output is a table yet: r on the Pipeline screen runs the pipeline.")
        else:
            fresh = next((item for item in found.items if item.key == self.item.key), None)
            if fresh is not None and (fresh.path, fresh.version) != (self.item.path, self.item.version):
                self.choose(fresh)

    def _got_moved(self, names: frozenset[str] | Trouble) -> None:
        if isinstance(names, Trouble) or self.shot is None:
            return
        items = tuple(
            replace(item, moved=item.name in names) if item.version and item.moved != (item.name in names) else item
            for item in self.shot.items
        )
        if items != self.shot.items:
            self.shot = replace(self.shot, items=items)
            self.item = next((item for item in items if self.item is not None and item.key == self.item.key), self.item)
            self.redraw()
            self.redraw_about()

    def redraw(self) -> None:
        shot = self.shot
        if shot is None:
            return
        rows: list[Row] = []
        section = ""
        for item in shot.items:
            if item.section != section:
                section = item.section
                of = f" of run {shot.run.number}" if shot.run is not None and section == "Outputs" else ""
                rows.append(Row(f"{section}:", ((f"{section}{of}", "strong"), "")))
            sign, name, about = data.item_cells(item, self.tui.glyphs)
            rows.append(Row(item.key, ((sign, name), about), copy=item.path or item.name))
        self.list.set_rows(
            rows, empty=["Nothing yet: no step has inputs or outputs.", "p on the Pipeline screen shows the steps."]
        )
        self._title()

    def _title(self) -> None:
        shot = self.shot
        if shot is None:
            return
        newer = f" · newer: run {self.newer} (R)" if self.newer else f" · {words.count(len(shot.items), 'thing')}"
        self.query_one("#things", Pane).bar.title = f"Data{newer}"
        table, item = self.table.table, self.item
        parts = ["SQL result" if self._asked_sql else item.name if item is not None else "rows"]
        if table is not None:
            parts.append(f"{words.count(table.total, 'row')} × {words.count(len(table.columns), 'column')}")
        if item is not None and item.size_bytes is not None and not self._asked_sql:
            parts.append(words.size(item.size_bytes))
        self.query_one("#rows", Pane).bar.title = one_line(" · ".join(parts), limit=200)

    def choose(self, item: Item) -> None:
        """Show its rows, or say why there are none."""
        self.item, self._asked_sql, self._opened_row, self._diff_of, self._diff = item, "", [], ("", 0), []
        if item.kind:
            place, previews = self._place_of(item), self.previews
            self.table.open(lambda: Table.open(place() if callable(place) else place, previews))
        elif item.version:
            self.table.open(
                None, empty=f"{item.name} v{item.version}: a dataset of files ({item.path}); Lineage lists its versions"
            )
        else:
            said = item.note or f"no table (Parquet, CSV or JSON); it lies at {item.path}"
            self.table.open(None, empty=f"{item.name}: {said}")
        self._title()
        self.redraw_about()

    def _place_of(self, item: Item) -> str | Callable[[], str]:
        """Where its rows lie; those of a dataset are written to a file when they are asked for, in whatever thread asks."""
        if not item.version:
            return item.path
        return partial(rows_of, self.tui.root, item.name, item.version, self.previews)

    def redraw_about(self) -> None:
        pane, item, table = self.query_one("#about", Pane), self.item, self.table.table
        pane.bar.title = ""
        match pane.tab:
            case "Profile" if table is not None:
                at = self.table._here()
                name = table.columns[at].name if at is not None and table.columns else ""
                found = self.table.profile_of(name)
                self.document.show(
                    data.profile_lines(found, self.tui.glyphs) if found is not None else [Line.of(("looking ...", "muted"))]
                )
                if found is None and name:
                    self.table.profile(name)
            case "Schema" if table is not None:
                self.document.show(data.schema_lines(table.columns))
            case "Row" if table is not None:
                self.document.show(self._opened_row or [Line.of(("Enter on a row shows all of it.", "muted"))])
            case "Diff":
                self._show_diff()
            case "Lineage" if self.shot is not None and item is not None:
                self.document.show(data.lineage(self.shot, item))
            case _:
                self.document.show(
                    [Line.of((self.table.busy or self.table.problem or "There is no table to look into.", "muted"))]
                )

    def _show_diff(self) -> None:
        item, shot = self.item, self.shot
        if item is not None and item.version:
            self._show_dataset_diff(item)
            return
        versions = shot.versions.get(item.key, ()) if shot is not None and item is not None else ()
        if item is None or not item.kind or len(versions) < 2:
            told = (
                "a source has no versions here"
                if item is not None and not item.step
                else "no earlier run wrote another version of it"
            )
            self.document.show([Line.of((told, "muted"))])
            return
        wanted = (item.path, versions[1][0])
        if self._diff_of == wanted:
            self.document.show(self._diff or [Line.of(("comparing ...", "muted"))])
            return
        self._diff_of, self._diff = wanted, []
        self.document.show([Line.of(("comparing ...", "muted"))])
        self.tui.bridge.work("data-diff", _difference(item, versions, self.previews, self.tui.glyphs), self._got_diff)

    def _show_dataset_diff(self, item: Item) -> None:
        versions = self.shot.datasets.get(item.key, ()) if self.shot is not None else ()
        if len(versions) < 2 and not item.moved:
            self.document.show([Line.of((f"v{item.version} is the only version, and its files are as they were", "muted"))])
            return
        wanted = (f"{item.name} {item.moved}", item.version)
        if self._diff_of != wanted:
            self._diff_of, self._diff = wanted, []
            glyphs, is_table = self.tui.glyphs, bool(item.kind)
            self.tui.bridge.work("data-diff", lambda engine: [
                line for found in difference(item.name)(engine) for line in data.dataset_difference(found, glyphs, is_table=is_table)
            ], self._got_diff)  # fmt: skip
        self.document.show(self._diff or [Line.of(("comparing ...", "muted"))])

    def _got_diff(self, found: list[Line] | Trouble) -> None:
        self._diff = details.trouble_lines(found) if isinstance(found, Trouble) else found
        if self.query_one("#about", Pane).tab == "Diff":
            self.document.show(self._diff)

    # Messages

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        item = self._under_cursor()
        if item is not None:
            self.choose(item)
            if item.kind:
                self.table.focus()

    @on(RowList.Highlighted)
    def _highlighted(self) -> None:
        item = self._under_cursor()
        if item is not None and item != self.item and not self._asked_sql:
            self.choose(item)

    def _under_cursor(self) -> Item | None:
        return next((item for item in self.shot.items if item.key == self.list.key), None) if self.shot is not None else None

    @on(PagedTable.Moved)
    def _moved(self) -> None:
        if (self.table.table is not None) != self._had_table:
            self._had_table = not self._had_table
            self.tui.refresh_bindings()  # there is something to filter and to export now, or no more
        self._title()
        if self.query_one("#about", Pane).tab in ("Profile", "Schema"):
            self.redraw_about()

    @on(PagedTable.RowOpened)
    def _row_opened(self, message: PagedTable.RowOpened) -> None:
        self._opened_row = data.row_lines(message.row, message.values)
        pane = self.query_one("#about", Pane)
        if pane.tab == "Row":
            self.redraw_about()
        else:
            pane.open_tab("Row")

    @on(Pane.TabChosen)
    def _tab_chosen(self) -> None:
        self.redraw_about()

    @on(SqlBox.Submitted)
    def _asked(self, message: SqlBox.Submitted) -> None:
        sql = message.sql.strip()
        if not sql or self.shot is None:
            return
        self._asked_sql = sql
        names = {name: self._place_of(item) for name, item in data.sql_names(self.shot.items).items()}
        previews, table = self.previews, self.table
        table.open(lambda: query(sql, names, previews, started=table.stopping_with))
        table.focus()
        self._title()

    @on(Input.Submitted, "#line")
    def _line_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.line.remove_class("-open")
        if self._line_is == "filter" and self.table.table is not None:
            self.table.rearrange(self.table.table.order, event.value)
        elif self._line_is == "export" and event.value.strip():
            path = os.path.join(self.tui.root, os.path.expanduser(event.value.strip()))
            self.table.export(path, lambda text, bad: self.tui.tell(text, bad=bad))
        self.table.focus()

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not super().check_action(action, parameters):
            return False
        if action in ("filter", "export", "full"):
            return self.is_mounted and self.table.table is not None
        if action == "step":
            return self.item is not None and bool(self.item.step)
        if action == "newest":
            return self.newer > 0
        return True

    def _open_line(self, what: str, placeholder: str, value: str) -> None:
        self._line_is = what
        self.line.placeholder, self.line.value = placeholder, value
        self.line.add_class("-open")
        self.line.focus()

    def action_filter(self) -> None:
        table = self.table.table
        self._open_line(
            "filter",
            "plan=fiber tenure>=12 name:ann !word   Enter keeps such rows, empty keeps all",
            table.filter if table is not None else "",
        )

    def action_export(self) -> None:
        name = (
            "result"
            if self._asked_sql or self.item is None
            else one_line(self.item.output or os.path.basename(self.item.name), limit=60)
        )
        self._open_line("export", "file.csv, file.parquet or file.json, in the project", f"{os.path.splitext(name)[0]}.csv")

    def action_sql(self) -> None:
        names = data.sql_names(self.shot.items) if self.shot is not None else {}
        if not names:
            self.tui.tell("there is no table to ask: r on the Pipeline screen runs the pipeline")
            return
        mine = next(
            (name for name, item in names.items() if self.item is not None and item.key == self.item.key), next(iter(names))
        )
        if not self.sql.text:
            self.sql.text = f'SELECT * FROM "{mine}" LIMIT 100' if not mine.isidentifier() else f"SELECT * FROM {mine} LIMIT 100"
        self.sql.add_class("-open")
        self.sql.focus()
        self.sql.move_cursor(self.sql.document.end)

    def action_back(self) -> None:
        if self.line.has_class("-open"):
            self.line.remove_class("-open")
            self.table.focus()
        elif self.sql.has_class("-open") and self.sql.has_focus:
            self.sql.remove_class("-open")
            self.table.focus()
        elif self._asked_sql and self.item is not None:
            self.sql.remove_class("-open")
            self.choose(self.item)
        else:
            self.list.focus()

    def action_full(self) -> None:
        at, table = self.table._here(), self.table.table
        if at is not None and table is not None:
            self.table.profile(table.columns[at].name, full=True)

    async def action_step(self) -> None:
        if self.item is not None and self.item.step:
            await self.tui.open_screen("Pipeline")
            rails = getattr(self.tui.view, "rails", None)
            if rails is not None:
                rails.select(self.item.step)

    def action_place(self) -> None:
        if self.item is not None and self.item.path:
            self.post_message(Copy(self.item.path, "the path"))

    def action_newest(self) -> None:
        self._run_id, self.newer = None, 0
        self.ask()

    def focus_first(self) -> None:
        self.list.focus()

    def focus_list(self) -> None:
        self.list.focus()

    def copied(self) -> Copy | None:
        row = self.list.row
        return Copy(row.copy, "the path") if row is not None and row.copy else None


def _newest(pipeline: str) -> Callable[[Any], int]:
    def ask(engine: Any) -> int:
        runs = [run for run in engine.runs(limit=20, pipeline=pipeline or None) if run.kind == "run"]
        return runs[0].number if runs else 0

    return ask


def _difference(
    item: Item, versions: Sequence[tuple[int, str]], previews: str | None, glyphs: Any
) -> Callable[[Any], list[Line]]:
    def ask(engine: Any) -> list[Line]:
        number = versions[1][0]
        try:
            old = engine.artifact(engine.find_run(str(number)).id, item.step, item.output)
            before = facts(old, f"run {number}", previews)
            after = facts(item.path, f"run {versions[0][0]}", previews)
        except TableProblem as problem:
            return [Line.of((str(problem), "warning"))]
        except MlpipeError as error:
            return [Line.of((f"the version of run {number}: {error}", "warning"))]
        return data.difference_lines(before, after, glyphs)

    return ask
