"""Snapshots are what was hashed, and tell what was read."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import threading
from itertools import count
from pathlib import Path

import pytest
from mlpipe_engine.errors import MlpipeError, SnapshotError
from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.hashing.stat_cache import RACY_NS, StatCache
from mlpipe_engine.snapshots.canary import can_trace
from mlpipe_engine.snapshots.lines import line_counts
from mlpipe_engine.snapshots.source import SourceSnapshots


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.py", "b.txt", "sub/c.py", "d.py"):
        (folder / name).write_text(name)
    (folder / "link").symlink_to("a.py")
    (folder / "a.py").chmod(0o755)
    return folder


def snapshots(source: Path) -> SourceSnapshots:
    return SourceSnapshots(str(source.parent / "store"), str(source.parent), StatCache())


def test_what_is_laid_out_is_what_was_scanned(source: Path, tmp_path: Path) -> None:
    store = snapshots(source)
    tree = store.scan(str(source))
    store.save(tree, str(source))
    store.lay_out(tree, str(tmp_path / "code"))
    assert scan_tree(str(tmp_path / "code"), ignore=None, cache=StatCache()).digest == tree.digest
    assert store.load(tree.digest) == tree


def test_reads_of_every_kind_are_told_and_nothing_else(source: Path, tmp_path: Path) -> None:
    assert can_trace(str(tmp_path)) == ""
    store = snapshots(source)
    tree = store.scan(str(source))
    store.save(tree, str(source))
    code, numbers = tmp_path / "code", count()

    def used(use: object) -> list[str]:
        target = f"{code}-{next(numbers)}"
        store.lay_out(tree, target)
        use(Path(target))  # type: ignore[operator]
        return [path for path, _ in store.reads(tree, target) or ()]

    def mapped(folder: Path) -> None:
        with open(folder / "b.txt", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            view[:1]

    assert used(lambda folder: None) == []
    assert used(lambda folder: (folder / "b.txt").read_text()) == ["b.txt"]
    assert used(lambda folder: (folder / "link").read_text()) == ["a.py"]
    assert used(mapped) == ["b.txt"]
    assert used(lambda folder: subprocess.run(["cat", folder / "sub/c.py"], check=True, capture_output=True)) == ["sub/c.py"]
    assert used(lambda folder: (folder / "d.py").unlink()) == ["d.py"]
    assert used(lambda folder: (folder / "d.py").write_text("x")) == ["d.py"]
    assert used(lambda folder: (folder / "d.py").rename(folder / "e.py")) == ["d.py"]
    assert used(lambda folder: os.replace(folder / "b.txt", folder / "d.py")) == ["b.txt", "d.py"]
    assert used(
        lambda folder: subprocess.run([sys.executable, "-c", "import d"], cwd=folder, check=False, capture_output=True)
    ) == ["d.py"]
    assert used(lambda folder: [list(folder.rglob("*")), (folder / "b.txt").stat()]) == []


def test_where_reads_cannot_be_told_nothing_is_claimed(source: Path, tmp_path: Path) -> None:
    store = snapshots(source)
    store.trace_if(False)
    tree = store.scan(str(source))
    store.save(tree, str(source))
    store.lay_out(tree, str(tmp_path / "code"))
    assert store.reads(tree, str(tmp_path / "code")) is None


@pytest.mark.needs("unshare")
def test_the_canary_sees_a_file_system_without_access_times(tmp_path: Path) -> None:
    code = f"from mlpipe_engine.snapshots.canary import can_trace; print(can_trace({str(tmp_path)!r}))"
    script = f'mount -t tmpfs -o noatime none {tmp_path} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    assert b"do not show in access times" in done.stdout


def test_a_file_that_changes_between_scan_and_save_is_refused(source: Path) -> None:
    store = snapshots(source)
    tree = store.scan(str(source))
    (source / "b.txt").write_text("changed")
    with pytest.raises(SnapshotError, match=r"changed while being read: .*b\.txt"):
        store.save(tree, str(source))
    assert store.load(tree.digest) is None


def test_a_file_that_is_being_written_never_gives_a_false_digest(tmp_path: Path) -> None:
    path = tmp_path / "src" / "busy"
    path.parent.mkdir()
    path.write_bytes(b"0" * 100_000)
    stop = threading.Event()

    def writer() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path.write_bytes(b"%d" % (number % 10) * 100_000)

    thread = threading.Thread(target=writer)
    thread.start()
    refused = 0
    try:
        for _ in range(100):
            store = SourceSnapshots(str(tmp_path / f"store{_}"), str(tmp_path), StatCache())
            try:
                tree = store.scan(str(path.parent))
                store.save(tree, str(path.parent))
            except MlpipeError as error:
                assert "changed while being read" in str(error)
                refused += 1
                continue
            blob = store.read_blob(tree.by_path["busy"].digest)
            assert blob is not None and len(blob) == tree.by_path["busy"].size_bytes
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("kind", ["fifo", "unreadable"])
def test_what_cannot_be_frozen_is_named(source: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(source / "bad")
    else:
        (source / "bad").write_text("")
        (source / "bad").chmod(0)
    for folder in [source, *source.parents[:4]]:
        folder.chmod(0o755) if os.access(folder, os.W_OK) and str(folder).startswith(tempfile.gettempdir() + "/") else None
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root could read everything
        with pytest.raises(SnapshotError, match="bad"):
            snapshots(source).scan(str(source))
    finally:
        if root:
            os.seteuid(0)


def test_odd_names_survive(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in (b"\xff\xfe", "é".encode(), "e\u0301".encode(), b"new\nline", b" ", b"-x", b"x" * 255):
        (Path(os.fsdecode(os.path.join(os.fsencode(source), name)))).write_text("1")
    store = snapshots(source)
    tree = store.scan(str(source))
    store.save(tree, str(source))
    store.lay_out(tree, str(tmp_path / "code"))
    assert store.load(tree.digest) == tree
    assert sorted(os.listdir(os.fsencode(source))) == sorted(os.listdir(os.fsencode(tmp_path / "code")))


def test_the_stat_cache_trusts_only_what_cannot_have_changed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("1")
    info = path.stat()
    cache = StatCache()
    now = max(info.st_mtime_ns, info.st_ctime_ns)
    cache.remember(str(path), info, "b3:1", now + RACY_NS - 1)
    assert cache.digest(str(path), info) is None, "it may have changed within the same tick"
    cache.remember(str(path), info, "b3:1", now + RACY_NS)
    assert cache.digest(str(path), info) == "b3:1"
    assert StatCache(cache.new_rows()).digest(str(path), info) == "b3:1"
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert cache.digest(str(path), path.stat()) is None, "utime restores mtime but moves ctime"
    assert StatCache(cache.new_rows(), paranoid=True).digest(str(path), info) is None


def test_large_files_have_the_same_digest_however_they_are_read(tmp_path: Path) -> None:
    from blake3 import blake3

    for size in (0, 1, 4095, (4 << 20) - 1, 4 << 20, (4 << 20) + 7):
        path = tmp_path / "f"
        path.write_bytes(os.urandom(1) * size)
        assert hash_file(str(path)) == "b3:" + blake3(path.read_bytes()).hexdigest()


def test_line_counts() -> None:
    assert line_counts(b"a\nb\nc\n", b"a\nx\nc\nd\n") == (2, 1)
    assert line_counts(b"a\0", b"b") is None
