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
DATA_REFERENCE = "$AZUREML_DATAREFERENCE_"


def reference(name: str) -> str:
    """What an input or output looks like in a text: the variable that holds its path in the step."""
    return DATA_REFERENCE + name


@strict
@dataclass(frozen=True)
class DataPath:
    """A path in a datastore. Among the inputs or arguments of a step it is an input."""

    datastore: LocalDatastore
    path_on_datastore: str
    data_reference_name: str | None = None
    """Name of the input; without one it is called like the last part of the path."""

    @property
    def absolute(self) -> str:
        return os.path.join(self.datastore.root, self.path_on_datastore)

    def as_mount(self) -> DatasetConsumptionConfig:
        from mlpipe_engine.sdk.dataset import Dataset

        found = Dataset.File.from_files(self).as_mount()
        return found if self.data_reference_name is None else found.renamed(self.data_reference_name)

    def as_download(self) -> DatasetConsumptionConfig:
        return self.as_mount().as_download()

    def __str__(self) -> str:
        return str(self.as_mount())


@strict
class LocalDatastore:
    """A folder of the project that is addressed by relative paths. Made when first written to."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name
        self.root = os.path.join(workspace.root, ".mlpipe", "datastores", name)

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataPath:
        return DataPath(self, _inside(path or ""), data_reference_name)

    def upload_files(
        self,
        files: Sequence[str | os.PathLike[str]],
        relative_root: str | os.PathLike[str] | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataPath:
        """Copy local files in. An existing file with other bytes is kept and named unless `overwrite`.

        `relative_root` defaults to the common folder of the files. Raises InputMissingError, InputError, FilesystemError.
        """
        if isinstance(files, str | os.PathLike):
            raise InputError(f"files is {os.fspath(files)!r}", field="files", expected="a list of paths")
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

    def upload(
        self, src_dir: str | os.PathLike[str], target_path: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> DataPath:
        """Copy all files of a folder in."""
        if not os.path.isdir(src_dir):
            raise InputMissingError(f"{os.fspath(src_dir)!r} is not a folder", field="src_dir")
        files = _files_below(src_dir)
        return self.upload_files(files, src_dir, target_path, overwrite, show_progress)

    def download(
        self, target_path: str | os.PathLike[str], prefix: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> int:
        """Copy files whose path starts with `prefix` out; returns how many. Existing ones are kept unless `overwrite`."""
        count = 0
        for path in _files_below(self.root) if os.path.isdir(self.root) else []:
            relative = os.path.relpath(path, self.root)
            target = os.path.join(target_path, relative)
            if relative.startswith(prefix or "") and (overwrite or not os.path.exists(target)):
                self._put(path, target, overwrite)
                count += 1
                if show_progress:
                    print(f"Downloaded {relative}")
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


def _files_below(root: str | os.PathLike[str]) -> list[str]:
    """In a fixed order; a folder that cannot be listed is an error, not a folder without files."""
    found = []
    try:
        for folder, folders, names in os.walk(root, onerror=_refuse):
            folders.sort()
            found += [os.path.join(folder, name) for name in sorted(names)]
    except OSError as error:
        raise FilesystemError.of(error, "list") from error
    return found


def _refuse(error: OSError) -> None:
    raise error


def _inside(path: str) -> str:
    """Leading `/` and `../` are dropped as the Azure SDK does; any other way out is refused."""
    relative = re.sub(r"^(\.*[/\\])*", "", path)
    if ".." in relative.split("/"):
        raise InputError(f"the path {path!r} leaves the datastore", hint="Use a path without '..'.")
    return relative


@strict
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
