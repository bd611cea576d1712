"""Projects that are moved, copied, read-only, deleted under a run; file systems that cannot hold a store; logs that grow too long."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.store.network import kind_in
from worlds import World

ONE_STEP = """
o = PipelineData("o")
p = Pipeline(ws, [CommandStep(["sh", "-c", 'echo hello > "$0"', o], name="s", outputs=[o])], name="p")
"""
SLOW = """
p = Pipeline(ws, [CommandStep(["sh", "-c", "while :; do echo x; sleep 0.05; done"], name="slow")], name="p")
"""


def project_id(root: Path) -> str:
    engine = Engine.open(str(root))
    engine._writable()
    return engine._project_id


def wait_until_running(world: World) -> None:
    for _ in range(200):
        if "running" in world.cli("show").stdout:
            return
        time.sleep(0.05)
    raise AssertionError("it never ran")


def test_a_moved_project_is_the_same_and_a_copied_one_is_another(world: World, tmp_path: Path) -> None:
    world.define(ONE_STEP)
    world.run().engine.close()
    first = project_id(world.root)
    shutil.copytree(world.root, tmp_path / "copy", symlinks=True)
    world.root.rename(tmp_path / "moved")
    assert project_id(tmp_path / "moved") == first
    copied = project_id(tmp_path / "copy")
    assert copied != first and project_id(tmp_path / "copy") == copied
    for name in ("moved", "copy"):
        there = World(tmp_path / name)
        assert there.run().ran == set(), "results are found under the new place"
        assert there.cli("show", "1").returncode == 0


def test_a_copy_leaves_the_processes_of_the_original_alone(world: World, tmp_path: Path) -> None:
    world.define(SLOW)
    original = subprocess.Popen(world.command("run"), cwd=world.root, env=world.environment(), stdout=subprocess.DEVNULL)
    try:
        wait_until_running(world)
        shutil.copytree(world.root, tmp_path / "copy", symlinks=True)
        copy = World(tmp_path / "copy")
        copy.define(ONE_STEP)
        done = copy.run()
        assert done.ran == {"s"}, (done.record, done.states, done.events)
        shown = copy.json("show", "1")["run"]
        assert shown["state"] == "canceled" and "copied from" in shown["error"]
        time.sleep(0.3)
        assert original.poll() is None and world.json("show")["run"]["state"] == "running"
    finally:
        original.send_signal(signal.SIGINT)
        original.wait(20)


@pytest.mark.needs("unshare")
@pytest.mark.parametrize("log", [True, False], ids=["with-wal", "without-wal"])
def test_a_project_on_a_read_only_mount_can_be_looked_at(world: World, log: bool) -> None:
    world.define(ONE_STEP)
    world.run()  # its connection stays open, so the log stays
    if not log:
        Engine.open(str(world.root))._writable().query("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in ("-wal", "-shm"):
            (world.root / f".mlpipe/state.db{suffix}").unlink(missing_ok=True)
    else:
        (world.root / ".mlpipe/state.db-shm").unlink()
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && shift && "$@" runs; "$@" plan; "$@" why latest s; "$@" run; echo "run $?"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", world.root, *world.command()],
        env=world.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "succeeded" in done.stdout and "reuse from run 1" in done.stdout and "it never ran here" in done.stdout, (
        done.stdout + done.stderr
    )
    assert "run 4\n" in done.stdout and str(world.root / ".mlpipe") in done.stderr and f"uid {os.geteuid()}" in done.stderr, (
        done.stderr
    )


def test_a_project_deleted_under_a_run_stops_it_and_is_not_made_again(world: World) -> None:
    world.define(SLOW)
    running = subprocess.Popen(
        world.command("run"), cwd=world.root, env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until_running(world)
    shutil.rmtree(world.root / ".mlpipe", ignore_errors=True)
    shutil.rmtree(world.root / ".mlpipe", ignore_errors=True)
    _, error = running.communicate(timeout=30)
    assert running.returncode == 4 and "was deleted or replaced while the run was going on" in error, error
    assert len(error.strip().splitlines()) == 2
    assert not (world.root / ".mlpipe/state.db").exists()


def test_a_log_that_grows_too_long_is_cut_and_says_so_while_the_step_goes_on(world: World) -> None:
    world.write("mlpipe.toml", '[store]\nmax_log = "100KB"\n')
    world.define("""
p = Pipeline(ws, [CommandStep(["sh", "-c", "i=0; while [ $i -lt 12 ]; do head -c 30000 /dev/zero | tr '\\\\0' x; echo; sleep 0.2; i=$((i+1)); done; echo end"], name="s")], name="p")
""")
    done = world.run()
    assert done.states == {"s": "succeeded"}
    log = done.log("s", "stdout")
    assert "bytes were cut here" in log and "[store] max_log" in log and log.endswith("end\n")
    assert len(log) < 200_000


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 0:37 / /mnt/share rw,relatime shared:9 - nfs4 server:/x rw,vers=4.2
41 22 0:38 / /mnt/c rw - 9p drvfs rw
42 22 0:39 / /mnt/s rw - fuse.sshfs host:/ rw
43 22 0:40 / /tmp rw - tmpfs tmpfs rw
44 22 0:41 / /mnt/o rw - overlay overlay rw
"""


@pytest.mark.parametrize(("minor", "kind"), [(37, "nfs4"), (38, "9p"), (39, "fuse.sshfs"), (40, ""), (41, ""), (99, "")])
def test_network_file_systems_are_told_from_local_ones(minor: int, kind: str) -> None:
    assert kind_in(MOUNTS, os.makedev(0, minor)) == kind


def test_a_store_with_a_rollback_journal_works_and_becomes_a_log_again_on_a_local_disk(world: World) -> None:
    import sqlite3

    world.define(ONE_STEP)
    world.run().engine.close()
    connection = sqlite3.connect(world.root / ".mlpipe/state.db")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    assert world.run().ran == set()
    assert sqlite3.connect(world.root / ".mlpipe/state.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_switch_for_network_file_systems_is_true_or_false(world: World) -> None:
    world.write("mlpipe.toml", '[store]\nnetwork = "yes"\n')
    done = world.cli("runs")
    assert done.returncode == 2 and "expected true or false" in done.stderr
