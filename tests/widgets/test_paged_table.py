"""The paged table: keys are answered whatever the table is at, and what is shown is what is in the file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars
import pytest
from hostile import ALL, living
from rich.cells import cell_len
from stage import Seat, play

from mlpipe_tui.tables import Table, query
from mlpipe_tui.viewmodels.cells import cell, plain, spark
from mlpipe_tui.widgets.desk import Desk
from mlpipe_tui.widgets.paged_table import PagedTable


def people(path: Path, rows: int = 100_000) -> Path:
    frame = polars.DataFrame({"id": range(rows)}).with_columns(
        ((polars.col("id") * 7919) % 1000).alias("k"), (polars.lit("name ") + (polars.col("id") % 50).cast(polars.String)).alias("name"),
        polars.when(polars.col("id") % 10 != 0).then(polars.col("id") / 3).alias("x"),
    )  # fmt: skip
    frame.write_parquet(path)
    return path


def opener(path: Path) -> Callable[[], Table]:
    return lambda: Table.open(str(path), str(path.parent / "previews"))


def test_rows_far_down_are_read_when_one_goes_there(tmp_path: Path) -> None:
    path = people(tmp_path / "t.parquet")

    async def act(seat: Seat) -> None:
        table = seat.app.query_one(PagedTable)
        table.focus()
        table.open(opener(path))
        await seat.until(lambda: "name 13" in seat.text)
        assert seat.rows()[0].split() == ["id", "k", "name", "x"] and seat.rows()[1].split() == ["i64", "i64", "str", "f64"]
        await seat.until(lambda: "█" in seat.rows()[2] and "50 val" in seat.rows()[2])
        await seat.press("G")
        await seat.until(lambda: "99999" in seat.rows()[-1])
        assert table.badge.startswith("row 100,000 of 100,000 · column 1 of 4")
        await seat.press("home", "right", "right", "down", "y")
        assert seat.app.copies == ["name 1"]
        await seat.press("enter")
        (opened,) = seat.heard(PagedTable.RowOpened)
        assert opened.values == (("id", 1), ("k", 919), ("name", "name 1"), ("x", 1 / 3))
        await seat.pilot.click(table, offset=(3, 8))
        assert (table.row, table.column) == (5, 0)

    play(PagedTable, act)


def test_sorting_and_filtering(tmp_path: Path) -> None:
    path = people(tmp_path / "t.parquet")

    async def act(seat: Seat) -> None:
        table = seat.app.query_one(PagedTable)
        table.focus()
        table.open(opener(path))
        await seat.until(lambda: table.rows)
        await seat.press("right", "s", "s")
        await seat.until(lambda: "999" in seat.rows()[3] and not table.busy)
        assert "↓k" in seat.rows()[0] and "by k ↓" in table.badge
        table.rearrange(table.table.order if table.table else None, "k<50 name=" + '"name 5"')
        await seat.until(lambda: "in all" in table.badge)
        assert 0 < table.rows < 100_000
        table.rearrange(None, "id<0")
        await seat.until(lambda: "no row of 100,000 has: id<0" in seat.text)
        table.rearrange(None, "nosuch=1")
        await seat.until(lambda: "no column is called nosuch" in seat.text)
        table.rearrange(None, "")
        await seat.until(lambda: table.rows == 100_000 and "name 13" in seat.text)

    play(PagedTable, act)


def test_columns_are_hidden_kept_and_scrolled(tmp_path: Path) -> None:
    polars.DataFrame({f"column_{number:02d}": [number, number + 1] for number in range(40)}).write_parquet(tmp_path / "w.parquet")

    async def act(seat: Seat) -> None:
        table = seat.app.query_one(PagedTable)
        table.focus()
        table.open(opener(tmp_path / "w.parquet"))
        await seat.until(lambda: table.rows)
        assert "column_00" in seat.text and "column_20" not in seat.text
        await seat.press("f", *["right"] * 20)
        head = seat.rows()[0]
        assert head.split()[0] == "column_00" and "column_20" in head and "column_05" not in head
        await seat.press("H")
        assert "column_20" not in seat.rows()[0] and "1 hidden" in table.badge
        table.show_all_columns()
        await seat.press(*["left"] * 40)
        assert "column_01" in seat.rows()[0]

    play(PagedTable, act)


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"\x80\x04")

    async def act(seat: Seat) -> None:
        table = seat.app.query_one(PagedTable)
        table.open(opener(tmp_path / "model"))
        await seat.until(lambda: "model is no table" in seat.text)
        table.open(None, empty="pick an output [of a step]")
        await seat.until(lambda: "pick an output [of a step]" in seat.text)
        polars.DataFrame({"a": []}).write_parquet(tmp_path / "e.parquet")
        table.open(opener(tmp_path / "e.parquet"))
        await seat.until(lambda: "a table without rows" in seat.text)
        await seat.press("down", "G", "s", "y", "enter", "H")

    play(PagedTable, act)


def test_esc_stops_a_query_and_keys_are_answered_meanwhile(tmp_path: Path) -> None:
    path = people(tmp_path / "t.parquet")

    async def act(seat: Seat) -> None:
        table = seat.app.query_one(PagedTable)
        table.focus()
        sql = "SELECT count(*) FROM t a, t b, t c WHERE a.id + b.id * c.id = 7"
        table.open(lambda: query(sql, {"t": str(path)}, str(tmp_path), started=table.stopping_with))
        await seat.pilot.pause(0.5)
        assert table.busy == "opening"
        slowest = 0.0
        for _ in range(20):
            started = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - started)
        assert slowest < 0.5, "the query held up the app's loop"
        await seat.press("escape")
        await seat.until(lambda: "stopped" in seat.text, 5)
        table.open(opener(path))
        await seat.until(lambda: table.rows == 100_000)

    play(PagedTable, act)


def test_a_table_that_was_left_does_not_come_back(tmp_path: Path) -> None:
    first, second = people(tmp_path / "a.parquet", 10), people(tmp_path / "b.parquet", 20)

    def slow() -> Table:
        time.sleep(0.3)
        return Table.open(str(first), str(tmp_path))

    async def act(seat: Seat) -> None:
        table = seat.app.query_one(PagedTable)
        table.open(slow)
        await seat.pilot.pause(0.05)
        table.open(opener(second))
        await seat.until(lambda: table.rows == 20)
        await seat.pilot.pause(0.5)
        assert table.rows == 20

    play(PagedTable, act)


@pytest.mark.parametrize("size", [(80, 24), (160, 45), (10, 4)])
def test_hostile_columns_and_values_neither_crash_nor_live(tmp_path: Path, size: tuple[int, int]) -> None:
    texts = [text for text in ALL if not any("\ud800" <= c <= "\udfff" for c in text)]
    names = list(dict.fromkeys(text[:50].lower() for text in texts if text and "\0" not in text))
    polars.DataFrame(dict.fromkeys(names, texts)).write_parquet(tmp_path / "h.parquet")

    async def act(seat: Seat) -> None:
        table = seat.app.query_one(PagedTable)
        table.focus()
        table.open(opener(tmp_path / "h.parquet"))
        await seat.until(lambda: table.rows)
        for _ in range(12):
            await seat.press("pagedown", *["right"] * 6, "s")
            await seat.until(lambda: not table.busy)
            assert living(seat.text.replace("\n", "")) == [] and living(table.badge) == []
            assert all(cell_len(row) <= size[0] for row in seat.rows())

    play(PagedTable, act, size=size)


@pytest.mark.parametrize(
    ("value", "shown", "copied"),
    [(None, "∅", ""), ("", "", ""), (1.5, "1.5", "1.5"), (0.1 + 0.2, "0.3", "0.30000000000000004"), (True, "true", "true"), (b"\x00\xff", "00ff", "00ff"),
     ({"a": [1]}, '{"a": [1]}', '{"a": [1]}'), ("a\nb", "a\u240ab", "a\nb"), (12345, "12345", "12345")],
)  # fmt: skip
def test_cells(value: Any, shown: str, copied: str) -> None:
    assert (cell(value), plain(value)) == (shown, copied)


def test_a_row_of_bars() -> None:
    assert spark((0, 1, 50, 100), "▁▂▃▄▅▆▇█") == "▁▂▅█" and spark((0, 0), "▁▂▃▄▅▆▇█") == "▁▁"


def test_the_desk_does_the_latest_first_and_each_key_once() -> None:
    import threading

    desk, gate, done = Desk("t"), threading.Event(), []
    desk.ask("first", gate.wait)
    time.sleep(0.1)
    for key in ("a", "b", "a", "c"):
        desk.ask(key, lambda key=key: done.append(key))  # type: ignore[misc]
    gate.set()
    end = threading.Event()
    time.sleep(0.2)
    desk.close(end.set)
    assert end.wait(5) and done == ["c", "a", "b"]
