"""Text with styles by name, before anything draws it: made by view models, turned into content by widgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "muted", "good", "bad", "warning", "accent", "primary", "strong"]
Span = tuple[str, Tone]


@dataclass(frozen=True, slots=True)
class Line:
    """One line. What stands in it may come from anywhere: it is cleaned where it is drawn."""

    spans: tuple[Span, ...] = ()

    @classmethod
    def of(cls, *parts: str | Span) -> Line:
        return cls(tuple((part, "") if isinstance(part, str) else part for part in parts))

    @property
    def plain(self) -> str:
        return "".join(text for text, _ in self.spans)


def plain(lines: Iterable[Line]) -> str:
    return "\n".join(line.plain.rstrip() for line in lines)


def pairs(items: Iterable[tuple[str, str]], *, indent: str = "  ") -> list[Line]:
    """Names and values in two columns."""
    found = list(items)
    width = min(28, max((len(name) for name, _ in found), default=0))
    return [Line.of(indent, (f"{name:<{width}}", "muted"), "  ", text) for name, text in found]
