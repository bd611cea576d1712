"""Step directories that are used again: to make one is to make a dozen files and folders, which costs more than the rest of a step.

A step that left nothing in its directory but its outputs (no word in its logs, no file, no record of its audit) has nothing there
that its rows do not say. Its directory is put away for the next step, and made anew when somebody opens it (`runner.views`).
Only where a step has surely ended with all of its processes (Linux), and only for steps without code. Called by `runner.parts`.
"""

from __future__ import annotations

import os
import shutil
import stat as st
import sys
from collections.abc import Callable
from contextlib import suppress

from mlpipe_engine.executors.staging import Layout, make_folders

_FOLDERS = ("in", "out", "logs", "tmp", "code", "code/outputs", "code/logs")
_LOGS = ("logs/stdout.log", "logs/stderr.log")
_EMPTY = ("step.json", *_LOGS)
_TOP = frozenset(("in", "out", "logs", "tmp", "code", "step.json"))


class Laid:
    """What the first step of a run needs in `folder`, made ahead of it. Somebody may clean it up before it is used."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.step_dir, self.run_dir = f"{folder}/0", f"{folder}/run"
        with suppress(OSError):
            make_folders(self.step_dir, None)
            for name in _EMPTY:
                os.close(os.open(f"{self.step_dir}/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
            for folder in (self.run_dir, f"{self.folder}/links"):
                os.mkdir(folder)


class SpareFolders:
    """Of one run; `folder` is its own and goes with it."""

    def __init__(self, folder: str, laid: Laid | None = None) -> None:
        self._folder = folder
        self._free = [laid.step_dir] if laid is not None else []
        self._run_dir = laid.run_dir if laid is not None else ""
        self._count = len(self._free)
        self._mode = 0
        self._links: dict[str, str] = {}
        self._made = 0

    def take(self, step_dir: str) -> bool:
        """Put one at `step_dir`; False when there is none. Raises OSError."""
        if not self._free:
            return False
        spare = self._free.pop()
        try:
            os.rename(spare, step_dir)
        except FileNotFoundError:
            self._make_run_dir(os.path.dirname(step_dir))
            if not os.path.isdir(spare):  # somebody cleaned up
                return False
            os.rename(spare, step_dir)
        return True

    def _make_run_dir(self, place: str) -> None:
        made, self._run_dir = self._run_dir, ""
        if made:
            try:
                os.rename(made, place)
                return
            except OSError:  # not there, or another name on the way is missing
                pass
        os.makedirs(place, exist_ok=True)

    def put_away(self, layout: Layout) -> bool:
        """Take the directory of a step that ended; False, with the directory as it is, when something in it is worth keeping."""
        try:
            if sys.platform != "linux" or not self._is_plain(layout):
                return False
            if not self._count or not os.path.isdir(self._folder):
                os.makedirs(self._folder, exist_ok=True)
            for path in layout.inputs.values():
                os.unlink(path)
            place = f"{self._folder}/{self._count}"
            os.rename(layout.step_dir, place)
        except OSError:
            return False
        self._count += 1
        self._free.append(place)
        return True

    def link(self, target: str, place: str) -> None:
        """A symbolic link, as one more name of the first with that target: names are cheap, links are files. Raises OSError."""
        known = self._links.get(target)
        if known is not None:
            try:
                os.link(known, place, follow_symlinks=False)
                return
            except OSError:  # it has as many names as a file can have, or is gone
                del self._links[target]
        os.symlink(target, place)
        if sys.platform == "linux":
            self._remember(target, place)

    def _remember(self, target: str, place: str) -> None:
        known = f"{self._folder}/links/{self._made}"
        self._made += 1
        try:
            try:
                os.link(place, known, follow_symlinks=False)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(known), exist_ok=True)
                os.link(place, known, follow_symlinks=False)
        except OSError:
            return
        self._links[target] = known

    def _is_plain(self, layout: Layout) -> bool:
        """Whether it has only what `staging.lay_out` makes, with the modes it had."""
        top = layout.step_dir
        found = set(os.listdir(top))
        if found - {"audit"} != _TOP or set(os.listdir(f"{top}/code")) != {"outputs", "logs"}:
            return False
        if any(os.listdir(f"{top}/{name}") for name in ("out", "tmp", "code/outputs", "code/logs")):
            return False
        if set(os.listdir(f"{top}/logs")) != {"stdout.log", "stderr.log"}:
            return False
        if sorted(os.listdir(f"{top}/in")) != sorted(os.path.basename(path) for path in layout.inputs.values()):
            return False
        if any(not st.S_ISLNK(os.lstat(path).st_mode) for path in layout.inputs.values()):
            return False
        logs = [os.lstat(f"{top}/{name}") for name in _LOGS]
        if any(info.st_size or info.st_mode != st.S_IFREG | 0o644 or info.st_nlink != 1 for info in logs):
            return False
        modes = {os.lstat(f"{top}/{name}").st_mode for name in _FOLDERS}
        self._mode = self._mode or min(modes)
        return modes == {self._mode} and st.S_ISDIR(self._mode)

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._free.clear()


def sweep(root: str, keep: Callable[[str], bool]) -> None:
    """Remove the folders of runs that were killed; `keep`: whether the run of that id lives."""
    for run_id in os.listdir(root) if os.path.isdir(root) else ():
        if not keep(run_id):
            shutil.rmtree(f"{root}/{run_id}", ignore_errors=True)
