"""A plan: for every step what will happen and why.

`planning.planner` makes decisions, the runner carries them out, `why` and `plan` print them; all read these values.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.trees import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that made a step run (or allowed it to be reused). Made to be shown: every field is text."""

    kind: str
    """file, structure, parameter, argument, input, output, variable, environment, step, new, lost, forced, disabled, ..."""
    subject: str
    """The file, parameter, input, distribution ... it is about."""
    before: str = ""
    after: str = ""
    detail: str = ""
    """For instance "+3 -1" lines."""
    root: str = ""
    """The upstream step whose change this comes from, where there is one."""

    def __str__(self) -> str:
        if self.kind == "input" and self.root:
            return f"input {self.subject} (step {self.root} ran: {self.detail})"
        text = f"input {self.subject}" if self.kind == "input" else self.subject
        if self.before or self.after:
            text += f" {self.before or 'nothing'} -> {self.after or 'nothing'}"
        if self.detail:
            text += f" {self.detail}"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeclared:
    """What a step used beside its inputs and its code, as far as its audit saw it."""

    files: tuple[tuple[str, str], ...] = ()
    """(path, signature); below the project relative to it. A signature that begins with "ignored" is a note, and never compared."""
    modules: tuple[tuple[str, str], ...] | None = None
    """(name, distributions that provide it); None: not known, so every installed distribution counts."""
    audit: str = ""
    """"python", "full"; "" when nothing was watched, else why it could not be: "not audited: ..."."""


NOTHING_UNDECLARED = Undeclared()


@dataclass(frozen=True, slots=True)
class Result:
    """A finished step execution that may be reused."""

    id: int
    run_id: str
    run_number: int
    step: str
    fingerprint: str
    base_key: str
    snapshot: str
    """Digest of the code tree it ran with; "" when the step has no code."""
    structure: str
    reads: tuple[tuple[str, str], ...] | None
    """(path, digest) of every code file it used; None: not known, so the whole tree counts."""
    outputs: tuple[tuple[str, str], ...]
    """(output name, artifact digest); an allowed missing output is ""."""
    seconds: float
    finished_at: str
    undeclared: Undeclared = NOTHING_UNDECLARED


@dataclass(frozen=True, slots=True)
class Reuse:
    result: Result
    note: tuple[Cause, ...] = ()
    """What changed but was never read by the step."""


@dataclass(frozen=True, slots=True)
class Execute:
    because: tuple[Cause, ...]
    compared_with: Result | None = None

    def __post_init__(self) -> None:
        if not self.because:
            raise ValueError("an Execute decision must say why")


@dataclass(frozen=True, slots=True)
class Undecided:
    """A step above will run; whether this one runs depends on the bytes it makes."""

    waiting_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    because: tuple[Cause, ...]


Decision = Reuse | Execute | Undecided | Skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """One step of a plan, with everything that was looked at."""

    step: str
    decision: Decision
    manifest: Manifest | None = None
    """None while an input is not known yet."""
    code: Tree | None = None
    expected_seconds: float | None = None
    """Median of past executions; None: never ran."""
