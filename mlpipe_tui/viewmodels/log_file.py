"""A log as its file: any line in the time of one small read, however long the log is, and however long its lines are.

What is kept in memory is one number for 64 kB of file: how many lines begin before. Lines are cut, cleaned and coloured only when
they are seen (`log_line`). Not safe for two threads at once, except `hits`, which opens the file for itself.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator

BLOCK = 1 << 16
LINE_LIMIT = 20_000
"""Bytes of a line that are shown; what is beyond is counted."""
_CHUNK = 1 << 20
_KEPT_BLOCKS = 32


class LogFile:
    """One log file that may still grow, or not exist yet."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        """Bytes that were looked at so far."""
        self.cut = 0
        """How often the file was found shorter than before, or another one: then it is read from its beginning again."""
        self.problem = ""
        """Why there is nothing to show: "" for a file that can be read, or is not there yet."""
        self._descriptor = -1
        self._newlines = array("Q", [0])
        """Line ends before each block of the file; the last entry is for the block that is still filling up."""
        self._tail = 0
        """Line ends in the block that is filling up."""
        self._blocks: OrderedDict[int, array[int]] = OrderedDict()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def grow(self, budget_bytes: int = 1 << 62) -> bool:
        """Look at what was added, at most so many bytes of it; True when that was something. A missing file is an empty one."""
        if not self._open():
            return False
        before = (self.size, self.cut)
        try:
            found = os.fstat(self._descriptor)
            if found.st_size < self.size:
                self._start_again()
            end = min(found.st_size, self.size + budget_bytes)
            while self.size < end:
                data = os.pread(self._descriptor, min(_CHUNK, end - self.size), self.size)
                if not data:
                    break
                self._count(data)
        except OSError as error:
            self.problem = f"{os.path.basename(self.path)}: {error.strerror}"
        return (self.size, self.cut) != before

    @property
    def behind(self) -> int:
        """Bytes that were not looked at yet."""
        if self._descriptor < 0:
            return 0
        return max(os.fstat(self._descriptor).st_size - self.size, 0)

    def _open(self) -> bool:
        """The file of that name now: it may have been made since, or have taken the place of another."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return self._descriptor >= 0
        except OSError as error:
            self.problem = f"{os.path.basename(self.path)}: {error.strerror}"
            return False
        if self._descriptor >= 0:
            held = os.fstat(self._descriptor)
            if (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino):
                return True
            self.close()
            self._start_again()
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self.problem = f"{os.path.basename(self.path)}: {error.strerror}"
            return False
        self.problem = ""
        return True

    def _start_again(self) -> None:
        self.size = self._tail = 0
        self.cut += 1
        self._newlines = array("Q", [0])
        self._blocks.clear()

    def _count(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            room = BLOCK - self.size % BLOCK
            piece = min(room, len(data) - at)
            self._tail += data.count(b"\n", at, at + piece)
            self._blocks.pop(self.size // BLOCK, None)
            self.size += piece
            at += piece
            if piece == room:
                self._newlines.append(self._newlines[-1] + self._tail)
                self._tail = 0

    def __len__(self) -> int:
        """Lines, one without an end included."""
        ended = self._newlines[-1] + self._tail
        return ended + (self.size > self._start(ended))

    def _start(self, line: int) -> int:
        """Where a line begins. Prereq: as many line ends were seen."""
        if line == 0:
            return 0
        block = min(bisect_left(self._newlines, line), len(self._newlines)) - 1
        return block * BLOCK + self._ends(block)[line - self._newlines[block] - 1] + 1

    def _ends(self, block: int) -> array[int]:
        """Positions of the line ends within a block."""
        found = self._blocks.get(block)
        if found is None:
            data = (
                os.pread(self._descriptor, min(BLOCK, self.size - block * BLOCK), block * BLOCK) if self._descriptor >= 0 else b""
            )
            found = array("I")
            at = data.find(b"\n")
            while at >= 0:
                found.append(at)
                at = data.find(b"\n", at + 1)
            self._blocks[block] = found
            if len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(block)
        return found

    def line(self, number: int) -> tuple[bytes, int]:
        """(the bytes of a line as far as they are shown, how many more it has). b"" where the file no longer has it.

        Of a line that a program wrote over again and again with carriage returns the last state is given, however long it is.
        """
        try:
            start = self._start(number)
            end = self._start(number + 1) - 1 if number < self._newlines[-1] + self._tail else self.size
            data = os.pread(self._descriptor, min(end - start, LINE_LIMIT), start)
            if end - start > LINE_LIMIT and b"\r" in data:
                data = b"\r" + os.pread(self._descriptor, LINE_LIMIT, end - LINE_LIMIT).partition(b"\r")[2]
                return data, 0
        except (OSError, IndexError):
            return b"", 0  # it was cut a moment ago: the next look starts again
        return data, max(end - start - LINE_LIMIT, 0)

    def hits(self, pattern: Callable[[list[bytes]], list[int]], stop: Callable[[], bool]) -> Iterator[list[int]]:
        """Numbers of lines for which `pattern` says so, a batch after each stretch of the file. May be used from another thread.

        Only the first bytes of a line up to some megabytes are looked at. Ends early once `stop()` is true.
        """
        end = self.size
        number = 0
        with open(self.path, "rb") as file:
            rest = b""
            at = 0
            while at < end and not stop():
                data = file.read(min(_CHUNK, end - at))
                if not data:
                    break
                at += len(data)
                head, newline, tail = data.rpartition(b"\n")
                if not newline:
                    rest = rest + data if len(rest) < 4 * _CHUNK else rest
                    continue
                lines = (rest + head).split(b"\n")
                rest = tail
                yield [number + index for index in pattern(lines)]
                number += len(lines)
            if rest and not stop():
                yield [number + index for index in pattern([rest])]
