"""CPUs and memory are leased once across all owners of a machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

from mlpipe_engine.executors.leases import Leases


def test_no_more_than_there_is(tmp_path: Path) -> None:
    one, two = Leases(str(tmp_path), cpus=2, memory_bytes=100), Leases(str(tmp_path), cpus=2, memory_bytes=100)
    first, second = one.try_lease(1), two.try_lease(0.5)
    assert first and second
    assert one.try_lease(1) is None
    assert two.try_lease(0.5) is not None
    first.release()
    first.release()
    assert one.try_lease(1) is not None
    one.close()
    two.close()


def test_memory_counts(tmp_path: Path) -> None:
    leases = Leases(str(tmp_path), cpus=8, memory_bytes=100)
    assert leases.try_lease(1, 60) is not None
    assert leases.try_lease(1, 60) is None
    assert leases.try_lease(1, 40) is not None
    leases.close()


def test_a_step_that_asks_for_more_than_there_is_gets_all_of_it_alone(tmp_path: Path) -> None:
    leases = Leases(str(tmp_path), cpus=2, memory_bytes=100)
    large = leases.try_lease(64, 10**9)
    assert large is not None and (large.cpus, large.memory_bytes) == (2, 100)
    assert leases.try_lease(0.1) is None
    leases.close()


def hold(folder: str, ready: object) -> None:
    Leases(folder, cpus=1).try_lease(1)
    ready.set()  # type: ignore[attr-defined]
    signal.pause()


def test_leases_of_a_killed_owner_are_free_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(20)
    mine = Leases(str(tmp_path), cpus=1)
    assert mine.try_lease(1) is None
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert mine.try_lease(1) is not None
    mine.close()


def test_a_ledger_that_was_half_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text('{"a": [1')
    leases = Leases(str(tmp_path), cpus=1)
    assert leases.try_lease(1) is not None
    leases.close()
