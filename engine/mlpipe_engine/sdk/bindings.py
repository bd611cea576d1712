"""The ports of one step and the words of its command: what each object among inputs, outputs and arguments stands for.

Used by `steps` while a step is built. Lists of the caller are only read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from mlpipe_engine.errors import DefinitionValueError
from mlpipe_engine.model.spec import (
    InputMode,
    InputRef,
    InputSpec,
    LiteralRef,
    OutputRef,
    ParameterRef,
    Part,
    PathSource,
    Text,
    Word,
)
from mlpipe_engine.sdk.dataset import DatasetConsumptionConfig, FileDataset, derived_name
from mlpipe_engine.sdk.datastore import DATA_REFERENCE, DataPath
from mlpipe_engine.sdk.output_datasets import PROMOTED, PipelineOutputFileDataset, PipelineOutputTabularDataset
from mlpipe_engine.sdk.tabular import TabularDataset
from mlpipe_engine.sdk.values import Output, OutputFileDatasetConfig, OutputInput, PipelineParameter

if TYPE_CHECKING:
    from mlpipe_engine.sdk.steps import Step

_REFERENCE = re.compile(re.escape(DATA_REFERENCE) + r"(\w+)|\$\{PipelineParameter:([^}]+)\}")
"""What str() of an input or output, and of a parameter, leaves in a text."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")
_PORTS = (*PROMOTED, Output, OutputInput, DatasetConsumptionConfig, FileDataset, TabularDataset, DataPath, PurePath)


class Bindings:
    """Filled by `add_output`, `add_input`, `set_params` and `word`, in that order: a port is known before a text names it."""

    def __init__(self, step: Step, where: str) -> None:
        self._step = step
        self._where = where
        self.outputs: list[Output] = []
        self.inputs: dict[str, InputSpec | OutputInput] = {}
        self.parameters: dict[str, PipelineParameter] = {}
        self.params: tuple[tuple[str, Part], ...] = ()
        self._labels: dict[str, Part | None] = {}
        """What `$AZUREML_DATAREFERENCE_<label>` means in a text; None where two ports claim it."""

    def add_output(self, item: object) -> None:
        output = item.output if isinstance(item, OutputInput | PipelineOutputFileDataset | PipelineOutputTabularDataset) else item
        if not isinstance(output, Output):
            raise self.wrong(f"{shown(item)} cannot be an output; expected PipelineData or OutputFileDatasetConfig")
        if output.producer is not None and output.producer is not self._step:
            raise self.wrong(f"{output.name} is already an output of step [{output.producer.name}]")
        if output in self.outputs:
            return
        if isinstance(output, OutputFileDatasetConfig) and not output.named:
            taken = {other.spec().name for other in self.outputs}
            number = len(self.outputs) + 1
            while f"{output.label}_{number}" in taken:
                number += 1
            output.number(number)
        self.outputs.append(output)
        for label in (output.label, output.spec().name):
            self._label(label, OutputRef(output.spec().name))

    def claim(self) -> None:
        """Makes the step the producer of its outputs; last of all, so that a step that could not be built claims nothing."""
        for output in self.outputs:
            output.producer = self._step

    def add_input(self, item: object) -> str:
        """Returns the name of the port. The same content under the same name is one input, and a mode that was chosen wins."""
        port, named = self._port(item)
        if isinstance(port, OutputInput) and port.output in self.outputs:
            raise self.wrong(f"[{port.output.name}] is its input and its output", hint="Write to another PipelineData.")
        name = base = self._free_of_outputs(port.name)
        number = 1
        while (known := self.inputs.get(name)) is not None and _content(known) != _content(port):
            if named:
                raise self._repeated(port.name)
            number += 1
            name = f"{base}_{number}"
        self.inputs[name] = replace(port if known is None else self._merged(known, port), name=name)
        labels = {port.name, name}
        if isinstance(port, OutputInput) and not port.named:
            labels.add(port.output.label)
        for label in labels:
            self._label(label, InputRef(name))
        return name

    def _free_of_outputs(self, name: str) -> str:
        """An input called like an output gets a prefix, as in the Azure SDK."""
        taken = {output.spec().name for output in self.outputs}
        return f"INPUT_{name}" if name in taken else name

    def _merged(self, known: InputSpec | OutputInput, port: InputSpec | OutputInput) -> InputSpec | OutputInput:
        modes: set[InputMode] = {known.mode, port.mode}
        places = {known.path_on_compute, port.path_on_compute} - {None}
        unchosen: InputMode = "direct" if port.use is not None and port.use.is_table else "mount"
        if (len(modes) == 2 and unchosen not in modes) or len(places) > 1:
            raise self._repeated(port.name)
        mode = known.mode if port.mode == unchosen else port.mode
        use = known.use if port.use is not None and port.use.format == "parquet" else port.use
        return replace(port, mode=mode, path_on_compute=next(iter(places), None), use=use)

    def _repeated(self, name: str) -> DefinitionValueError:
        return self.wrong(f"[{name}] is repeated. Input port names must be unique.", hint="Give one of them another name.")

    def _port(self, item: object) -> tuple[InputSpec | OutputInput, bool]:
        """The port an object stands for, and whether its author chose the name."""
        if isinstance(item, (Output, *PROMOTED)):
            item = item.as_input()
        if isinstance(item, OutputInput):
            return item, item.named
        if isinstance(item, DatasetConsumptionConfig):
            port = InputSpec(
                name=item.name, source=item.source, mode=item.mode, path_on_compute=item.path_on_compute, use=item.use
            )  # fmt: skip
            return port, item.named
        if isinstance(item, DataPath):
            return self._port(item.as_mount())
        if isinstance(item, PurePath):
            return InputSpec(name=derived_name(str(item)), source=PathSource((str(item),))), False
        if isinstance(item, FileDataset | TabularDataset):
            raise self.wrong("a dataset needs a name as input: use dataset.as_named_input('name')")
        raise self.wrong(f"{shown(item)} cannot be an input; expected a named dataset, PipelineData or a pathlib.Path")

    def set_params(self, params: Mapping[str, object]) -> None:
        for name in params:
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.\-]*", name):
                raise self.wrong(f"params has the name {name!r}; expected letters, digits, '_', '.', '-'")
        self.params = tuple(sorted((name, self.part(value)) for name, value in params.items()))

    def word(self, item: object) -> Word:
        """One word of argv: an object, or a text in which objects were formatted, as in f"{data}/part.csv"."""
        if not isinstance(item, str):
            return (self.part(item),)
        parts: list[Part] = []
        position = 0
        for found in _REFERENCE.finditer(item):
            parts += [Text(item[position : found.start()])] if found.start() > position else []
            parts.append(self._referenced(found, item))
            position = found.end()
        rest = item[position:]
        return (*parts, Text(rest)) if rest or not parts else tuple(parts)

    def shell_text(self, text: str) -> Word:
        """The shell puts paths and values in itself, from variables that are set; quoting stays the author's."""
        return (Text(_REFERENCE.sub(lambda found: self._variable(found, text), text)),)

    def _variable(self, found: re.Match[str], text: str) -> str:
        part = self._referenced(found, text)
        if isinstance(part, InputRef | OutputRef):
            return found[0] if part.name == found[1] else f"${{{DATA_REFERENCE[1:]}{part.name}}}"
        for name, value in self.params:
            if value == part and re.fullmatch(r"\w+", name, re.ASCII):
                return f"${{AML_PARAMETER_{name}}}"
        raise self._unlisted(found[2], text)

    def _referenced(self, found: re.Match[str], text: str) -> Part:
        label, parameter = found[1], found[2]
        if parameter is not None:
            if parameter not in self.parameters:
                raise self._unlisted(parameter, text)
            return ParameterRef(parameter)
        part = self._labels.get(label)
        if part is not None:
            return part
        if label in self._labels:
            raise self.wrong(f"{text!r} uses {label!r}, which is the name of two of its ports")
        raise self.wrong(f"{text!r} uses {label!r}, which is neither an input nor an output of the step")

    def _unlisted(self, parameter: str, text: str) -> DefinitionValueError:
        return self.wrong(
            f"{text!r} holds the parameter {parameter!r}, which the step does not know", hint="List it in params of the step too."
        )

    def part(self, item: object) -> Part:
        if isinstance(item, PipelineParameter):
            known = self.parameters.setdefault(item.name, item)
            if known.spec() != item.spec():
                raise self.wrong(f"parameter {item.name!r} is defined twice, differently")
            return ParameterRef(item.name)
        output = item.output if isinstance(item, (OutputInput, *PROMOTED)) else item
        if isinstance(output, OutputFileDatasetConfig) and not isinstance(item, OutputInput) and output.producer is None:
            self.add_output(output)
        if isinstance(output, Output) and output in self.outputs:
            return OutputRef(output.spec().name)
        if isinstance(item, _PORTS):
            return InputRef(self.add_input(item))
        if isinstance(item, float) and not math.isfinite(item):
            raise self.wrong(f"{item!r} is no number one can compute with", hint=f"Write it as a text: '{item!r}'.")
        if item is None or isinstance(item, bool | int | float):
            return LiteralRef(item)
        return Text(self._text_of(item))

    def _text_of(self, item: object) -> str:
        """Any object can be an argument, as long as its text is the same whenever the definition is loaded."""
        text = str(item)
        pending = [item]
        while pending:
            member = pending.pop()
            if isinstance(member, _PORTS):
                raise self.wrong(f"{shown(member)} stands inside a {type(item).__name__}", hint="Make it an argument of its own.")
            if isinstance(member, set | frozenset) or _ADDRESS.search(str(member)):
                raise self.wrong(
                    f"{shown(item)} cannot be an argument: its text changes from one load to the next", hint="Make it a text."
                )
            if isinstance(member, list | tuple | Mapping):
                pending.extend([*member, *member.values()] if isinstance(member, Mapping) else member)
        return text

    def _label(self, label: str, part: Part) -> None:
        if self._labels.setdefault(label, part) != part:
            self._labels[label] = None

    def wrong(self, what: str, *, hint: str = "") -> DefinitionValueError:
        return DefinitionValueError(f"Step [{self._step.name}]: {what}", where=self._where, hint=hint)


def listed(value: object, field: str, bindings: Bindings) -> list[object]:
    """A list argument, copied. A single object or a text in its place is a slip that would be taken apart letter by letter."""
    if value is None:
        return []
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise bindings.wrong(f"{field}={short(value)}; expected a list", hint="Put it in brackets: [...].")
    return list(value)


def shown(item: object) -> str:
    return f"a {type(item).__name__} ({short(item)})"


def short(item: object) -> str:
    text = repr(item)
    return text if len(text) <= 60 else text[:57] + "..."


def _content(port: InputSpec | OutputInput) -> object:
    use = replace(port.use, format="parquet") if port.use is not None else None
    return port.output if isinstance(port, OutputInput) else port.source, use
