"""A change of code or environment accepted by hand: the earlier result is kept for exactly the manifest a step has now.

What is accepted, by whom and why is stored; `decisions` looks it up, `why` shows it, and revoking it makes the step run again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlpipe_engine.errors import InputError, RunNotFoundError, UsageError, nearest
from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.plan import Cause, Reuse, StepPlan, Undecided
from mlpipe_engine.model.records import Acceptance, RunRecord
from mlpipe_engine.model.spec import PipelineSpec, StepSpec
from mlpipe_engine.planning.explain import code_causes, manifest_causes
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.store import acceptances
from mlpipe_engine.store.documents import read_manifest, split_manifest, write_manifest
from mlpipe_engine.store.results import ResultQueries

if TYPE_CHECKING:
    from mlpipe_engine.model.plan import Result
    from mlpipe_engine.model.views import Plan
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.store.database import Database

_ACCEPTABLE = ("file", "structure", "environment", "distribution")
"""Kinds of causes that a person may call cosmetic: code (also what hash_paths names) and what is installed."""


def result_to_keep(queries: ResultQueries, spec: PipelineSpec, step: str, run: RunRecord | None, result_id: int | None) -> Result:
    """The result of the step in that run, or its last one. Raises RunNotFoundError."""
    names = [known.name for known in spec.steps]
    if step not in names:
        close = nearest(step, names)
        raise RunNotFoundError(
            f"pipeline {spec.name!r} has no step {step!r}" + (f"; did you mean {close!r}?" if close else ""),
            expected="one of " + ", ".join(names),
        )
    if run is None:
        last = queries.last_of_step(spec.name, step)
        result_id = last[4] if last is not None else None
    result = queries.get(result_id) if result_id is not None else None
    if result is None:
        place = f"in run {run.number}" if run is not None else "yet"
        raise RunNotFoundError(f"step {step!r} has no result {place} that could be kept", hint="Run it once.")
    return result


def accept(database: Database, decisions: Decisions, plan: Plan, step: StepSpec, result: Result, because: str) -> Acceptance:
    """Record that `result` stands for what `step` would run now. Raises UsageError, InputError; then nothing is written."""
    planned = next(found for found in plan.steps if found.step == step.name)
    manifest = _manifest_of(planned, step)
    before = read_manifest(database, result.fingerprint)
    if before is None:
        raise InputError(f"what run {result.run_number} made step {step.name!r} from is no longer known", hint="Run the step.")
    causes = _causes(before, manifest, planned, result, step, decisions)
    _refuse_what_matters(causes, step, result)
    if not decisions.whole(result):
        raise InputError(f"the result of step {step.name!r} of run {result.run_number} is gone or damaged", hint="Run the step.")
    if planned.code is not None:
        decisions.snapshots.save(planned.code, decisions.resolver.directory(step))
    parts = split_manifest(manifest)
    now = utc_now()
    with database.write() as db:
        write_manifest(db, manifest.fingerprint, parts)
        number = acceptances.insert_acceptance(
            db, pipeline=plan.pipeline, step=step.name, result=result.id, old=(result.fingerprint, result.snapshot),
            new=(manifest.fingerprint, planned.code.digest if planned.code else ""), causes=causes, who=user_name(), because=because, now=now,
        )  # fmt: skip
    return acceptances.AcceptanceQueries(database).get(number)


def revoke(database: Database, number: int) -> Acceptance:
    """Raises RunNotFoundError, UsageError when it was revoked before."""
    queries = acceptances.AcceptanceQueries(database)
    found = queries.get(number)
    if found.revoked_at is not None:
        raise UsageError(f"acceptance {number} was revoked already, by {found.revoked_by}")
    with database.write() as db:
        acceptances.revoke(db, number, user_name(), utc_now())
    return queries.get(number)


def user_name() -> str:
    """Who is at the keyboard, by the account: a variable of the environment could say anything."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _manifest_of(planned: StepPlan, step: StepSpec) -> Manifest:
    if isinstance(planned.decision, Reuse):
        raise UsageError(
            f"step {step.name!r} is reused from run {planned.decision.result.run_number} as it is; there is nothing to accept"
        )
    if not step.allow_reuse:
        raise UsageError(f"step {step.name!r} never reuses a result (allow_reuse is off)", where=step.where)
    if isinstance(planned.decision, Undecided) or planned.manifest is None:
        waiting = ", ".join(planned.decision.waiting_on) if isinstance(planned.decision, Undecided) else "a condition"
        raise UsageError(
            f"what step {step.name!r} is made from is not known: it depends on what {waiting} makes",
            hint=f"Run or accept {waiting} first.",
        )
    return planned.manifest


def _causes(
    before: Manifest, after: Manifest, planned: StepPlan, result: Result, step: StepSpec, decisions: Decisions
) -> tuple[Cause, ...]:
    causes = list(manifest_causes(before, after, step, {}))
    if planned.code is not None and planned.code.digest != result.snapshot:
        earlier = decisions.snapshots.load(result.snapshot) if result.snapshot else None
        if earlier is None:
            causes.append(
                Cause(kind="structure", subject="the source folder", detail="changed; the earlier copy is no longer kept")
            )
        else:
            folder = (step.source_directory or "").rstrip("/")
            prefix = f"{folder}/" if folder not in ("", ".") else ""
            read = [path for path, _ in result.reads] if result.reads is not None and step.code == "precise" else None
            causes.extend(code_causes(earlier, planned.code, decisions.line_counts, only=read, prefix=prefix))
    return tuple(causes)


def _refuse_what_matters(causes: tuple[Cause, ...], step: StepSpec, result: Result) -> None:
    matters = [cause for cause in causes if cause.kind not in _ACCEPTABLE]
    if matters:
        shown = "; ".join(f"{cause.kind} {cause}" if cause.kind != "input" else str(cause) for cause in matters[:3])
        raise UsageError(
            f"step {step.name!r} differs from its result of run {result.run_number} in more than code and environment: {shown}",
            hint="Only a change of code or environment can be accepted; run the step.",
        )
    if not causes:
        raise UsageError(
            f"nothing of step {step.name!r} differs from its result of run {result.run_number}; there is nothing to accept",
            hint=f"Ask `mlpipe-tui plan --step {step.name}` why it would run.",
        )
