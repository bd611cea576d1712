"""Grids: values are typed, ranges are exact, duplicates are folded, and what does not fit names its parameter."""

from __future__ import annotations

import pytest
from mlpipe_engine.errors import MlpipeError, ParameterError, UsageError
from mlpipe_engine.model.spec import ParameterSpec, PipelineSpec
from mlpipe_engine.planning.grid import label, parse_axes, points

SPEC = PipelineSpec(
    name="p",
    steps=(),
    parameters=(
        ParameterSpec(name="depth", type="int", default=3, minimum=1, maximum=100_000),
        ParameterSpec(name="lr", type="float", default=0.1),
        ParameterSpec(name="kind", type="str", default="a", choices=("a", "b", "a,b")),
        ParameterSpec(name="layers", type="list", default=()),
        ParameterSpec(name="fast", type="bool", default=False),
        ParameterSpec(name="free", type="any"),
        ParameterSpec(name="needed", type="str", required=True),
    ),
)


def values(text: str) -> tuple[object, ...]:
    return parse_axes(SPEC, [text], {})[0][1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("depth=3,5", (3, 5)),
        ("depth=1:4", (1, 2, 3, 4)),
        ("depth=1:10:4,2", (1, 5, 9, 2)),
        ("depth=5:1:-2", (5, 3, 1)),
        ("lr=0.1:0.5:0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("lr=1e-3,0.001,1", (0.001, 1.0)),
        ("kind=a,b,a", ("a", "b")),
        ('kind=["a","a,b"]', ("a", "a,b")),
        ("layers=[1,2],[3]", ((1, 2), (3,))),
        ("fast=yes,false", (True, False)),
        ("free=1,1.0,true,x", (1, 1.0, True, "x")),
    ],
)
def test_values_have_the_type_of_their_parameter(text: str, expected: tuple[object, ...]) -> None:
    found = values(text)
    assert found == expected and [type(value) for value in found] == [type(value) for value in expected]


def test_all_combinations_once() -> None:
    axes = parse_axes(SPEC, ["lr=0.1,0.01", "depth=3,5"], {})
    found = points(axes)
    assert [label(point) for point in found] == ["depth=3 lr=0.1", "depth=5 lr=0.1", "depth=3 lr=0.01", "depth=5 lr=0.01"]


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        (["depht=1"], ParameterError, ("'depht'", "did you mean 'depth'")),
        (["depth=1,x"], ParameterError, ("'depth'", "'x'", "an integer")),
        (["depth=0"], ParameterError, ("'depth'", "out of range", "from 1")),
        (["kind=c"], ParameterError, ("'kind'", "none of its choices")),
        (["depth"], UsageError, ("'depth'", "NAME=VALUE,VALUE")),
        (["depth="], UsageError, ("NAME=VALUE,VALUE",)),
        (["lr=0:1"], ParameterError, ("'lr'", "0.1:0.5:0.1")),
        (["lr=0:1:0"], ParameterError, ("no value",)),
        (["lr=1:0:0.1"], ParameterError, ("no value",)),
        (["lr=a:b:c"], ParameterError, ("'a:b:c'",)),
        (["lr=0:1e200:1e-200"], UsageError, ("at most 10,000",)),
        (["depth=1:20000"], UsageError, ("at most 10,000",)),
        (["depth=1:200", "lr=0:1:0.01"], UsageError, ("20,200 points (200 depth x 101 lr)", "at most 10,000")),
        (["depth=1", "depth=2"], UsageError, ("by two --grid",)),
        (["layers=[1"], ParameterError, ("'layers'", "JSON lists")),
        (['kind=["a"'], ParameterError, ("'kind'", "JSON list")),
        (["lr=nan"], ParameterError, ("'lr'",)),
    ],
)
def test_what_does_not_fit_is_told(texts: list[str], error: type[MlpipeError], words: tuple[str, ...]) -> None:
    with pytest.raises(error) as caught:
        parse_axes(SPEC, texts, {})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_parameter_has_one_value_or_many() -> None:
    with pytest.raises(UsageError, match="by --param and by --grid"):
        parse_axes(SPEC, ["depth=1,2"], {"depth": 3})
