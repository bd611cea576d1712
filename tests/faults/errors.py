"""ENOSPC, EIO, EROFS, EMFILE and EDQUOT, once and for good, at each file operation of a first run of four steps.

Promises: nothing is called succeeded that is not, exit 4 or 5 (1 where a step could not be started) with one line that names path
and cause, no traceback, no hang, and when the fault is gone the next run ends well with the right bytes.
"""

from __future__ import annotations

import errno
import re
from concurrent.futures import ThreadPoolExecutor

from faults import shim
from faults.campaign import Campaign
from faults.crashpoints import count, remove
from faults.subject import Ended, Subject, left_after

ERRORS = ("ENOSPC", "EIO", "EROFS", "EMFILE", "EDQUOT")
MODES = ("once", "from")
_MOST = 2000


def campaign(campaign: Campaign) -> None:
    operations = count(campaign, "rws")
    points = [
        (mode, number, name)
        for number, operation in enumerate(operations, 1) for mode in MODES for name in ERRORS
        if possible(operation.split()[1], name)
    ]  # fmt: skip
    most = 60 if campaign.quick else _MOST
    if len(points) > most:
        points = sorted(campaign.random.sample(points, most), key=points.index)
    campaign.random.shuffle(points)  # so that a time limit still sees all parts
    campaign.notes.append(f"of {len(operations)} operations")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda point: strike(campaign, *point), points))


def possible(operation: str, error: str) -> bool:
    """Only what a system would answer: no operation but open says EMFILE, a read is never out of space."""
    reading, syncing = operation in ("read", "pread"), operation in ("fsync", "fdatasync", "syncfs")
    match error:
        case "EMFILE":
            return operation == "open"
        case "EIO":
            return True
        case "EROFS":
            return not reading and not syncing
        case _:
            return not reading and operation not in ("chmod", "unlink", "rmdir")


def strike(campaign: Campaign, mode: str, number: int, error: str) -> None:
    if campaign.out_of_time:
        return
    subject = Subject(campaign.folder / f"{mode}-{number}-{error}").make()
    log = subject.root.parent / f"{subject.root.name}.log"
    more = shim.variables(subject.state, at=number, mode=mode, errno=getattr(errno, error), kinds="rws", log=log)
    first = subject.run(1, more, shim.owned(subject.run_words(1)))
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    where = f"{error} {mode} at {lines[number - 1] if len(lines) >= number else 'nothing'}"
    campaign.counts["faults"] += 1
    campaign.counts[f"exit {first.code}"] += 1
    left = left_after(subject.root, [], 2.0)
    problems = judge(first) + ([f"{len(left)} processes alive after 2 s"] if left else []) + subject.damage()
    if first.code == 0:
        problems += [f"it ended well, but {text}" for text in subject.wrong_outputs(1)]
    done, starts = subject.acknowledged(1), subject.starts(1)
    problems += [f"{step} was printed as succeeded and is not in the store" for step in first.printed - done]
    second = subject.run(1)
    problems += second.bad_manners() + subject.damage() + subject.wrong_outputs(1)
    if second.code != 0:
        problems.append(f"the run after the fault ended with {second.code}")
    problems += [f"step {step} was acknowledged and done again" for step in done if subject.starts(1)[step] > starts[step]]
    campaign.check(where, problems, first, second, subject=subject)
    remove(subject)
    log.unlink(missing_ok=True)


def judge(ended: Ended) -> list[str]:
    found = ended.bad_manners()
    if ended.code not in (0, 1, 4, 5):
        found.append(f"exit {ended.code}")
    if ended.code in (4, 5):
        lines = [line for line in ended.err.splitlines() if line.startswith("error: ")]
        if len(lines) != 1:
            found.append(f"{len(lines)} error lines")
        elif not re.search(r"/\S+", lines[0]):
            found.append(f"no path in: {lines[0]}")
        elif not re.search(  # "malformed": SQLite calls a page that cannot be read damage
            r"No space|Input/output|I/O error|Read-only|read-only|Too many open|quota|unable to open|readonly|full|malformed",
            lines[0],
        ):
            found.append(f"no cause in: {lines[0]}")
    if ended.code == 1 and "failed" not in ended.out:
        found.append("exit 1 without a failed step")
    return found
