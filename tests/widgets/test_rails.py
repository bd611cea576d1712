"""Rails: each row's lines say truly who needs whom, at any width, and one change repaints one row."""

from __future__ import annotations

import random
import time

import pytest
from hostile import ALL, living
from hypothesis import given
from hypothesis import strategies as st
from mlpipe_engine.model.states import State
from rich.cells import cell_len
from stage import Seat, play

from mlpipe_tui.glyphs import ASCII, UNICODE
from mlpipe_tui.viewmodels import rails as rails_module
from mlpipe_tui.viewmodels.columns import GAP, Column, fit
from mlpipe_tui.viewmodels.rails import Node, Row, StepLine, folds, in_order, lay_out
from mlpipe_tui.widgets.rails import Rails


def node(name: str, *needs: str) -> Node:
    return Node(name=name, needs=needs)


FLIGHTS = [
    node("raw"), node("clean", "raw"), node("train", "clean"), node("profile", "raw"), node("report", "train", "profile"),
]  # fmt: skip


def drawn(rows: tuple[Row, ...], sign: str = "✓") -> list[str]:
    return [f"{row.cells[: row.column]}{sign}{row.cells[row.column + 1 :]}".rstrip() + " " + row.name for row in rows]


def test_a_small_graph() -> None:
    assert drawn(lay_out(FLIGHTS, UNICODE)) == ["✓ raw", "├─✓ clean", "│ ✓ train", "✓ │ profile", "✓─╯ report"]


def test_the_picture_in_the_documentation_is_one_that_is_drawn() -> None:
    graph = [
        node("raw"),
        node("clean", "raw"),
        node("train", "clean", "raw"),
        node("profile", "raw", "clean"),
        node("report", "train", "profile"),
    ]
    shown = drawn(lay_out(graph, UNICODE))
    assert rails_module.__doc__ is not None
    written = [line[4:] for line in rails_module.__doc__.splitlines() if line.startswith("    ")]
    assert [line.split() for line in written] == [line.split() for line in shown]


def test_the_same_in_ascii() -> None:
    assert drawn(lay_out(FLIGHTS, ASCII), "+") == ["+ raw", "|-+ clean", "| + train", "+ | profile", "+-' report"]


DOWN = "│├┤┼"


def reached(rows: tuple[Row, ...]) -> dict[str, set[str]]:
    """Who needs whom, read from the picture alone: by following rails up from where a step takes from them."""
    holder: dict[int, str] = {}
    found: dict[str, set[str]] = {}
    for row in rows:
        lanes = {at: row.cells[at] for at in range(0, len(row.cells), 2)}
        found[row.name] = set()
        if row.column in holder:
            found[row.name].add(holder[row.column])
        for step in (-2, 2):
            at = row.column
            while 0 <= at + step < len(row.cells) and row.cells[at + step // 2] == "─":
                at += step
                sign = lanes[at]
                if sign in ("│", "─", "┼", "├", "┤", "┴", "╰", "╯") and sign not in "│─":
                    found[row.name].add(holder[at])
                if sign in "├┤╰╯" and (sign in "├╰") == (step < 0):
                    break
        holder = {at: holder[at] for at, sign in lanes.items() if sign in DOWN and at in holder}
        holder[row.column] = row.name
    return found


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    size = draw(st.integers(1, 14))
    found = []
    for number in range(size):
        needs = draw(st.lists(st.sampled_from(range(number)), max_size=3, unique=True)) if number else []
        found.append(node(f"s{chr(97 + number)}", *(f"s{chr(97 + need)}" for need in needs)))
    return found


@given(graphs())
def test_who_needs_whom_can_be_read_from_the_picture(graph: list[Node]) -> None:
    rows = lay_out(graph, UNICODE, lanes=99)
    read = reached(rows)
    for one in graph:
        assert set(one.needs) == read[one.name], "\n".join(drawn(rows))


@given(graphs(), st.integers(1, 5))
def test_no_row_is_wider_than_its_rails_allow(graph: list[Node], lanes: int) -> None:
    rows = lay_out(graph, UNICODE, lanes=lanes)
    assert [row.name for row in rows] == [one.name for one in in_order(graph)]
    for row in rows:
        assert len(row.cells) == len(row.owners) <= lanes * 2 + 2 and row.cells[row.column] == " "
        assert cell_len(row.cells) == len(row.cells)


def test_more_rails_than_fit_are_said_to_be_there() -> None:
    graph = [node("a"), *(node(f"t{number}", "a") for number in range(12)), node("b", *(f"t{number}" for number in range(12)))]
    rows = lay_out(graph, UNICODE, lanes=4, open_folds=["t*"])
    assert drawn(rows)[-2:] == ["✓ │ │ │ ⋯ t11", "✓─┴─┴─┴─⋯ b"]


def test_order_is_kept_where_it_can_be_and_cycles_do_not_hang() -> None:
    assert [one.name for one in in_order([node("b", "a"), node("c"), node("a")])] == ["c", "a", "b"]
    assert [one.name for one in in_order([node("a", "b"), node("b", "a"), node("c", "c", "nowhere")])] == ["c", "a", "b"]
    assert len(lay_out([node("a", "b"), node("b", "a")], UNICODE)) == 2


def test_steps_that_are_alike_fold() -> None:
    alike = [
        node("split"),
        *(node(f"train_{number}", "split") for number in range(12)),
        node("best", *(f"train_{number}" for number in range(12))),
    ]
    assert folds(alike) == {"train_*": tuple(f"train_{number}" for number in range(12))}
    rows = lay_out(alike, UNICODE)
    assert [(row.name, len(row.members)) for row in rows] == [("split", 1), ("train_*", 12), ("best", 1)]
    chain = [node("s0"), *(node(f"s{number}", f"s{number - 1}") for number in range(1, 9))]
    assert folds(chain) == {}, "a chain is not several of the same"
    through = [node("m0"), *(node(f"a{number}", "m0") for number in range(3)), node("m1", "a0"), node("a3", "m1")]
    assert folds(through) == {}


def test_a_thousand_random_steps_take_no_time_and_a_chain_no_stack() -> None:
    luck = random.Random(1)
    graph = [node("x0")]
    graph += [node(f"x{n}", *{f"x{luck.randrange(max(n - 9, 0), n)}" for _ in range(2)}) for n in range(1, 1000)]
    started = time.process_time()
    lay_out(graph, UNICODE)
    lay_out([node("c0"), *(node(f"c{n}", f"c{n - 1}") for n in range(1, 5000))], UNICODE)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("width", range(5, 140, 9))
def test_columns_fit(width: int) -> None:
    columns = [
        Column(title="a", width=10),
        Column(title="b", width=12, drop=1),
        Column(title="c", width=20, stretch=1, drop=3),
        Column(title="d", width=8, drop=2),
    ]
    shown = fit(columns, width)
    assert sum(w for _, _, w in shown) + GAP * (len(shown) - 1) <= max(width, 10)
    assert [index for index, _, _ in shown] == sorted(index for index, _, _ in shown)
    if width >= 60:
        assert len(shown) == 4
    if width < 32:
        assert 2 not in [index for index, _, _ in shown]


COLUMNS = (Column(title="Why", width=10, stretch=1, drop=2), Column(title="Time", width=6, right=True, drop=3))


def made() -> Rails:
    return Rails(COLUMNS)


LINES = {
    "raw": StepLine(cells=("input file", "")),
    "clean": StepLine(state=State.REUSED, cells=("= run 41", "—")),
    "train": StepLine(state=State.RUNNING, cells=("lr 0.1 → 0.05", "0:42")),
    "profile": StepLine(state=State.FAILED, cells=("exited 1", "1.4s")),
    "report": StepLine(state=State.QUEUED, cells=("needs train", "")),
}


def test_the_list_says_state_in_sign_and_word_and_opens_what_is_under_the_cursor() -> None:
    async def act(seat: Seat) -> None:
        rails = seat.app.query_one(Rails)
        rails.focus()
        rails.show(FLIGHTS, LINES)
        await seat.pilot.pause()
        rows = seat.rows()
        assert rows[0].split() == ["Graph", "Step", "State", "Why", "Time"]
        assert rows[3].startswith("│ ●") and "train" in rows[3] and "● running" in rows[3] and rows[3].endswith("0:42")
        await seat.press("down", "down", "y")
        assert rails.selected is not None and rails.selected.name == "train"
        assert seat.app.copies == ["train\trunning\tlr 0.1 → 0.05\t0:42"]
        await seat.press("enter")
        assert [message.row.name for message in seat.heard(Rails.Opened)] == ["train"]
        await seat.pilot.click(rails, offset=(12, 5))
        assert rails.selected.name == "report"
        rails.update_line("report", StepLine(state=State.SUCCEEDED, cells=("needs train", "2s")))
        await seat.pilot.pause()
        assert "✓ succeeded" in seat.rows()[5]

    play(made, act)


def test_one_change_repaints_one_row() -> None:
    async def act(seat: Seat) -> None:
        rails = seat.app.query_one(Rails)
        rails.show(FLIGHTS, LINES)
        await seat.pilot.pause()
        drawn_rows: list[int] = []
        plain = rails.render_line
        rails.render_line = lambda y: (drawn_rows.append(y), plain(y))[1]  # type: ignore[method-assign]
        rails.update_line("train", StepLine(state=State.SUCCEEDED, cells=("x", "1s")))
        await seat.pilot.pause()
        assert set(drawn_rows) == {3}
        drawn_rows.clear()
        rails.update_line("train", StepLine(state=State.SUCCEEDED, cells=("x", "1s")))
        await seat.pilot.pause()
        assert drawn_rows == []

    play(made, act)


def test_folds_open_close_and_count() -> None:
    graph = [node("split"), *(node(f"train_{number}", "split") for number in range(12))]
    lines = {f"train_{number}": StepLine(state=State.SUCCEEDED if number < 9 else State.RUNNING) for number in range(12)}

    async def act(seat: Seat) -> None:
        rails = seat.app.query_one(Rails)
        rails.focus()
        rails.show(graph, lines)
        await seat.press("down")
        assert "train_* ×12" in seat.text and "✓9" in seat.text.replace(" ", "") and "● running" in seat.text
        await seat.press("enter")
        assert len(rails.rows) == 13 and "train_11" in seat.text
        await seat.press("down", "down", "left")
        assert len(rails.rows) == 2 and rails.selected is not None and rails.selected.name == "train_*"

    play(made, act)


def test_a_filter_shows_rows_without_rails_also_of_folded_steps() -> None:
    graph = [node("split"), *(node(f"train_{number}", "split") for number in range(12))]

    async def act(seat: Seat) -> None:
        rails = seat.app.query_one(Rails)
        rails.show(graph, {})
        rails.show_only({"train_3", "split"})
        await seat.pilot.pause()
        assert [row.name for row in rails.rows] == ["split", "train_3"] and "│" not in seat.text
        rails.show_only(set())
        rails.empty = "no step matches [x]"
        await seat.pilot.pause()
        assert "no step matches [x]" in seat.text
        rails.show_only(None)
        assert len(rails.rows) == 2

    play(made, act)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (160, 45), (20, 5), (5, 2)])
def test_hostile_names_neither_crash_nor_live(size: tuple[int, int]) -> None:
    graph = [node(text, *ALL[max(index - 2, 0) : index]) for index, text in enumerate(dict.fromkeys(ALL))]
    lines = {text: StepLine(state=State.FAILED, cells=(text, text)) for text in ALL}

    async def act(seat: Seat) -> None:
        rails = seat.app.query_one(Rails)
        rails.focus()
        rails.show(graph, lines)
        for key in (*["pagedown"] * 8, "home", "end", "y"):
            await seat.press(key)
            assert living(seat.text.replace("\n", "")) == []
            assert all(cell_len(row) <= size[0] for row in seat.rows())

    play(made, act, size=size)
