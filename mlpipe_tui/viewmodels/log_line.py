"""One line of a log for the screen: colours a program meant are kept, everything else it could do to a terminal is only shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mlpipe_engine.model.text import clean

_SGR = re.compile(r"\x1b\[([0-9;:]{0,80})m")
_SGR_BYTES = re.compile(rb"\x1b\[[0-9;:]{0,80}m")
_TAB = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What SGR sequences ask for. Blinking and hidden text are not offered: the one hurts, the other lies."""

    foreground: str = ""
    """"" for the default, a number of the palette as text, or "#rrggbb"."""
    background: str = ""
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False
    strike: bool = False


PLAIN = Look()
_ON = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse", 9: "strike"}
_OFF = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline",), 27: ("reverse",), 29: ("strike",)}


@dataclass(frozen=True, slots=True)
class LogLine:
    """What one line shows."""

    spans: tuple[tuple[str, Look], ...]
    overwritten: int = 0
    """How often the program wrote over this line with a carriage return; `spans` have its last state."""
    more_bytes: int = 0

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.spans)


def read_line(raw: bytes, more_bytes: int = 0) -> LogLine:
    """Make a line fit for the screen. Colours end with the line: a row is readable without those before it."""
    text = raw.removesuffix(b"\r").decode("utf-8", "backslashreplace")
    times = text.count("\r")
    if times > 1:
        text = next((part for part in reversed(text.split("\r")) if part), "")
    spans: list[tuple[str, Look]] = []
    look, at, column = PLAIN, 0, 0
    for match in _SGR.finditer(text):
        column = _add(spans, text[at : match.start()], look, column)
        look = _changed(look, match.group(1))
        at = match.end()
    _add(spans, text[at:], look, column)
    return LogLine(tuple(spans), times if times > 1 else 0, more_bytes)


def _add(spans: list[tuple[str, Look]], text: str, look: Look, column: int) -> int:
    """Appends the text with tabs as spaces; returns the column after it."""
    if not text:
        return column
    shown = clean(text, limit=len(text))
    if "\t" in shown:
        parts = []
        for index, piece in enumerate(shown.split("\t")):
            if index:
                parts.append(" " * (_TAB - column % _TAB))
                column += len(parts[-1])
            parts.append(piece)
            column += len(piece)
        shown = "".join(parts)
    else:
        column += len(shown)
    spans.append((shown, look))
    return column


def _changed(look: Look, codes: str) -> Look:
    numbers = [int(part) if part.isdigit() and len(part) < 6 else 0 for part in codes.replace(":", ";").split(";")]
    at = 0
    while at < len(numbers):
        code = numbers[at]
        at += 1
        if code == 0:
            look = PLAIN
        elif code in _ON:
            look = _with(look, _ON[code], True)
        elif code in _OFF:
            for name in _OFF[code]:
                look = _with(look, name, False)
        elif code in (38, 48):
            colour, at = _extended(numbers, at)
            look = replace(look, foreground=colour) if code == 38 else replace(look, background=colour)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            look = replace(look, foreground=str(code - 30 if code < 40 else code - 82))
        elif 40 <= code <= 47 or 100 <= code <= 107:
            look = replace(look, background=str(code - 40 if code < 50 else code - 92))
        elif code == 39:
            look = replace(look, foreground="")
        elif code == 49:
            look = replace(look, background="")
    return look


def _with(look: Look, name: str, value: bool) -> Look:
    changes: dict[str, Any] = {name: value}
    return replace(look, **changes)


def _extended(numbers: list[int], at: int) -> tuple[str, int]:
    """The colour after 38 or 48, and where to go on."""
    kind = numbers[at] if at < len(numbers) else -1
    if kind == 5 and at + 1 < len(numbers):
        return str(min(numbers[at + 1], 255)), at + 2
    if kind == 2 and at + 3 < len(numbers):
        red, green, blue = (min(value, 255) for value in numbers[at + 1 : at + 4])
        return f"#{red:02x}{green:02x}{blue:02x}", at + 4
    return "", len(numbers)


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for in a log: plain text, or a regular expression between slashes (/like this/).

    Small letters find capitals too. Regular expressions are those of Polars: they take time that grows with the log, never with its
    contents, so that no line can hang the search.
    """

    text: str
    regex: bool = False

    @classmethod
    def of(cls, typed: str) -> Query:
        if len(typed) > 2 and typed.startswith("/") and typed.endswith("/"):
            return cls(typed[1:-1], True)
        return cls(typed)

    @property
    def any_case(self) -> bool:
        return self.text == self.text.lower()

    def matcher(self) -> Callable[[list[bytes]], list[int]]:
        """Indices of the lines that match. Raises ValueError for an expression that is none."""
        return self._by_polars() if self.regex else self._by_text()

    def _by_text(self) -> Callable[[list[bytes]], list[int]]:
        any_case = self.any_case
        wanted = self.text.encode("utf-8", "surrogateescape")
        wanted = wanted.lower() if any_case else wanted

        def find(lines: list[bytes]) -> list[int]:
            stretch = b"\n".join(lines)
            plain = _SGR_BYTES.sub(b"", stretch) if b"\x1b[" in stretch else stretch
            folded = plain.lower() if any_case else plain
            if not folded.isascii() and any_case:
                # bytes.lower knows ASCII only
                folded, needle = plain.decode("utf-8", "replace").lower().encode(), self.text.lower().encode("utf-8", "replace")
            else:
                needle = wanted
            if needle not in folded:
                return []
            return [index for index, line in enumerate(folded.split(b"\n")) if needle in line]

        return find

    def _by_polars(self) -> Callable[[list[bytes]], list[int]]:
        import polars

        expression = f"(?i){self.text}" if self.any_case else self.text
        try:
            polars.Series([""]).str.contains(expression, strict=True)
        except polars.exceptions.PolarsError as error:
            told = next((line[7:] for line in str(error).splitlines() if line.startswith("error: ")), "no regular expression")
            raise ValueError(clean(f"/{self.text}/: {told}")) from error

        def find(lines: list[bytes]) -> list[int]:
            texts = [_SGR_BYTES.sub(b"", line).decode("utf-8", "replace") for line in lines]
            return polars.Series(texts).str.contains(expression).arg_true().to_list()

        return find

    def spans(self, shown: str) -> list[tuple[int, int]]:
        """Where plain text stands in a shown line; nothing for an expression, whose lines are marked as a whole."""
        if self.regex or not self.text:
            return []
        line, wanted = (shown.lower(), self.text.lower()) if self.any_case else (shown, self.text)
        if len(line) != len(shown):
            return []  # some capitals are two small letters: positions would be wrong
        found: list[tuple[int, int]] = []
        at = line.find(wanted)
        while at >= 0 and len(found) < 1000:
            found.append((at, at + len(wanted)))
            at = line.find(wanted, at + len(wanted))
        return found
