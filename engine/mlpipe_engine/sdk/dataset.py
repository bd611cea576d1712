"""File datasets over local paths, and how a step gets them. Content is looked at when a pipeline is planned, not here."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError, InputError
from mlpipe_engine.model.spec import InputMode, PathSource
from mlpipe_engine.sdk.datastore import AbstractDatastore, DataPath, reference
from mlpipe_engine.sdk.keywords import caller, strict

OnePath = str | os.PathLike[str] | DataPath | tuple[AbstractDatastore, str]


@strict
@dataclass(frozen=True)
class FileDataset:
    """Files named by paths or globs. The same paths are the same dataset; its content counts when a step uses it.

    >>> from mlpipe_engine import Dataset
    >>> Dataset.File.from_files("data/*.csv").as_named_input("tables").mode
    'mount'
    """

    paths: tuple[str, ...]
    """As given: relative to the project folder, or absolute."""
    validate: bool = True

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(name, self)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._unnamed().as_mount(path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._unnamed().as_download(path_on_compute)

    def as_direct(self) -> DatasetConsumptionConfig:
        return self._unnamed().as_direct()

    @property
    def source(self) -> PathSource:
        return PathSource(self.paths, self.validate)

    def _unnamed(self) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(derived_name(self.paths[0]), self, named=False)


def derived_name(path: str) -> str:
    """Stable: made from the path, so that an input without a name does not spoil reuse."""
    stem = os.path.basename(path.rstrip("/")).split(".")[0]
    name = re.sub(r"\W+", "_", stem).strip("_")[:80]
    return name or "input"


@strict
@dataclass(frozen=True)
class DatasetConsumptionConfig:
    """A dataset as a named input of a step. `as_*` give copies with another mode."""

    name: str
    dataset: FileDataset
    mode: Literal["direct", "download", "mount"] = "mount"
    path_on_compute: str | None = None
    named: bool = True
    """False: the name was made from a path, and may be changed where another input has it."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w+", self.name):
            raise DefinitionValueError(
                f"invalid input name {self.name!r}: only letters, digits and '_' are allowed", where=caller()
            )

    def renamed(self, name: str) -> DatasetConsumptionConfig:
        return replace(self, name=name, named=True)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._with("mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._with("download", path_on_compute)

    def as_direct(self) -> DatasetConsumptionConfig:
        return self._with("direct", None)

    def as_hdfs(self) -> DatasetConsumptionConfig:
        return self._with("mount", None)

    def _with(self, mode: str, path: str | None) -> DatasetConsumptionConfig:
        return replace(self, mode=cast(InputMode, mode), path_on_compute=path or self.path_on_compute)

    def __str__(self) -> str:
        return reference(self.name)


@strict
class FileFactory:
    """`Dataset.File`."""

    @staticmethod
    def from_files(
        path: OnePath | Sequence[OnePath], validate: bool = True, partition_format: str | None = None, is_file: bool = False
    ) -> FileDataset:
        """Local paths, globs (`*`, `**`), or (datastore, path) pairs; relative paths are relative to the project folder.

        `validate`: at least one file must match when the dataset is used. Raises InputError.
        """
        if partition_format is not None:
            raise InputError(
                "partition_format is not known to file datasets here",
                where=caller(),
                field="partition_format",
                hint="Leave it out; globs select files.",
            )
        given: Sequence[OnePath] = [cast(OnePath, path)] if isinstance(path, str | os.PathLike | DataPath | tuple) else path
        if not given:
            raise InputError("no path was given", where=caller(), field="path", expected="a path, a glob or a list of them")
        return FileDataset(tuple(_text(item) for item in given), validate)


def _text(item: OnePath) -> str:
    if isinstance(item, DataPath):
        return item.absolute
    if isinstance(item, tuple):
        if len(item) == 2 and isinstance(item[0], AbstractDatastore):
            return item[0].path(item[1]).absolute
        raise InputError(f"found {item!r}", where=caller(), field="path", expected="(datastore, path)")
    if not isinstance(item, str | os.PathLike):
        raise DefinitionTypeError(f"found {item!r}", where=caller(), field="path", expected="a path, a glob or (datastore, path)")
    text = os.fspath(item)
    if not text:
        raise InputError("an empty path", where=caller(), field="path", expected="a path, a glob or a list of them")
    from mlpipe_engine.data.addresses import parse_address

    try:
        parse_address(text)
    except InputError as error:
        error.where, error.field = error.where or caller(), error.field or "path"
        raise
    return text


class Dataset:
    """Entry point for datasets: `Dataset.File.from_files(...)`.

    >>> Dataset.File.from_files("data/iris.csv").paths
    ('data/iris.csv',)
    """

    File = FileFactory
