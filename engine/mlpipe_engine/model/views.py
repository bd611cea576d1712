"""Answers the engine gives to questions: a plan, an explanation, findings of a check-up. Read by the edges only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.plan import NOTHING_UNDECLARED, Cause, Result, StepPlan, Undeclared
from mlpipe_engine.model.records import RunRecord, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `run` would do on unchanged state, step by step."""

    pipeline: str
    steps: tuple[StepPlan, ...]
    expected_seconds: float | None = None
    """Length of the critical path of what will or may run, from history; None when a step never ran."""
    pulled_in: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    """Steps left out by --step, --from or --only."""
    effects: tuple[str, ...] = ()
    """What the definition file tried to do while it was only loaded."""
    interpreters: tuple[tuple[str, str], ...] = ()
    """(step, the interpreter it runs with and why that one); steps whose environment is not built yet are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a step ran or was reused."""

    run: RunRecord
    step: StepRecord
    causes: tuple[Cause, ...]
    compared_with: Result | None = None
    changed_but_unread: tuple[Cause, ...] = ()
    manifest: Manifest | None = None
    undeclared: Undeclared = NOTHING_UNDECLARED
    """What the execution behind it used without having declared it."""


@dataclass(frozen=True, slots=True)
class Finding:
    level: Literal["ok", "warn", "error"]
    what: str
    hint: str = ""
