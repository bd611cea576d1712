"""What may not be collected, and why: the one place that knows. A new kind of thing that needs results adds a function to `ROOTS`.

Reads rows only. Names are digests of artifacts and snapshots, and step folders as "<run>/<step>".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import unpairs

_OPEN = "('queued', 'running')"


@dataclass
class Roots:
    """Name -> the first reason found."""

    reasons: dict[str, str] = field(default_factory=dict)

    def keep(self, names: Iterable[str], why: str) -> None:
        for name in names:
            if name:
                self.reasons.setdefault(name, why)

    def why(self, *names: str) -> str:
        return next((self.reasons[name] for name in names if name in self.reasons), "")


Pipelines = frozenset[tuple[str, str]] | None
"""(pipeline, step) of everything that is defined now; None: not known, so every step counts as defined."""


def find_roots(database: Database, pipelines: Pipelines) -> Roots:
    roots = Roots()
    for collect in ROOTS:
        collect(database, pipelines, roots)
    return roots


def _pins(database: Database, pipelines: Pipelines, roots: Roots) -> None:
    rows = database.query(
        "SELECT p.run, p.output, s.run, s.name, s.outputs, s.snapshot, s.reused_from, coalesce(res.step, s.name)"
        " FROM pins p JOIN runs r ON r.number = p.run JOIN step_runs s ON s.run = coalesce(r.mirrors, r.number)"
        " LEFT JOIN results res ON res.id = s.result WHERE p.step IN ('', s.name)"
    )
    for run, output, _, name, outputs, snapshot, reused, made_by in rows:
        digests = [digest for item, digest in unpairs(outputs) if output in ("", item)]
        roots.keep([*digests, str(snapshot or ""), f"{reused or run}/{made_by}", f"{run}/{name}"], "pinned")


def _unfinished(database: Database, pipelines: Pipelines, roots: Roots) -> None:
    """Running, or interrupted and to be resumed."""
    rows = database.query(
        "SELECT r.number, s.name, s.outputs, s.snapshot, s.reused_from, coalesce(res.step, s.name) FROM runs r"
        f" JOIN step_runs s ON s.run = r.number LEFT JOIN results res ON res.id = s.result WHERE r.state IN {_OPEN} AND r.parent IS NULL"
    )
    for run, name, outputs, snapshot, reused, made_by in rows:
        names = [digest for _, digest in unpairs(outputs)]
        roots.keep([*names, str(snapshot or ""), f"{run}/{name}", f"{reused or run}/{made_by}"], f"run {run} is not finished")


def _models(database: Database, pipelines: Pipelines, roots: Roots) -> None:
    rows = database.query(
        "SELECT m.name, m.version, m.run, m.step, s.outputs FROM models m LEFT JOIN step_runs s ON s.run = m.run AND s.name = m.step"
    )
    for name, version, run, step, outputs in rows:
        roots.keep(
            [f"{run}/{step}", *(digest for _, digest in unpairs(outputs))], f"registered as model {name} version {version}"
        )


def _tagged(database: Database, pipelines: Pipelines, roots: Roots) -> None:
    rows = database.query(
        "SELECT r.number, s.name, s.outputs, s.reused_from, coalesce(res.step, s.name) FROM runs r"
        " JOIN step_runs s ON s.run = coalesce(r.mirrors, r.number) LEFT JOIN results res ON res.id = s.result"
        " WHERE r.tags NOT IN ('', '[]') AND r.removed = '' AND r.parent IS NULL"
    )
    for run, name, outputs, reused, made_by in rows:
        roots.keep(
            [*(digest for _, digest in unpairs(outputs)), f"{run}/{name}", f"{reused or run}/{made_by}"], f"run {run} is tagged"
        )


def _last_results(database: Database, pipelines: Pipelines, roots: Roots) -> None:
    rows = database.query(
        "SELECT s.pipeline, s.name, res.run, res.step, res.outputs, res.snapshot FROM (SELECT s.pipeline, s.name, s.result, max(s.run) AS newest"
        " FROM step_runs s JOIN runs r ON r.number = s.run WHERE s.result IS NOT NULL AND r.removed = '' GROUP BY s.pipeline, s.name) s"
        " JOIN results res ON res.id = s.result"
    )
    for pipeline, name, run, step, outputs, snapshot in rows:
        if pipelines is None or (str(pipeline), str(name)) in pipelines:
            names = [*(digest for _, digest in unpairs(outputs)), str(snapshot), f"{run}/{step}"]
            roots.keep(names, f"last result of {name} in {pipeline}")


_IN_STORE = re.compile(r"\.mlpipe/artifacts/[0-9a-f]{2}/([0-9a-f]{64})")


def _dataset_versions(database: Database, pipelines: Pipelines, roots: Roots) -> None:
    """Outputs that were registered as datasets lie in the store only."""
    rows = database.query(
        "SELECT name, version, definition FROM dataset_versions WHERE instr(definition, '.mlpipe/artifacts/') > 0"
    )
    for name, version, definition in rows:
        digests = [f"b3:{found}" for found in _IN_STORE.findall(str(definition))]
        roots.keep(digests, f"registered as dataset {name} version {version}")


ROOTS: list[Callable[[Database, Pipelines, Roots], None]] = [
    _pins,
    _unfinished,
    _models,
    _dataset_versions,
    _tagged,
    _last_results,
]
"""Strongest reason first."""
