"""Apps of one widget each, for W10: screens.py NAME [FILE]. What is ours beside what Textual ships, on the same data."""

from __future__ import annotations

import os
import sys

os.environ["TEXTUAL_ANIMATIONS"] = "none"

from textual.app import App, ComposeResult
from textual.widgets import DataTable, Footer, Header, Log, RichLog


class Screen(App[None]):
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, name: str, path: str) -> None:
        super().__init__()
        self.wanted, self.path = name, path

    def compose(self) -> ComposeResult:
        if self.wanted == "bare":
            yield Header()
            yield DataTable()
            yield Footer()
        elif self.wanted in ("datatable", "log", "richlog"):
            yield {"datatable": DataTable, "log": Log, "richlog": RichLog}[self.wanted]()
        elif self.wanted == "paged":
            from mlpipe_tui.widgets.paged_table import PagedTable

            yield PagedTable()
        else:
            from mlpipe_tui.widgets.log_view import LogView

            yield LogView(self.path)

    def on_mount(self) -> None:
        if self.wanted in ("bare", "datatable"):
            table = self.query_one(DataTable)
            if self.wanted == "bare":
                table.add_columns("Step", "State", "Why")
                table.add_rows([("ready", "succeeded", f"row {number}") for number in range(30)])
            else:
                import duckdb

                rows = duckdb.sql(f"SELECT * FROM read_parquet('{self.path}')").fetchall()
                table.add_columns(*map(str, range(len(rows[0]))))
                table.add_rows([tuple(map(str, row)) for row in rows])
            table.focus()
        elif self.wanted == "paged":
            from mlpipe_tui.tables import Table
            from mlpipe_tui.widgets.paged_table import PagedTable

            table_of_ours = self.query_one(PagedTable)
            table_of_ours.open(lambda: Table.open(self.path))
            table_of_ours.focus()
        elif self.wanted in ("log", "richlog"):
            with open(self.path) as file:
                lines = file.read().splitlines()
            if self.wanted == "log":
                self.query_one(Log).write_lines(lines).focus()
            else:
                rich = self.query_one(RichLog)
                for line in lines:
                    rich.write(line)
                rich.focus()
        else:
            self.query_one("LogView").focus()


Screen(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "").run()
