"""A kill before, after and half-way through every file operation of a first run of four steps.

Promises: as after any kill. The store is whole, the next run needs no repair and makes the right bytes, what was acknowledged stays.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults import shim
from faults.campaign import Campaign
from faults.subject import Subject, kill, left_after, processes_of

MODES = ("kill", "after", "torn")
_MOST = 2000


def campaign(campaign: Campaign) -> None:
    operations = count(campaign)
    points = [(mode, number) for number in range(1, len(operations) + 1) for mode in MODES]
    points = [(mode, number) for mode, number in points if mode != "torn" or operations[number - 1].split()[1] in _TEARABLE]
    points = spread(campaign, points, 60 if campaign.quick else _MOST)
    campaign.random.shuffle(points)  # so that a time limit still sees all parts
    campaign.notes.append(f"{len(points)} points wanted, of {len(operations)} operations")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda point: strike(campaign, *point), points))


_TEARABLE = {"write", "pwrite", "copy_file_range"}


def spread(campaign: Campaign, points: list[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """Evenly, from an offset that the seed chooses."""
    if len(points) <= most:
        return points
    width = len(points) / most
    offset = campaign.random.random() * width
    return [points[int(offset + number * width) % len(points)] for number in range(most)]


def count(campaign: Campaign, kinds: str = "ws") -> list[str]:
    """The operations of a run without a fault: NUMBER NAME PATH."""
    subject = Subject(campaign.folder / "count").make()
    log = campaign.folder / "operations.txt"
    ended = subject.run(1, shim.variables(subject.state, at=0, log=log, kinds=kinds), shim.owned(subject.run_words(1)))
    assert ended.code == 0, ended
    lines = log.read_text(errors="replace").splitlines()
    remove(subject)
    return lines


def strike(campaign: Campaign, mode: str, number: int) -> None:
    if campaign.out_of_time:
        return
    subject = Subject(campaign.folder / f"{mode}-{number}").make()
    log = subject.root.parent / f"{subject.root.name}.log"
    more = shim.variables(subject.state, at=number, mode=mode, log=log)
    first = subject.run(1, more, shim.owned(subject.run_words(1)))
    where = f"{mode} at {_last_line(log)}"
    campaign.counts["kills"] += first.code == -9
    campaign.counts["runs that ended before"] += first.code != -9
    if left := left_after(subject.root, [], 2.0):
        campaign.found(where, f"{len(left)} processes alive after 2 s", first, subject=subject)
        kill(processes_of(subject.root))
    done, starts = subject.acknowledged(1), subject.starts(1)
    problems = (
        first.bad_manners() + subject.damage() + [f"{step} was printed and is not in the store" for step in first.printed - done]
    )
    second = subject.run(1)
    problems += second.bad_manners() + subject.damage() + subject.wrong_outputs(1)
    if second.code != 0:
        problems.append(f"the next run ended with {second.code}")
    problems += [f"step {step} was acknowledged and done again" for step in done if subject.starts(1)[step] > starts[step]]
    before = subject.starts(1)
    third = subject.run(1)
    if third.code != 0 or subject.starts(1) != before:
        problems.append(f"the run after it ended with {third.code}, or did something again: {before}, then {subject.starts(1)}")
    campaign.check(where, problems, first, second, third, subject=subject)
    remove(subject)
    log.unlink(missing_ok=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "an operation before the first"


def remove(subject: Subject) -> None:
    for path in subject.root.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(subject.root)
    shutil.rmtree(subject.runtime)
    subject.trace.unlink(missing_ok=True)
