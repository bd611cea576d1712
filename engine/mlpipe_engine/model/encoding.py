"""The canonical encoding behind every identity: typed, length-prefixed, versioned.

`encode` turns a value into bytes in exactly one way; `fingerprint` is SHA-256 over them under a domain. Nothing here reads
a clock, a file or the process. Golden vectors stand in tests/model/test_encoding.py: changing them means a new scheme version.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence

Value = None | bool | int | float | str | bytes | Sequence["Value"] | Mapping[str, "Value"]
"""What can be part of an identity. Mappings have str keys only: {1: ...} and {"1": ...} would collide."""

SCHEME = "k1"
_LENGTH = struct.Struct(">Q").pack


def encode(value: Value) -> bytes:
    """One tag byte, eight bytes of length (big-endian), payload; containers hold the encodings of their members.

    1, "1", 1.0, True, b"1", ["a", "b"] and ["a,b"] all differ; -0.0 and 0.0 differ; a mapping is sorted by encoded key.
    Strings are UTF-8 and not normalised; lone surrogates (undecodable file names) keep their bytes. Raises ValueError for
    NaN and TypeError for anything else, so that no identity ever rests on `repr` or `str` of an object.
    """
    kind = type(value)
    if kind is str:  # the bulk of all values
        payload = value.encode("utf-8", "surrogateescape")  # type: ignore[union-attr]
        return b"s" + _LENGTH(len(payload)) + payload
    if kind is list or kind is tuple:
        parts = []
        for member in value:  # type: ignore[union-attr]
            if type(member) is str:  # most are: a call each would cost more than the encoding
                text = member.encode("utf-8", "surrogateescape")
                parts.append(b"s" + _LENGTH(len(text)) + text)
            else:
                parts.append(encode(member))
        payload = b"".join(parts)
        return b"l" + _LENGTH(len(payload)) + payload
    if value is None:
        return _item(b"n", b"")
    if value is True or value is False:
        return _item(b"t", b"1" if value else b"0")
    if isinstance(value, int):
        return _item(b"i", b"%d" % value if abs(value) < 1 << 63 else hex(value).encode())
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("NaN cannot be part of an identity: it is not equal to itself")
        return _item(b"f", struct.pack(">d", value))
    if isinstance(value, str):
        return _item(b"s", value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bytes):
        return _item(b"b", value)
    if isinstance(value, Mapping):
        pairs = []
        for key, member in value.items():
            if not isinstance(key, str):
                raise TypeError(f"mapping keys must be str, found {type(key).__name__}")
            pairs.append((encode(key), encode(member)))
        return _item(b"m", b"".join(key + member for key, member in sorted(pairs)))
    if isinstance(value, Sequence):
        return _item(b"l", b"".join(map(encode, value)))
    raise TypeError(f"a {type(value).__name__} cannot be part of an identity")


def _item(tag: bytes, payload: bytes) -> bytes:
    return tag + _LENGTH(len(payload)) + payload


def fingerprint(domain: str, value: Value) -> str:
    """`k1:` and the SHA-256 hex digest of `value` under `domain`; equal values under two domains differ."""
    return f"{SCHEME}:{hashlib.sha256(encode([SCHEME, domain, value])).hexdigest()}"


def fingerprint_of(domain: str, encoded: Sequence[bytes]) -> str:
    """`fingerprint(domain, value)` of a list whose members are encoded already."""
    body = b"".join(encoded)
    payload = encode(SCHEME) + encode(domain) + b"l" + _LENGTH(len(body)) + body
    return f"{SCHEME}:{hashlib.sha256(b'l' + _LENGTH(len(payload)) + payload).hexdigest()}"
