"""Steps: one Python script or one command each, with what goes in and what comes out. Building one reads nothing from disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from mlpipe_engine.config.project import size_bytes
from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError
from mlpipe_engine.model.spec import InputSpec, PathSource, Resources, StepKind, StepOutputSource, StepSpec, VersionSource
from mlpipe_engine.sdk.bindings import Bindings, listed, short, shown
from mlpipe_engine.sdk.environment import Environment, RunConfiguration
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.values import Output, OutputInput, PipelineParameter


class Step:
    """What all kinds of steps share. Lists given by the caller are never changed."""

    kind: StepKind = "python"

    def __init__(
        self, *, name: str | None, default_name: str, script: str | None, command: Sequence[object], arguments: Sequence[object] | None,
        compute_target: object, runconfig: RunConfiguration | None, runconfig_pipeline_params: Mapping[str, object] | None,
        inputs: Sequence[object] | None, outputs: Sequence[object] | None, params: Mapping[str, object] | None,
        source_directory: str | os.PathLike[str] | None, allow_reuse: bool, version: str | None,
        hash_paths: Sequence[str] | None, cpus: float | None, memory: int | str | None, gpus: int, retries: int, retry_delay_seconds: float,
        timeout_seconds: float | None, when: str | None, trigger: str, environment_variables: Mapping[str, str] | None, code: str,
        python: str | os.PathLike[str] | None, environment: Environment | None,
    ) -> None:  # fmt: skip
        self.where = caller()
        self.name = name if name is not None else default_name
        if not isinstance(self.name, str) or not self.name:
            raise DefinitionValueError(f"a step needs a name, found {name!r}", where=self.where)
        if runconfig_pipeline_params:
            raise self._wrong(
                "runconfig_pipeline_params", runconfig_pipeline_params, "nothing; give parameters in params or arguments"
            )
        if runconfig is not None and not isinstance(runconfig, RunConfiguration):
            raise self._wrong("runconfig", runconfig, "a RunConfiguration")
        self.script = script
        self.source_directory = os.fspath(source_directory) if source_directory is not None else None
        self._after: list[Step] = []
        self._environment = self._declared_environment(runconfig, environment)
        self._bindings = bindings = Bindings(self, self.where)
        for output in listed(outputs, "outputs", bindings):
            bindings.add_output(output)
        for item in listed(inputs, "inputs", bindings):
            bindings.add_input(item)
        bindings.set_params(self._mapping("params", params))
        words = () if self.kind == "shell" else tuple(bindings.word(item) for item in command)
        self.arguments = tuple(bindings.word(item) for item in listed(arguments, "arguments", bindings))
        self.command = (bindings.shell_text(str(command[0])),) if self.kind == "shell" else words
        self._fixed = StepSpec(
            name=self.name, kind=self.kind, script=script, allow_reuse=self._is("allow_reuse", allow_reuse, bool, "True or False"),
            version=None if version is None else str(version), hash_paths=self._texts("hash_paths", hash_paths),
            code=cast(Literal["precise", "snapshot"], self._one_of("code", code, "precise", "snapshot")),
            compute=_compute_name(compute_target, runconfig), resources=self._resources(cpus, memory, gpus),
            retries=self._is("retries", retries, int, "a whole number"),
            retry_delay_seconds=self._is("retry_delay_seconds", retry_delay_seconds, (int, float), "a number of seconds"),
            timeout_seconds=self._is("timeout_seconds", timeout_seconds, (int, float, type(None)), "a number of seconds or None"),
            when=self._is("when", when, (str, type(None)), "an expression as text, such as 'metric(\"train\", \"auc\") > 0.9'"),
            trigger=cast(Literal["success", "always"], self._one_of("trigger", trigger, "success", "always")),
            environment_variables=self._variables(runconfig, environment_variables), where=self.where, python=self._python(python),
        )  # fmt: skip
        bindings.claim()

    def run_after(self, step: Step) -> None:
        """This step starts only when `step` has ended well, although no data flows between them."""
        if not isinstance(step, Step):
            raise DefinitionTypeError(
                f"Step [{self.name}]: cannot run after {shown(step)}; expected a step",
                where=caller(),
                hint="Call it once a step.",
            )
        if step not in self._after:
            self._after.append(step)

    @property
    def parameters(self) -> Mapping[str, PipelineParameter]:
        return self._bindings.parameters

    @property
    def outputs(self) -> Sequence[Output]:
        return self._bindings.outputs

    @property
    def upstream(self) -> list[Step]:
        """Steps this one needs, by data or by order."""
        producers = [item.output.producer for item in self._bindings.inputs.values() if isinstance(item, OutputInput)]
        return list(dict.fromkeys([*(step for step in producers if step is not None), *self._after]))

    def spec(self, relative: Relative, default_source: str | None) -> StepSpec:
        """The frozen form. Raises DefinitionValueError when an input has no producer."""
        source = self.source_directory if self.source_directory is not None else default_source
        if source is None and self.script is not None:
            source = "."
        return replace(
            self._fixed, environment=self._environment.spec(relative), command=self.command, arguments=self.arguments, params=self._bindings.params,
            source_directory=relative(source) if source is not None else None,
            script=relative.script(self.script, source) if self.script is not None and source is not None else None,
            inputs=tuple(self._input_spec(item, relative) for item in self._bindings.inputs.values()),
            outputs=tuple(output.spec() for output in self.outputs),
            run_after=tuple(step.name for step in self._after),
        )  # fmt: skip

    def _input_spec(self, item: InputSpec | OutputInput, relative: Relative) -> InputSpec:
        if isinstance(item, OutputInput):
            producer = item.output.producer
            if producer is None:
                raise self._bindings.wrong(
                    f"input {item.name!r} is an output of no step", hint="List it in the outputs of the step that makes it."
                )
            source = StepOutputSource(producer.name, item.output.spec().name)
            return InputSpec(name=item.name, source=source, mode=item.mode, path_on_compute=item.path_on_compute, use=item.use)
        if isinstance(item.source, VersionSource):
            return item
        assert isinstance(item.source, PathSource)
        return replace(item, source=PathSource(tuple(relative(path) for path in item.source.paths), item.source.validate))

    def _resources(self, cpus: object, memory: object, gpus: object) -> Resources:
        count = self._is("cpus", cpus, (int, float, type(None)), "a number of cores")
        try:
            size = 0 if memory is None else size_bytes(memory)
        except ValueError:
            raise self._wrong("memory", memory, "a number of bytes or text such as '2GB'") from None
        return Resources(
            cpus=1.0 if count is None else float(count), memory_bytes=size, gpus=self._is("gpus", gpus, int, "a whole number")
        )

    def _declared_environment(self, runconfig: RunConfiguration | None, given: object) -> Environment:
        if given is not None and not isinstance(given, Environment):
            raise self._wrong("environment", given, "an Environment")
        if isinstance(given, Environment):
            return given
        return runconfig.environment if runconfig is not None else Environment("")

    def _python(self, given: object) -> str | None:
        """`python=` of the step, else the interpreter a user-managed environment names."""
        if given is None:
            return self._environment.interpreter()
        if not isinstance(given, str | os.PathLike) or not str(os.fspath(given)).strip():
            raise self._wrong("python", given, "the path of a Python, the folder of an environment or the name of a program")
        if self._environment.declares_packages:
            raise self._wrong("python", given, f"either python or an environment with packages ({self._environment.name!r})")
        return os.fspath(given)

    def _variables(self, runconfig: RunConfiguration | None, given: object) -> tuple[tuple[str, str], ...]:
        found = dict(runconfig.environment_variables) if runconfig is not None else {}
        found |= self._environment.environment_variables
        found |= self._mapping("environment_variables", given)
        for name, value in found.items():
            if not isinstance(name, str) or not isinstance(value, str | int | float):
                raise self._wrong("environment_variables", {name: value}, "names and texts")
        return tuple(sorted((name, str(value)) for name, value in found.items()))

    def _mapping(self, field: str, value: object) -> Mapping[str, Any]:
        if value is not None and not isinstance(value, Mapping):
            raise self._wrong(field, value, "a dict")
        return value or {}

    def _texts(self, field: str, value: object) -> tuple[str, ...]:
        found = listed(value, field, self._bindings)
        if not all(isinstance(item, str | os.PathLike) for item in found):
            raise self._wrong(field, value, "a list of paths")
        return tuple(os.fspath(cast(str, item)) for item in found)

    def _one_of(self, field: str, value: object, *choices: str) -> str:
        if value not in choices:
            raise self._wrong(field, value, " or ".join(map(repr, choices)))
        return value

    def _is(self, field: str, value: Any, kinds: type | tuple[type, ...], expected: str) -> Any:
        """True is no number here, and "no" is not False."""
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise self._wrong(field, value, expected)
        return value

    def _wrong(self, field: str, value: object, expected: str) -> DefinitionValueError:
        return DefinitionValueError(
            f"Step [{self.name}]: {field}={short(value)}", where=self.where, field=field, expected=expected
        )


class Relative:
    """Paths of a definition as they stand in a spec: relative to the project where they lie inside it. Addresses stay as they are."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __call__(self, path: str) -> str:
        if "://" in path:
            return path
        full = os.path.normpath(os.path.join(self._root, os.path.expanduser(path)))
        return self._inside(full) or self._inside(os.path.realpath(full)) or full

    def _inside(self, full: str) -> str | None:
        if full == self._root:
            return "."
        if full.startswith(self._root.rstrip(os.sep) + os.sep):
            return os.path.relpath(full, self._root).replace(os.sep, "/")
        return None

    def script(self, script: str, source: str) -> str:
        """A script as it stands below its source directory; one that lies elsewhere begins with `../`."""
        folder = os.path.normpath(os.path.join(self._root, os.path.expanduser(source)))
        return os.path.relpath(os.path.join(folder, os.path.expanduser(script)), folder).replace(os.sep, "/")


def _compute_name(target: object, runconfig: RunConfiguration | None) -> str | None:
    chosen = target if target is not None or runconfig is None or runconfig.target == "local" else runconfig.target
    if isinstance(chosen, tuple) and chosen:
        chosen = chosen[0]
    return None if chosen is None else str(getattr(chosen, "name", chosen))


@strict
class PythonScriptStep(Step):
    """A step that runs a Python script of its source directory.

    >>> step = PythonScriptStep("train.py", arguments=["--rate", 0.1], source_directory="src")
    >>> step.name
    'train.py'
    """

    kind = "python"

    def __init__(
        self, script_name: str | os.PathLike[str], name: str | None = None, arguments: Sequence[object] | None = None, compute_target: object = None,
        runconfig: RunConfiguration | None = None, runconfig_pipeline_params: Mapping[str, object] | None = None,
        inputs: Sequence[object] | None = None, outputs: Sequence[object] | None = None, params: Mapping[str, object] | None = None,
        source_directory: str | os.PathLike[str] | None = None, allow_reuse: bool = True, version: str | None = None,
        hash_paths: Sequence[str] | None = None, cpus: float | None = None, memory: int | str | None = None, gpus: int = 0, retries: int = 0,
        retry_delay_seconds: float = 1.0, timeout_seconds: float | None = None, when: str | None = None, trigger: str = "success",
        environment_variables: Mapping[str, str] | None = None, code: str = "precise",
        python: str | os.PathLike[str] | None = None, environment: Environment | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(script_name, str | os.PathLike) or not os.fspath(script_name):
            raise DefinitionValueError(
                f"script_name is {script_name!r}; expected the path of a script below source_directory", where=caller()
            )
        super().__init__(
            name=name, default_name=os.path.basename(script_name), script=os.fspath(script_name), command=(), arguments=arguments,
            compute_target=compute_target, runconfig=runconfig, runconfig_pipeline_params=runconfig_pipeline_params, inputs=inputs,
            outputs=outputs, params=params, source_directory=source_directory, allow_reuse=allow_reuse, version=version,
            hash_paths=hash_paths, cpus=cpus, memory=memory, gpus=gpus, retries=retries, retry_delay_seconds=retry_delay_seconds,
            timeout_seconds=timeout_seconds, when=when, trigger=trigger, environment_variables=environment_variables, code=code,
            python=python, environment=environment,
        )  # fmt: skip


@strict
class CommandStep(Step):
    """A step that runs a program. A list is its words; a text is a script for /bin/sh.

    >>> CommandStep(command=["sort", "names.txt"], name="sort").kind
    'command'
    """

    def __init__(
        self, command: str | Sequence[object] | None = None, name: str | None = None, compute_target: object = None,
        runconfig: RunConfiguration | None = None, runconfig_pipeline_params: Mapping[str, object] | None = None,
        inputs: Sequence[object] | None = None, outputs: Sequence[object] | None = None, params: Mapping[str, object] | None = None,
        source_directory: str | os.PathLike[str] | None = None, allow_reuse: bool = True, version: str | None = None,
        hash_paths: Sequence[str] | None = None, arguments: Sequence[object] | None = None, cpus: float | None = None,
        memory: int | str | None = None, gpus: int = 0, retries: int = 0, retry_delay_seconds: float = 1.0,
        timeout_seconds: float | None = None, when: str | None = None, trigger: str = "success",
        environment_variables: Mapping[str, str] | None = None, code: str = "precise",
        python: str | os.PathLike[str] | None = None, environment: Environment | None = None,
    ) -> None:  # fmt: skip
        if not command or not isinstance(command, str | list | tuple):
            raise DefinitionValueError(
                f"CommandStep needs a command, found {short(command)}", where=caller(), field="command",
                expected="a list of words, or a text for /bin/sh",
            )  # fmt: skip
        self.kind = "shell" if isinstance(command, str) else "command"
        words: Sequence[object] = [command] if isinstance(command, str) else command
        super().__init__(
            name=name, default_name="command" if isinstance(command, str) else os.path.basename(str(words[0])), script=None, command=words,
            arguments=arguments, compute_target=compute_target, runconfig=runconfig, runconfig_pipeline_params=runconfig_pipeline_params,
            inputs=inputs, outputs=outputs, params=params, source_directory=source_directory, allow_reuse=allow_reuse, version=version,
            hash_paths=hash_paths, cpus=cpus, memory=memory, gpus=gpus, retries=retries, retry_delay_seconds=retry_delay_seconds,
            timeout_seconds=timeout_seconds, when=when, trigger=trigger, environment_variables=environment_variables, code=code,
            python=python, environment=environment,
        )  # fmt: skip
