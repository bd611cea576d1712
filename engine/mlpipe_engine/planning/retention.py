"""What of a store goes when space is needed, and why the rest stays. Pure: sizes, ages and costs come in, a verdict comes out.

Order: what nothing refers to, then private code copies of old steps, unused snapshots, outputs (cheap to make again and large
first), logs last. Copies of remote files go before outputs: they can be fetched again, while there is a network. Rows of runs are never
part of this: only a person removes a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ORDER = ("leftover", "quarantine", "environment", "code", "snapshot", "remote", "output", "logs")
"""Kinds that can go, first to last."""
YOUNG_SECONDS = 3600.0
"""Nothing younger goes, whoever asks: what is being made has no row yet."""
_DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One thing the store keeps, and could do without."""

    kind: str
    name: str
    """What people call it: "run 12 train: model"."""
    key: str
    """What the store calls it: unique together with `kind`."""
    size_bytes: int
    idle_seconds: float
    """Since a run last made or used it."""
    age_seconds: float
    """Since it appeared on disk."""
    cost_seconds: float = 0.0
    """What it takes to make it again."""
    rank: int = 0
    """How many newer runs of its pipeline there are: 0 for the newest."""
    kept_by: str = ""
    """Why it may not go: "pinned", "last result of train in flights" ... "" when it may."""


@dataclass(frozen=True, slots=True)
class Doomed:
    holding: Holding
    because: str


@dataclass(frozen=True, slots=True)
class Kept:
    holding: Holding
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for. With nothing set only what nothing refers to goes."""

    excess_bytes: int | None = None
    """Stop when so much has gone; None: no limit."""
    keep_runs: int | None = None
    """Of each pipeline, the newest so many runs keep everything."""
    older_than_seconds: float | None = None

    @property
    def reaches_results(self) -> bool:
        return self.keep_runs is not None or self.older_than_seconds is not None or bool(self.excess_bytes)


@dataclass(frozen=True, slots=True)
class Verdict:
    going: tuple[Doomed, ...]
    staying: tuple[Kept, ...]
    missing_bytes: int
    """How much of the excess cannot be collected."""


def choose(holdings: Iterable[Holding], wish: Wish) -> Verdict:
    """Every holding is in exactly one of the two lists; `going` is in the order in which it should go."""
    going: list[Doomed] = []
    staying: list[Kept] = []
    left = wish.excess_bytes
    for holding in sorted(holdings, key=_turn):
        stays = _stays(holding, wish)
        if not stays and holding.kind != "leftover" and left is not None and left <= 0:
            stays = "there is room for it"
        if stays:
            staying.append(Kept(holding, stays))
            continue
        going.append(Doomed(holding, _because(holding)))
        if left is not None:
            left -= holding.size_bytes
    return Verdict(tuple(going), tuple(staying), max(0, left or 0))


def _stays(holding: Holding, wish: Wish) -> str:
    if holding.kept_by:
        return holding.kept_by
    if holding.age_seconds < YOUNG_SECONDS:
        return "newer than 1 h"
    if holding.kind == "leftover":
        return ""
    if not wish.reaches_results:
        return "there is room for it"
    if wish.keep_runs is not None and holding.rank < wish.keep_runs:
        return f"among the newest {wish.keep_runs} runs" if wish.keep_runs > 1 else "of the newest run"
    if wish.older_than_seconds is not None and holding.idle_seconds < wish.older_than_seconds:
        return "used more recently"
    return ""


def _turn(holding: Holding) -> tuple[int, float, str]:
    return ORDER.index(holding.kind), worth(holding), holding.key


def worth(holding: Holding) -> float:
    """Seconds of work a byte of it saves, halved for a day without use: what is worth least goes first."""
    return (holding.cost_seconds + 0.001) / max(1, holding.size_bytes) / (1.0 + holding.idle_seconds / _DAY_SECONDS)


def _because(holding: Holding) -> str:
    idle = _span(holding.idle_seconds)
    match holding.kind:
        case "leftover":
            return "nothing refers to it"
        case "environment":
            return f"no run used it for {idle}"
        case "quarantine":
            return "damaged, kept for inspection until now"
        case "code":
            return f"copy of code that ran {idle} ago"
        case "snapshot":
            return "no result that could be reused was made from it"
        case "remote":
            return f"can be fetched again, not used for {idle}"
        case "logs":
            return f"not needed for {idle}"
        case _:
            return f"made again in {_span(holding.cost_seconds)}, not used for {idle}"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def quota_bytes(setting: str, free_bytes: int, used_bytes: int) -> int | None:
    """The most a store may use: a number, "20%" of what is free and its own, "" for the default, "off" for None. Raises ValueError."""
    text = setting.strip().lower()
    if text == "off":
        return None
    share = 20.0
    if text.endswith("%"):
        share = float(text[:-1])
        if not 0 < share <= 100:
            raise ValueError(setting)
        return int((free_bytes + used_bytes) * share / 100)
    if text:
        return int(text)
    return max(2_000_000_000, int((free_bytes + used_bytes) * share / 100))


def total(holdings: Sequence[Doomed] | Sequence[Kept]) -> int:
    return sum(item.holding.size_bytes for item in holdings)
