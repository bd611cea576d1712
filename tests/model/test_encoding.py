"""Identities are injective and stable: what differs has different keys, and a key means the same tomorrow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlpipe_engine.model.encoding import encode, fingerprint

DIFFERENT = [
    1, "1", 1.0, True, b"1", -1, "", 0, 0.0, -0.0, False, None, [], [[]], {}, ["a", "b"], ["a,b"], ["ab"], ["a", ["b"]], [["a"], "b"],
    {"a": "b"}, [["a", "b"]], {"a": {"b": None}}, {"ab": ""}, "é", "e\u0301", "\udcff", b"\xff", "a\0b", ["a", "", "b"], ["a", "b", ""],
    1 << 70, "1_version_2", 10**30, 1e30, float("inf"), float("-inf"), "inf",
]  # fmt: skip


def test_values_that_differ_have_different_keys() -> None:
    keys = [fingerprint("x", value) for value in DIFFERENT]
    assert len(set(keys)) == len(DIFFERENT)


def test_golden_vectors() -> None:
    """A change here is a change of every key in every store: raise the scheme instead."""
    vectors = Path(__file__).with_name("golden_encoding.txt").read_text().splitlines()
    values = [None, True, 1, -0.0, "é", b"\x00", [1, "1", [None]], {"b": 1, "a": [2.5]}]
    assert [fingerprint("golden", value) for value in values] == vectors


def test_equal_values_under_two_domains_differ() -> None:
    assert fingerprint("a", 1) != fingerprint("b", 1)


@pytest.mark.parametrize("value", [float("nan"), [float("nan")]])
def test_nan_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="NaN"):
        encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)  # type: ignore[arg-type]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def same(left: object, right: object) -> bool:
    """Equality that minds types and the sign of zero."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return repr(left) == repr(right)


@given(values, values)
def test_encodings_are_equal_exactly_when_values_are(left: object, right: object) -> None:
    assert (encode(left) == encode(right)) == same(left, right)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "random"}, {"LANG": "tr_TR.UTF-8"}, {"TZ": "Asia/Tokyo"}]
)
def test_keys_do_not_depend_on_the_process(changes: dict[str, str]) -> None:
    code = "from mlpipe_engine.model.encoding import fingerprint; print(fingerprint('x', {'i': 1.5, 'I': ['ı', b'x'], 'z': {}}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | changes,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == fingerprint("x", {"z": {}, "I": ["ı", b"x"], "i": 1.5})
