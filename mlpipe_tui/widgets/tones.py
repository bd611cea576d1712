"""From lines of view models to content that Textual draws. No markup is ever parsed: what stands in a line is text."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from mlpipe_tui.clean import clean
from mlpipe_tui.viewmodels.rich_lines import Line, Span

STYLES = {
    "": "", "muted": "$text-muted", "good": "$text-success", "bad": "$text-error", "warning": "$text-warning", "accent": "$text-accent",
    "primary": "$text-primary", "strong": "bold",
}  # fmt: skip


_ascii = False


def use_ascii(on: bool) -> None:
    """Whether the screen takes ASCII only: then our own separators are dashes. What is data is shown as it is."""
    global _ascii
    _ascii = on


def separated(text: str) -> str:
    """Our own texts, with separators this screen can show."""
    return text.replace(" · ", " - ").replace("·", "-").replace("…", "~") if _ascii else text


def content(spans: Iterable[Span]) -> Content:
    """One line. Control characters become visible signs."""
    return Content.assemble(*((separated(clean(text).replace("\t", "    ")), STYLES[tone]) for text, tone in spans if text))


def contents(lines: Iterable[Line]) -> Content:
    return Content("\n").join([content(line.spans) for line in lines])
