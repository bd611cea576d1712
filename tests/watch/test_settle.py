"""When a save is over: the ways of editors, checkouts and storms, as events with times."""

from __future__ import annotations

import pytest
from mlpipe_engine.snapshots.ignore import is_editors_own
from mlpipe_engine.watch.settle import MOST_PATHS, Settling, What

MADE, WRITTEN, CLOSED, GONE, TOUCHED, FOLDER, LOST = What


def batch_after(*events: tuple[str, What], busy: bool = False) -> tuple[float, frozenset[str] | None]:
    """(seconds after the last event, paths) of the batch these make."""
    settling = Settling(lambda: busy)
    now = 100.0
    for path, what in events:
        now += 0.001
        settling.take(path, what, now)
    due = settling.due()
    assert due is not None
    batch = settling.ready(due)
    assert batch is not None
    assert not settling
    return due - now, batch.paths


def test_one_closed_file_is_looked_at_after_ten_milliseconds() -> None:
    wait, paths = batch_after(("/p/a.py", WRITTEN), ("/p/a.py", WRITTEN), ("/p/a.py", CLOSED))
    assert paths == {"/p/a.py"}
    assert wait == pytest.approx(0.010)


def test_a_save_by_rename_is_one_closed_file() -> None:
    wait, paths = batch_after(
        ("/p/tmp1", MADE), ("/p/tmp1", WRITTEN), ("/p/tmp1", CLOSED), ("/p/tmp1", GONE), ("/p/a.py", CLOSED)
    )
    assert paths == {"/p/a.py"}
    assert wait == pytest.approx(0.010)


def test_vim_saves_with_a_backup_and_a_probe() -> None:
    wait, paths = batch_after(
        ("/p/4913", MADE), ("/p/4913", CLOSED), ("/p/4913", GONE), ("/p/a.py", GONE), ("/p/a.py~", CLOSED), ("/p/a.py", MADE),
        ("/p/a.py", WRITTEN), ("/p/a.py", CLOSED), ("/p/a.py~", GONE), ("/p/.a.py.swp", WRITTEN),
    )  # fmt: skip
    assert paths == {"/p/a.py"}
    assert wait == pytest.approx(0.010, abs=0.005)


def test_several_files_and_open_writers_wait_for_quiet() -> None:
    assert batch_after(("/p/a.py", CLOSED), ("/p/b.py", CLOSED)) == (pytest.approx(0.3), {"/p/a.py", "/p/b.py"})
    assert batch_after(("/p/a.py", CLOSED), ("/p/a.py", WRITTEN)) == (pytest.approx(0.3), {"/p/a.py"})
    assert batch_after(("/p/a.py", GONE)) == (pytest.approx(0.3), {"/p/a.py"})
    assert batch_after(("/p/sub", FOLDER)) == (pytest.approx(0.3), {"/p/sub"})


def test_a_file_saved_again_and_again_is_no_single_save() -> None:
    wait, _ = batch_after(*[("/p/a.py", CLOSED)] * 3)
    assert wait == pytest.approx(0.3)


def test_a_file_that_was_there_before_and_is_gone_is_not_forgotten() -> None:
    _, paths = batch_after(("/p/a.py", GONE), ("/p/a.py", MADE), ("/p/a.py", CLOSED), ("/p/a.py", GONE))
    assert paths == {"/p/a.py"}


def test_a_storm_without_a_pause_is_looked_at_after_two_seconds() -> None:
    settling = Settling()
    now = 0.0
    while now < 1.99:
        settling.take("/p/a.py", CLOSED, now)
        settling.take("/p/b.py", CLOSED, now)
        assert settling.ready(now) is None
        now += 0.05
    assert settling.ready(2.0) is not None


def test_git_holds_the_index_for_at_most_thirty_seconds() -> None:
    busy = [True]
    settling = Settling(lambda: busy[0])
    settling.take("/p/a.py", CLOSED, 0.0)
    assert settling.ready(0.02) is None
    assert settling.ready(1.0) is None
    busy[0] = False
    assert settling.ready(1.01) is None, "300 ms after it was seen busy"
    assert settling.ready(1.31) is not None


def test_a_lock_that_git_left_behind_does_not_stop_the_watcher() -> None:
    settling = Settling(lambda: True)
    settling.take("/p/a.py", CLOSED, 0.0)
    now = 0.0
    while settling.ready(now) is None:
        now += 0.1
        assert now < 40
    assert now >= 29


def test_lost_events_and_floods_mean_everything() -> None:
    assert batch_after(("", LOST))[1] is None
    settling = Settling()
    for number in range(MOST_PATHS + 2):
        settling.take(f"/p/{number}", CLOSED, 1.0)
    batch = settling.ready(2.0)
    assert batch is not None
    assert batch.paths is None


def test_what_could_not_be_read_yet_is_looked_at_again() -> None:
    settling = Settling()
    settling.put_back(["/p/a.py"], 5.0)
    assert settling.ready(5.1) is None
    batch = settling.ready(5.31)
    assert batch is not None
    assert batch.paths == {"/p/a.py"}


@pytest.mark.parametrize(
    "name", [".a.py.swp", ".a.py.swx", "a.py~", ".#a.py", "#a.py#", "4913", "a.py___jb_tmp___", ".goutputstream-X1"]
)
def test_editors_own_files(name: str) -> None:
    assert is_editors_own(name)


@pytest.mark.parametrize("name", ["a.py", ".gitignore", "swp", "a.swp", "#a.py", "49130", ".env"])
def test_files_of_people(name: str) -> None:
    assert not is_editors_own(name)
