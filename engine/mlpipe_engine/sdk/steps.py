"""Steps: one Python script or one command each, with what goes in and what comes out. Building one reads nothing from disk."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal, cast

from mlpipe_engine.config.project import size_bytes
from mlpipe_engine.model.spec import (
    InputRef,
    InputSpec,
    LiteralRef,
    OutputRef,
    ParameterRef,
    Part,
    PathSource,
    Resources,
    StepOutputSource,
    StepSpec,
    Text,
    Word,
)  # fmt: skip
from mlpipe_engine.sdk.dataset import DatasetConsumptionConfig, FileDataset, derived_name
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.values import Output, OutputFileDatasetConfig, OutputInput, PipelineParameter


@dataclass
class _Environment:
    environment_variables: dict[str, str] = field(default_factory=dict)


class RunConfiguration:
    """Where a step runs and with which variables.

    >>> config = RunConfiguration()
    >>> config.environment.environment_variables["MODE"] = "fast"
    >>> config.target
    'local'
    """

    def __init__(self) -> None:
        self.target: str = "local"
        self.environment = _Environment()

    @property
    def environment_variables(self) -> dict[str, str]:
        return self.environment.environment_variables


class Step:
    """What all kinds of steps share. Lists given by the caller are never changed."""

    kind: Literal["python", "command", "shell"] = "python"

    def __init__(
        self, *, name: str | None, default_name: str, script: str | None, command: Sequence[object], arguments: Sequence[object] | None,
        compute_target: object, runconfig: RunConfiguration | None, inputs: Sequence[object] | None, outputs: Sequence[object] | None,
        params: Mapping[str, object] | None, source_directory: str | os.PathLike[str] | None, allow_reuse: bool, version: str | None,
        hash_paths: Sequence[str] | None, cpus: float | None, memory: int | str | None, gpus: int, retries: int, retry_delay_seconds: float,
        timeout_seconds: float | None, when: str | None, trigger: str, environment_variables: Mapping[str, str] | None, code: str,
    ) -> None:  # fmt: skip
        self.where = caller()
        self.name = name if name is not None else default_name
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"a step needs a name, found {name!r}")
        if code not in ("precise", "snapshot") or trigger not in ("success", "always"):
            raise ValueError(f"Step [{self.name}]: code is 'precise' or 'snapshot', trigger is 'success' or 'always'")
        self.script = script
        self.source_directory = os.fspath(source_directory) if source_directory is not None else None
        self.outputs: list[Output] = []
        self.inputs: dict[str, InputSpec | OutputInput] = {}
        self.parameters: dict[str, PipelineParameter] = {}
        self._upstream: list[Step] = []
        self._after: list[Step] = []
        for output in outputs or ():
            self._add_output(output)
        for item in inputs or ():
            self._add_input(item, explicit=True)
        self.command = tuple(self._word(item) for item in command)
        self.arguments = tuple(self._word(item) for item in arguments or ())
        self.params = tuple(sorted((str(key), self._part(value)) for key, value in (params or {}).items()))
        variables = {**(runconfig.environment_variables if runconfig else {}), **(environment_variables or {})}
        self._fixed = StepSpec(
            name=self.name, kind=self.kind, script=script, allow_reuse=bool(allow_reuse), version=None if version is None else str(version),
            hash_paths=tuple(hash_paths or ()), code=cast(Literal["precise", "snapshot"], code), compute=_compute_name(compute_target, runconfig),
            resources=Resources(cpus=1.0 if cpus is None else float(cpus), memory_bytes=_memory(memory, self.name), gpus=gpus),
            retries=retries, retry_delay_seconds=retry_delay_seconds, timeout_seconds=timeout_seconds, when=when,
            trigger=cast(Literal["success", "always"], trigger),
            environment_variables=tuple(sorted((str(key), str(value)) for key, value in variables.items())), where=self.where,
        )  # fmt: skip

    def run_after(self, step: Step) -> None:
        """This step starts only when `step` has ended well, although no data flows between them."""
        if step not in self._after:
            self._after.append(step)

    @property
    def upstream(self) -> list[Step]:
        """Steps this one needs, by data or by order."""
        producers = [item.output.producer for item in self.inputs.values() if isinstance(item, OutputInput)]
        return list(dict.fromkeys([*(step for step in producers if step is not None), *self._after]))

    def spec(self, relative: Relative, default_source: str | None) -> StepSpec:
        """The frozen form. Raises ValueError when an input has no producer."""
        from dataclasses import replace

        source = self.source_directory if self.source_directory is not None else default_source
        if source is None and self.kind == "python":
            source = "."
        return replace(
            self._fixed, command=self.command, arguments=self.arguments, params=self.params,
            source_directory=relative(source) if source is not None else None,
            inputs=tuple(self._input_spec(item, relative) for item in self.inputs.values()),
            outputs=tuple(output.spec() for output in self.outputs),
            run_after=tuple(step.name for step in self._after),
        )  # fmt: skip

    def _input_spec(self, item: InputSpec | OutputInput, relative: Relative) -> InputSpec:
        from dataclasses import replace

        if isinstance(item, OutputInput):
            producer = item.output.producer
            if producer is None:
                raise ValueError(
                    f"Step [{self.name}]: input {item.name!r} is an output of no step; list it in some step's outputs"
                )
            source = StepOutputSource(producer.name, item.output.spec().name)
            return InputSpec(name=item.name, source=source, mode=item.mode, path_on_compute=item.path_on_compute)
        assert isinstance(item.source, PathSource)
        return replace(item, source=PathSource(tuple(relative(path) for path in item.source.paths), item.source.validate))

    def _add_output(self, item: object) -> None:
        if isinstance(item, OutputInput):
            item = item.output
        if not isinstance(item, Output):
            raise ValueError(
                f"Step [{self.name}]: {_kind(item)} cannot be an output; expected PipelineData or OutputFileDatasetConfig"
            )
        if item.producer is not None and item.producer is not self:
            raise ValueError(f"Step [{self.name}]: {item.name} is already an output of step [{item.producer.name}]")
        if isinstance(item, OutputFileDatasetConfig):
            item.named(len(self.outputs) + 1)
        if item not in self.outputs:
            item.producer = self
            self.outputs.append(item)

    def _add_input(self, item: object, *, explicit: bool = False) -> str:
        """Returns the name of the port. The same dataset twice is one input; an argument's mode wins over the default one."""
        port = self._port(item)
        known = self.inputs.get(port.name)
        if known is None or known == port:
            self.inputs[port.name] = port
            return port.name
        same = isinstance(known, OutputInput) == isinstance(port, OutputInput) and _content(known) == _content(port)
        modes = {known.mode, port.mode}
        if not same or (len(modes) == 2 and "mount" not in modes):
            raise ValueError(f"[{port.name}] is repeated. Input port names must be unique.")
        self.inputs[port.name] = known if port.mode == "mount" and known.mode != "mount" else port
        return port.name

    def _port(self, item: object) -> InputSpec | OutputInput:
        if isinstance(item, Output):
            return OutputInput(item, item.name)
        if isinstance(item, OutputInput):
            return item
        if isinstance(item, DatasetConsumptionConfig):
            return InputSpec(name=item.name, source=item.dataset.source, mode=item.mode, path_on_compute=item.path_on_compute)
        if isinstance(item, PurePath):
            return InputSpec(name=derived_name(str(item)), source=PathSource((str(item),)))
        if isinstance(item, FileDataset):
            raise ValueError(f"Step [{self.name}]: a dataset needs a name as input: use dataset.as_named_input('name')")
        raise ValueError(
            f"Step [{self.name}]: {_kind(item)} cannot be an input; expected a named dataset, PipelineData or a pathlib.Path"
        )

    def _word(self, item: object) -> Word:
        if isinstance(item, str) and "$AZUREML_DATAREFERENCE_" in item:
            return self._composite(item)
        return (self._part(item),)

    def _composite(self, text: str) -> Word:
        """A text made from an input or output, as f"{data}/part.csv", still follows its path."""
        ports = {output.spec().name for output in self.outputs}
        parts: list[Part] = []
        for number, piece in enumerate(re.split(r"\$AZUREML_DATAREFERENCE_(\w+)", text)):
            if number % 2 == 0:
                if piece:
                    parts.append(Text(piece))
            elif piece in ports:
                parts.append(OutputRef(piece))
            elif piece in self.inputs:
                parts.append(InputRef(piece))
            else:
                raise ValueError(
                    f"Step [{self.name}]: the argument {text!r} uses {piece!r}, which is neither an input nor an output of the step"
                )
        return tuple(parts)

    def _part(self, item: object) -> Part:
        if isinstance(item, PipelineParameter):
            known = self.parameters.setdefault(item.name, item)
            if known.spec() != item.spec():
                raise ValueError(f"Step [{self.name}]: parameter {item.name!r} is defined twice, differently")
            return ParameterRef(item.name)
        if isinstance(item, Output) and item in self.outputs:
            return OutputRef(item.spec().name)
        if isinstance(item, OutputInput) and item.output in self.outputs:
            return OutputRef(item.output.spec().name)
        if isinstance(item, Output | OutputInput | DatasetConsumptionConfig | FileDataset | PurePath):
            return InputRef(self._add_input(item))
        if isinstance(item, str):
            return Text(item)
        if item is None or isinstance(item, bool | int | float):
            return LiteralRef(item)
        return Text(str(item))


class Relative:
    """Paths of a definition as they stand in a spec: relative to the project where they lie inside it."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __call__(self, path: str) -> str:
        full = os.path.normpath(os.path.join(self._root, os.path.expanduser(path)))
        if full == self._root:
            return "."
        if full.startswith(self._root.rstrip(os.sep) + os.sep):
            return os.path.relpath(full, self._root).replace(os.sep, "/")
        return full


def _content(port: InputSpec | OutputInput) -> object:
    return port.output if isinstance(port, OutputInput) else port.source


def _kind(item: object) -> str:
    text = repr(item)
    return f"a {type(item).__name__} ({text if len(text) <= 60 else text[:57] + '...'})"


def _memory(memory: int | str | None, step: str) -> int:
    if memory is None:
        return 0
    try:
        return size_bytes(memory)
    except ValueError:
        raise ValueError(f"Step [{step}]: memory={memory!r}; expected a number of bytes or text such as '2GB'") from None


def _compute_name(target: object, runconfig: RunConfiguration | None) -> str | None:
    if target is None:
        return None if runconfig is None or runconfig.target == "local" else str(runconfig.target)
    if isinstance(target, tuple):
        return str(target[0])
    return str(getattr(target, "name", target))


class PythonScriptStep(Step):
    """A step that runs a Python script of its source directory.

    >>> step = PythonScriptStep("train.py", arguments=["--rate", 0.1], source_directory="src")
    >>> step.name
    'train.py'
    """

    kind = "python"

    @strict
    def __init__(
        self, script_name: str, name: str | None = None, arguments: Sequence[object] | None = None, compute_target: object = None,
        runconfig: RunConfiguration | None = None, runconfig_pipeline_params: Mapping[str, object] | None = None,
        inputs: Sequence[object] | None = None, outputs: Sequence[object] | None = None, params: Mapping[str, object] | None = None,
        source_directory: str | os.PathLike[str] | None = None, allow_reuse: bool = True, version: str | None = None,
        hash_paths: Sequence[str] | None = None, cpus: float | None = None, memory: int | str | None = None, gpus: int = 0, retries: int = 0,
        retry_delay_seconds: float = 1.0, timeout_seconds: float | None = None, when: str | None = None, trigger: str = "success",
        environment_variables: Mapping[str, str] | None = None, code: str = "precise",
    ) -> None:  # fmt: skip
        if not isinstance(script_name, str) or not script_name:
            raise ValueError(f"script_name is {script_name!r}; expected the path of a script below source_directory")
        super().__init__(
            name=name, default_name=os.path.basename(script_name), script=script_name, command=(), arguments=arguments, compute_target=compute_target,
            runconfig=runconfig, inputs=inputs, outputs=outputs, params=params, source_directory=source_directory, allow_reuse=allow_reuse,
            version=version, hash_paths=hash_paths, cpus=cpus, memory=memory, gpus=gpus, retries=retries,
            retry_delay_seconds=retry_delay_seconds, timeout_seconds=timeout_seconds, when=when, trigger=trigger,
            environment_variables=environment_variables, code=code,
        )  # fmt: skip


class CommandStep(Step):
    """A step that runs a program. A list is its words; a text is a script for /bin/sh.

    >>> CommandStep(command=["sort", "names.txt"], name="sort").kind
    'command'
    """

    @strict
    def __init__(
        self, command: str | Sequence[object] | None = None, name: str | None = None, compute_target: object = None,
        runconfig: RunConfiguration | None = None, runconfig_pipeline_params: Mapping[str, object] | None = None,
        inputs: Sequence[object] | None = None, outputs: Sequence[object] | None = None, params: Mapping[str, object] | None = None,
        source_directory: str | os.PathLike[str] | None = None, allow_reuse: bool = True, version: str | None = None,
        hash_paths: Sequence[str] | None = None, arguments: Sequence[object] | None = None, cpus: float | None = None,
        memory: int | str | None = None, gpus: int = 0, retries: int = 0, retry_delay_seconds: float = 1.0,
        timeout_seconds: float | None = None, when: str | None = None, trigger: str = "success",
        environment_variables: Mapping[str, str] | None = None, code: str = "precise",
    ) -> None:  # fmt: skip
        if not command:
            raise ValueError("CommandStep needs a command: a list of words, or a text for /bin/sh")
        self.kind = "shell" if isinstance(command, str) else "command"
        words: Sequence[object] = [command] if isinstance(command, str) else list(command)
        super().__init__(
            name=name, default_name="command" if isinstance(command, str) else os.path.basename(str(words[0])), script=None, command=words,
            arguments=arguments, compute_target=compute_target, runconfig=runconfig, inputs=inputs, outputs=outputs, params=params,
            source_directory=source_directory, allow_reuse=allow_reuse, version=version, hash_paths=hash_paths, cpus=cpus, memory=memory,
            gpus=gpus, retries=retries, retry_delay_seconds=retry_delay_seconds, timeout_seconds=timeout_seconds, when=when,
            trigger=trigger, environment_variables=environment_variables, code=code,
        )  # fmt: skip
        if self.kind == "shell":
            self.command = (self._shell_text(words[0]),)

    def _shell_text(self, text: object) -> Word:
        """The shell expands $AZUREML_DATAREFERENCE_x by itself: the variable is set, and quoting stays the author's."""
        return (Text(str(text)),)

    def _composite(self, text: str) -> Word:
        return (Text(text),) if self.kind == "shell" else super()._composite(text)
