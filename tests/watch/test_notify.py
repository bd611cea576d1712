"""Events of the operating system, as they come from real files."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlpipe_engine.watch import notify
from mlpipe_engine.watch.mounts import silent_mount
from mlpipe_engine.watch.notify import Notices
from mlpipe_engine.watch.settle import What


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[Notices]:
    made = Notices()
    yield made
    made.close()


def heard(notices: Notices, path: Path, seconds: float = 5.0) -> list[What]:
    """What was said of `path` until nothing came for 0.2 s."""
    found: list[What] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ready, _, _ = select.select([notices.fileno()], [], [], 0.2)
        if not ready and found:
            break
        found += [what for name, what in notices.take() if name == str(path)]
    return found


def test_a_write_a_rename_and_a_deletion(notices: Notices, tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    notices.watch([str(tmp_path)])
    assert notices.reason == ""
    file.write_text("2")
    assert heard(notices, file)[-1] is What.CLOSED
    (tmp_path / "b").write_text("3")
    os.replace(tmp_path / "b", file)
    assert heard(notices, file) == [What.CLOSED]
    file.unlink()
    assert heard(notices, file) == [What.GONE]


def test_only_the_folders_asked_for(notices: Notices, tmp_path: Path) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    notices.watch([str(tmp_path / "in"), str(tmp_path / "not there")])
    (tmp_path / "out" / "a").write_text("1")
    (tmp_path / "in" / "a").write_text("1")
    assert heard(notices, tmp_path / "in" / "a")
    notices.watch([str(tmp_path / "out")])
    (tmp_path / "in" / "a").write_text("2")
    (tmp_path / "out" / "a").write_text("2")
    deadline = time.monotonic() + 5
    names: set[str] = set()
    while str(tmp_path / "out" / "a") not in names and time.monotonic() < deadline:
        select.select([notices.fileno()], [], [], 0.2)
        names |= {name for name, _ in notices.take()}
    assert names == {str(tmp_path / "out" / "a")}


def test_a_folder_that_is_made_anew_is_watched_anew(notices: Notices, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    notices.watch([str(tmp_path), str(folder)])
    (tmp_path / "src").rename(tmp_path / "old")
    folder.mkdir()
    assert What.FOLDER in heard(notices, folder)
    notices.watch([str(tmp_path), str(folder)])
    (folder / "a").write_text("1")
    assert What.CLOSED in heard(notices, folder / "a")


def test_polling_says_why(tmp_path: Path) -> None:
    notices = Notices(poll=True)
    notices.watch([str(tmp_path)])
    assert "poll" in notices.reason
    notices.close()


def test_without_inotify_watchdogs_own_observer_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify.sys, "platform", "other")
    folder, store = tmp_path / "src", tmp_path / "src" / "store"
    store.mkdir(parents=True)
    notices = Notices()
    notices.watch([str(folder)])
    try:
        (store / "x").write_text("1")
        (folder / "a.py").write_text("1")
        assert What.CLOSED in heard(notices, folder / "a.py")
        assert heard(notices, store / "x", seconds=0.5) == []
    finally:
        notices.close()


def test_mounts_that_tell_of_changes(tmp_path: Path) -> None:
    assert silent_mount(str(tmp_path)) == ""
