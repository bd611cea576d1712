"""File datasets, the entry point `Dataset`, and how a step gets datasets. Content is looked at by the methods that give it, or by a plan."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError, InputError
from mlpipe_engine.model.datasets import (
    DatasetDefinition,
    DatasetVersionRecord,
    FilterRows,
    Operation,
    SampleRows,
    SkipRows,
    TakeRows,
)
from mlpipe_engine.model.partitions import PartitionFormat
from mlpipe_engine.model.spec import DatasetUse, InputMode, PathSource, TableFormat, VersionSource
from mlpipe_engine.sdk.datastore import AbstractDatastore, DataPath, reference
from mlpipe_engine.sdk.expressions import DatasetExpression, col
from mlpipe_engine.sdk.in_steps import Reference, source_of, use_of
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.tabular import TabularDataset, TabularFactory, share, split, whole
from mlpipe_engine.sdk.values import in_format
from mlpipe_engine.sdk.versions import Registered

if TYPE_CHECKING:
    from mlpipe_engine.sdk.lending import Mounted
    from mlpipe_engine.sdk.workspace import Workspace

OnePath = str | os.PathLike[str] | DataPath | tuple[AbstractDatastore, str]


@strict
@dataclass(frozen=True)
class FileDataset(Registered):
    """Files named by paths or globs. The same paths are the same dataset; its content counts when a step uses it.

    >>> from mlpipe_engine import Dataset
    >>> Dataset.File.from_files("data/*.csv").as_named_input("tables").mode
    'mount'
    """

    @classmethod
    def of(cls, paths: tuple[str, ...], validate: bool = True, *, workspace: Workspace | None = None) -> FileDataset:
        return cls(DatasetDefinition(kind="file", paths=paths, validate=validate), workspace)

    @property
    def paths(self) -> tuple[str, ...]:
        """As given: relative to the project folder, absolute, or an address."""
        return self.definition.paths

    @property
    def validate(self) -> bool:
        return self.definition.validate

    def __getitem__(self, name: str) -> DatasetExpression:
        """A column of the partition_format, for `filter`."""
        return col(name)

    def file_metadata(self, name: str) -> DatasetExpression:
        """Path, Size or LastModifiedTime of each file, for `filter`."""
        if name not in ("Path", "Size", "LastModifiedTime"):
            raise DefinitionValueError(
                f"there is no {name!r} of a file", where=caller(), expected="Path, Size or LastModifiedTime"
            )
        return col(name)

    def skip(self, count: int) -> FileDataset:
        return self._then(SkipRows(whole(count, "count")))

    def take(self, count: int) -> FileDataset:
        return self._then(TakeRows(whole(count, "count")))

    def take_sample(self, probability: float, seed: int | None = None) -> FileDataset:
        """Each file with this probability, decided by hashing its name: the same files everywhere."""
        return self._then(SampleRows(share(probability, "probability"), seed or 0))

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[FileDataset, FileDataset]:
        """Two datasets that share no file; the first has exactly round(percentage * files). Stable, also without a seed."""
        first, second = split(percentage, seed)
        return self._then(first), self._then(second)

    def filter(self, expression: DatasetExpression) -> FileDataset:
        if not isinstance(expression, DatasetExpression):
            raise DefinitionTypeError(
                f"the filter is a {type(expression).__name__}",
                where=caller(),
                expected="an expression such as dataset.file_metadata('Size') > 1",
            )
        return self._then(FilterRows(expression.expression))

    def to_path(self) -> list[str]:
        """The files by their names within the dataset, in order."""
        return [f"/{found.path}" for found in self._engine().find(self.definition)]

    def download(
        self, target_path: str | os.PathLike[str] | None = None, overwrite: bool = False, ignore_not_found: bool = False
    ) -> list[str]:
        """Copy the files below `target_path` (else a new temporary folder); gives the paths. Raises InputError when one is there."""
        from mlpipe_engine.sdk.lending import downloaded

        definition = replace(self.definition, validate=self.validate and not ignore_not_found)
        return downloaded(self._engine().find(definition), target_path, overwrite=overwrite)

    def mount(self, mount_point: str | None = None) -> Mounted:
        """A context manager: a folder of links to the files, whose content must not be changed. Linux and macOS, without FUSE."""
        from mlpipe_engine.sdk.lending import Mounted

        return Mounted(self._engine().find(self.definition), mount_point)

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        return DatasetConsumptionConfig(name, self)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._unnamed().as_mount(path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._unnamed().as_download(path_on_compute)

    def as_direct(self) -> DatasetConsumptionConfig:
        return self._unnamed().as_direct()

    def _unnamed(self) -> DatasetConsumptionConfig:
        name = derived_name(self.reference.source.name if self.reference is not None else self.paths[0])
        return DatasetConsumptionConfig(name, self, named=False)

    def _then(self, operation: Operation) -> FileDataset:
        """A new, unregistered dataset."""
        return FileDataset(self.definition.then(operation), self.workspace, self.expectations, reference=self.reference)


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
    dataset: FileDataset | TabularDataset
    mode: Literal["direct", "download", "mount"] = "mount"
    path_on_compute: str | None = None
    named: bool = True
    """False: the name was made from a path, and may be changed where another input has it."""
    format: TableFormat = "parquet"
    """How a table is handed over."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w+", self.name):
            raise DefinitionValueError(
                f"invalid input name {self.name!r}: only letters, digits and '_' are allowed", where=caller()
            )

    def renamed(self, name: str) -> DatasetConsumptionConfig:
        return replace(self, name=name, named=True)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        return self._with("mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None, format: str | None = None) -> DatasetConsumptionConfig:
        """A private copy. `format`: "parquet" or "csv", of a tabular dataset."""
        copied = self._with("download", path_on_compute)
        use = in_format(self.use if isinstance(self.dataset, TabularDataset) else None, format, self.name)
        return replace(copied, format=use.format) if use is not None else copied

    @property
    def source(self) -> PathSource | VersionSource:
        return source_of(self.dataset)

    @property
    def use(self) -> DatasetUse | None:
        return use_of(self.dataset, self.format)

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

        `validate`: at least one file must match when the dataset is used. `partition_format` names parts of paths for `filter`.
        Raises InputError.
        """
        if partition_format is not None:
            try:
                PartitionFormat.parse(partition_format)
            except ValueError as error:
                raise DefinitionValueError(str(error), where=caller(), field="partition_format") from None
        definition = DatasetDefinition(
            kind="file", paths=addresses_of(path), validate=validate, partition_format=partition_format
        )
        return FileDataset(definition, workspace_among(path))


def addresses_of(path: OnePath | Sequence[OnePath]) -> tuple[str, ...]:
    """Raises InputError."""
    given: Sequence[OnePath] = [cast(OnePath, path)] if isinstance(path, str | os.PathLike | DataPath | tuple) else path
    if not given:
        raise InputError("no path was given", where=caller(), field="path", expected="a path, a glob or a list of them")
    return tuple(_text(item) for item in given)


def workspace_among(path: object) -> Workspace | None:
    """That of the first datastore among the paths."""
    for item in path if isinstance(path, list) else [path]:
        store = item.datastore if isinstance(item, DataPath) else item[0] if isinstance(item, tuple) and item else item
        if isinstance(store, AbstractDatastore):
            return store.workspace
    return None


def workspace_of(target: object) -> Workspace:
    from mlpipe_engine.sdk.workspace import Workspace

    return workspace_among(target) or Workspace.from_config()


def local_path(target: Any) -> str:
    """A folder to write to, relative to the project where it lies in it: a path, a DataPath, (datastore, path) or a datastore."""
    if isinstance(target, AbstractDatastore):
        target = (target, "")
    address = addresses_of(target)[0]
    if "://" in address:
        raise InputError(
            f"found {address!r}", where=caller(), field="target", expected="a local folder or a datastore that is one"
        )
    root = workspace_of(target).root
    return os.path.relpath(address, root) if os.path.isabs(address) and address.startswith(root + os.sep) else address


def database_address(place: Any) -> str:
    """A database file, or a datastore."""
    if isinstance(place, DataPath | tuple | str | os.PathLike):
        return addresses_of(place)[0]
    name = getattr(place, "name", None)
    if not isinstance(name, str):
        raise DefinitionTypeError(
            f"found {place!r}", where=caller(), field="query", expected="a datastore or the path of a database"
        )
    return f"datastore://{name}"


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
    """Entry point for datasets: `Dataset.File.from_files(...)`, `Dataset.Tabular.from_delimited_files(...)`, registered ones by name.

    >>> Dataset.File.from_files("data/iris.csv").paths
    ('data/iris.csv',)
    """

    File = FileFactory
    Tabular = TabularFactory

    @staticmethod
    def get_by_name(workspace: Workspace, name: str, version: int | str = "latest") -> FileDataset | TabularDataset:
        """A registered dataset; `version` is a number or "latest". Raises DatasetNotFoundError.

        As an input of a step it stays a name: "latest" is asked anew whenever the pipeline is planned.
        """
        if version != "latest" and (isinstance(version, bool) or not isinstance(version, int)):
            if not str(version).isdecimal():
                raise InputError(f"version is {version!r}", where=caller(), field="version", expected="a number or 'latest'")
            version = int(version)
        number = None if version == "latest" else int(version)
        found = of_record(workspace, workspace.engine.dataset(name, number))
        return (
            replace(found, reference=Reference(VersionSource(name, number), found.record)) if found.record is not None else found
        )

    @staticmethod
    def get_by_id(workspace: Workspace, id: str) -> FileDataset | TabularDataset:
        """By `name:version`."""
        name, _, version = id.rpartition(":")
        return Dataset.get_by_name(workspace, name or id, version if name else "latest")

    @staticmethod
    def get_all(workspace: Workspace) -> dict[str, FileDataset | TabularDataset]:
        """The newest version of every registered dataset."""
        return {record.name: of_record(workspace, record) for record in workspace.engine.datasets()}


def of_record(workspace: Workspace, record: DatasetVersionRecord) -> FileDataset | TabularDataset:
    """The dataset that a version is."""
    definition = record.definition
    kind = TabularDataset if definition.kind == "tabular" else FileDataset
    return kind(definition, workspace, record.expectations, record)
