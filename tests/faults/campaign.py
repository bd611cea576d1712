"""One campaign: its seed, its time, its findings, the folder of evidence, and the one line it ends with."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from faults.subject import Ended, Subject


class Campaign:
    """Counts what was done and keeps what was found. The evidence is deleted where there is none."""

    def __init__(self, name: str, *, seed: int, seconds: float | None, quick: bool, folder: Path | None = None) -> None:
        self.name, self.seed, self.quick = name, seed, quick
        self.random = random.Random(f"{name} {seed}")
        self.counts: Counter[str] = Counter()
        self.findings: list[str] = []
        self.notes: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix=f"faults-{name}-", dir=folder))
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._began = time.monotonic()

    def rounds(self, full: int, quick: int) -> Iterator[int]:
        """0, 1, ... until the number for this kind of run, or the time, is used up."""
        for number in range(quick if self.quick else full):
            if self.out_of_time:
                return
            yield number

    @property
    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def found(self, where: str, what: str, *evidence: Ended, subject: Subject | None = None) -> None:
        """Keep it, with how the commands ended and a copy of the project as it is now."""
        self.findings.append(f"{where}: {what}")
        place = self.folder / f"finding-{len(self.findings)}"
        place.mkdir()
        (place / "what.txt").write_text(f"{where}: {what}\n" + "\n".join(map(str, evidence)))
        if subject is not None and len(self.findings) <= 20:
            shutil.copytree(subject.root, place / "project", symlinks=True, ignore_dangling_symlinks=True)
        print(f"  FOUND {where}: {what.splitlines()[0]}", flush=True)

    def check(self, where: str, problems: list[str], *evidence: Ended, subject: Subject | None = None) -> bool:
        """True when there are none."""
        for problem in problems:
            self.found(where, problem, *evidence, subject=subject)
        return not problems

    def verdict(self) -> bool:
        """Prints the line; True when nothing was found."""
        counted = ", ".join(f"{number:,} {what}" for what, number in self.counts.items())
        told = "".join(f"; {note}" for note in self.notes)
        seconds = time.monotonic() - self._began
        if self.findings:
            print(
                f"{self.name}: {len(self.findings)} FOUND in {counted}{told} (seed {self.seed}, {seconds:.0f} s); see {self.folder}"
            )
            return False
        _remove(self.folder)
        print(f"{self.name}: nothing found in {counted}{told} (seed {self.seed}, {seconds:.0f} s)", flush=True)
        return True


def _remove(folder: Path) -> None:
    """Stored folders are read-only, which stops everybody but root from deleting them."""
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)
