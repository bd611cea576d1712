"""How many rows a Parquet file has, from its last bytes alone; standard library only, a few microseconds a file.

What a step wrote is counted whenever a step ends, so nothing large may be imported for it. The footer is Thrift's compact
protocol; only the number of rows is taken, everything before it is passed over.
"""

from __future__ import annotations

import os

MAGIC = b"PAR1"
_MAX_FOOTER_BYTES = 64 << 20
_MAX_DEPTH = 32


def rows_of(path: str) -> int | None:
    """Rows of a Parquet file, or of all of them in a folder; None where it is anything else, or anything else lies beside them."""
    if not os.path.isdir(path):
        return _rows_of_file(path)
    total, found = 0, False
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            if name.startswith((".", "_")):
                continue
            rows = _rows_of_file(os.path.join(folder, name))
            if rows is None:
                return None
            total, found = total + rows, True
    return total if found else None


def _rows_of_file(path: str) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        size = os.fstat(fd).st_size
        if size < 12 or os.pread(fd, 4, 0) != MAGIC:
            return None
        tail = os.pread(fd, 8, size - 8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or not 0 < length <= min(size - 12, _MAX_FOOTER_BYTES):
            return None
        return _Footer(os.pread(fd, length, size - 8 - length)).rows()
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(fd)


class _Footer:
    """FileMetaData: field 1 the version, 2 the schema, 3 the number of rows. Raises ValueError, IndexError for what is no such thing."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def rows(self) -> int:
        field = 0
        while True:
            head = self._byte()
            if head == 0:
                raise ValueError("no number of rows")
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            if field == 3 and head & 15 == 6:
                return self._zigzag()
            self._skip(head & 15, 0)

    def _byte(self) -> int:
        value = self._body[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if kind in (1, 2):  # true and false stand in the type itself
            return
        if kind == 3:
            self._at += 1
        elif kind in (4, 5, 6):
            self._varint()
        elif kind == 7:
            self._at += 8
        elif kind == 8:
            length = self._varint()
            self._at += length
        elif kind in (9, 10):
            self._skip_list(depth)
        elif kind == 12:
            while head := self._byte():
                if not head >> 4:
                    self._zigzag()
                self._skip(head & 15, depth + 1)
        else:
            raise ValueError(f"a footer of type {kind}")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._body):
            raise ValueError("a list is longer than the file")
        kind = head & 15
        for _ in range(count):
            if kind in (1, 2):
                self._at += 1  # as members of a list they take a byte
            else:
                self._skip(kind, depth + 1)
