"""The log view: the file is the buffer, whatever is in it, however long it is and however it grows."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hostile import ALL, living
from stage import Seat, play
from textual import events
from textual.geometry import Offset

from mlpipe_tui.viewmodels.log_file import BLOCK, LINE_LIMIT, LogFile
from mlpipe_tui.viewmodels.log_line import Look, Query, read_line
from mlpipe_tui.widgets.log_view import LogPane, LogView
from mlpipe_tui.widgets.painting import character_at, wrapped


def opened(path: Path) -> LogFile:
    log = LogFile(str(path))
    log.grow()
    return log


def lines_of(log: LogFile) -> list[bytes]:
    return [log.line(number)[0] for number in range(len(log))]


# The file


def test_lines_are_those_of_the_file_wherever_blocks_end(tmp_path: Path) -> None:
    luck = random.Random(7)
    for shape in ((0, 30), (BLOCK - 3, BLOCK + 3), (0, 3 * BLOCK)):
        wanted = [b"x" * min(luck.randint(*shape), LINE_LIMIT) for _ in range(60)]
        path = tmp_path / "log"
        path.write_bytes(b"\n".join(wanted) + b"\n")
        assert lines_of(opened(path)) == wanted


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"\n\n", b"a", b"a\n", b"a\nb", b"x" * BLOCK, b"x" * (BLOCK - 1) + b"\n", b"x" * BLOCK + b"\n"]
)
def test_the_last_line_may_lack_its_end(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(text)
    wanted = text.split(b"\n")
    if not wanted[-1]:
        wanted.pop()
    assert lines_of(opened(path)) == [line[:LINE_LIMIT] for line in wanted]


def test_a_log_that_grows_by_any_steps_has_the_same_lines(tmp_path: Path) -> None:
    luck = random.Random(3)
    path = tmp_path / "log"
    path.write_bytes(b"")
    log = LogFile(str(path))
    written = b""
    for _ in range(200):
        more = bytes(luck.choices(b"abc\n", k=luck.randint(0, 3000)))
        with path.open("ab") as file:
            file.write(more)
        written += more
        assert log.grow() == bool(more)
        wanted = written.split(b"\n")
        wanted = wanted if wanted[-1] else wanted[:-1]
        assert len(log) == len(wanted)
        for number in luck.sample(range(len(wanted)), min(len(wanted), 5)):
            assert log.line(number) == (wanted[number], 0)


def test_a_log_that_is_not_there_yet_and_one_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path))
    assert not log.grow() and len(log) == 0 and log.problem == ""
    path.write_bytes(b"one\ntwo\n")
    assert log.grow() and lines_of(log) == [b"one", b"two"]
    path.write_bytes(b"short")
    assert log.grow() and lines_of(log) == [b"short"]
    other = tmp_path / "other"
    other.write_bytes(b"another file\nthat is longer\n")
    os.replace(other, path)
    assert log.grow() and lines_of(log) == [b"another file", b"that is longer"]


def test_a_budget_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 100_000)
    log = LogFile(str(path))
    log.grow(1000)
    assert len(log) == 200 and log.behind == 499_000
    while log.grow(100_000):
        pass
    assert len(log) == 100_000 and log.behind == 0


def test_a_path_that_is_no_log_says_why(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert "Is a directory" in log.problem and len(log) == 0
    os.mkfifo(tmp_path / "pipe")
    assert len(opened(tmp_path / "pipe")) == 0


def test_a_long_line_is_cut_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 50_000_000 + b"\nnext\n")
    log = opened(path)
    started = time.process_time()
    raw, more = log.line(0)
    assert (len(raw), more) == (LINE_LIMIT, 50_000_000 - LINE_LIMIT) and log.line(1) == (b"next", 0)
    assert time.process_time() - started < 0.5


def test_a_progress_bar_shows_its_last_state_however_often_it_was_drawn(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"\r%d of 20000" % number for number in range(20_001)) + b"\nnext\n")
    line = read_line(*opened(path).line(0))
    assert line.text == "20000 of 20000" and line.overwritten > 100


# One line


def test_colours_stay_and_everything_else_is_only_shown() -> None:
    line = read_line(b"\x1b[1;31mbad\x1b[0m and \x1b[38;5;208;48;2;1;2;3morange\x1b[39m\x1b[2J")
    assert line.spans == (
        ("bad", Look(foreground="1", bold=True)),
        (" and ", Look()),
        ("orange", Look(foreground="208", background="#010203")),
        ("\u241b[2J", Look(background="#010203")),
    )


def test_bright_colours_and_switching_off() -> None:
    spans = dict(read_line(b"\x1b[97;100;3;4;7;9ma\x1b[23;24;27;29mb\x1b[mc").spans)
    assert spans == {
        "a": Look(foreground="15", background="8", italic=True, underline=True, reverse=True, strike=True),
        "b": Look(foreground="15", background="8"),
        "c": Look(),
    }


@pytest.mark.parametrize("text", ALL)
def test_no_line_is_alive(text: str) -> None:
    for raw in (
        text.encode("utf-8", "surrogatepass"),
        text.encode("utf-16", "surrogatepass"),
        b"\x1b[31m" + text.encode("utf-8", "replace") + b"\xff\xfe",
    ):
        line = read_line(raw.replace(b"\n", b""))
        assert living(line.text) == []


def test_hidden_text_is_shown() -> None:
    assert read_line(b"\x1b[8msecret\x1b[0m").spans == (("secret", Look()),)


def test_tabs_reach_the_next_stop_across_colours() -> None:
    assert read_line(b"ab\t\x1b[31mc\td").text == "ab      c       d"


def test_a_single_carriage_return_hides_nothing() -> None:
    assert read_line(b"real\rfake").text == "real\u240dfake"
    assert read_line(b"windows\r").text == "windows"


# Looking for text


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("error", [0, 1, 4]), ("Error", [1]), ("größe", [2, 3]), ("GRÖSSE", []), ("/err.r$/", [4]), ("/^(?:a|b)+c/", [5]), ("a.c", []), ("[31m", []), ("/", [6]),
    ],
)  # fmt: skip
def test_what_is_found(tmp_path: Path, typed: str, found: list[int]) -> None:
    path = tmp_path / "log"
    path.write_bytes("ERRORS\nmy Error:\nGröße\ngröße 2\ner\x1b[31mror\nababc\na/b".encode())
    matches = Query.of(typed).matcher()
    assert [line for lines in opened(path).hits(matches, lambda: False) for line in lines] == found


def test_hits_have_the_numbers_of_their_lines_in_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d\n" % number for number in range(700_000)))
    found = [line for lines in opened(path).hits(Query.of("99999").matcher(), lambda: False) for line in lines]
    assert found == [number for number in range(700_000) if "99999" in str(number)]


def test_an_expression_that_would_hang_other_engines_does_not(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * 20_000 + b"\n")
    started = time.process_time()
    assert [*opened(path).hits(Query.of("/(a+)+$b/").matcher(), lambda: False)] == [[]]
    assert time.process_time() - started < 5


def test_an_expression_that_is_none_is_said() -> None:
    with pytest.raises(ValueError):
        Query.of("/(/").matcher()


def test_rows_of_wide_text_never_overflow() -> None:
    assert wrapped("abcdef", 4) == [(0, 4), (4, 6)]
    assert wrapped("漢字漢字", 5) == [(0, 2), (2, 4)]
    assert wrapped("", 5) == [(0, 0)]
    assert [character_at("a漢b", cell) for cell in range(5)] == [0, 1, 1, 2, 3]


# The widget


def log_of(path: Path, lines: int) -> Path:
    path.write_text("".join(f"line {number} of the log\n" for number in range(lines)))
    return path


def test_a_live_log_is_followed_until_one_leaves_its_end(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", 100)

    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        view.focus()
        assert "line 99 " in seat.text and "line 70 " not in seat.text and view.badge == "100 lines · following"
        with path.open("a") as file:
            file.write("fresh\n")
        await seat.until(lambda: "fresh" in seat.text)
        await seat.press("up")
        assert "follow off (G)" in view.badge and "fresh" not in seat.text
        before = seat.text
        with path.open("a") as file:
            file.write("later\n" * 50)
        await seat.until(lambda: "151 lines" in view.badge)
        assert [row[:40].rstrip() for row in seat.text.splitlines()] == [row[:40].rstrip() for row in before.splitlines()], (
            "the rows moved under the reader"
        )
        await seat.press("G")
        assert seat.rows()[-1].startswith("later") and "following" in view.badge
        await seat.press("g", "pagedown")
        assert seat.rows()[0].startswith("line 23 ")
        await seat.press("pagedown", "pagedown", "pagedown", "pagedown", "pagedown", "pagedown")
        assert "following" in view.badge, "coming back to the end follows again"

    play(lambda: LogView(str(path), live=True), act)


def test_search_goes_to_the_first_match_below_and_round(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{'needle' if number % 300 == 150 else 'hay'} {number}\n" for number in range(1000)))

    async def act(seat: Seat) -> None:
        pane = seat.app.query_one(LogPane)
        view = pane.log_view
        view.focus()
        view.action_first()
        await seat.press("slash", *"needle", "enter")
        await seat.until(lambda: "1 of 3 matches" in view.badge)
        assert "needle 150" in seat.text
        await seat.press("n")
        assert "needle 450" in seat.text and "2 of 3" in view.badge
        await seat.press("N", "N")
        assert "needle 750" in seat.text and "3 of 3" in view.badge
        await seat.press("ampersand")
        assert [row.split("│")[0].rstrip(" ▁▂▃▄▅▆▇█") for row in seat.rows()[:4]] == [
            "needle 150",
            "needle 450",
            "needle 750",
            "",
        ]
        await seat.press("y")
        assert seat.app.copies == ["needle 150\nneedle 450\nneedle 750"]
        await seat.press("escape")
        assert view.wanted is None and "matches" not in view.badge and "hay" in seat.text

    play(lambda: LogPane(str(path)), act)


def test_what_is_not_found_is_said_and_a_bad_expression_too(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", 10)

    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        view.search("nowhere")
        await seat.until(lambda: view.badge == "10 lines · 0 matches")
        view.search("/(/")
        await seat.until(lambda: "unclosed group" in view.badge)

    play(lambda: LogView(str(path)), act)


def test_matches_that_come_later_are_found_too(tmp_path: Path) -> None:
    path = log_of(tmp_path / "log", 10)

    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        view.search("fresh")
        await seat.until(lambda: "0 matches" in view.badge)
        with path.open("a") as file:
            file.write("not yet fre")
        await seat.until(lambda: "11 lines" in view.badge)
        with path.open("a") as file:
            file.write("sh\nfresh again\n")
        await seat.until(lambda: "2 matches" in view.badge)

    play(lambda: LogView(str(path), live=True), act)


def test_long_lines_wrap_and_every_row_can_be_reached(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first\n" + "".join(f"<{number:04d}>" for number in range(1000)) + "\nlast\n")

    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        view.focus()
        await seat.press("g", "w")
        assert seat.rows()[0].startswith("first") and seat.rows()[1].startswith("<0000>")
        seen = set()
        for _ in range(90):
            seen |= {
                int(part[1:])
                for row in seat.rows()
                for part in row.replace(" ", "").split(">")
                if len(part) == 5 and part[1:].isdigit()
            }
            await seat.press("down")
        whole = [number for number in range(1000) if number in seen]
        assert len(whole) > 900, "rows that no key brings up"
        await seat.press("G")
        assert seat.rows()[-1].startswith("last")
        await seat.press("pageup", "pageup", "pageup", "pageup", "pageup")
        assert seat.rows()[0].startswith("first")
        await seat.press("w")
        assert seat.rows()[:3][0].startswith("first") and seat.rows()[2].startswith("last")

    play(lambda: LogView(str(path)), act)


def test_text_selected_with_the_mouse_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes("漢字 wide\n\x1b[31mred\x1b[0m line\nthird\n".encode() + b"x\n" * 50)

    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        view.focus()
        await seat.press("g")
        await seat.pilot._post_mouse_events([events.MouseDown], view, offset=Offset(2, 0), button=1)
        await seat.pilot._post_mouse_events([events.MouseMove], view, offset=Offset(3, 2), button=1)
        await seat.pilot._post_mouse_events([events.MouseUp], view, offset=Offset(3, 2), button=1)
        await seat.press("y")
        assert seat.app.copies == ["字 wide\nred line\nthir"]

    play(lambda: LogView(str(path)), act)


def test_an_empty_pane_says_why(tmp_path: Path) -> None:
    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        assert "waits for [train]" in seat.text
        (tmp_path / "log").write_text("now\n")
        await seat.until(lambda: "now" in seat.text)
        view.show(None, empty="nothing was logged")
        await seat.pilot.pause()
        assert "nothing was logged" in seat.text
        view.show(str(tmp_path))
        await seat.pilot.pause()
        assert "Is a directory" in seat.text

    play(lambda: LogView(str(tmp_path / "log"), live=True, empty="waits for [train]"), act)


def test_hostile_lines_neither_crash_nor_live(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\n".join(text.encode("utf-8", "surrogatepass") for text in ALL))

    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        view.focus()
        for key in ("g", *["pagedown"] * 6, "right", "w", "g", *["pagedown"] * 40, "y"):
            await seat.press(key)
            assert living(seat.text.replace("\n", "")) == []
        for text in ("[/]", "\x1b", "[bold", "/[/"):
            view.search(text)
            await seat.until(lambda: not view.searching)
            assert living(view.badge) == []
        assert seat.app.copies

    play(lambda: LogView(str(path)), act)


def test_a_million_lines_are_shown_at_once_and_idle_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        for thousand in range(1000):
            file.write("".join(f"line {thousand * 1000 + number} of many\n" for number in range(1000)))

    async def act(seat: Seat) -> None:
        view = seat.app.query_one(LogView)
        started = time.process_time()
        view.show(str(path), live=True)
        await seat.until(lambda: "line 999999 of" in seat.text)
        assert time.process_time() - started < 1.5
        started = time.process_time()
        view.focus()
        for _ in range(20):
            await seat.press("pageup")
        assert "line 999999" not in seat.text and time.process_time() - started < 3

    play(LogView, act)
