"""Effective values of parameters: types, ranges, choices, the text a step gets. All problems are found together."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from mlpipe_engine.errors import DefinitionErrors, ParameterError, nearest
from mlpipe_engine.model.spec import Json, ParameterSpec, PipelineSpec

MAX_INTEGER_DIGITS = 1000

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "list": (tuple, list),
}


def effective(spec: PipelineSpec, given: Mapping[str, Json]) -> tuple[tuple[str, Json], ...]:
    """Every parameter with its value, sorted by name. Raises ParameterError or DefinitionErrors."""
    problems: list[ParameterError] = []
    known = {parameter.name: parameter for parameter in spec.parameters}
    for name in given:
        if name not in known:
            close = nearest(name, known)
            expected = ", ".join(sorted(known)) or "no parameter at all"
            problems.append(ParameterError(
                f"pipeline {spec.name!r} has no parameter {name!r}" + (f"; did you mean {close!r}?" if close else ""),
                field=name, expected=expected, hint="List the parameters with `mlpipe-tui pipelines`.",
            ))  # fmt: skip
    values: list[tuple[str, Json]] = []
    for name, parameter in known.items():
        if name in given:
            value, problem = _checked(parameter, given[name])
        elif parameter.required:
            value, problem = (
                None,
                ParameterError(
                    f"parameter {name!r} has no value",
                    field=name,
                    expected=_expected(parameter),
                    hint=f"Give it with --param {name}=VALUE.",
                ),
            )
        else:
            value, problem = _checked(parameter, parameter.default)
        if problem is not None:
            problems.append(problem)
        values.append((name, value))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise DefinitionErrors(tuple(problems))
    return tuple(sorted(values))


def _checked(parameter: ParameterSpec, value: Json) -> tuple[Json, ParameterError | None]:
    value = _frozen(value)
    types = _PYTHON_TYPES.get(parameter.type)
    fits = types is None or isinstance(value, types)
    if parameter.type in ("int", "float") and isinstance(value, bool):
        fits = False
    if value is None and parameter.default is None and not parameter.required:
        fits = True
    if not fits:
        return value, _problem(parameter, f"{_shown(value)} is a {type(value).__name__}")
    if parameter.type == "float" and isinstance(value, int):
        value = float(value)
    why = _unfit(value)
    if why:
        return value, _problem(parameter, why)
    if parameter.choices and not any(
        value == choice and type(value) is type(choice) for choice in map(_frozen, parameter.choices)
    ):
        return value, _problem(parameter, f"{_shown(value)} is none of its choices")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = parameter.minimum, parameter.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            return value, _problem(parameter, f"{_shown(value)} is out of range")
    return value, None


def _frozen(value: Json) -> Json:
    return tuple(_frozen(member) for member in value) if isinstance(value, list | tuple) else value


def _unfit(value: Json) -> str:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return f"{item!r} is no number one can compute with"
        if isinstance(item, int) and not isinstance(item, bool) and abs(item) >= 10**MAX_INTEGER_DIGITS:
            return f"an integer of more than {MAX_INTEGER_DIGITS} digits"
        if isinstance(item, str) and "\0" in item:
            return "a text with a NUL character cannot be an argument"
        if isinstance(item, tuple):
            pending.extend(item)
    return ""


def _problem(parameter: ParameterSpec, what: str) -> ParameterError:
    return ParameterError(f"parameter {parameter.name!r}: {what}", field=parameter.name, expected=_expected(parameter))


def _expected(parameter: ParameterSpec) -> str:
    if parameter.choices:
        return "one of " + ", ".join(_shown(choice) for choice in parameter.choices)
    text = {"any": "any value", "none": "nothing"}.get(parameter.type, f"a {parameter.type}")
    if parameter.minimum is not None or parameter.maximum is not None:
        low = "" if parameter.minimum is None else f" from {parameter.minimum:g}"
        high = "" if parameter.maximum is None else f" to {parameter.maximum:g}"
        text += low + high
    return text


def _shown(value: Json) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python itself refuses to write integers of thousands of digits
        return "an integer of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def named(spec: PipelineSpec, name: str) -> ParameterSpec:
    """Raises ParameterError with the nearest name."""
    known = {parameter.name: parameter for parameter in spec.parameters}
    if name in known:
        return known[name]
    close = nearest(name, known)
    raise ParameterError(
        f"pipeline {spec.name!r} has no parameter {name!r}" + (f"; did you mean {close!r}?" if close else ""), field=name,
        expected="one of " + ", ".join(sorted(known)) if known else "no parameter: the pipeline has none",
        hint="List the parameters with `mlpipe-tui pipelines`.",
    )  # fmt: skip


def parse_cli(parameter: ParameterSpec, text: str) -> Json:
    """The value meant by `--param name=text`. Texts stay texts; `null` is None where None is allowed; lists are JSON.

    Raises ParameterError.
    """
    kind = parameter.type
    if text == "null" and parameter.default is None and not parameter.required:
        return None
    if kind == "str":
        return text
    if kind == "bool":
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise _problem(parameter, f"{text!r} is neither true nor false")
        return words[text.lower()]
    try:
        if kind == "int":
            if len(text) > MAX_INTEGER_DIGITS + 1 or not text.lstrip("+-").isdigit():
                raise ValueError
            return int(text)
        if kind == "float":
            return float(text)
        if kind == "list":
            value = json.loads(text)
            if not isinstance(value, list):
                raise ValueError
            return _frozen(tuple(value))
    except (ValueError, RecursionError):
        shown = text if len(text) <= 60 else text[:57] + "..."
        kind_text = {"int": "an integer", "float": "a number", "list": 'a JSON list such as [1, 2] or ["a"]'}[kind]
        raise ParameterError(f"parameter {parameter.name!r}: found {shown!r}", field=parameter.name, expected=kind_text) from None
    return _any(text)


def _any(text: str) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _frozen(value) if not isinstance(value, dict) else text


def render(value: Json) -> str:
    """The exact text a step gets: str() as the Azure SDK sends it; None is the empty text; lists are JSON."""
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return json.dumps(value, ensure_ascii=False)
    return value if isinstance(value, str) else str(value)
