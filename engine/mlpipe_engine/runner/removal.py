"""Runs that a person removes, and pins that keep results for ever. What is removed lies in the trash for a day."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import unpairs
from mlpipe_engine.store.roots import find_roots
from mlpipe_engine.store.trash import Move, Trash, drop_up_to_date


@dataclass(frozen=True, slots=True)
class Removed:
    collection: str
    runs: tuple[int, ...]
    kept: tuple[str, ...]
    """Results that stay, because runs that were not removed use them."""


def remove_runs(state_dir: str, database: Database, runs: tuple[RunRecord, ...]) -> Removed:
    """All or none. Prereq: none of them is going on. Raises UsageError for pinned ones."""
    numbers = {run.number for run in runs}
    for run in runs:
        if database.query("SELECT 1 FROM pins WHERE run = ?", (run.number,)):
            raise UsageError(f"run {run.number} is pinned", hint=f"Give it free first: mlpipe-tui unpin {run.number}")
    trash = Trash(state_dir, database)
    name = trash.new_collection()
    moves: list[Move] = []
    kept: list[str] = []
    digests: set[str] = set()
    unused: list[int] = []
    for run in runs:
        moves += _folder_moves(state_dir, run)
        for result, step, outputs in database.query("SELECT id, step, outputs FROM results WHERE run = ?", (run.number,)):
            if _used_elsewhere(database, int(str(result)), numbers):
                kept.append(f"run {run.number} {step}")
                moves = [move for move in moves if move.path != f"runs/{run.experiment}/{run.number}/{step}"]
                continue
            unused.append(int(str(result)))
            digests.update(digest for _, digest in unpairs(outputs) if digest)
    with database.write() as db:
        db.executemany("UPDATE runs SET removed = ? WHERE number = ?", [(name, number) for number in numbers])
        db.executemany(
            "UPDATE results SET withdrawn = 'removed' WHERE id = ? AND withdrawn = ''", [(result,) for result in unused]
        )
        drop_up_to_date(db)
    moves += [Move(f"artifacts/{digest[3:5]}/{digest[3:]}", digest) for digest in sorted(digests - _still_named(database))]

    def still(used: frozenset[str]) -> Callable[[Move], bool]:
        why = find_roots(database, frozenset()).why
        return lambda move: not move.digest or (move.digest not in used and not why(move.digest))

    trash.take(name, moves, still)
    trash.write_list(name, [])  # also a run of which nothing lay on disk can be brought back
    for run in runs:
        folder = os.path.join(state_dir, "runs", run.experiment, str(run.number))
        _drop_empty(folder)
    return Removed(name, tuple(sorted(numbers)), tuple(kept))


def _folder_moves(state_dir: str, run: RunRecord) -> list[Move]:
    folder = os.path.join(state_dir, "runs", run.experiment, str(run.number))
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [Move(f"runs/{run.experiment}/{run.number}/{name}") for name in names]


def _used_elsewhere(database: Database, result: int, numbers: set[int]) -> bool:
    rows = database.query(
        "SELECT s.run FROM step_runs s JOIN runs r ON r.number = s.run WHERE s.result = ? AND r.removed = ''"
        " UNION SELECT r.number FROM runs r JOIN step_runs s ON s.run = r.mirrors WHERE s.result = ? AND r.removed = ''",
        (result, result),
    )
    return any(int(str(row[0])) not in numbers for row in rows)


def _still_named(database: Database) -> set[str]:
    return {
        digest
        for (outputs,) in database.query("SELECT outputs FROM results WHERE withdrawn = ''")
        for _, digest in unpairs(outputs)
    }


def _drop_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        return  # results that others use are still in it
