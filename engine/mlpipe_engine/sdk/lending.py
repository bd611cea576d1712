"""The files of a dataset for a script: copied to a folder, or lent as a folder of links."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from mlpipe_engine.errors import FilesystemError, InputError
from mlpipe_engine.hashing.files import copy_while_hashing
from mlpipe_engine.model.datasets import Found


def downloaded(found: Sequence[Found], target: str | os.PathLike[str] | None, *, overwrite: bool) -> list[str]:
    """Private copies, each under its name within the dataset, verified. Nothing is copied when one of them is in the way."""
    folder = os.fspath(target) if target is not None else tempfile.mkdtemp(prefix="mlpipe-data-")
    places = [os.path.join(folder, item.path) for item in found]
    taken = next((place for place in places if os.path.lexists(place)), None)
    if taken is not None and not overwrite:
        raise InputError(f"{taken} is there already", field="target_path", hint="Use overwrite=True, or another folder.")
    for item, place in zip(found, places, strict=True):
        part = f"{place}.{os.getpid()}.part"
        try:
            os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
            digest, _ = copy_while_hashing(os.path.realpath(item.local), part)
            if digest != item.digest:
                os.unlink(part)
                raise InputError(f"{item.address} changed while it was copied", hint="Run the same again.")
            os.replace(part, place)
        except OSError as error:
            raise FilesystemError.of(error, "write", place) from error
    return places


class Mounted:
    """A folder of links to the files. `start` and `stop`, or a `with` block that gives its path."""

    def __init__(self, found: Sequence[Found], mount_point: str | None = None) -> None:
        self._found = found
        self._given = mount_point
        self.mount_point = mount_point or ""
        self._made: list[str] = []

    def start(self) -> str:
        """The folder. Raises InputError when `mount_point` is not empty."""
        try:
            if self._given is None:
                self.mount_point = tempfile.mkdtemp(prefix="mlpipe-mount-")
            elif os.path.isdir(self._given):
                if os.listdir(self._given):
                    raise InputError(f"{self._given} is not empty", field="mount_point", expected="an empty folder, or none")
            else:
                os.makedirs(self._given)
            for item in self._found:
                place = os.path.join(self.mount_point, item.path)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                os.symlink(os.path.abspath(item.local), place)
        except OSError as error:
            raise FilesystemError.of(error, "lay out", self.mount_point) from error
        return self.mount_point

    def stop(self) -> None:
        """Take the links away; the files stay."""
        if self._given is None:
            shutil.rmtree(self.mount_point, ignore_errors=True)
            return
        for name in os.listdir(self.mount_point):
            path = os.path.join(self.mount_point, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __fspath__(self) -> str:
        return self.mount_point

    def __str__(self) -> str:
        return self.mount_point
