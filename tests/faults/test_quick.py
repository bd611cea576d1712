"""A small part of each fault campaign (python3 dev.py faults), and faults that need no campaign."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import clock, crashpoints, errors, fulldisk, killloop, shim, together
from faults.campaign import Campaign
from faults.subject import Subject, left_after
from worlds import World


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Campaign]:
    made = Campaign(request.node.name.split("[")[0], seed=1, seconds=None, quick=True, folder=tmp_path)
    yield made
    assert made.findings == []


def test_kills_at_random_moments(small: Campaign) -> None:
    killloop.campaign(small, rounds=4)
    assert small.counts["kills"] >= 4


@pytest.mark.needs("cc")
@pytest.mark.parametrize("mode", ["kill", "after", "torn"])
def test_a_kill_at_one_file_operation(small: Campaign, mode: str) -> None:
    number = {"kill": 120, "after": 250, "torn": 300}[mode]
    crashpoints.strike(small, mode, number)
    assert small.counts["kills"] == 1


@pytest.mark.needs("cc")
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS", "EMFILE"])
def test_an_error_at_one_file_operation(small: Campaign, error: str) -> None:
    errors.strike(small, "from", 200, error)
    assert small.counts["exit 0"] == 0


@pytest.mark.needs("cc")
def test_the_shim_sees_what_a_run_does(small: Campaign) -> None:
    """Where it saw nothing, the campaigns would find nothing."""
    operations = {line.split()[1] for line in crashpoints.count(small, "rws")}
    assert operations >= {
        "open",
        "write",
        "pwrite",
        "rename",
        "mkdir",
        "symlink",
        "unlink",
        "chmod",
        "fdatasync",
        "syncfs",
        "read",
    }


@pytest.mark.needs("cc")
def test_a_sync_that_failed_once_is_not_tried_again(tmp_path: Path) -> None:
    subject = Subject(tmp_path / "p").make()
    log = tmp_path / "log"
    more = shim.variables(subject.state / "artifacts", at=1, mode="once", errno=5, kinds="s", log=log)
    first = subject.run(1, more, shim.owned(subject.run_words(1)))
    assert first.code == 4 and "Input/output error" in first.err, first
    assert len(log.read_text().splitlines()) == 1, "after a failed sync nobody knows what is on the disk"
    assert subject.acknowledged(1) == set()
    assert subject.run(1).code == 0 and subject.wrong_outputs(1) == []


def test_eight_at_once(small: Campaign) -> None:
    subject = Subject(small.folder / "p").make()
    together.round_of(small, subject, 1, victim=False)
    assert small.counts["results"] == 4


@pytest.mark.needs("cc")
def test_a_clock_that_jumps_into_the_past(small: Campaign) -> None:
    clock.jumping_clock(small, "a day back", -clock.DAY)


@pytest.mark.parametrize(("option", "value"), [("-n", 8), ("-n", 16), ("-n", 64), ("-f", 0), ("-f", 64), ("-v", 60_000)])
def test_limits(small: Campaign, option: str, value: int) -> None:
    fulldisk.limited(small, option, value)


def test_a_definition_that_cannot_be_loaded_for_want_of_descriptors_is_the_machines_trouble(tmp_path: Path) -> None:
    subject = Subject(tmp_path / "p").make()
    for limit in range(5, 12):
        ended = subject.run(1, command=["bash", "-c", f'ulimit -n {limit} && exec "$@"', "bash", *subject.run_words(1)])
        if ended.err.startswith("error: "):
            assert ended.code == 4 and "Too many open files" in ended.err, ended
            assert "ulimit -n" in ended.err


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_other_signals_leave_nothing_behind(tmp_path: Path, number: int) -> None:
    subject = Subject(tmp_path / "p", pause=5).make()
    started = subject.start(subject.run_words(1))
    while not subject.starts(1)["one"]:
        assert started.process.poll() is None
        time.sleep(0.01)
    os.kill(started.pid, number)
    ended = subject.finish(started)
    assert ended.bad_manners() == [] and ended.code != 0
    assert left_after(subject.root, [], 2.0) == []


def one_step(world: World, command: str) -> None:
    world.define(f"""
o = PipelineData("o")
p = Pipeline(ws, [CommandStep({command!r}, name="s", outputs=[o])], name="p")
""")


@pytest.mark.parametrize(
    "command",
    [
        "exec >&- 2>&-; echo 1 > $o",
        "head -c 200000 /dev/zero; echo 1 > $o",
        "(setsid sh -c 'trap \"\" TERM; sleep 30' >/dev/null 2>&1 &); echo 1 > $o",
        "(sleep 0.2; echo late) & echo 1 > $o",
    ],
    ids=["closes its streams", "no newline", "leaves a daemon", "prints after its end"],
)
def test_odd_steps_end_well_and_soon(world: World, command: str) -> None:
    one_step(world, command)
    began = time.monotonic()
    done = world.cli("run")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 15


def test_equal_steps_with_other_bytes_are_kept_apart(world: World) -> None:
    one_step(world, "cat /proc/sys/kernel/random/uuid > $o")
    first, second = world.run(force=True), world.run(force=True)
    assert first.ran == second.ran == {"s"}
    assert first.output("s", "o") != second.output("s", "o")


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"COLUMNS": "1", "LINES": "1"}])
def test_poor_terminals(world: World, variables: dict[str, str]) -> None:
    one_step(world, "echo 1 > $o")
    done = world.cli("run", env=world.environment(**variables))
    assert done.returncode == 0 and "\x1b" not in done.stdout
