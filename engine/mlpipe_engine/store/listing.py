"""What a list of runs shows beside their rows, asked for a whole page at once: counts of steps, and the course of one metric."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.store.database import Database


class Listing:
    def __init__(self, database: Database) -> None:
        self._db = database

    def step_counts(self, runs: Iterable[RunRecord]) -> dict[str, tuple[int, int]]:
        """Run id -> (steps reused, all steps). In a run that only mirrors another everything but what was skipped was reused."""
        rows_of, wanted = self._rows_of(runs)
        marks = ", ".join("?" * len(wanted))
        sql = (
            "SELECT run, sum(state = 'reused'), sum(state <> 'skipped'), count(*) FROM step_runs"
            f" WHERE run IN ({marks}) GROUP BY run"
        )
        counts = {_int(row[0]): row for row in self._db.query(sql, tuple(wanted))} if wanted else {}
        found = {}
        for run, number in rows_of:
            row = counts.get(number)
            if row is not None:
                found[run.id] = (_int(row[2]) if run.mirrors is not None else _int(row[1]), _int(row[3]))
        return found

    def metric_values(self, runs: Iterable[RunRecord], metric: str, limit: int = 64) -> dict[str, tuple[float, ...]]:
        """Run id -> the last `limit` values it logged under that name (`name` or `step.name`), oldest first."""
        rows_of, wanted = self._rows_of(runs)
        found: dict[int, list[float]] = {}
        sql = "SELECT value FROM metrics WHERE run = ? AND kind = 'scalar' AND (name = ? OR step || '.' || name = ?) ORDER BY id DESC LIMIT ?"
        for number in wanted:
            values = [_finite(row[0]) for row in self._db.query(sql, (number, metric, metric, limit))]
            found[number] = [value for value in reversed(values) if value is not None]
        return {run.id: tuple(found[number]) for run, number in rows_of if found.get(number)}

    def metric_names(self, runs: Iterable[RunRecord]) -> tuple[str, ...]:
        """Names of numbers that these runs logged, the most frequent first."""
        _, wanted = self._rows_of(runs)
        if not wanted:
            return ()
        marks = ", ".join("?" * len(wanted))
        sql = (
            f"SELECT name, count(DISTINCT run) AS n FROM metrics WHERE run IN ({marks}) AND kind = 'scalar'"
            " GROUP BY name ORDER BY n DESC, min(id)"
        )
        return tuple(str(row[0]) for row in self._db.query(sql, tuple(wanted)))

    def _rows_of(self, runs: Iterable[RunRecord]) -> tuple[list[tuple[RunRecord, int]], list[int]]:
        """Each run with the number its rows stand under, and those numbers."""
        found = list(runs)
        mirrored = sorted({run.mirrors for run in found if run.mirrors is not None})
        numbers: dict[str, int] = {}
        for start in range(0, len(mirrored), 500):
            part = mirrored[start : start + 500]
            rows = self._db.query(f"SELECT id, number FROM runs WHERE id IN ({', '.join('?' * len(part))})", tuple(part))
            numbers |= {str(row[0]): _int(row[1]) for row in rows}
        rows_of = [(run, numbers.get(run.mirrors, run.number) if run.mirrors is not None else run.number) for run in found]
        return rows_of, sorted({number for _, number in rows_of})


def _int(value: object) -> int:
    return int(str(value))


def _finite(text: object) -> float | None:
    try:
        value = json.loads(str(text))
    except ValueError:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
