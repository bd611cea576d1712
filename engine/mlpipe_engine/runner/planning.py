"""A plan: the decisions of a run, made in order, without carrying any of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mlpipe_engine.model.plan import Cause, Execute, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.spec import PipelineSpec, StepOutputSource, StepSpec
from mlpipe_engine.model.views import Plan
from mlpipe_engine.planning.graph import topological, upstream

if TYPE_CHECKING:
    from mlpipe_engine.runner.decisions import Decisions


def make_plan(spec: PipelineSpec, decisions: Decisions, selection: frozenset[str], effects: tuple[str, ...]) -> Plan:
    """Prereq: the spec is sound and every input path was found."""
    steps = {step.name: step for step in spec.steps}
    planned = decide_in_order((name for name in topological(spec) if name in selection), steps, decisions)
    ordered = tuple(planned[step.name] for step in spec.steps if step.name in planned)
    return Plan(
        pipeline=spec.name, steps=ordered, expected_seconds=_critical_path(spec, planned), pulled_in=spec.pulled_in,
        excluded=tuple(step.name for step in spec.steps if step.name not in selection), effects=effects,
        interpreters=decisions.resolver.choices([steps[name] for name in planned], decisions.compute_of),
    )  # fmt: skip


def decide_in_order(
    names: Iterable[str],
    steps: Mapping[str, StepSpec],
    decisions: Decisions,
    kept: Callable[[str, Mapping[str, StepPlan]], StepPlan | None] = lambda name, planned: None,
) -> dict[str, StepPlan]:
    """Plans of `names`, which come parents first. `kept`: a plan that still holds, given those before it; None: decide anew."""
    unknown: set[str] = set()
    skipped: dict[str, Cause] = {}
    planned: dict[str, StepPlan] = {}
    metrics: dict[tuple[str, str], float] = {}
    making: dict[str, str] = {}
    for name in names:
        step = steps[name]
        plan = kept(name, planned)
        if plan is None:
            waiting = decisions.waiting_on(step, unknown)
            producers = [item.source.step for item in step.inputs if isinstance(item.source, StepOutputSource)]
            upstream_skip = next((producer for producer in producers if producer in skipped), None)
            if upstream_skip is not None:
                because = Cause(kind="upstream", subject=f"step {upstream_skip} was skipped")
                plan = StepPlan(step=name, decision=Skip((because,)))
            elif waiting:
                plan = decisions.undecided(step, waiting)
            else:
                plan = decisions.decide(step, lambda producer, metric: metrics.get((producer, metric)))
            plan = _same_as_another(plan, making, step.allow_reuse)
        planned[name] = plan
        match plan.decision:
            case Reuse(result):
                decisions.note_outputs(name, dict(result.outputs))
                metrics.update({(name, metric): value for metric, value in decisions.metrics_of(result)})
            case Skip(because=causes):
                skipped[name] = causes[0]
            case Execute(because=causes):
                unknown.add(name)
                decisions.note_changed(name, causes)
            case Undecided():
                unknown.add(name)
    return planned


def _same_as_another(plan: StepPlan, making: dict[str, str], allow_reuse: bool) -> StepPlan:
    """Two steps of one run that are the same are made once: the second takes over what the first makes."""
    if plan.manifest is None or not isinstance(plan.decision, Execute):
        return plan
    first = making.setdefault(plan.manifest.fingerprint, plan.step)
    if first == plan.step or not allow_reuse or plan.decision.because[0].kind == "forced":
        return plan
    return replace(plan, decision=Undecided((first,)))


def _critical_path(spec: PipelineSpec, planned: dict[str, StepPlan]) -> float | None:
    """The longest chain of expected times among what will or may run; None when one of them never ran."""
    parents = upstream(spec)
    ends: dict[str, float] = {}
    for name in topological(spec):
        plan = planned.get(name)
        start = max((ends.get(parent, 0.0) for parent in parents[name]), default=0.0)
        if plan is None or isinstance(plan.decision, Reuse | Skip):
            ends[name] = start
        elif plan.expected_seconds is None:
            return None
        else:
            ends[name] = start + plan.expected_seconds
    return max(ends.values(), default=0.0)
