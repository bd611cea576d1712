"""Outputs of steps, stored once under the digest of their content, read-only.

`<root>/<aa>/<hex>` is the file or the folder itself. `publish` moves what a step wrote by one rename; durability is the group's
(`sync`), and results without a row do not exist. Signatures say by stats alone whether stored bytes were touched since.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat as st
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from mlpipe_engine.errors import ArtifactCorruptedError, FilesystemError, MlpipeError
from mlpipe_engine.hashing.scan import walk_artifact
from mlpipe_engine.model.trees import Tree


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an artifact is still what its digest says."""

    whole: bool
    problem: str = ""
    signature: str = ""
    """The signature now, when the bytes are right but inodes are not those of before (a project that was moved)."""


class ArtifactStore:
    """`root` is .mlpipe/artifacts. Used by one process; others may use the same folder at the same time.

    `protect` is told what this run relies on before it is looked for (see `share`).
    """

    def __init__(self, root: str, protect: Callable[[str], None] = lambda digest: None) -> None:
        self._root = root
        self._protect = protect
        self._folders: set[str] = set()
        self._signatures: dict[str, str] = {}
        self._unsynced: list[str] = []

    def path(self, digest: str) -> str:
        hexes = digest.partition(":")[2]
        return f"{self._root}/{hexes[:2]}/{hexes}"

    def publish(self, path: str) -> Tree:
        """Hash and move what a step wrote. Raises StagingError (special files, links out), FilesystemError."""
        tree, found = walk_artifact(path)
        self._protect(tree.digest)
        try:
            self._seal_files(found)
            target = self._place(tree.digest)
            if not os.path.lexists(target):
                self._move(path, target)
            elif self._is(tree, target):
                _remove(path)
            else:
                self.quarantine(tree.digest)
                self._move(path, target)
            self._signatures[tree.digest] = self._seal_folders(target, found)
        except OSError as error:
            raise FilesystemError.of(error, "store the output", error.filename or path) from error
        self._unsynced.append(target)
        return tree

    def _seal_files(self, found: list[tuple[str, os.stat_result]]) -> None:
        """Read-only files that nobody else has a name for. Somebody else's file, or one with a second name, is copied."""
        me = os.geteuid()
        for path, info in found:
            if st.S_ISDIR(info.st_mode):
                if info.st_mode & 0o700 != 0o700:
                    os.chmod(path, 0o755)
                continue
            if info.st_nlink > 1 or info.st_uid != me:
                temporary = f"{path}.{uuid4().hex}"
                shutil.copyfile(path, temporary)
                os.replace(temporary, path)
            os.chmod(path, 0o555 if info.st_mode & 0o100 else 0o444)

    def _move(self, path: str, target: str) -> None:
        """One rename; folders become read-only only after it, because a read-only folder cannot be moved."""
        try:
            os.rename(path, target)
        except OSError:
            if not os.path.lexists(target):
                raise
            _remove(path)  # another process published the same bytes at this moment

    def _is(self, tree: Tree, target: str) -> bool:
        """Whether what lies at `target` already has these bytes; hashed, because no row may vouch for it."""
        try:
            return walk_artifact(target)[0].digest == tree.digest
        except Exception:
            return False

    def _place(self, digest: str) -> str:
        target = self.path(digest)
        folder = os.path.dirname(target)
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        return target

    def _seal_folders(self, target: str, found: list[tuple[str, os.stat_result]]) -> str:
        info = os.lstat(target)
        if not st.S_ISDIR(info.st_mode):
            return _signature([("", info)])
        for folder, _, _ in os.walk(target, topdown=False):
            os.chmod(folder, 0o555)
        return _signature(_stats(target))

    def signature(self, digest: str) -> str:
        """By stats: paths, inodes, times, sizes, modes. Raises FilesystemError when the artifact is not there."""
        known = self._signatures.get(digest)
        if known is None:
            try:
                known = self._signatures[digest] = _signature(_stats(self.path(digest)))
            except OSError as error:
                raise FilesystemError.of(error, "read the artifact", self.path(digest)) from error
        return known

    def stats(self, digest: str) -> list[tuple[str, os.stat_result]]:
        """(absolute path, stat) of everything of an artifact. Raises FilesystemError when it is not as it was when it was last checked."""
        path = self.path(digest)
        try:
            found = _stats(path)
        except OSError as error:
            raise FilesystemError.of(error, "read the artifact", path) from error
        if self._signatures.get(digest) not in (None, _signature(found)):
            raise FilesystemError(f"the artifact {path} is being changed", hint="Run `mlpipe-tui doctor`.")
        return [(path + inner, stat) for inner, stat in found]

    def intact(self, digest: str, signature: str) -> Verdict:
        """By stats where nothing moved, by a new hash where inodes or times did."""
        self._protect(digest)
        try:
            now = _signature(_stats(self.path(digest)))
        except OSError:
            return Verdict(False, "it is missing")
        if now == signature:
            self._signatures[digest] = now
            return Verdict(True)
        verdict = self.verify(digest)
        if not verdict.whole:
            return verdict
        self._signatures[digest] = now
        return Verdict(True, signature=now)

    def tree(self, digest: str) -> Tree | None:
        """What it consists of; None when it is not there or damaged."""
        try:
            found = walk_artifact(self.path(digest))[0]
        except MlpipeError:
            return None
        return found if found.digest == digest else None

    def verify(self, digest: str) -> Verdict:
        """Hash every byte."""
        try:
            found = walk_artifact(self.path(digest))[0].digest
        except Exception as error:
            return Verdict(False, f"it cannot be read: {error}")
        return Verdict(True) if found == digest else Verdict(False, "its bytes have changed")

    def lent_changed(self, digest: str, signature: str) -> bool:
        """Whether an artifact was touched while a step could reach it."""
        try:
            return _signature(_stats(self.path(digest))) != signature and not self.verify(digest).whole
        except OSError:
            return True

    def copy_out(self, digest: str, destination: str) -> None:
        """A private, writable copy; blocks are shared where the file system can. It is there whole or not at all."""
        fresh = f"{destination}.{uuid4().hex[:8]}.part"
        try:
            _copy(self.path(digest), fresh)
            os.rename(fresh, destination)
        except OSError as error:
            with suppress(OSError):
                os.unlink(fresh)
            shutil.rmtree(fresh, ignore_errors=True)
            raise FilesystemError.of(error, "copy the artifact to", destination) from error

    def quarantine(self, digest: str) -> None:
        """Out of the way, bytes kept. A missing artifact is no error."""
        source = self.path(digest)
        folder = os.path.join(os.path.dirname(self._root), "quarantine")
        try:
            if not os.path.lexists(source):
                return
            os.makedirs(folder, exist_ok=True)
            if os.path.isdir(source) and not os.path.islink(source):
                os.chmod(source, 0o755)
            os.rename(source, f"{folder}/{os.path.basename(source)}-{uuid4().hex[:8]}")
        except OSError as error:
            raise FilesystemError.of(error, "move to quarantine", source) from error
        self._signatures.pop(digest, None)

    def sync(self) -> None:
        """Make everything published so far durable: bytes, names, folders. One call of syncfs for the whole group.

        A sync that failed is final (what was written may be gone from memory already), so it is not tried again.
        """
        count = len(self._unsynced)
        paths, self._unsynced = self._unsynced[:count], self._unsynced[count:]
        if not paths:
            return
        try:
            if not _syncfs(self._root):
                _sync_each(paths)
        except OSError as error:
            raise FilesystemError.of(error, "write to disk below", self._root) from error


def require_whole(verdict: Verdict, digest: str) -> None:
    if not verdict.whole:
        raise ArtifactCorruptedError(
            f"the stored output {digest[:15]} is damaged: {verdict.problem}", hint="Run the pipeline again."
        )


def _stats(path: str) -> list[tuple[str, os.stat_result]]:
    info = os.lstat(path)
    found = [("", info)]
    if not st.S_ISDIR(info.st_mode):
        return found
    folders = [("", path)]
    while folders:
        relative, folder = folders.pop()
        with os.scandir(folder) as listing:
            for item in listing:
                inner = f"{relative}/{item.name}"
                item_info = item.stat(follow_symlinks=False)
                found.append((inner, item_info))
                if st.S_ISDIR(item_info.st_mode):
                    folders.append((inner, item.path))
    return found


def _signature(found: list[tuple[str, os.stat_result]]) -> str:
    """A single file is written out; a folder is the digest of its lines."""
    lines = sorted(
        f"{i.st_ino} {i.st_ctime_ns} {i.st_mtime_ns} {i.st_size if not st.S_ISDIR(i.st_mode) else 0} {i.st_mode:o} {path}"
        for path, i in found
    )
    if len(lines) == 1:
        return lines[0]
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return f"{len(lines)} {hashlib.blake2b(text, digest_size=20).hexdigest()}"


def _copy(source: str, destination: str) -> None:
    if not os.path.isdir(source):
        _copy_file(source, destination)
        return
    for folder, _, files in os.walk(source, onerror=_raise):
        target = destination + folder[len(source) :]
        os.mkdir(target, 0o755)
        for name in files:
            _copy_file(f"{folder}/{name}", f"{target}/{name}")
        for name in os.listdir(folder):
            if os.path.islink(f"{folder}/{name}") and not os.path.lexists(f"{target}/{name}"):
                os.symlink(os.readlink(f"{folder}/{name}"), f"{target}/{name}")


def _raise(error: OSError) -> None:
    raise error


def _copy_file(source: str, destination: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), destination)
        return
    mode = 0o755 if os.stat(source).st_mode & 0o100 else 0o644
    writing = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(source, "rb") as reading:
            if not _reflink(reading.fileno(), writing):
                with os.fdopen(os.dup(writing), "wb") as file:
                    shutil.copyfileobj(reading, file, 1 << 20)
    finally:
        os.close(writing)


def _reflink(reading: int, writing: int) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(writing, 0x40049409, reading)  # FICLONE
    except OSError:
        return False
    return True


def _remove(path: str) -> None:
    """Also read-only folders."""
    if os.path.isdir(path) and not os.path.islink(path):
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o755)
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _syncfs(path: str) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if function(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
    return True


def _sync_each(paths: Iterable[str]) -> None:
    for path in paths:
        names = [path, os.path.dirname(path)]
        if os.path.isdir(path):
            names = [os.path.join(folder, name) for folder, _, files in os.walk(path) for name in (*files, ".")] + names
        for name in names:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
