"""Text from outside made fit for a terminal: nothing in it can move a cursor, change a colour, a title or a clipboard.

Every edge passes log lines, file names, step names and messages through `clean` before a person's terminal sees them.
"""

from __future__ import annotations

import unicodedata

MAX_SHOWN = 4096
_MAX_COMBINING = 8
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str | bytes, *, limit: int = MAX_SHOWN, keep_newlines: bool = False) -> str:
    """Control characters become visible signs, direction marks and undecodable bytes escapes; long texts are cut with their length."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    more = len(text) - limit
    if more > 0:
        text = text[:limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(_shown(text, keep_newlines))
    return f"{text} (+{more} more characters)" if more > 0 else text


def _shown(text: str, keep_newlines: bool) -> list[str]:
    parts: list[str] = []
    combining = 0
    for character in text:
        code = ord(character)
        if combining and unicodedata.combining(character):
            combining += 1
            if combining > _MAX_COMBINING:
                continue
        else:
            combining = 1 if unicodedata.combining(character) else 0
            combining = combining or 1
        if character == "\t" or (character == "\n" and keep_newlines):
            parts.append(character)
        elif code < 0x20:
            parts.append(chr(0x2400 + code))
        elif code == 0x7F:
            parts.append("\u2421")
        elif 0x80 <= code < 0xA0 or character in _BIDI or 0xD800 <= code < 0xE000:
            parts.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
        else:
            parts.append(character)
    return parts
