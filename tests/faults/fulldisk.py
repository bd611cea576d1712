"""No room: a full file system for the project or for temporary files, no inodes, and the limits a shell can set (ulimit).

Promises: as for errors of single operations. One line that names path and cause, nothing half-written, and with room again the next
run ends well. The file systems need root (a mount namespace of this process); the limits do not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from faults.campaign import Campaign
from faults.powercut import private_mounts
from faults.subject import Ended, Subject, left_after

KILOBYTES = (200, 300, 400, 500, 600, 700, 800, 1000)
INODES = (20, 40, 60, 80, 100, 120, 140)
LIMITS = {
    "-f": (0, 4, 32, 64, 100, 200, 1000),  # kilobytes
    "-n": (5, 8, 10, 12, 14, 16, 20, 24, 32, 64),
    "-v": (60_000, 80_000, 100_000, 120_000, 160_000, 200_000, 300_000, 400_000),  # kilobytes
    "-u": (1, 2, 3, 4, 6, 10),
}
_NAMES = {"-f": "file size", "-n": "open files", "-v": "address space", "-u": "processes"}


def campaign(campaign: Campaign) -> None:
    every = 3 if campaign.quick else 1
    for option, values in LIMITS.items():
        if option == "-u" and (problem := _cannot_be_somebody_else(campaign)):
            campaign.notes.append(f"processes NOT DONE: {problem}")
            continue
        for value in values[::every]:
            if not campaign.out_of_time:
                limited(campaign, option, value)
    if problem := private_mounts():
        campaign.notes.append(f"file systems NOT DONE: {problem}")
        return
    for what, values in (("size", KILOBYTES), ("nr_inodes", INODES), ("tmp", (0, 8))):
        for value in values[::every]:
            if not campaign.out_of_time:
                small(campaign, what, value)


def limited(campaign: Campaign, option: str, value: int) -> None:
    where = f"limit of {_NAMES[option]}: {value}"
    subject = Subject(campaign.folder / f"limit{option}{value}").make()
    script = f'ulimit {option} {value} && exec "$@"'
    if option == "-f":  # what it says goes through a pipe: a file would fall under the limit too
        script = f"set -o pipefail; ({script}) 2>&1 >/dev/null | cat >&2"
    words = ["bash", "-c", script, "bash", *subject.run_words(1)]
    if option == "-u":
        for path in (subject.root, subject.runtime, *subject.root.rglob("*")):
            shutil.chown(path, 65534, 65534)
        words = [*_AS_NOBODY, *words]
    first = subject.run(1, command=words)
    if option == "-u":  # leases belong to a user; the next run is another's
        shutil.rmtree(subject.runtime / "mlpipe-tui", ignore_errors=True)
    _judge(campaign, where, subject, first)


def small(campaign: Campaign, what: str, value: int) -> None:
    """`value`: kilobytes, or inodes, of the file system of the project, or of the temporary folder ("tmp")."""
    where = f"file system with {what} {value}"
    mount = campaign.folder / f"{what}{value}"
    mount.mkdir()
    option = {"size": f"size={value}k", "nr_inodes": f"nr_inodes={value}", "tmp": f"size={max(value, 4)}k"}[what]
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "none", mount], check=True)
    try:
        subject = Subject(campaign.folder / f"{what}{value}-project" if what == "tmp" else mount / "project")
        subject.trace, subject.runtime = campaign.folder / f"{what}{value}.trace", campaign.folder / f"{what}{value}.runtime"
        more = {"TMPDIR": str(mount)} if what == "tmp" else {}
        if what == "tmp":
            (mount / "ballast").write_bytes(b"0" * 4096)
        first = subject.make().run(1, more)
        subprocess.run(["mount", "-o", "remount,size=64m,nr_inodes=100000", mount], check=True)
        _judge(campaign, where, subject, first)
    finally:
        subprocess.run(["umount", "-l", mount], check=False)


def _judge(campaign: Campaign, where: str, subject: Subject, first: Ended) -> None:
    left = left_after(subject.root, [], 2.0)
    problems = judge(first) + ([f"{len(left)} processes alive after 2 s"] if left else []) + subject.damage()
    if first.code == 0:
        problems += [f"it ended well, but {text}" for text in subject.wrong_outputs(1)]
    second = subject.run(1)
    problems += second.bad_manners() + subject.damage() + subject.wrong_outputs(1)
    if second.code != 0:
        problems.append(f"the run with room again ended with {second.code}")
    campaign.counts["limits"] += 1
    campaign.counts[f"exit {first.code}"] += 1
    campaign.check(where, problems, first, second, subject=subject)


def judge(ended: Ended) -> list[str]:
    """Where not even Python can start, it is Python that says so; all else has to be ours."""
    if re.search(
        r"^(Fatal Python error|MemoryError$|ImportError|.*(error while loading shared|cannot fork|Cannot fork))",
        ended.err,
        re.MULTILINE,
    ):
        return ["hung"] if ended.hung else []
    found = ended.bad_manners()
    if ended.code not in (0, 1, 4, 5):
        found.append(f"exit {ended.code}: {ended.err[-300:]}")
    if ended.code in (4, 5) and len([line for line in ended.err.splitlines() if line.startswith("error: ")]) != 1:
        found.append(f"not one error line: {ended.err[-300:]}")
    return found


_AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def _cannot_be_somebody_else(campaign: Campaign) -> str:
    """Limits of processes do not bind root; whether another user can run our Python depends on where it is installed."""
    import os
    import sys

    if os.geteuid() != 0:
        return ""
    if shutil.which("setpriv") is None:
        return "needs setpriv"
    Path(campaign.folder).chmod(0o755)
    done = subprocess.run([*_AS_NOBODY, sys.executable, "-c", ""], capture_output=True, text=True, check=False)
    return "another user cannot start this Python" if done.returncode else ""
