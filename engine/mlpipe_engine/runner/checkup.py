"""The check-up behind `doctor`: is this machine, this project and its store fit? Reads only."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model.views import Finding
from mlpipe_engine.runner.interpreter_check import check_interpreters
from mlpipe_engine.snapshots.canary import can_trace
from mlpipe_engine.store.results import ResultQueries

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ProjectConfig
    from mlpipe_engine.definitions.loader import Definitions
    from mlpipe_engine.model.records import RunRecord
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is examined. The functions are asked once, and may raise MlpipeError."""

    root: str
    state_dir: str
    config: ProjectConfig
    database: Database | None
    artifacts: ArtifactStore
    definitions: Callable[[], Definitions]
    interrupted: Callable[[], list[RunRecord]]


def examine(patient: Patient) -> tuple[Finding, ...]:
    database = patient.database
    findings = [
        Finding("ok", f"project {patient.config.name} at {patient.root}"),
        Finding("ok", f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}"),
        *check_interpreters(patient.root, patient.config),
        *_confinement(patient),
        *_engines(patient),
        *_definitions(patient),
        _space(patient),
    ]
    if database is None:
        findings.append(Finding("ok", "no store yet: nothing was run here"))
        return tuple(findings)
    findings += [
        _tracing(patient),
        _integrity(database),
        *_journal(patient),
        *_artifacts(patient, database),
        *_interrupted(patient),
    ]
    return tuple(findings)


def _confinement(patient: Patient) -> list[Finding]:
    """Whether every compute target can do what it is asked for, and what this machine could do."""
    from mlpipe_engine.executors.landlock import describe
    from mlpipe_engine.runner.watching import check

    found = []
    for compute in patient.config.computes:
        try:
            check(compute)
        except MlpipeError as error:
            found.append(Finding("error", f"compute target {compute.name}: {error}", error.hint))
    strace = "installed" if shutil.which("strace") else "not installed"
    return [*found, Finding("ok", f'for isolation = "strict": {describe()}; for audit = "full": strace is {strace}')]


def _engines(patient: Patient) -> list[Finding]:
    """Container engines that targets name, and the one of this machine where there is one."""
    from mlpipe_engine.executors.containers.engines import EngineAccess, engine_is_near
    from mlpipe_engine.executors.containers.gpu_requests import mode_of

    urls = {
        compute.engine for compute in patient.config.computes if compute.kind == "docker" and (compute.engine or engine_is_near())
    }
    found = []
    for url in sorted(urls):
        engine = EngineAccess(url)
        try:
            facts = engine.facts
        except MlpipeError as error:
            found.append(Finding("warn", str(error), error.hint))
            continue
        kind = ("rootless " if facts.rootless else "") + ("Podman" if facts.podman else "Docker")
        more = "" if facts.local else "; it does not see our files, so they are sent"
        text = f"containers: {kind} {facts.version} at {engine.url}, GPUs by {mode_of(facts) or 'nothing'}{more}"
        if facts.not_enforced:
            found.append(
                Finding("warn", f"{text}; it ignores limits of {', '.join(facts.not_enforced)}", "Let it use cgroup v2.")
            )
        else:
            found.append(Finding("ok", text))
    return found or [Finding("ok", "containers: no engine is here")]


def _definitions(patient: Patient) -> list[Finding]:
    try:
        definitions = patient.definitions()
    except MlpipeError as error:
        return [Finding("warn", str(error), error.hint)]
    found = [Finding("error", str(error), error.hint) for error in definitions.errors]
    names = ", ".join(pipeline.name for pipeline in definitions.pipelines)
    return [*found, Finding("ok", f"pipelines: {names}")] if names else found


def _space(patient: Patient) -> Finding:
    free = shutil.disk_usage(patient.root).free
    text = f"{free / 1e9:.1f} GB free on the disk of the project"
    return Finding("ok", text) if free > 1e9 else Finding("warn", text, "Free some space before a large run.")


def _tracing(patient: Patient) -> Finding:
    if not os.access(patient.state_dir, os.W_OK):
        return Finding("warn", "the project is read-only for this user: runs can be looked at, not started")
    problem = can_trace(patient.state_dir)
    if not problem:
        return Finding("ok", "reads of code files can be told here: reuse is precise")
    return Finding("warn", f"{problem}: any change in a source directory runs its steps again")


def _integrity(database: Database) -> Finding:
    try:
        answer = str(database.query("PRAGMA integrity_check")[0][0])
    except MlpipeError as error:
        return Finding("error", str(error), error.hint)
    return (
        Finding("ok", "state.db is whole")
        if answer == "ok"
        else Finding("error", f"state.db is damaged: {answer}", "Run `mlpipe-tui doctor --rebuild`.")
    )


def _journal(patient: Patient) -> list[Finding]:
    from mlpipe_engine.runner.rebuild import missing_results

    missing = missing_results(patient.state_dir)
    if not missing:
        return []
    return [Finding("error", f"state.db lacks {missing} results that the journal names", "Run `mlpipe-tui doctor --rebuild`.")]


def _artifacts(patient: Patient, database: Database) -> list[Finding]:
    queries, artifacts = ResultQueries(database), patient.artifacts
    digests = [str(row[0]) for row in database.query("SELECT digest FROM artifacts WHERE collected = ''")]
    damaged = []
    for digest in digests:
        row = queries.artifact(digest)
        verdict = artifacts.intact(digest, row[1]) if row else None
        if verdict is not None and not verdict.whole:
            damaged.append(
                Finding("warn", f"output {digest[3:15]}: {verdict.problem}", "It is made again by the next run that needs it.")
            )
    return damaged or [Finding("ok", f"{len(digests)} stored outputs are whole")]


def _interrupted(patient: Patient) -> list[Finding]:
    return [
        Finding(
            "warn",
            f"run {run.number} was interrupted",
            f"Go on with `mlpipe-tui resume {run.number}`, or drop it with `mlpipe-tui cancel {run.number}`.",
        )
        for run in patient.interrupted()
    ]
