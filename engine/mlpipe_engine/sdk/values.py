"""What steps pass to each other, and what a person sets when submitting: PipelineData, output configs, parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mlpipe_engine.model.spec import InputMode, Json, OutputSpec, ParameterSpec, ParameterType
from mlpipe_engine.sdk.datastore import LocalDatastore
from mlpipe_engine.sdk.keywords import strict

if TYPE_CHECKING:
    from mlpipe_engine.sdk.steps import Step


class Output:
    """An output of one step. Its producer is known once a step lists it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.producer: Step | None = None

    def spec(self) -> OutputSpec:
        raise TypeError("only PipelineData and OutputFileDatasetConfig are outputs")

    def as_input(self, name: str | None = None) -> OutputInput:
        return OutputInput(self, name or self.name)

    def as_mount(self) -> OutputInput:
        return OutputInput(self, self.name)

    def as_download(
        self, input_name: str | None = None, path_on_compute: str | None = None, overwrite: bool | None = None
    ) -> OutputInput:
        return OutputInput(self, input_name or self.name, "download", path_on_compute)

    def __str__(self) -> str:
        return f"$AZUREML_DATAREFERENCE_{self.name}"


@dataclass(frozen=True)
class OutputInput:
    """An output of another step, as a named input of this one."""

    output: Output
    name: str
    mode: InputMode = "mount"
    path_on_compute: str | None = None

    def as_mount(self, path_on_compute: str | None = None) -> OutputInput:
        return OutputInput(self.output, self.name, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> OutputInput:
        return OutputInput(self.output, self.name, "download", path_on_compute)

    def as_direct(self) -> OutputInput:
        return OutputInput(self.output, self.name, "direct")

    def as_named_input(self, name: str) -> OutputInput:
        return OutputInput(self.output, name, self.mode, self.path_on_compute)

    def __str__(self) -> str:
        return f"$AZUREML_DATAREFERENCE_{self.name}"


class PipelineData(Output):
    """Data that one step makes and others read: a file or a folder, the script decides.

    >>> str(PipelineData("prepared"))
    '$AZUREML_DATAREFERENCE_prepared'
    """

    @strict
    def __init__(
        self, name: str, datastore: LocalDatastore | None = None, output_name: str | None = None, output_mode: str = "mount",
        output_path_on_compute: str | None = None, output_overwrite: bool | None = None, data_type: str | None = None,
        is_directory: bool | None = None, pipeline_output_name: str | None = None, training_output: object = None,
        allow_missing: bool = False,
    ) -> None:  # fmt: skip
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
            raise ValueError(
                f"PipelineData name: [{name}] is not a valid, as it may contain only letters, digits, and underscores."
            )
        if output_mode not in ("mount", "upload", "hdfs"):
            raise ValueError(f"Invalid output mode [{output_mode}]; expected mount or upload")
        super().__init__(name)
        self.output_name = output_name or name
        self._spec = OutputSpec(
            name=self.output_name, mode="upload" if output_mode == "upload" else "mount", is_directory=is_directory, allow_missing=allow_missing,
            path_on_compute=output_path_on_compute, datastore=datastore.name if datastore else None, pipeline_output_name=pipeline_output_name,
        )  # fmt: skip

    def spec(self) -> OutputSpec:
        return self._spec

    def as_dataset(self) -> PipelineData:
        """An output is a file dataset already; kept so that scripts of the Azure SDK run."""
        return self


class OutputFileDatasetConfig(Output):
    """An output that names where it should be delivered and under which name it should be registered.

    >>> OutputFileDatasetConfig(name="scores").as_upload().spec().mode
    'upload'
    """

    _unnamed = 0

    @strict
    def __init__(
        self,
        name: str | None = None,
        destination: tuple[LocalDatastore, str] | None = None,
        source: str | None = None,
        partition_format: str | None = None,
    ) -> None:
        if name is not None and not re.fullmatch(r"[a-zA-Z_]+[a-zA-Z0-9_]*", name):
            raise ValueError(f"invalid output name {name!r}: letters, digits and '_', not starting with a digit")
        super().__init__(name or "output")
        self._given = name is not None
        self._changes: dict[str, object] = {}
        if destination is not None:
            self._changes |= {"datastore": destination[0].name, "destination": destination[1]}
        if source is not None:
            self._changes["path_on_compute"] = source

    def named(self, number: int) -> None:
        """A name that stays the same from one definition to the next, unlike the random one of the Azure SDK."""
        if not self._given:
            self.name = f"output_{number}"
            self._given = True

    def spec(self) -> OutputSpec:
        return OutputSpec(name=self.name, **self._changes)  # type: ignore[arg-type]

    def as_upload(self, overwrite: bool = False, source_globs: str | None = None) -> OutputFileDatasetConfig:
        return self._changed(mode="upload", source_globs=source_globs)

    def as_mount(self, disable_metadata_cache: bool = False) -> OutputFileDatasetConfig:  # type: ignore[override]
        return self._changed(mode="mount")

    def register_on_complete(
        self, name: str, description: str | None = None, tags: dict[str, str] | None = None
    ) -> OutputFileDatasetConfig:
        return self._changed(register_name=name)

    def _changed(self, **changes: object) -> OutputFileDatasetConfig:
        """The same output (steps that read it must find it), differently delivered."""
        self._changes |= changes
        return self


_UNSET = object()


class PipelineParameter:
    """A named, typed value that is set when the pipeline is submitted.

    >>> PipelineParameter("rate", 0.1, minimum=0, maximum=1).spec().type
    'float'
    """

    @strict
    def __init__(
        self, name: str, default_value: object = _UNSET, type: str | None = None, choices: list[object] | None = None,
        minimum: float | None = None, maximum: float | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}", name):
            raise ValueError(f"invalid parameter name {name!r}: letters, digits, '_', '.', '-', starting with a letter or '_'")
        self.name = name
        self.default_value = None if default_value is _UNSET else default_value
        default = _json(self.default_value, name)
        self._spec = ParameterSpec(
            name=name, type=cast(ParameterType, type) if type else _inferred(default_value), default=default, required=default_value is _UNSET,
            choices=tuple(_json(choice, name) for choice in choices or ()), minimum=minimum, maximum=maximum,
        )  # fmt: skip
        if self._spec.type not in ("str", "int", "float", "bool", "list", "none", "any"):
            raise ValueError(f"parameter {name!r}: unknown type {type!r}; expected str, int, float, bool, list or any")

    def spec(self) -> ParameterSpec:
        return self._spec

    def __repr__(self) -> str:
        return f"PipelineParameter({self.name!r}, {self.default_value!r})"


def _json(value: object, name: str) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return tuple(_json(member, name) for member in value)
    raise TypeError(
        f"parameter {name!r}: a {type(value).__name__} cannot be a parameter; expected text, number, bool, None or a list of them"
    )


def _inferred(default: object) -> ParameterType:
    if default is _UNSET or default is None:
        return "any"
    for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (str, "str")):
        if isinstance(default, kind):
            return cast(ParameterType, name)
    return "list"
