"""Datastores: named places for data. The two built-in ones are folders of the project."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.errors import DatasetNotFoundError, FilesystemError, InputError, InputMissingError, nearest
from mlpipe_engine.sdk import loading
from mlpipe_engine.sdk.keywords import strict

if TYPE_CHECKING:
    from mlpipe_engine.sdk.dataset import DatasetConsumptionConfig
    from mlpipe_engine.sdk.workspace import Workspace

BUILT_IN = ("workspaceblobstore", "workspacefilestore")


@dataclass(frozen=True)
class DataPath:
    """A path in a datastore."""

    datastore: LocalDatastore
    path_on_datastore: str

    @property
    def absolute(self) -> str:
        return os.path.join(self.datastore.root, self.path_on_datastore)

    def as_mount(self) -> DatasetConsumptionConfig:
        """As an input of a step; named like the last part of the path."""
        from mlpipe_engine.sdk.dataset import Dataset

        return Dataset.File.from_files(self).as_mount()

    def as_download(self) -> DatasetConsumptionConfig:
        from mlpipe_engine.sdk.dataset import Dataset

        return Dataset.File.from_files(self).as_download()


class LocalDatastore:
    """A folder of the project that is addressed by relative paths. Made when first written to."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name
        self.root = os.path.join(workspace.root, ".mlpipe", "datastores", name)

    def path(self, path: str | None = None) -> DataPath:
        return DataPath(self, _inside(path or ""))

    @strict
    def upload_files(
        self,
        files: Sequence[str],
        relative_root: str | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataPath:
        """Copy local files in. An existing file with other bytes is kept and named unless `overwrite`.

        `relative_root` defaults to the common folder of the files. Raises InputMissingError, InputError, FilesystemError.
        """
        paths = [os.path.abspath(file) for file in files]
        for path in paths:
            if not os.path.isfile(path):
                raise InputMissingError(
                    f"{path!r} does not point to a file", field="files", hint="Name files; use upload() for folders."
                )
        root = (
            os.path.abspath(relative_root)
            if relative_root
            else os.path.commonpath([os.path.dirname(path) for path in paths])
            if paths
            else ""
        )
        target = self.path(target_path)
        for path in paths:
            if not path.startswith(root.rstrip("/") + "/"):
                raise InputError(f"{path} does not lie below relative_root {root}", field="relative_root")
        if loading.active:
            loading.note(f"upload of {len(paths)} files to {self.name}")
            return target
        for number, path in enumerate(paths, 1):
            self._put(path, os.path.join(target.absolute, os.path.relpath(path, root)), overwrite)
            if show_progress:
                print(f"Uploaded {path}, {number} files out of an estimated total of {len(paths)}")
        return target

    @strict
    def upload(
        self, src_dir: str, target_path: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> DataPath:
        """Copy all files of a folder in."""
        if not os.path.isdir(src_dir):
            raise InputMissingError(f"{src_dir!r} is not a folder", field="src_dir")
        files = [os.path.join(folder, name) for folder, _, names in os.walk(src_dir) for name in sorted(names)]
        return self.upload_files(files, src_dir, target_path, overwrite, show_progress)

    @strict
    def download(self, target_path: str, prefix: str | None = None, overwrite: bool = False, show_progress: bool = True) -> int:
        """Copy files whose path starts with `prefix` out; returns how many. Existing ones are kept unless `overwrite`."""
        count = 0
        for folder, _, names in os.walk(self.root):
            for name in sorted(names):
                relative = os.path.relpath(os.path.join(folder, name), self.root)
                target = os.path.join(target_path, relative)
                if relative.startswith(prefix or "") and (overwrite or not os.path.exists(target)):
                    self._put(os.path.join(folder, name), target, overwrite)
                    count += 1
        return count

    def _put(self, source: str, target: str, overwrite: bool) -> None:
        from uuid import uuid4

        from mlpipe_engine.hashing.files import copy_while_hashing, hash_file

        if os.path.lexists(target) and not overwrite:
            if hash_file(target) != hash_file(source):
                print(f"mlpipe-tui: kept {target}: it exists with other bytes than {source}; use overwrite=True to replace it")
            return
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            temporary = f"{target}.{uuid4().hex}.part"
            copy_while_hashing(source, temporary)
            os.replace(temporary, target)
        except OSError as error:
            raise FilesystemError.of(error, "write", target) from error

    def __repr__(self) -> str:
        return f"Datastore(name={self.name!r}, root={self.root!r})"


def _inside(path: str) -> str:
    """Leading `/` and `../` are dropped as the Azure SDK does; any other way out is refused."""
    relative = re.sub(r"^(\.*[/\\])*", "", path)
    if ".." in relative.split("/"):
        raise InputError(f"the path {path!r} leaves the datastore", hint="Use a path without '..'.")
    return relative


class Datastore:
    """`Datastore(workspace)` is the default one, `Datastore(workspace, name)` a named one.

    >>> import tempfile
    >>> from mlpipe_engine import Workspace
    >>> Datastore(Workspace.create("demo", path=tempfile.mkdtemp())).name
    'workspaceblobstore'
    """

    def __new__(cls, workspace: Workspace, name: str | None = None) -> LocalDatastore:  # type: ignore[misc]
        if name is None:
            return workspace.get_default_datastore()
        if name not in workspace.datastores:
            close = nearest(name, workspace.datastores)
            raise DatasetNotFoundError(
                f"there is no datastore {name!r}" + (f"; did you mean {close!r}?" if close else ""),
                expected="one of " + ", ".join(workspace.datastores),
            )
        return workspace.datastores[name]

    @staticmethod
    def get(workspace: Workspace, datastore_name: str) -> LocalDatastore:
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Workspace) -> LocalDatastore:
        return workspace.get_default_datastore()
