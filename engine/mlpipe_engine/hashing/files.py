"""BLAKE3 of one file: `b3:<hex>`. Small files are read whole, large ones mapped and hashed by all cores."""

from __future__ import annotations

import os

from blake3 import blake3

from mlpipe_engine.errors import FilesystemError

_MAPPED_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20


def hash_bytes(data: bytes) -> str:
    return "b3:" + blake3(data).hexdigest()


def hash_file(path: str, size_bytes: int | None = None) -> str:
    """Digest of the bytes behind `path` (links are not followed). Raises FilesystemError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size if size_bytes is None else size_bytes
            if size >= _MAPPED_BYTES:
                hasher = blake3(max_threads=blake3.AUTO)
                hasher.update_mmap(path)
                return "b3:" + hasher.hexdigest()
            return _hash_descriptor(fd, size)
        finally:
            os.close(fd)
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error


def _hash_descriptor(fd: int, size: int) -> str:
    data = os.read(fd, size + 1)
    hasher = blake3(data)
    while data:
        data = os.read(fd, _CHUNK_BYTES)
        hasher.update(data)
    return "b3:" + hasher.hexdigest()


def copy_while_hashing(source: str, destination: str, mode: int = 0o644) -> tuple[str, int]:
    """Copy and give (digest, size) of the bytes written. `destination` must not exist; it is removed on failure."""
    try:
        reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            writing = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                return _copy(reading, writing)
            except BaseException:
                os.unlink(destination)
                raise
            finally:
                os.close(writing)
        finally:
            os.close(reading)
    except OSError as error:
        raise FilesystemError.of(error, f"copy {source} to", destination) from error


def _copy(reading: int, writing: int) -> tuple[str, int]:
    hasher, size = blake3(), 0
    while data := os.read(reading, _CHUNK_BYTES):
        hasher.update(data)
        size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(writing, view) :]
    return "b3:" + hasher.hexdigest(), size


def real_path(path: str, folders: dict[str, str] | None = None) -> str:
    """`os.path.realpath`, which asks for every part of every path, with each folder asked once: in `folders`, or, for folders of
    ours, in this process."""
    folder, name = os.path.split(path)
    if os.path.islink(path):
        return os.path.realpath(path)
    folders = _FOLDERS if folders is None else folders
    known = folders.get(folder)
    if known is None:
        known = folders[folder] = os.path.realpath(folder)
    return f"{known}/{name}"


_FOLDERS: dict[str, str] = {}
