"""The filter grammar: what is written is what is meant, and what is not understood is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.filters import Filter, Term, matches, parse_filter


def test_each_kind_of_term() -> None:
    found = parse_filter('state:failed step:train metric.val_auc>0.88 param.lr=0.05 since:2d tag.team="a b" by:cli !sweep word')
    assert [(term.field, term.name, term.operator, term.value, term.negated) for term in found.terms] == [
        ("state", "", "=", "failed", False), ("step", "", "=", "train", False), ("metric", "val_auc", ">", "0.88", False),
        ("param", "lr", "=", "0.05", False), ("since", "", "=", "2d", False), ("tag", "team", "=", "a b", False),
        ("by", "", "=", "cli", False), ("", "", "=", "sweep", True), ("", "", "=", "word", False),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), [
    ("stat:failed", "did you mean 'state'"),
    ("state:faild", "did you mean 'failed'"),
    ("state:", "not complete"),
    ("param=3", "param.NAME=VALUE"),
    ("metric.auc>much", "no number"),
    ("since:yesterday", "2d, 1w"),
    ("since:2026-13-01", "no time"),
    ("state>failed", "no order"),
    ('tag.a="b', "never closed"),
])  # fmt: skip
def test_what_is_wrong_is_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told.replace(".", r"\.")):
        parse_filter(text)


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    try:
        found = parse_filter(text)
    except UsageError:
        return
    assert all(isinstance(term, Term) for term in found.terms)


def test_a_filter_prints_as_it_was_written() -> None:
    text = "!state:failed metric.rmse<=3 param.lr!=0.1 word"
    assert str(parse_filter(text)) == text


def test_steps_in_memory() -> None:
    assert matches(parse_filter("state:failed tr"), state="failed", name="Train")
    assert not matches(parse_filter("state:failed !tr"), state="failed", name="train")
    assert matches(parse_filter("pipeline:x"), state="queued", name="a"), "what is about runs limits no step"
    assert matches(parse_filter("lr"), state="queued", name="a", texts=("lr 0.1 -> 0.2",))
    assert matches(Filter(), state="queued", name="a")
