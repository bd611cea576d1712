"""Plots: round ticks, lines that are where their points are, names that can be read, any numbers."""

from __future__ import annotations

import math
import time

import pytest
from hostile import ALL, living
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from stage import Seat, play

from mlpipe_tui.viewmodels.plot import Marker, Series, bucketed, draw, nice_ticks, sparkline, summary, tick_label
from mlpipe_tui.widgets.plots import Plot


def line(name: str, *values: float) -> Series:
    return Series(name=name, points=tuple((float(at), value) for at, value in enumerate(values)))


def test_ticks_are_round() -> None:
    assert nice_ticks(0, 99.8, 6) == [0, 20, 40, 60, 80]
    assert nice_ticks(0.512, 0.894, 5) == [0.6, 0.7, 0.8]
    assert nice_ticks(5, 5, 4) == [5]
    assert [tick_label(value) for value in (0.30000000000000004, 20.0, 2e6, 0.00001, -5.0)] == ["0.3", "20", "2e6", "1e-5", "-5"]


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12), st.integers(2, 12))
def test_ticks_lie_inside_and_are_few(low: float, span: float, most: int) -> None:
    ticks = nice_ticks(low, low + span, most)
    assert len(ticks) <= most and ticks == sorted(ticks)
    slack = span * 1e-6 + abs(low) * 1e-9
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


def test_a_rising_line_in_ascii() -> None:
    picture = draw([line("auc", *range(11))], 40, 8, "ascii", "step")
    rows = picture.text.splitlines()
    columns = [row.index("*") for row in rows if "*" in row]
    assert columns == sorted(columns, reverse=True), "it rises to the right"
    assert rows[0].startswith(" 10+") and rows[0].endswith("*") and rows[5].startswith("  0+*")
    assert rows[-1].split() == ["0", "5", "10"] and "step" not in rows[-1], "no room for the title beside the last label"


@pytest.mark.parametrize("marker", ["braille", "block", "ascii"])
def test_every_line_has_its_name_where_it_ends(marker: Marker) -> None:
    picture = draw([line("low", 1, 1, 1), line("high", 1, 5, 9), line("same", 1, 5, 9)], 70, 10, marker)
    rows = picture.text.splitlines()
    assert "high" in rows[0] and "same" in rows[1] and "low" in rows[7]
    if marker == "ascii":
        assert picture.text.isascii()
    owners = {owner for row in picture.rows for _, owner in row}
    assert {0, 1, 2, -1} >= owners >= {0, -1}


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1e308, -1e308, 5e-324])


@given(
    st.lists(st.lists(st.tuples(numbers, numbers), max_size=8), max_size=6),
    st.integers(0, 90),
    st.integers(0, 24),
    st.sampled_from(["braille", "block", "ascii"]),
)
def test_a_picture_has_the_size_that_was_asked_for(
    points: list[list[tuple[float, float]]], width: int, height: int, marker: Marker
) -> None:
    picture = draw([Series(name=f"s{at}", points=tuple(found)) for at, found in enumerate(points)], width, height, marker)
    assert len(picture.rows) == height and all(len(row) == width for row in picture.rows)


def test_a_million_points_keep_their_peaks() -> None:
    points = [(float(x), 1.0 if x == 777_777 else -1.0 if x == 111_111 else 0.0) for x in range(1_000_000)]
    started = time.process_time()
    found = bucketed(points, 100)
    assert time.process_time() - started < 5
    assert len(found) <= 200 and (777_777.0, 1.0) in found and (111_111.0, -1.0) in found


def test_gaps_and_no_points() -> None:
    assert draw([line("x", math.nan, math.inf)], 40, 8).text.strip() == ""
    assert "x" in draw([line("x", 3)], 60, 8).text


def test_sparklines() -> None:
    bar = "▁▂▃▄▅▆▇█"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8, bar) == bar
    assert sparkline(list(range(80)), 8, bar) == bar
    assert (
        sparkline([1, None, math.nan, 2], 8, bar) == "▁  █" and sparkline([3, 3], 8, bar) == "▅▅" and sparkline([], 8, bar) == ""
    )
    assert sparkline([-1e308, 1e308], 8, bar) == "▁█"


def test_summaries() -> None:
    points = ((0, 0.5), (58, 0.894), (60, 0.861))
    assert (
        summary(points, "max") == "best 0.894 at 58, last 0.861" and summary(points) == "last 0.861" and summary((), "min") == ""
    )
    assert summary(points[:2], "max") == "best 0.894 at 58"


@pytest.mark.parametrize("size", [(80, 24), (30, 8), (5, 3)])
def test_the_widget_and_hostile_names(size: tuple[int, int]) -> None:
    async def act(seat: Seat) -> None:
        plot = seat.app.query_one(Plot)
        plot.show([], empty="train logged none: run.log('auc', x) [adds] one")
        await seat.pilot.pause()
        assert "logged" in seat.text or size[0] < 12
        for start in range(0, len(ALL), 4):
            plot.show(
                [Series(name=text, points=((0, at), (9, 5 - at)), note=text) for at, text in enumerate(ALL[start : start + 4])]
            )
            plot._redraw()
            await seat.pilot.pause()
            assert living(seat.text.replace("\n", "")) == [] and all(cell_len(row) <= size[0] for row in seat.rows())

    play(Plot, act, size=size)


def test_it_is_drawn_at_most_once_a_second() -> None:
    async def act(seat: Seat) -> None:
        plot = seat.app.query_one(Plot)
        drawn = []
        plain = plot._drawn
        plot._drawn = lambda: (drawn.append(1) if plot._picture is None else None, plain())[1]  # type: ignore[method-assign]
        for number in range(30):
            plot.show([line("loss", *range(number + 2))])
            await seat.pilot.pause(0.02)
        assert 1 <= len(drawn) <= 4
        await seat.until(lambda: "30" in seat.text, 5)

    play(Plot, act)
