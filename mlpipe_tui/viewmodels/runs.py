"""The rows of the Runs screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.spec import Json

from mlpipe_tui.glyphs import Glyphs
from mlpipe_tui.viewmodels import words
from mlpipe_tui.viewmodels.rich_lines import Tone
from mlpipe_tui.viewmodels.shots import RunLine, RunsPage
from mlpipe_tui.viewmodels.steps import TONES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    number: str
    mark: str
    sign: str
    word: str
    tone: Tone
    started: str
    time: str
    by: str
    reused: str
    changed: str
    metric: str
    trend: str


def row(line: RunLine, baseline: RunRecord | None, glyphs: Glyphs, now: datetime, *, marked: bool) -> RunRow:
    run = line.run
    is_base = baseline is not None and run.id == baseline.id
    word = "interrupted" if line.interrupted else run.state.value
    seconds = (
        run.seconds
        if run.seconds is not None
        else None
        if line.interrupted
        else words.since(run.started_at or run.created_at, now)
    )
    return RunRow(
        number=str(run.number), mark=glyphs.marked if marked else glyphs.baseline if is_base else " ",
        sign=glyphs.interrupted if line.interrupted else glyphs.state(run.state), word=word,
        tone="bad" if line.interrupted else TONES[run.state], started=words.when(run.started_at or run.created_at, now),
        time=words.took(seconds) if run.seconds is not None else words.clock(seconds) if seconds is not None else "",
        by=run.source, reused=f"{line.reused}/{line.steps}" if line.steps else "", changed=_changed(run, baseline, glyphs, is_base=is_base),
        metric=words.number(line.metric[-1]) if line.metric else "", trend=words.trend(line.metric, 8, glyphs.bar),
    )  # fmt: skip


def _changed(run: RunRecord, baseline: RunRecord | None, glyphs: Glyphs, *, is_base: bool) -> str:
    """Parameters that are not as in the baseline; without one, all that were given."""
    if is_base:
        return "(baseline)"
    if run.kind == "sweep":
        return "sweep"
    if baseline is None or baseline.pipeline != run.pipeline:
        return " ".join(f"{name}={words.value(value)}" for name, value in run.parameters)
    before, after = dict(baseline.parameters), dict(run.parameters)
    parts = [f"{name} {_shown(before, name, glyphs)}{glyphs.arrow}{_shown(after, name, glyphs)}" for name in sorted(before.keys() | after.keys())
             if before.get(name) != after.get(name)]  # fmt: skip
    return ", ".join(parts) or glyphs.equal


def _shown(values: Mapping[str, Json], name: str, glyphs: Glyphs) -> str:
    return words.value(values[name]) if name in values else glyphs.null


def title(page: RunsPage, marked: int) -> str:
    text = f"Runs · {page.all:,}" if not page.wanted else f"Runs · {page.total:,}/{page.all:,}"
    text += f" · filter: {page.wanted}" if page.wanted else ""
    return text + (f" · {marked} marked" if marked else "")


def nothing(page: RunsPage) -> list[str]:
    """What an empty list says."""
    if not page.wanted:
        return ["No run yet.", "", "r on the Pipeline screen (1) starts one; so does `mlpipe-tui run` in any terminal."]
    rows = [f"No run fits {page.wanted}", ""]
    rows += [f"  without {term}: {words.count(count, 'run')}" for term, count in page.without]
    return [*rows, "", "Esc clears the filter, / changes it."]
