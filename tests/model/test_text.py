"""Nothing from outside moves a cursor, rings a bell or writes a clipboard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlpipe_engine.model.text import clean

LIVE = [
    "\x1b[2J", "\x1b]52;c;ZXZpbA==\x07", "\x1b]0;title\x07", "\x9b2J", "\x90q\x9c", "\x07", "\x08" * 10, "\r overwritten", "\x1bc", "\x0e", "\x00",
    "\x7f", "\x1b[6n", "\u202egpj.exe", "\u2066x\u2069", "a\nforged: ok", "\udc80",
]  # fmt: skip


@pytest.mark.parametrize("payload", LIVE)
def test_live_payloads_are_dead(payload: str) -> None:
    shown = clean(f"before{payload}after")
    assert shown.startswith("before") and shown.endswith("after")
    assert all(character == "\t" or character.isprintable() for character in shown)
    shown.encode("utf-8")


@given(st.text() | st.binary())
def test_anything_becomes_one_printable_line(text: str | bytes) -> None:
    shown = clean(text)
    assert "\n" not in shown and "\x1b" not in shown
    shown.encode("utf-8")


def test_ordinary_text_is_left_alone() -> None:
    assert clean("naïve café 日本語 \t✓") == "naïve café 日本語 \t✓"


def test_long_texts_are_cut_with_their_length() -> None:
    assert clean("x" * 5000) == "x" * 4096 + " (+904 more characters)"


def test_endless_combining_marks_are_cut() -> None:
    assert len(clean("e" + "\u0301" * 1000)) <= 10
