"""Which paths run, ask or are left alone."""

from __future__ import annotations

import pytest
from mlpipe_engine.watch.policy import Policy


@pytest.mark.parametrize(
    ("path", "action"),
    [
        ("/p/src/a.py", "run"),
        ("/p/data/x/y.csv", "ask"),
        ("/p/data/notes/z.md", "ignore"),
        ("/p/src/b.md", "ignore"),
        ("/p/keep.md", "run"),
    ],
)
def test_patterns_are_those_of_ignore_files(path: str, action: str) -> None:
    assert Policy("/p", ask=("data/",), ignore=("*.md", "!/keep.md")).of(path) == action


def test_run_names_what_may_run() -> None:
    policy = Policy("/p", run=("src/",), ask=("src/slow.py",))
    assert [policy.of(f"/p/{name}") for name in ("src/a.py", "src/slow.py", "data.csv")] == ["run", "ask", "ignore"]
