"""Points of a grid: every combination of the values given for some parameters. Pure.

Values are typed by `parameters.parse_cli` and checked as any parameter is; a number may also be a range START:STOP[:STEP].
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from itertools import product

from mlpipe_engine.errors import ParameterError, UsageError
from mlpipe_engine.model.encoding import encode
from mlpipe_engine.model.spec import Json, ParameterSpec, PipelineSpec
from mlpipe_engine.planning.parameters import effective, named, parse_cli, render

MAX_POINTS = 10_000

Axis = tuple[str, tuple[Json, ...]]
Point = tuple[tuple[str, Json], ...]


def parse_axes(spec: PipelineSpec, texts: Iterable[str], given: Mapping[str, Json]) -> tuple[Axis, ...]:
    """`NAME=VALUE,VALUE` or `NAME=START:STOP:STEP`, one text for each parameter. Raises ParameterError, UsageError.

    `given`: parameters that have one value for the whole grid.
    """
    axes: list[Axis] = []
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name or not values:
            raise UsageError(f"--grid got {text!r}", expected="NAME=VALUE,VALUE or NAME=START:STOP:STEP")
        parameter = named(spec, name)
        if name in given or any(name == axis[0] for axis in axes):
            other = "by --param and by --grid" if name in given else "by two --grid"
            raise UsageError(f"parameter {name!r} is given {other}", hint="Give all its values in one --grid.")
        axes.append((name, _distinct(_checked(spec, parameter, _words(parameter, values), given))))
    count = 1
    for _, found in axes:
        count *= len(found)
    if count > MAX_POINTS:
        sizes = " x ".join(f"{len(found)} {name}" for name, found in axes)
        raise _too_many(f"{count:,} points ({sizes})")
    return tuple(axes)


def points(axes: Iterable[Axis]) -> tuple[Point, ...]:
    """All combinations, the last parameter changing fastest; each sorted by name."""
    axes = tuple(axes)
    return tuple(
        tuple(sorted(zip((name for name, _ in axes), values, strict=True))) for values in product(*(values for _, values in axes))
    )


def label(point: Point) -> str:
    """The text of a point for people: "depth=3 lr=0.1"."""
    return " ".join(f"{name}={render(value) if value is not None else 'null'}" for name, value in point)


def _too_many(what: str) -> UsageError:
    return UsageError(f"the grid has {what}", expected=f"at most {MAX_POINTS:,}", hint="Give fewer values, or a wider step.")


def _checked(spec: PipelineSpec, parameter: ParameterSpec, words: list[str], given: Mapping[str, Json]) -> list[Json]:
    """Types, ranges and choices, as for any value; parameters without a value are somebody else's trouble."""
    from dataclasses import replace

    alone = replace(spec, parameters=(parameter,))
    return [dict(effective(alone, {parameter.name: parse_cli(parameter, word)}))[parameter.name] for word in words]


def _distinct(values: list[Json]) -> tuple[Json, ...]:
    """1, 1.0 and True are three values; a value given twice is one."""
    found: dict[bytes, Json] = {}
    for value in values:
        found.setdefault(encode(value), value)
    return tuple(found.values())


def _words(parameter: ParameterSpec, text: str) -> list[str]:
    if parameter.type == "list":
        return [json.dumps(value) for value in _json_list(f"[{text}]", parameter)]
    if text.startswith("["):
        return [value if isinstance(value, str) else json.dumps(value) for value in _json_list(text, parameter)]
    words: list[str] = []
    for word in text.split(","):
        if parameter.type in ("int", "float") and ":" in word:
            words += _range(parameter, word)
        else:
            words.append(word)
        if len(words) > MAX_POINTS:
            raise _too_many(f"more than {MAX_POINTS:,} values of {parameter.name!r}")
    return words


def _json_list(text: str, parameter: ParameterSpec) -> list[object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not value:
        raise ParameterError(
            f"parameter {parameter.name!r}: found {text[:60]!r}", field=parameter.name,
            expected="JSON lists such as [1,2],[3]" if parameter.type == "list" else 'a JSON list of values such as ["a","b,c"]',
        )  # fmt: skip
    return value


def _range(parameter: ParameterSpec, word: str) -> list[str]:
    """START:STOP[:STEP], both ends in; exact, so that 0.1:0.5:0.1 has five values."""
    expected = "START:STOP:STEP, for instance " + ("1:10:2" if parameter.type == "int" else "0.1:0.5:0.1")
    parts = word.split(":")
    try:
        numbers = [Decimal(part) for part in parts]
    except InvalidOperation:
        numbers = []
    if len(numbers) == 2 and parameter.type == "int":
        numbers.append(Decimal(1))
    if len(numbers) != 3 or not all(number.is_finite() and abs(number.adjusted()) < 300 for number in numbers):
        raise ParameterError(f"parameter {parameter.name!r}: found the range {word!r}", field=parameter.name, expected=expected)
    start, stop, step = numbers
    if step == 0 or (stop - start) * step < 0:
        raise ParameterError(
            f"parameter {parameter.name!r}: the range {word!r} has no value", field=parameter.name,
            expected="a step that leads from START to STOP",
        )  # fmt: skip
    if (stop - start) / step > MAX_POINTS:
        raise _too_many(f"more than {MAX_POINTS:,} values of {parameter.name!r} ({word})")
    count = int((stop - start) / step) + 1
    return [_plain(start + step * at) for at in range(count)]


def _plain(number: Decimal) -> str:
    """1, not 1E+0 or 1.0 where it is whole: an int parameter takes it."""
    return f"{number.to_integral_value():f}" if number == number.to_integral_value() else f"{number.normalize():f}"
