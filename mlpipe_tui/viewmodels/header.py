"""The line at the top: project, screens, what runs. What there is no room for goes in this order: names of screens, watching, never the run.

Whether a save starts a run matters more than names that stand beside their keys.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from mlpipe_engine.model.states import FINAL, State

from mlpipe_tui.glyphs import Glyphs
from mlpipe_tui.viewmodels import words
from mlpipe_tui.viewmodels.rich_lines import Span
from mlpipe_tui.viewmodels.shots import RunShot
from mlpipe_tui.viewmodels.steps import TONES


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    spans: tuple[Span, ...]
    targets: tuple[tuple[int, int, str], ...]
    """(from, to, name of the screen): where a click leads."""


def header(
    project: str, screens: tuple[tuple[str, str], ...], active: str, state: tuple[str, str], note: str, width: int
) -> Header:
    """`screens`: (key, name). `state`: (text, tone). `note`: shown where there is room."""
    right, tone = state
    for names, extra in ((True, note), (False, note), (False, "")):
        left = _left(project, screens, active, names=names)
        tail = f"{extra} · {right}" if extra and right else extra or right
        used = sum(len(text) for text, _, _ in left)
        if used + len(tail) + 2 <= width:
            break
    if used + len(tail) + 2 > width:
        left = [(f" {project[: max(0, width - len(tail) - 5)]} ", "strong", ""), (f"[{_key(screens, active)}]", "primary", "")]
        used = sum(len(text) for text, _, _ in left)
    spans: list[Span] = []
    targets = []
    at = 0
    for text, kind, target in left:
        spans.append((text, kind))  # type: ignore[arg-type]
        if target:
            targets.append((at, at + len(text), target))
        at += len(text)
    spans += [(" " * max(1, width - at - len(tail) - 1), ""), (tail, tone)]  # type: ignore[list-item]
    return Header(spans=tuple(spans), targets=tuple(targets))


def _left(project: str, screens: tuple[tuple[str, str], ...], active: str, *, names: bool) -> list[tuple[str, str, str]]:
    parts = [(f" {project}  ", "strong", "")]
    for key, name in screens:
        text = f"{key} {name}" if names or name == active else key
        parts.append((f"[{text}]", "primary", name) if name == active else (f" {text} ", "muted", name))
    return parts


def _key(screens: tuple[tuple[str, str], ...], active: str) -> str:
    return next((f"{key} {name}" for key, name in screens if name == active), active)


def run_state(shot: RunShot | None, glyphs: Glyphs, now: datetime) -> tuple[str, str]:
    """run 42 ● 6/11 · 0:58, and its tone."""
    if shot is None:
        return "no run yet", "muted"
    run = shot.run
    counts = Counter(step.state for step in shot.steps)
    done = sum(count for state, count in counts.items() if state in FINAL)
    if shot.interrupted:
        return f"{glyphs.interrupted} run {run.number} interrupted (R goes on)", "bad"
    if run.state not in FINAL:
        elapsed = words.clock(words.since(run.started_at or run.created_at, now) or 0.0)
        others = f" (+{len(shot.live) - 1} more)" if len(shot.live) > 1 else ""
        return f"run {run.number} {glyphs.state(State.RUNNING)} {done}/{len(shot.steps)} · {elapsed}{others}", "warning"
    sign = glyphs.state(run.state)
    good = counts[State.SUCCEEDED] + counts[State.REUSED]
    return f"{sign} run {run.number} {run.state.value} {good}/{len(shot.steps)} · {words.took(run.seconds)}", TONES[run.state]
