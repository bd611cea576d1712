"""Columns made from addresses: `partition_format` of the Azure SDK, and folders called key=value.

Pure text. A format is matched against the end of an address, so it may start anywhere in the path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

_DATE_PARTS = {"yyyy": 4, "MM": 2, "dd": 2, "HH": 2, "mm": 2, "ss": 2}
_RESERVED = frozenset(f"_sys_{part}" for part in _DATE_PARTS) | {"_sys_path_record", "Path"}
_BRACKETS = "Brackets must come in pairs and cannot be nested"
_VALUE = r"[^./\\]+"


@dataclass(frozen=True)
class PartitionFormat:
    """`{name}` matches text without `.`, `/` and `\\`; `{name:yyyy/MM/dd}` a date; `*` anything; `{{` and `}}` are braces."""

    text: str
    columns: tuple[str, ...]
    """Plain columns in the order written, the date column last."""
    date_column: str | None
    pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> PartitionFormat:
        """Raises ValueError that says what is wrong with the format."""
        return _parsed(text)

    @property
    def seconds(self) -> float:
        """How much time one value of the date column stands for, at most."""
        spans = {"yyyy": 366 * 86400, "MM": 31 * 86400, "dd": 86400, "HH": 3600, "mm": 60, "ss": 1}
        return float(min(spans[part] for part in spans if part in self.pattern.groupindex))

    def values(self, address: str) -> tuple[str | None, ...]:
        """One text a column, a date as `2026-01-31 00:00:00`; all None where the address does not match, or where its date is no date."""
        found = self.pattern.search(address)
        if found is None:
            return (None,) * len(self.columns)
        groups = found.groupdict()
        values: list[str | None] = [groups[f"c{n}"] for n in range(len(self.columns) - (self.date_column is not None))]
        if self.date_column is not None:
            year, month, day, hour, minute, second = (
                int(groups.get(part) or default) for part, default in zip(_DATE_PARTS, (1, 1, 1, 0, 0, 0), strict=True)
            )
            real = year > 0 and 1 <= month <= 12 and 1 <= day <= _days(year, month) and hour < 24 and minute < 60 and second < 60
            values.append(f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}" if real else None)
        return tuple(values)

    def matches(self, address: str) -> bool:
        return self.pattern.search(address) is not None


def _days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@lru_cache(maxsize=64)
def _parsed(text: str) -> PartitionFormat:
    pattern, date_column, at = "", None, 0
    columns: list[str] = []
    parts: list[str] = []
    while at < len(text):
        if text[at : at + 2] in ("{{", "}}"):
            pattern += re.escape(text[at])
            at += 2
        elif text[at] == "{":
            close = text.find("}", at)
            if close < 0 or "{" in text[at + 1 : close]:
                raise _invalid(text, _BRACKETS)
            name, date = _part(text[at : close + 1], text, date_column is not None)
            if date:
                date_column = name
                pattern += _date_pattern(date, parts)
            elif name in columns:
                pattern += f"(?P=c{columns.index(name)})"
            else:
                pattern += f"(?P<c{len(columns)}>{_VALUE})"
                columns.append(name)
            at = close + 1
        elif text[at] == "}":
            raise _invalid(text, _BRACKETS)
        else:
            pattern += ".*?" if text[at] == "*" else re.escape(text[at])
            at += 1
    if not columns and date_column is None:
        raise _invalid(text, "There must be at least one {column_name}")
    if date_column is not None:
        if "yyyy" not in parts:
            raise _invalid(text, "Format 'yyyy' must be defined for datetime column.")
        if date_column in columns:
            raise _invalid(text, f"Column {date_column!r} is named twice.")
    # The start is free, the end is the end of the address: `*` would otherwise match less than was written.
    return PartitionFormat(
        text, (*columns, *([date_column] if date_column is not None else [])), date_column, re.compile(pattern + r"\Z", re.DOTALL)
    )


def _date_pattern(date: str, parts: list[str]) -> str:
    pattern = ""
    for piece in re.split("(" + "|".join(_DATE_PARTS) + ")", date):
        if piece not in _DATE_PARTS:
            pattern += ".*?".join(re.escape(text) for text in piece.split("*"))
        elif piece in parts:
            pattern += f"(?P={piece})"
        else:
            parts.append(piece)
            pattern += rf"(?P<{piece}>\d{{{_DATE_PARTS[piece]}}})"
    return pattern


def _part(part: str, text: str, dates: bool) -> tuple[str, str]:
    """(column, date format or "") of one part in brackets; `dates`: there was a date part before."""
    name, colon, date = part[1:-1].partition(":")
    if not name:
        raise _invalid_part(part, text, "Column name is not specified.")
    if name in _RESERVED:
        raise _invalid_part(part, text, "The specified column name is reserved. Please use a different name.")
    if colon and dates:
        raise _invalid_part(part, text, "There cannot be more than one date part.")
    if colon and not date:
        raise _invalid_part(part, text, "Date format is not specified.")
    if ":" in date:
        raise _invalid_part(part, text, "A date format cannot hold ':'.")
    return name, date


def _invalid(text: str, why: str) -> ValueError:
    return ValueError(f'Invalid partition_format "{text}". {why}')


def _invalid_part(part: str, text: str, why: str) -> ValueError:
    return ValueError(f'Invalid part "{part}" in partition_format "{text}". {why}')


def hive_values(address: str) -> tuple[tuple[str, str | None], ...]:
    """(key, value) of the folders of an address that are called key=value; the name Hive gives to null is None."""
    found: dict[str, str | None] = {}
    for folder in address.split("/")[:-1]:
        key, equals, value = folder.partition("=")
        if equals and key:
            found[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    return tuple(found.items())
