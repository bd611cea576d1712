"""The signs of the terminal app: every state is a shape and a word, and only then a colour.

Two sets: one of Unicode signs and one of ASCII for the Linux console, other encodings and fonts that lack them. Nothing here
draws; widgets and screens take a `Glyphs` and use what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mlpipe_engine.model.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """One set of signs. All are one cell wide."""

    name: str
    states: tuple[tuple[State, str], ...]
    interrupted: str
    data: str
    cursor: str
    """Marks the row the cursor is on where colour cannot."""
    marked: str
    baseline: str
    opened: str
    closed: str
    more: str
    """Lanes or columns that are not shown."""
    ellipsis: str
    equal: str
    differs: str
    arrow: str
    up: str
    down: str
    null: str
    """A value that is missing, as against an empty text."""
    bar: str
    """Eight heights of a sparkline, lowest first."""
    vertical: str
    horizontal: str
    joins: str
    """down+right, down+left, up+right, up+left, cross, tee right, tee left, tee down, tee up."""

    def state(self, state: State) -> str:
        return dict(self.states)[state]

    def labelled(self, state: State) -> str:
        """Sign and word, for example "✓ succeeded"."""
        return f"{self.state(state)} {state.value}"


UNICODE = Glyphs(
    name="unicode",
    states=(
        (State.QUEUED, "○"), (State.PREPARING, "◌"), (State.RUNNING, "●"), (State.SUCCEEDED, "✓"), (State.FAILED, "✗"),
        (State.CANCELED, "⊘"), (State.REUSED, "↺"), (State.SKIPPED, "–"),
    ),
    interrupted="!", data="◆", cursor="▌", marked="*", baseline="B", opened="▾", closed="▸", more="⋯", ellipsis="…", equal="=", differs="≠",
    arrow="→", up="↑", down="↓", null="∅", bar="▁▂▃▄▅▆▇█", vertical="│", horizontal="─", joins="╭╮╰╯┼├┤┬┴",
)  # fmt: skip
ASCII = Glyphs(
    name="ascii",
    states=(
        (State.QUEUED, "o"), (State.PREPARING, "."), (State.RUNNING, "*"), (State.SUCCEEDED, "+"), (State.FAILED, "x"),
        (State.CANCELED, "c"), (State.REUSED, "="), (State.SKIPPED, "-"),
    ),
    interrupted="!", data="#", cursor=">", marked="*", baseline="B", opened="v", closed=">", more="~", ellipsis="~", equal="=", differs="#",
    arrow=">", up="^", down="v", null="-", bar="_.,:;!|#", vertical="|", horizontal="-", joins="..''+||--",
)  # fmt: skip

COLOUR = {
    State.QUEUED: "text-muted",
    State.PREPARING: "text-accent",
    State.RUNNING: "text-warning",
    State.SUCCEEDED: "text-success",
    State.FAILED: "text-error",
    State.CANCELED: "text-muted",
    State.REUSED: "text-primary",
    State.SKIPPED: "text-muted",
}
"""Name of the theme's colour that repeats what the sign says."""


def choose(wanted: str, environment: Mapping[str, str] | None = None) -> Glyphs:
    """`wanted` is "unicode", "ascii" or "auto": by the terminal's name and the encoding of the locale."""
    if wanted in ("unicode", "ascii"):
        return UNICODE if wanted == "unicode" else ASCII
    found = os.environ if environment is None else environment
    locale = next((found[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if found.get(name)), "")
    can = locale.lower().replace("-", "").endswith("utf8") and found.get("TERM") not in ("linux", "dumb", "vt100", "vt220")
    return UNICODE if can else ASCII
