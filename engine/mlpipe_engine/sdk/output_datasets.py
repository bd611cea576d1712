"""Outputs of steps as datasets: promoted to files or to a table, read by other steps, registered when the step ended well.

The promoted form and the plain one may be used side by side: both are the same output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlpipe_engine.errors import DefinitionValueError
from mlpipe_engine.model.datasets import DatasetDefinition
from mlpipe_engine.model.spec import DatasetUse, InputMode, Registration
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.values import Output, OutputInput, tag_pairs

if TYPE_CHECKING:
    from mlpipe_engine.model.datasets import ColumnType
    from mlpipe_engine.sdk.expressions import DatasetExpression
    from mlpipe_engine.sdk.tabular import TabularDataset


@strict
@dataclass(frozen=True)
class PipelineOutputFileDataset:
    """An output of a step as a dataset of files. Made by `PipelineData.as_dataset()`."""

    output: Output

    def as_named_input(self, name: str) -> OutputInput:
        return self.output.as_input(name)

    def as_input(self, name: str | None = None) -> OutputInput:
        return self.output.as_input(name)

    def as_mount(self, path_on_compute: str | None = None) -> OutputInput:
        return self.output.as_input().as_mount(path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> OutputInput:
        return self.output.as_input().as_download(path_on_compute)

    def as_direct(self) -> OutputInput:
        return self.output.as_input().as_direct()

    def register(
        self, name: str, create_new_version: bool = True, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> PipelineOutputFileDataset:
        """When its step ended well, as a version of the dataset `name`."""
        self.output.registered(Registration(name, description or "", tag_pairs(tags), create_new_version), None)
        return self

    def parse_delimited_files(
        self, include_path: bool = False, separator: str = ",", header: bool | str = True, partition_format: str | None = None,
        file_extension: str = "", set_column_types: Mapping[str, ColumnType] | None = None, quoted_line_breaks: bool = False,
        empty_as_string: bool = False, encoding: str = "utf8",
    ) -> PipelineOutputTabularDataset:  # fmt: skip
        """As a table of text with separators. `quoted_line_breaks` needs no saying: rows are never torn."""
        from mlpipe_engine.sdk.tabular import TabularFactory

        return _table(self.output, file_extension, TabularFactory.from_delimited_files(
            "output", True, include_path, True, set_column_types, separator, header, partition_format, quoted_line_breaks, empty_as_string,
            encoding,
        ))  # fmt: skip

    def parse_parquet_files(
        self, include_path: bool = False, partition_format: str | None = None, file_extension: str = "",
        set_column_types: Mapping[str, ColumnType] | None = None,
    ) -> PipelineOutputTabularDataset:  # fmt: skip
        from mlpipe_engine.sdk.tabular import TabularFactory

        table = TabularFactory.from_parquet_files("output", True, include_path, set_column_types, partition_format)
        return _table(self.output, file_extension, table)

    def __str__(self) -> str:
        return str(self.output)


def _table(output: Output, extension: str, table: TabularDataset) -> PipelineOutputTabularDataset:
    if extension:
        raise DefinitionValueError(
            f"file_extension={extension!r}", where=caller(), field="file_extension",
            expected="nothing: every file of the output is read", hint="Write other files to another output.",
        )  # fmt: skip
    return PipelineOutputTabularDataset(output, table)


@strict
@dataclass(frozen=True)
class PipelineOutputTabularDataset:
    """An output of a step as a table. A step that takes it gets one Parquet file (or CSV), whatever the output is made of."""

    output: Output
    table: TabularDataset
    """How it is read, over no path of its own."""

    def __getitem__(self, name: str) -> DatasetExpression:
        return self.table[name]

    def keep_columns(self, columns: str | Sequence[str], validate: bool = False) -> PipelineOutputTabularDataset:
        return self._with(lambda table: table.keep_columns(columns))

    def drop_columns(self, columns: str | Sequence[str]) -> PipelineOutputTabularDataset:
        return self._with(lambda table: table.drop_columns(columns))

    def filter(self, expression: DatasetExpression) -> PipelineOutputTabularDataset:
        return self._with(lambda table: table.filter(expression))

    def skip(self, count: int) -> PipelineOutputTabularDataset:
        return self._with(lambda table: table.skip(count))

    def take(self, count: int) -> PipelineOutputTabularDataset:
        return self._with(lambda table: table.take(count))

    def take_sample(self, probability: float, seed: int | None = None) -> PipelineOutputTabularDataset:
        return self._with(lambda table: table.take_sample(probability, seed))

    def random_split(
        self, percentage: float, seed: int | None = None
    ) -> tuple[PipelineOutputTabularDataset, PipelineOutputTabularDataset]:
        first, second = self.table.random_split(percentage, seed)
        return replace(self, table=first), replace(self, table=second)

    def with_expectations(self, **expected: Any) -> PipelineOutputTabularDataset:
        """What has to hold before a step gets it: the words of `TabularDataset.with_expectations`."""
        return self._with(lambda table: table.with_expectations(**expected))

    def as_named_input(self, name: str) -> OutputInput:
        return self.as_input(name)

    def as_input(self, name: str | None = None) -> OutputInput:
        return self._as("direct", self.output.as_input(name))

    def as_direct(self) -> OutputInput:
        return self.as_input()

    def as_mount(self, path_on_compute: str | None = None) -> OutputInput:
        return self._as("mount", self.output.as_input(), path_on_compute)

    def as_download(self, path_on_compute: str | None = None, format: str | None = None) -> OutputInput:
        return self._as("mount", self.output.as_input()).as_download(path_on_compute, format)

    def register(
        self, name: str, create_new_version: bool = True, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> PipelineOutputTabularDataset:
        """When its step ended well, as a version of the dataset `name`, read as it is read here."""
        registration = Registration(name, description or "", tag_pairs(tags), create_new_version)
        self.output.registered(registration, self._definition())
        return self

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> PipelineOutputTabularDataset:
        return self.register(name, True, description, tags)

    def _as(self, mode: InputMode, port: OutputInput, path: str | None = None) -> OutputInput:
        use = DatasetUse(definition=self._definition(), expectations=self.table.expectations)
        return replace(port, mode=mode, path_on_compute=path, use=use)

    def _definition(self) -> DatasetDefinition:
        return replace(self.table.definition, paths=())

    def _with(self, change: Callable[[TabularDataset], TabularDataset]) -> PipelineOutputTabularDataset:
        return replace(self, table=change(self.table))

    def __str__(self) -> str:
        return str(self.output)


PROMOTED = (PipelineOutputFileDataset, PipelineOutputTabularDataset)
