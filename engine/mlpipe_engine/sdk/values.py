"""What steps pass to each other, and what a person sets when submitting: PipelineData, output configs, parameters.

Building one reads nothing from disk. A step makes them its ports and words in `bindings`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError, ParameterError
from mlpipe_engine.model.spec import (
    DatasetUse,
    InputMode,
    Json,
    OutputSpec,
    ParameterSpec,
    ParameterType,
    PipelineSpec,
    Registration,
)
from mlpipe_engine.planning import parameters
from mlpipe_engine.sdk.datastore import AbstractDatastore, reference
from mlpipe_engine.sdk.keywords import caller, strict

if TYPE_CHECKING:
    from mlpipe_engine.model.datasets import ColumnType, DatasetDefinition
    from mlpipe_engine.sdk.output_datasets import PipelineOutputFileDataset, PipelineOutputTabularDataset
    from mlpipe_engine.sdk.steps import Step


class Output(ABC):
    """An output of one step. Its producer is known once a step lists it."""

    def __init__(self, label: str) -> None:
        self.label = label
        """What stands for it in a text; the name of its port may differ."""
        self.named = True
        self.producer: Step | None = None

    @property
    def name(self) -> str:
        return self.label

    @abstractmethod
    def spec(self) -> OutputSpec: ...

    @abstractmethod
    def registered(self, registration: Registration, definition: DatasetDefinition | None) -> None:
        """Its step keeps it as a version of a dataset when it ended well; `definition`: how it is read as a table, None: as files."""

    def as_input(self, name: str | None = None) -> OutputInput:
        """As an input of another step; without a name its own."""
        return OutputInput(self, name or self.name, named=name is not None or self.named)

    def __str__(self) -> str:
        return reference(self.label)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r})"


@strict
@dataclass(frozen=True)
class OutputInput:
    """An output of another step, as an input of this one."""

    output: Output
    name: str
    mode: InputMode = "mount"
    path_on_compute: str | None = None
    named: bool = True
    """False: the name was made up, and may be changed where another port has it."""
    use: DatasetUse | None = None
    """How it is read as a table; None: the step gets the files as they are."""

    def as_mount(self, path_on_compute: str | None = None) -> OutputInput:
        return replace(self, mode="mount", path_on_compute=path_on_compute)

    def as_download(self, path_on_compute: str | None = None, format: str | None = None) -> OutputInput:
        """A private copy. `format`: "parquet" or "csv", of what is read as a table."""
        return replace(self, mode="download", path_on_compute=path_on_compute, use=in_format(self.use, format, self.name))

    def as_direct(self) -> OutputInput:
        return replace(self, mode="direct", path_on_compute=None)

    def as_named_input(self, name: str) -> OutputInput:
        return replace(self, name=name, named=True)

    def __str__(self) -> str:
        return reference(self.name)


def in_format(use: DatasetUse | None, format: object, name: str) -> DatasetUse | None:
    """The same table, handed over in this format. Raises DefinitionValueError."""
    if format is None:
        return use
    if use is None:
        raise DefinitionValueError(
            f"format={format!r}: {name!r} is read as files", where=caller(), field="format", expected="a tabular dataset"
        )
    if format not in ("parquet", "csv"):
        raise DefinitionValueError(f"format={format!r}", where=caller(), field="format", expected="'parquet' or 'csv'")
    return replace(use, format=format)


@strict
class PipelineData(Output):
    """Data that one step makes and others read: a file or a folder, the script decides.

    >>> str(PipelineData("prepared"))
    '$AZUREML_DATAREFERENCE_prepared'
    """

    def __init__(
        self, name: str, datastore: AbstractDatastore | None = None, output_name: str | None = None, output_mode: str = "mount",
        output_path_on_compute: str | None = None, output_overwrite: bool | None = None, data_type: str | None = None,
        is_directory: bool | None = None, pipeline_output_name: str | None = None, training_output: object = None,
        allow_missing: bool = False,
    ) -> None:  # fmt: skip
        for given in (name, output_name or name):
            if not isinstance(given, str) or not re.fullmatch(r"\w+", given):
                raise DefinitionValueError(
                    f"PipelineData name: [{given}] is not a valid, as it may contain only letters, digits, and underscores.",
                    where=caller(),
                )
        if output_mode not in ("mount", "upload", "hdfs"):
            raise DefinitionValueError(f"Invalid output mode [{output_mode}]; expected mount or upload", where=caller())
        if training_output is not None:
            raise DefinitionValueError("training_output belongs to AutoML, which does not exist here", where=caller())
        super().__init__(name)
        self.output_name = output_name or name
        self._spec = OutputSpec(
            name=self.output_name, mode="upload" if output_mode == "upload" else "mount", is_directory=is_directory, allow_missing=allow_missing,
            path_on_compute=output_path_on_compute, datastore=_datastore_name(datastore), pipeline_output_name=pipeline_output_name,
            overwrite=bool(output_overwrite),
        )  # fmt: skip

    def spec(self) -> OutputSpec:
        return self._spec

    def as_mount(self) -> OutputInput:
        return self.as_input()

    def as_download(
        self, input_name: str | None = None, path_on_compute: str | None = None, overwrite: bool | None = None
    ) -> OutputInput:
        return replace(self.as_input(input_name), mode="download", path_on_compute=path_on_compute)

    def registered(self, registration: Registration, definition: DatasetDefinition | None) -> None:
        self._spec = replace(self._spec, register=registration, register_as=definition)

    def as_dataset(self) -> PipelineOutputFileDataset:
        """As a dataset of files, which can be registered or read as a table."""
        from mlpipe_engine.sdk.output_datasets import PipelineOutputFileDataset

        return PipelineOutputFileDataset(self)

    def parse_delimited_files(self, separator: str = ",", header: bool | str = True) -> PipelineOutputTabularDataset:
        """As a table; with more options: `as_dataset().parse_delimited_files(...)`."""
        return self.as_dataset().parse_delimited_files(separator=separator, header=header)

    def parse_parquet_files(self) -> PipelineOutputTabularDataset:
        return self.as_dataset().parse_parquet_files()


_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("run-id", "output-name", "date", "step")


@strict
class OutputFileDatasetConfig(Output):
    """An output that names where it should be delivered and under which name it should be registered.

    Among the arguments of a step it is an output of that step; `as_input()` makes it an input of another one.

    >>> OutputFileDatasetConfig(name="scores").as_upload().spec().mode
    'upload'
    """

    def __init__(
        self, name: str | None = None, destination: tuple[AbstractDatastore, str] | None = None, source: str | None = None,
        partition_format: str | None = None,
    ) -> None:  # fmt: skip
        if name is not None and not (isinstance(name, str) and re.fullmatch(r"[a-zA-Z_]+[a-zA-Z0-9_]*", name)):
            raise DefinitionValueError(
                f"invalid output name {name!r}: letters, digits and '_', not starting with a digit", where=caller()
            )
        if partition_format is not None:
            raise DefinitionValueError(
                f"partition_format={partition_format!r}: an output of files has no columns", where=caller(), hint="Leave it out."
            )
        super().__init__(name or "output")
        self.named = name is not None
        self._port = name or "output"
        self._changes: dict[str, object] = {}
        if destination is not None:
            self._changes |= _destination(destination)
        if source is not None:
            self._changes["path_on_compute"] = source

    @property
    def name(self) -> str:
        return self._port

    def number(self, number: int) -> None:
        """A name that stays the same from one definition to the next, unlike the random one of the Azure SDK."""
        self._port = f"{self.label}_{number}"

    def spec(self) -> OutputSpec:
        return OutputSpec(name=self._port, **self._changes)  # type: ignore[arg-type]

    def as_upload(self, overwrite: bool = False, source_globs: str | None = None) -> OutputFileDatasetConfig:
        return self._changed(mode="upload", source_globs=source_globs, overwrite=overwrite)

    def as_mount(self, disable_metadata_cache: bool = False) -> OutputFileDatasetConfig:
        return self._changed(mode="mount")

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> OutputFileDatasetConfig:
        """When its step ended well, as a version of the dataset `name`."""
        return self._changed(register=Registration(name, description or "", tag_pairs(tags)))

    def registered(self, registration: Registration, definition: DatasetDefinition | None) -> None:
        self._changed(register=registration, register_as=definition)

    def read_delimited_files(
        self, include_path: bool = False, separator: str = ",", header: bool | str = True, partition_format: str | None = None,
        path_glob: str | None = None, set_column_types: Mapping[str, ColumnType] | None = None,
    ) -> PipelineOutputTabularDataset:  # fmt: skip
        """What a step writes there is a table of text with separators for the steps that read it."""
        _no_glob(path_glob)
        return self._promoted().parse_delimited_files(include_path, separator, header, partition_format, "", set_column_types)

    def read_parquet_files(
        self, include_path: bool = False, partition_format: str | None = None, path_glob: str | None = None,
        set_column_types: Mapping[str, ColumnType] | None = None,
    ) -> PipelineOutputTabularDataset:  # fmt: skip
        _no_glob(path_glob)
        return self._promoted().parse_parquet_files(include_path, partition_format, "", set_column_types)

    def _promoted(self) -> PipelineOutputFileDataset:
        from mlpipe_engine.sdk.output_datasets import PipelineOutputFileDataset

        return PipelineOutputFileDataset(self)

    def _changed(self, **changes: object) -> OutputFileDatasetConfig:
        """The same output (steps that read it must find it), differently delivered."""
        self._changes |= changes
        return self


def _no_glob(path_glob: str | None) -> None:
    if path_glob is not None:
        raise DefinitionValueError(
            f"path_glob={path_glob!r}", where=caller(), field="path_glob", expected="nothing: every file of the output is read",
            hint="Write other files to another output.",
        )  # fmt: skip


def tag_pairs(given: object) -> tuple[tuple[str, str], ...]:
    if given is not None and not isinstance(given, Mapping):
        raise DefinitionTypeError(f"tags is a {type(given).__name__}; expected a dict", where=caller(), field="tags")
    return tuple(sorted((str(name), str(value)) for name, value in (given or {}).items()))


def _destination(given: object) -> dict[str, object]:
    if not (
        isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], AbstractDatastore) and isinstance(given[1], str)
    ):
        raise DefinitionValueError(f"destination is {given!r}; expected (datastore, 'path')", where=caller(), field="destination")
    for placeholder in _PLACEHOLDER.findall(given[1]):
        if placeholder not in _PLACEHOLDERS and not re.fullmatch(r"param\.[\w.\-]+", placeholder):
            raise DefinitionValueError(
                f"unknown placeholder {{{placeholder}}} in {given[1]!r}", where=caller(), field="destination",
                expected="one of " + ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS) + " or {param.NAME}",
            )  # fmt: skip
    return {"datastore": given[0].name, "destination": given[1]}


def _datastore_name(datastore: object) -> str | None:
    if datastore is None or isinstance(datastore, AbstractDatastore):
        return datastore.name if datastore is not None else None
    raise DefinitionTypeError(
        f"datastore is a {type(datastore).__name__}; expected a Datastore", where=caller(), field="datastore"
    )


_UNSET = object()
_TYPES = ("str", "int", "float", "bool", "list", "none", "any")


@strict
class PipelineParameter:
    """A named, typed value that is set when the pipeline is submitted. Without a default it must be given then.

    >>> PipelineParameter("rate", 0.1, minimum=0, maximum=1).spec().type
    'float'
    """

    def __init__(
        self, name: str, default_value: object = _UNSET, type: str | None = None, choices: list[object] | None = None,
        minimum: float | None = None, maximum: float | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}", name):
            raise DefinitionValueError(
                f"invalid parameter name {name!r}: letters, digits, '_', '.', '-', starting with a letter or '_'", where=caller()
            )
        self.name = name
        self.default_value = None if default_value is _UNSET else default_value
        kind = _inferred(default_value) if type is None else getattr(type, "__name__", type)
        if kind not in _TYPES:
            raise DefinitionValueError(f"parameter {name!r}: unknown type {type!r}", where=caller(), expected=", ".join(_TYPES))
        self._spec = ParameterSpec(
            name=name, type=cast(ParameterType, kind), default=frozen(self.default_value, name), required=default_value is _UNSET,
            choices=tuple(frozen(choice, name) for choice in choices or ()), minimum=minimum, maximum=maximum,
        )  # fmt: skip
        self._check()

    def _check(self) -> None:
        """A default that could never be used is an error of the definition, not of a run."""
        ranged = self._spec.minimum is not None or self._spec.maximum is not None
        if ranged and self._spec.type not in ("int", "float", "any"):
            raise DefinitionValueError(
                f"parameter {self.name!r} is a {self._spec.type} and has no minimum or maximum", where=caller()
            )
        if not self._spec.required:
            try:
                parameters.effective(PipelineSpec(name="", steps=(), parameters=(self._spec,)), {})
            except ParameterError as error:
                raise ParameterError(
                    f"{error.what} (its default)", where=caller(), field=self.name, expected=error.expected
                ) from None

    def spec(self) -> ParameterSpec:
        return self._spec

    def __str__(self) -> str:
        """Stands for its value in a text; a step puts the value in (see `bindings`)."""
        return f"${{PipelineParameter:{self.name}}}"

    def __repr__(self) -> str:
        return f"PipelineParameter({self.name!r}, {self.default_value!r})"


def frozen(value: object, name: str) -> Json:
    """A parameter value as it stands in a spec. Raises DefinitionTypeError."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return tuple(frozen(member, name) for member in value)
    raise DefinitionTypeError(
        f"parameter {name!r}: a {type(value).__name__} cannot be a parameter", where=caller(), field=name,
        expected="text, number, bool, None or a list of them",
    )  # fmt: skip


def _inferred(default: object) -> ParameterType:
    if default is _UNSET or default is None:
        return "any"
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str")):
        if isinstance(default, kind):
            return cast(ParameterType, name)
    return "list"
