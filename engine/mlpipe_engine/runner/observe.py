"""Events of a run that another process drives, made from the rows that changed since the last look.

A state that lasted shorter than the time between two looks is not seen; the last one always is.
"""

from __future__ import annotations

from collections.abc import Iterator

from mlpipe_engine.model.events import Event, RunFinished, RunStarted, StepChanged
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.model.states import FINAL, State
from mlpipe_engine.store.runs import RunQueries


class Observer:
    """One per follower; `news` is called again and again with the run's current row."""

    def __init__(self, queries: RunQueries, run_id: str) -> None:
        self._queries = queries
        self._run_id = run_id
        self._mark = 0
        self._started = False
        self._numbers: dict[str, int] = {}

    def news(self, run: RunRecord) -> Iterator[Event]:
        """Prereq: `run` was read before this call, so that a final run is complete."""
        if not self._started:
            self._started = True
            steps = tuple(step.name for step in self._queries.steps(run))
            yield RunStarted(
                run_id=run.id,
                number=run.number,
                pipeline=run.pipeline,
                experiment=run.experiment,
                steps=steps,
                time=run.created_at,
            )
        if run.mirrors is not None:
            changed: tuple[StepRecord, ...] = self._queries.steps(run)
        else:
            self._mark, changed = self._queries.changed_steps(run, self._mark)
        for step in changed:
            yield self._event(step)
        if run.state in FINAL:
            yield self._finished(run)

    def _event(self, step: StepRecord) -> StepChanged:
        return StepChanged(
            run_id=step.run_id, step=step.name, state=step.state, time=step.finished_at or step.started_at or step.queued_at or "",
            attempt=step.attempt, causes=step.causes or step.unread, seconds=step.seconds, expected_seconds=step.expected_seconds,
            reused_from=self._number(step.reused_from), exit=step.exit, error=step.error if step.state in FINAL else "",
            note=step.error if step.state not in FINAL or step.state is State.SUCCEEDED else "",
        )  # fmt: skip

    def _number(self, run_id: str | None) -> int | None:
        if run_id is None:
            return None
        if run_id not in self._numbers:
            self._numbers[run_id] = self._queries.get(run_id).number
        return self._numbers[run_id]

    def _finished(self, run: RunRecord) -> RunFinished:
        steps = self._queries.steps(run)
        count = {state: sum(1 for step in steps if step.state is state) for state in State}
        return RunFinished(
            run_id=run.id, number=run.number, state=run.state, time=run.finished_at or "", seconds=run.seconds or 0.0,
            executed=count[State.SUCCEEDED], reused=count[State.REUSED], skipped=count[State.SKIPPED], failed=count[State.FAILED],
            canceled=count[State.CANCELED], error=run.error,
            saved_seconds=sum(step.seconds or 0.0 for step in steps if step.state is State.REUSED),
        )  # fmt: skip
