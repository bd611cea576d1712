"""A sweep: one parent row, an ordinary run for every point of its grid, each in a process of its own.

The parent's process holds the sweep's lock, starts its runs, watches their rows and closes the sweep. It may die: runs that are
running go on, and `resume` of the sweep goes on with what is missing. Called by `engine`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from mlpipe_engine.model.records import RunRecord, Sweep
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL, GOOD, State
from mlpipe_engine.planning import graph, parameters
from mlpipe_engine.planning.grid import label, points
from mlpipe_engine.runner.record import utc_now
from mlpipe_engine.store import runs
from mlpipe_engine.store.database import Database

_POLL_SECONDS = 0.05


def insert(database: Database, spec: PipelineSpec, options: SubmitOptions, sweep: Sweep) -> str:
    """The sweep and a queued run for every point, in one transaction. Returns the sweep's id. Raises ParameterError."""
    given = dict(options.parameters)
    children = []
    for point in points(sweep.axes):
        values = {**given, **dict(point)}
        tags = dict(options.tags) | {"grid": label(point)}
        child = replace(options, parameters=tuple(sorted(values.items())), tags=tuple(sorted(tags.items())), resumed_from=None)
        children.append((uuid4().hex, child, parameters.effective(spec, values)))
    selected = graph.select(spec, options).run
    sweep_id, now = uuid4().hex, utc_now()
    fixed = tuple(sorted(given.items()))
    with database.write() as db:
        number = runs.insert_run(db, sweep_id, spec, options, fixed, now, frozenset(), kind="sweep")
        runs.insert_sweep(db, number, sweep)
        for child_id, child, effective in children:
            runs.insert_run(db, child_id, spec, child, effective, now, selected, parent=sweep_id)
    return sweep_id


def current_children(queries: runs.RunQueries, sweep: RunRecord) -> tuple[RunRecord, ...]:
    """The runs of a sweep, without those that were started again later."""
    children = queries.children(sweep.id)
    replaced = {child.resumed_from for child in children}
    return tuple(child for child in children if child.id not in replaced)


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What driving a sweep needs from the outside."""

    database: Database
    start: Callable[[str], bool]
    """Give a queued or interrupted run a runner of its own; False when it has one already."""
    has_no_runner: Callable[[RunRecord], bool]
    signaled: Callable[[], int | None]
    seen: Callable[[RunRecord], None]
    """Told of every run once, when it has ended or lost its runner."""


def drive(driver: Driver, sweep: RunRecord) -> None:
    """Returns when every run of the sweep has ended and the sweep is closed. Prereq: this process holds the sweep's lock."""
    with driver.database.write() as db:
        runs.update_run(db, sweep.id, state=State.RUNNING.value, started_at=sweep.started_at or utc_now())
    _Drive(driver, sweep).to_the_end()


class _Drive:
    """The state of one sweep while it is driven. Only runs that are running are looked at; a sweep may have 10,000."""

    def __init__(self, driver: Driver, sweep: RunRecord) -> None:
        self._driver, self._sweep = driver, sweep
        self._queries = runs.RunQueries(driver.database)
        self._plan = self._queries.sweep(sweep)
        self._pending = deque(child.id for child in current_children(self._queries, sweep) if child.state not in FINAL)
        self._running: set[str] = set()
        self._canceled, self._stopped = False, ""

    def to_the_end(self) -> None:
        began = time.monotonic()
        while self._pending or self._running:
            self._look_for_cancel()
            for run_id in list(self._running):
                self._look_at(run_id)
            while self._pending and len(self._running) < self._plan.parallel:
                self._start(self._pending.popleft())
            time.sleep(_POLL_SECONDS)
        self._close(time.monotonic() - began)

    def _look_for_cancel(self) -> None:
        if not self._canceled and (self._driver.signaled() is not None or self._queries.cancel_requested(self._sweep.id)):
            self._canceled = True
            self._cancel_all()

    def _look_at(self, run_id: str) -> None:
        run = self._queries.get(run_id)
        if run.state not in FINAL and self._driver.has_no_runner(run):
            run = self._queries.get(run_id)  # it may have ended between the two looks
        elif run.state not in FINAL:
            return
        self._running.discard(run_id)
        self._driver.seen(run)
        if self._plan.fail_fast and run.state not in GOOD and not self._stopped and not self._canceled:
            self._stopped = f"run {run.number} {run.state if run.state in FINAL else 'was lost'}; the others were canceled"
            self._cancel_all()

    def _start(self, run_id: str) -> None:
        if self._queries.get(run_id).state in FINAL:
            return
        self._driver.start(run_id)
        self._running.add(run_id)

    def _cancel_all(self) -> None:
        """What waits ends here; runs that have a runner are asked to, and end their steps themselves."""
        now = utc_now()
        with self._driver.database.write() as db:
            for run_id in self._running:
                runs.update_run(db, run_id, cancel_requested=1)
            for run_id in self._pending:
                runs.finish_run(db, run_id, State.CANCELED, now, 0.0, "")
                runs.cancel_unfinished_steps(db, run_id, now)
        self._pending.clear()

    def _close(self, seconds: float) -> None:
        states = {child.state for child in current_children(self._queries, self._sweep)}
        if self._canceled:
            state = State.CANCELED
        elif not states <= GOOD:
            state = State.FAILED
        else:
            state = State.REUSED if states == {State.REUSED} else State.SUCCEEDED
        number = self._driver.signaled()
        error = self._stopped or (f"stopped by signal {number}" if self._canceled and number is not None else "")
        with self._driver.database.write() as db:
            runs.finish_run(db, self._sweep.id, state, utc_now(), seconds, error)


def start_again(database: Database, sweep: RunRecord, child: RunRecord) -> None:
    """A run of an interrupted sweep that failed or was canceled gets a successor for the same point."""
    queries = runs.RunQueries(database)
    spec, options = queries.spec(child), replace(queries.options(child.id), resumed_from=child.id)
    selected = graph.select(spec, options).run
    with database.write() as db:
        runs.insert_run(db, uuid4().hex, spec, options, child.parameters, utc_now(), selected, parent=sweep.id)
