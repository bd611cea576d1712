"""Power cuts: an ext4 in a file is shut down in the middle of a run, without a flush of anything, and mounted again.

Promises: every step that was told to be finished before the cut is there and whole, and the next run needs no repair. Needs root and
loop devices; mounts are made in a mount namespace of this process, so they end with it.

Only what was told before the cut counts: a machine without power tells nothing. Here the process lives on for a moment, and a sync that is
under way when ext4 is shut down may return as if it had been done (a loop of pwrite and fdatasync on Linux 6.18: of 600 cuts, 57 lost
a block whose fdatasync returned after the cut, none lost one whose fdatasync returned before it).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

from faults.campaign import Campaign
from faults.subject import Subject, kill, processes_of, tree_of

OPTIONS = {"plain": "defaults", "noauto_da_alloc": "noauto_da_alloc", "writeback": "data=writeback"}
_SHUTDOWN, _WITHOUT_FLUSHING_THE_LOG = 0x8004587D, struct.pack("I", 2)
_CLONE_NEWNS = 0x00020000


def campaign(campaign: Campaign) -> None:
    if problem := private_mounts():
        campaign.notes.append(f"NOT DONE: {problem}")
        return
    cuts = 6 if campaign.quick else 200
    disks = [Disk(campaign.folder, name, options) for name, options in OPTIONS.items()]
    try:
        for disk in disks:
            disk.make()
        for number in range(cuts):  # in turn, so that a time limit leaves none out
            for disk in disks:
                if not campaign.out_of_time:
                    cut(campaign, disk, number + 1)
        for disk in disks:
            campaign.check(f"{disk.name} at the end", disk.subject.damage(), subject=disk.subject)
    finally:
        for disk in disks:
            disk.unmount()


def private_mounts() -> str:
    """Why mounts of our own are impossible here; "" when they are not."""
    if os.geteuid() != 0:
        return "needs root"
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        return "no mount namespace"
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


class Disk:
    """A file system in a file, with one project in it. What the steps themselves tell lies outside."""

    def __init__(self, folder: Path, name: str, options: str) -> None:
        self.name, self._options = name, options
        self._image, self._mount = folder / f"{name}.img", folder / name
        self.subject = Subject(self._mount / "project")
        self.subject.trace, self.subject.runtime = folder / f"{name}.trace", folder / f"{name}.runtime"

    def make(self) -> None:
        with open(self._image, "wb") as file:
            file.truncate(256 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", self._image], check=True)
        self._mount.mkdir()
        self.mount()
        self.subject.make()
        assert self.subject.run(0).code == 0
        os.sync()

    def mount(self) -> None:
        subprocess.run(["mount", "-o", f"loop,{self._options}", self._image, self._mount], check=True)

    def shut_down(self) -> None:
        fd = os.open(self._mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_FLUSHING_THE_LOG)
        finally:
            os.close(fd)

    def unmount(self) -> None:
        for _ in range(100):
            done = subprocess.run(["umount", self._mount], capture_output=True, text=True, check=False)
            if done.returncode == 0 or "not mounted" in done.stderr:
                return
            time.sleep(0.05)
        subprocess.run(["umount", "-l", self._mount], capture_output=True, check=False)


def cut(campaign: Campaign, disk: Disk, n: int) -> None:
    subject, where = disk.subject, f"{disk.name} cut {n}"
    since = str((subject.rows("SELECT max(created_at) FROM artifacts") or [("",)])[0][0] or "")
    process = subject.start(subject.run_words(n))
    subject.await_moment(process, n, campaign.random)
    done = subject.acknowledged(n) | process.printed()
    disk.shut_down()
    kill([*tree_of(process.pid), *processes_of(subject.root)])
    first = subject.finish(process)
    disk.unmount()
    disk.mount()
    campaign.counts["cuts"] += 1
    campaign.counts["acknowledged steps"] += len(done)
    after, starts = subject.acknowledged(n), subject.starts(n)
    problems = [f"step {step} was acknowledged and is gone" for step in done - after]
    problems += subject.damage(since="" if n % 20 == 0 else since)
    second = subject.run(n)
    problems += second.bad_manners() + subject.wrong_outputs(n)
    if second.code != 0:
        problems.append(f"the next run ended with {second.code}")
    problems += [f"step {step} was acknowledged and done again" for step in done if subject.starts(n)[step] > starts[step]]
    campaign.check(where, problems, first, second, subject=subject)
