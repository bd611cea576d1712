"""A run as one file: what a bundle says, and what verifying and replaying it found. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.plan import Cause, Result
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import State
from mlpipe_engine.model.trees import Tree


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Everything of a run but the bytes; those lie beside it under their digests."""

    project: str
    run: RunRecord
    options: SubmitOptions
    spec: PipelineSpec
    steps: tuple[StepRecord, ...]
    results: Mapping[str, Result]
    """By step: what its result was made from, wherever it was made."""
    manifests: Mapping[str, Manifest]
    """By fingerprint."""
    metrics: tuple[MetricRecord, ...] = ()
    artifacts: Mapping[str, Tree] = field(default_factory=dict)
    """Outputs that are in the bundle, by digest."""
    code: Mapping[str, Tree] = field(default_factory=dict)
    inputs: Mapping[str, Tree] = field(default_factory=dict)
    """Files from outside the store that steps read, by digest."""
    logs: tuple[tuple[str, str, str], ...] = ()
    """(step, stream, digest)."""
    left_out: tuple[str, ...] = ()
    """What a replay or a reuse may miss, in words."""

    def made_from(self, step: str) -> tuple[str, str]:
        """(fingerprint, snapshot) of what a step's result was made from; of the step itself where it has none."""
        result = self.results.get(step)
        if result is not None:
            return result.fingerprint, result.snapshot
        record = next(found for found in self.steps if found.name == step)
        return record.fingerprint, record.snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFacts:
    """What `verify` says of a whole bundle."""

    path: str
    run: RunRecord
    project: str
    files: int
    size_bytes: int
    steps: int
    outputs: tuple[str, ...]
    """step.output names whose bytes are in it."""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedOutput:
    name: str
    verdict: Literal["equal", "differs", "missing"]
    paths: tuple[str, ...] = ()
    """Files that differ, where both sides are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedStep:
    name: str
    state: State
    before: State
    outputs: tuple[ReplayedOutput, ...] = ()
    causes: tuple[Cause, ...] = ()
    """What it was made from that is not as it was: another environment, another input."""
    error: str = ""

    @property
    def equal(self) -> bool:
        return self.state in (State.SUCCEEDED, State.REUSED, State.SKIPPED) and all(
            item.verdict == "equal" for item in self.outputs
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    run: RunRecord
    steps: tuple[ReplayedStep, ...]
    place: str = ""
    """Where it was done, when that was kept."""

    @property
    def equal(self) -> bool:
        return all(step.equal for step in self.steps)
