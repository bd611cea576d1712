"""Parameters and conditions."""

from __future__ import annotations

from typing import Any

import pytest
from mlpipe_engine.errors import DefinitionError, DefinitionErrors, ParameterError
from mlpipe_engine.model.spec import ParameterSpec, PipelineSpec
from mlpipe_engine.planning import conditions
from mlpipe_engine.planning.parameters import effective, parse_cli, render


def spec(*parameters: ParameterSpec) -> PipelineSpec:
    return PipelineSpec(name="p", steps=(), parameters=parameters)


RATE = ParameterSpec(name="rate", type="float", default=0.1, minimum=0, maximum=1)
MODE = ParameterSpec(name="mode", type="str", default="fast", choices=("fast", "slow"))


def test_defaults_and_given_values_are_typed() -> None:
    assert effective(spec(RATE, MODE), {"rate": 1}) == (("mode", "fast"), ("rate", 1.0))


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        (RATE, 2.0, "out of range; expected a float from 0 to 1"),
        (RATE, "0.5", "is a str"),
        (RATE, True, "is a bool"),
        (RATE, float("nan"), "no number"),
        (RATE, float("inf"), "no number"),
        (MODE, "fsat", "none of its choices; expected one of 'fast', 'slow'"),
        (ParameterSpec(name="n", type="int", default=1), 10**2000, "more than 1000 digits"),
        (ParameterSpec(name="t", type="str", default=""), "a\0b", "NUL"),
        (ParameterSpec(name="n", type="int", default=1), None, "is a NoneType"),
    ],
)
def test_values_that_do_not_fit(parameter: ParameterSpec, value: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        effective(spec(parameter), {parameter.name: value})


def test_everything_wrong_is_told_at_once_with_the_nearest_name() -> None:
    needed = ParameterSpec(name="data", type="str", required=True)
    with pytest.raises(DefinitionErrors) as caught:
        effective(spec(RATE, needed), {"raet": 1})
    assert "did you mean 'rate'" in str(caught.value)
    assert "'data' has no value" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "1", "1"), ("str", "null", "null"), ("str", "", ""), ("str", "a\nb", "a\nb"), ("int", "-3", -3), ("float", "1e3", 1000.0),
        ("bool", "True", True), ("bool", "no", False), ("list", "[1, [2]]", (1, (2,))), ("any", "1.5", 1.5), ("any", "text", "text"),
    ],
)  # fmt: skip
def test_text_from_the_command_line(kind: Any, text: str, value: Any) -> None:
    found = parse_cli(ParameterSpec(name="p", type=kind, default="x"), text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", "1.5"), ("int", "1_000"), ("int", "9" * 5000), ("float", "x"), ("bool", "2"), ("list", "1,2"), ("list", "{}")],
)
def test_text_that_is_no_such_value(kind: Any, text: str) -> None:
    with pytest.raises(ParameterError, match="expected|neither"):
        parse_cli(ParameterSpec(name="p", type=kind, default=1), text)


def test_null_is_none_where_none_is_the_default() -> None:
    assert parse_cli(ParameterSpec(name="p", type="any", default=None), "null") is None


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (True, "True"), (0.1, "0.1"), (1e22, "1e+22"), ((1, "a"), '[1, "a"]'), ("a\n b", "a\n b")]
)
def test_the_exact_text_a_step_gets(value: Any, text: str) -> None:
    assert render(value) == text


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('param("n") > 3', True), ('param("n") > 3 and not param("flag")', False), ('metric("a", "x") <= 0.5 or param("n") == -5', True),
        ('param("mode") in ["a", "b"]', True), ("1 < 2 < 3", True), ("1 < 2 > 3", False),
    ],
)  # fmt: skip
def test_conditions(text: str, result: bool) -> None:
    parameters = {"n": 5, "flag": True, "mode": "a"}
    assert conditions.check(text) is None
    assert conditions.evaluate(text, parameters, lambda step, name: 0.5) is result


@pytest.mark.parametrize(
    "text",
    ["", "param(", "__import__('os')", "param('x').y", "[x for x in param('x')]", "lambda: 1", "param(1)", "f'{1}'", "2 ** 9", "x", "param('x', 'y')",
     "metric('a')", "1 if param('x') else 2", "(" * 200, "not " * 500 + "True", "print('x')", "param(name='x')"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    assert conditions.check(text) is not None


def test_a_metric_that_was_never_logged_is_an_error() -> None:
    with pytest.raises(DefinitionError, match="never logged"):
        conditions.evaluate('metric("a", "x") > 1', {}, lambda step, name: None)
