"""The ignore rules are git's: thousands of generated rules and paths are put to `git check-ignore`."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.snapshots.ignore import ProjectIgnore, parse

PIECES = [
    "a", "b", "ab", "*", "?", "**", "[ab]", "[!a]", "[^b]", "[a-c]", "a*", "*b", "*.py", "a?", "[[:alpha:]]", "[]a]", "\\a", "\\*", "é", "a.py",
    "[[:digit:]x]", "a b", "[a-]", "[\\]a]", "**a", "a**", "x[", "[z-a]",
]  # fmt: skip
NAMES = ["a", "b", "ab", "c", "a.py", "b.py", "é", "a b", "]", "-", "*", "x", "1", "aa", ".a", "x["]


def git_ignored(root: Path, paths: list[str]) -> set[str]:
    environment = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["git", "-C", root, "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-z", "--stdin"],
        input=b"\0".join(os.fsencode(path) for path in paths), capture_output=True, env=environment, check=False,
    )  # fmt: skip
    return {os.fsdecode(path) for path in done.stdout.split(b"\0") if path}


def ours(root: Path) -> set[str]:
    return {entry.path for entry in scan_tree(str(root), ignore=ProjectIgnore(str(root), str(root)), cache=StatCache()).entries}


def rules(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(1, 4)):
        pattern = "/".join(rng.choice(PIECES) for _ in range(rng.choice([1, 1, 2, 3])))
        lines.append(rng.choice(["", "", "!", "/"]) + pattern + rng.choice(["", "", "/", " ", "\\ "]))
    return rng.choice(["", "\ufeff"]) + rng.choice(["\n", "\r\n"]).join(lines) + "\n"


@pytest.mark.needs("git")
@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_out_is_what_git_leaves_out(tmp_path: Path, seed: int) -> None:
    """100 trees of rules and about 60 paths each, nested ignore files included."""
    rng = random.Random(seed)
    root = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", root], check=True)
    paths = []
    folders = ["", "a", "a/b", "ab", "ab/c", "a/b/a", "é"]
    for folder in folders:
        (root / folder).mkdir(exist_ok=True, parents=True)
    for folder in folders:
        for name in NAMES:
            if not (root / folder / name).exists():
                (root / folder / name).write_text("")
                paths.append(f"{folder}/{name}" if folder else name)
    compared = 0
    for _ in range(100):
        (root / ".gitignore").write_text(rules(rng))
        nested = root / rng.choice(["a", "ab"]) / ".gitignore"
        nested.write_text(rules(rng))
        kept, ignored = ours(root), git_ignored(root, paths)
        wrong = [path for path in paths if (path in kept) == (path in ignored)]
        described = (root / ".gitignore").read_text(), nested.relative_to(root), nested.read_text()
        assert not wrong, (wrong[:5], described)
        compared += len(paths)
        nested.unlink()
    assert compared > 5000


def test_amlignore_replaces_gitignore_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("a\n")
    (tmp_path / ".amlignore").write_text("b\n")
    for name in "abc":
        (tmp_path / name).write_text("")
    assert {"a", "c"} <= ours(tmp_path) and "b" not in ours(tmp_path)


def test_files_above_the_source_directory_count_up_to_the_project(tmp_path: Path) -> None:
    source = tmp_path / "project/src"
    source.mkdir(parents=True)
    (tmp_path / ".gitignore").write_text("outside\n")
    (tmp_path / "project/.gitignore").write_text("above\n/src/anchored\n")
    for name in ("outside", "above", "anchored", "kept"):
        (source / name).write_text("")
    rules = ProjectIgnore(str(tmp_path / "project"), str(source))
    found = {entry.path for entry in scan_tree(str(source), ignore=rules, cache=StatCache()).entries}
    assert found == {"outside", "kept"}
    assert rules.why("above") == "../.gitignore:1 above"


@pytest.mark.parametrize("name", [".git", ".mlpipe", "__pycache__", ".ipynb_checkpoints", "venv"])
def test_what_is_never_code(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "pyvenv.cfg").write_text("")
    (tmp_path / "kept").write_text("")
    assert ours(tmp_path) == {"kept"}


def test_a_bad_line_is_named_and_the_others_still_apply(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes(b"ok\nx\\\n!\n\xff\xfe\n")
    for name in ("ok", "kept"):
        (tmp_path / name).write_text("")
    rules = ProjectIgnore(str(tmp_path), str(tmp_path))
    found = {entry.path for entry in scan_tree(str(tmp_path), ignore=rules, cache=StatCache()).entries}
    assert found == {".gitignore", "kept"}
    assert [warning.split(":")[1] for warning in rules.warnings] == ["2", "3"]


@pytest.mark.parametrize("pattern", ["*a" * 25 + "*b", "**/a" * 20 + "/b", "?*" * 25 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """25 stars against 10,000 names; a backtracking matcher needs longer than the universe has."""
    (found,), _ = parse(pattern.encode(), ".gitignore")
    names = [b"a" * 40 + b"%d" % number for number in range(10_000)]
    parts = [[b"a"] * 20 + [name] for name in names[:500]] + [[name] for name in names]
    began = time.process_time()
    assert not any(found.matches(part, False) for part in parts)
    assert time.process_time() - began < 20
