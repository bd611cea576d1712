"""The form before a run: parameters as they are typed, which run it would be, and its command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlpipe_engine.model.spec import Json, ParameterSpec, PipelineSpec, SubmitOptions

from mlpipe_tui.viewmodels import words


def experiment_of(pipeline: str) -> str:
    """The name runs of a pipeline are grouped under when nobody gives one; the command line does the same."""
    return re.sub(r"[^A-Za-z0-9_\-]", "_", pipeline).lstrip("_-") or "pipeline"


def options_for(
    spec: PipelineSpec, values: tuple[tuple[str, Json], ...] = (), base: SubmitOptions | None = None
) -> SubmitOptions:
    plain = base or SubmitOptions(experiment=experiment_of(spec.name))
    return replace(plain, parameters=values, source="tui")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One parameter as the form shows it."""

    name: str
    text: str
    about: str


def fields(spec: PipelineSpec, given: Mapping[str, Json]) -> tuple[Field, ...]:
    return tuple(
        Field(name=item.name, text=_typed(given[item.name]) if item.name in given else _default(item), about=_about(item))
        for item in spec.parameters
    )


def _default(parameter: ParameterSpec) -> str:
    return "" if parameter.required else _typed(parameter.default)


def _typed(value: Json) -> str:
    return words.value(value)


def _about(parameter: ParameterSpec) -> str:
    text: str = parameter.type
    if parameter.choices:
        text += ": " + " | ".join(map(words.value, parameter.choices))
    if parameter.minimum is not None or parameter.maximum is not None:
        low = "" if parameter.minimum is None else f"{parameter.minimum:g}"
        high = "" if parameter.maximum is None else f"{parameter.maximum:g}"
        text += f" {low}..{high}"
    return text + ("" if not parameter.required else ", required")


def changed(spec: PipelineSpec, texts: Mapping[str, str]) -> dict[str, str]:
    """What was typed and is not the default: the least that has to be said."""
    defaults = {item.name: _default(item) for item in spec.parameters}
    required = {item.name for item in spec.parameters if item.required}
    return {name: text for name, text in texts.items() if name in required or text != defaults.get(name, "")}


def run_words(spec: PipelineSpec, options: SubmitOptions) -> tuple[str, ...]:
    """The words behind `mlpipe-tui` that start this run."""
    found = ["run", spec.name]
    for name, value in options.parameters:
        found += ["--param", f"{name}={words.value(value)}"]
    found += ["--force"] if options.force else []
    for option, names in (
        ("--force-step", options.force_steps),
        ("--from", options.from_steps),
        ("--only", options.only_steps),
        ("--step", options.until_steps),
    ):
        for name in names:
            found += [option, name]
    if options.experiment != experiment_of(spec.name):
        found += ["--experiment", options.experiment]
    return (*found, "--detach")


def command_line(found: tuple[str, ...]) -> str:
    return shlex.join(("mlpipe-tui", *found))
