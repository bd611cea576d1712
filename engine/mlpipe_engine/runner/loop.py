"""One run, from its first step to its last: asks the scheduler, decides, stages, starts, follows, records.

One thread; the recorder has a second one and large outputs are hashed in a third. Everything the world sees of the run goes
through `_record`, so an event is only emitted when what it says is durable. Called by `engine` and `runner.__main__`.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from mlpipe_engine.errors import FilesystemError, MlpipeError
from mlpipe_engine.executors import staging
from mlpipe_engine.model.events import Event, RunFinished, RunStarted
from mlpipe_engine.model.execution import Finished, StepTask, succeeded
from mlpipe_engine.model.plan import Cause, Execute, Result, Reuse, Skip, StepPlan
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.spec import StepOutputSource, StepSpec
from mlpipe_engine.model.states import State
from mlpipe_engine.planning.scheduler import Scheduler
from mlpipe_engine.runner.collect import INLINE_BYTES, Borrowed, Collected, collect, total_size
from mlpipe_engine.runner.follow import Follower
from mlpipe_engine.runner.record import StepRows, utc_now
from mlpipe_engine.runner.watching import Watch

if TYPE_CHECKING:
    from mlpipe_engine.executors.leases import Lease
    from mlpipe_engine.executors.shared import SharedLease
    from mlpipe_engine.runner.parts import RunParts

_TICK_SECONDS = 0.2
_LOCK_POLL_SECONDS = 0.05


@dataclass(eq=False)
class _Attempt:
    """A step on its way from "must run" to its end."""

    step: StepSpec
    plan: StepPlan
    number: int = 0
    not_before: float = 0.0
    lease: Lease | None = None
    shared: SharedLease | None = None
    told_shared: bool = False
    flight: str = ""
    """The fingerprint whose flight is held."""
    layout: staging.Layout | None = None
    task: StepTask | None = None
    borrowed: list[Borrowed] = field(default_factory=list)
    started: float = 0.0
    follower: Follower | None = None
    watch: Watch | None = None
    told_waiting: int | None = None


class Run:
    """Prereq: the run's row exists and its lock is held by this process."""

    def __init__(
        self, run: RunRecord, parts: RunParts, sink: Callable[[Event], None], beside: Callable[[], None] = lambda: None, *,
        is_new: bool = False,
    ) -> None:  # fmt: skip
        """`beside`: work that no step waits for; called once, when the first step was started or the run is at its end.

        `is_new`: its row was made a moment ago; nobody can have asked for its end yet.
        """
        self.run = run
        self._beside: Callable[[], None] | None = beside
        self._parts = parts
        self._sink = sink
        self._decisions = parts.decisions
        self._spec = parts.spec
        self._steps = parts.spec.by_name
        self._waiting: list[_Attempt] = []
        self._active: dict[str, _Attempt] = {}
        self._free_leases: list[Lease] = []
        """Of steps that ended in this turn: the next step takes one over without a look at the ledger of the machine."""
        self._collecting: dict[Future[Collected], tuple[_Attempt, Finished]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._acknowledged: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._metrics: dict[tuple[str, str], float] = {}
        self._counts = dict.fromkeys(("executed", "reused", "skipped", "failed", "canceled"), 0)
        self._saved_seconds = 0.0
        self._canceled = False
        self._stale: set[str] = set()
        """Steps that were superseded: what they are made from has changed."""
        self._error = ""
        self._rows = StepRows(run, parts.recorder, self._acknowledge, parts.journal)
        self._began = time.monotonic()
        self._next_look = self._began + _TICK_SECONDS if is_new else 0.0

    def number_steps(self, index: dict[str, int], first_mark: int) -> None:
        self._rows.number_steps(index, first_mark)

    def execute(self) -> State:
        """Drive the run to its final state. Raises FilesystemError or StoreError when the machine gives up; the run stays resumable."""
        parts = self._parts
        selected = self._spec.in_order(parts.selection)
        parents = {name: [p for p in parts.parents[name] if p in parts.selection] for name in selected}
        self._scheduler = Scheduler(
            selected,
            parents,
            data_parents={name: _data_parents(self._steps[name]) for name in selected},
            always=frozenset(name for name in selected if self._steps[name].trigger == "always"),
            continue_on_failure=parts.options.continue_on_step_failure,
        )
        self._rows.run_started(RunStarted(
            run_id=self.run.id, number=self.run.number, pipeline=self._spec.name, experiment=self.run.experiment,
            steps=tuple(selected), time=utc_now(),
        ))  # fmt: skip
        for name, outputs in parts.finished_before.items():
            self._decisions.note_outputs(name, outputs)
            self._settle(name, State.SUCCEEDED)
        try:
            while not self._scheduler.done:
                self._turn()
            self._wait_for_deliveries()
            return self._finish()
        finally:
            self._close()

    def _turn(self) -> None:
        self._parts.recorder.check()
        self._parts.require_project()
        self._look_for_cancel()
        while names := self._scheduler.ready():
            for name in names:
                self._decide(self._steps[name])
        self._start_waiting()
        self._give_back_free_leases()
        self._emit()
        if self._scheduler.done:
            return
        for finished in self._parts.executor.wait(self._pause()):
            self._ended(finished)
        for future in [future for future in self._collecting if future.done()]:
            self._collected(*self._collecting.pop(future), future.result())
        self._follow()

    def _wait_for_deliveries(self) -> None:
        deliveries = self._parts.deliveries
        while deliveries is not None and deliveries.take():
            self._parts.recorder.check()
            self._look_for_cancel()
            if self._canceled:
                deliveries.cancel()
            self._emit()
            deliveries.wait(_TICK_SECONDS)
        if deliveries is not None and deliveries.errors and not self._canceled:
            self._error = "; ".join(deliveries.errors)

    def _pause(self) -> float:
        """How long nothing can happen unless the executor or a signal wakes us."""
        now = time.monotonic()
        due = [attempt.not_before - now for attempt in self._waiting if attempt.not_before > now]
        busy = bool(self._active) or bool(self._collecting)
        return max(0.0, min([_TICK_SECONDS if busy else _LOCK_POLL_SECONDS, *due]))

    def _look_for_cancel(self) -> None:
        now = time.monotonic()
        if self._canceled or (now < self._next_look and self._parts.signaled() is None):
            return
        self._next_look = now + _TICK_SECONDS
        number = self._parts.signaled()
        if number is not None:
            self._error = f"stopped by signal {number}"
        if number is not None or self._parts.cancel_requested():
            self.cancel()
            return
        stale = [name for name in self._parts.superseded() if name in self._steps and name not in self._stale]
        if stale:
            self._supersede(stale)

    def _supersede(self, names: list[str]) -> None:
        """What these steps are made from has changed: they stop, or never start. What does not need them goes on."""
        self._stale.update(names)
        self._error = (
            f"superseded by a change of what {', '.join(names[:3])}{' and others' if len(names) > 3 else ''} is made from"
        )
        for attempt in [attempt for attempt in self._waiting if attempt.step.name in self._stale]:
            self._waiting.remove(attempt)
            self._release(attempt)
            self._drop_stale(attempt.step)
        for attempt_id, attempt in self._active.items():
            if attempt.step.name in names:
                self._parts.executor.cancel(attempt_id)

    def _drop_stale(self, step: StepSpec) -> None:
        self._rows.ended(step.name, State.CANCELED, None, 0.0, "superseded before it started")
        self._count_and_settle(step.name, State.CANCELED, "canceled")

    def cancel(self) -> None:
        """Stop everything: what runs gets SIGTERM, then SIGKILL; what waits never starts."""
        self._canceled = True
        for name in self._scheduler.stop():
            self._final(name, State.CANCELED)
        for attempt in self._waiting:
            self._final(attempt.step.name, State.CANCELED)
            self._scheduler.finished(attempt.step.name, State.CANCELED)
            self._release(attempt)
        self._waiting.clear()
        for attempt_id in self._active:
            self._parts.executor.cancel(attempt_id)

    def _decide(self, step: StepSpec) -> None:
        if step.name in self._stale:
            self._drop_stale(step)
            return
        missing = [
            item.source.step for item in step.inputs
            if isinstance(item.source, StepOutputSource) and self._decisions.output(item.source.step, item.source.output) is None
        ]  # fmt: skip
        if missing:
            self._rows.skipped(step.name, (Cause(kind="upstream", subject=f"step {missing[0]} made no output"),))
            self._count_and_settle(step.name, State.SKIPPED, "skipped")
            return
        try:
            plan = self._decisions.decide(step, self._metric, self.run.number)
        except MlpipeError as error:
            self._fail(step, str(error))
            return
        self._quarantine_lost()
        match plan.decision:
            case Skip(because):
                self._rows.skipped(step.name, because)
                self._count_and_settle(step.name, State.SKIPPED, "skipped", by_condition=True)
            case Reuse(result, note):
                self._reuse(step, plan, result, note)
            case Execute(because):
                self._decisions.note_changed(step.name, because)
                self._rows.preparing(step.name, plan)
                self._waiting.append(_Attempt(step, plan))
            case _:
                raise AssertionError("a step all of whose inputs are known cannot be undecided")

    def _reuse(self, step: StepSpec, plan: StepPlan, result: Result, note: tuple[Cause, ...]) -> None:
        self._decisions.note_outputs(step.name, dict(result.outputs))
        self._rows.reused(step.name, plan, result, note)
        for metric in self._decisions.metrics_of(result):
            self._note_metric(step.name, metric[0], metric[1])
        self._saved_seconds += result.seconds
        if self._parts.deliveries is not None:
            self._parts.deliveries.begin(step, dict(result.outputs), result)
        self._count_and_settle(step.name, State.REUSED, "reused")

    def _quarantine_lost(self) -> None:
        for digest, why in self._decisions.lost:
            self._parts.quarantine(digest, why)
        self._decisions.lost.clear()

    def _start_waiting(self) -> None:
        if self._scheduler.stopped_by is not None:
            self._drop_waiting()
            return
        now = time.monotonic()
        for attempt in self._parts.in_order(self._waiting, lambda attempt: attempt.step):
            if attempt.not_before > now or not self._parts.inputs_ready(attempt.step):
                continue
            if attempt.lease is None:
                attempt.lease = self._lease(attempt.step)
                if attempt.lease is None:
                    attempt.not_before = now + _LOCK_POLL_SECONDS if not self._active else 0.0
                    break  # in order: a large step is not starved by small ones behind it
            if attempt.shared is None and self._parts.shares(attempt.step) and not self._shared_leased(attempt):
                self._give_back_lease(attempt)
                attempt.not_before = now + _LOCK_POLL_SECONDS
                continue
            if not self._locked(attempt):
                self._give_back_lease(attempt)
                attempt.not_before = now + _LOCK_POLL_SECONDS
                continue
            self._waiting.remove(attempt)
            self._start(attempt)

    def _shared_leased(self, attempt: _Attempt) -> bool:
        attempt.shared = self._parts.lease_shared(self.run, attempt.step)
        if attempt.shared is None and not attempt.told_shared:
            attempt.told_shared = True
            self._rows.note(attempt.step.name, f"waits for {self._parts.shared_holders(attempt.step)}")
        return attempt.shared is not None

    def _lease(self, step: StepSpec) -> Lease | None:
        """One that was given back in this turn, where it is as large as what is wanted; else a new one."""
        wanted = self._parts.leases.bounded(step.resources.cpus, step.resources.memory_bytes)
        for lease in self._free_leases:
            if (lease.cpus, lease.memory_bytes) == wanted:
                self._free_leases.remove(lease)
                return lease
        self._give_back_free_leases()
        return self._parts.leases.try_lease(*wanted)

    def _give_back_free_leases(self) -> None:
        for lease in self._free_leases:
            lease.release()
        self._free_leases.clear()

    def _drop_waiting(self) -> None:
        """A failure stopped the run: what was going to start does not."""
        keep = [attempt for attempt in self._waiting if attempt.step.trigger == "always"]
        for attempt in self._waiting:
            if attempt in keep:
                continue
            cause = Cause(kind="upstream", subject=f"step {self._scheduler.stopped_by} failed")
            self._rows.skipped(attempt.step.name, (cause,))
            self._release(attempt)
            self._count_and_settle(attempt.step.name, State.SKIPPED, "skipped")
        self._waiting = keep
        if keep:
            stopped, self._scheduler.stopped_by = self._scheduler.stopped_by, None
            try:
                self._start_waiting()
            finally:
                self._scheduler.stopped_by = stopped

    def _locked(self, attempt: _Attempt) -> bool:
        """Single flight: one process makes a result, the others wait for it and take it over."""
        if attempt.flight:
            return True
        manifest = attempt.plan.manifest
        assert manifest is not None
        if not self._parts.flights.try_take(manifest.fingerprint):
            maker = self._parts.maker(manifest.fingerprint, attempt.step.name)
            if maker is not None and maker != attempt.told_waiting:
                attempt.told_waiting = maker
                self._rows.note(attempt.step.name, f"waits for run {maker}, which makes the same result")
            return False
        attempt.flight = manifest.fingerprint
        return True

    def _start(self, attempt: _Attempt) -> None:
        step = attempt.step
        found = self._decisions.again(step, attempt.plan) if attempt.number == 0 else None
        if found is not None:
            self._release(attempt)
            self._reuse(step, attempt.plan, found, ())
            return
        attempt.number += 1
        try:
            adopted = self._parts.adopt(self.run, step, attempt.plan) if attempt.number == 1 else None
            if adopted is not None:
                attempt.layout, attempt.borrowed, attempt.task, attempt.watch = adopted
            else:
                attempt.layout, attempt.borrowed = self._parts.stage(self.run, step, attempt.plan, attempt.number)
                for warning in self._parts.warnings(step):
                    self._rows.note(step.name, warning)
                attempt.task, attempt.watch = self._parts.task(
                    self.run, step, attempt.layout, attempt.number, attempt.plan, attempt.shared
                )
            attempt.started = time.monotonic()
            self._parts.executor.start(attempt.task)
            self._begin_beside()
        except FilesystemError as error:
            self._release(attempt)
            self._fail(step, str(error))
            return
        except MlpipeError as error:
            self._release(attempt)
            self._fail(step, str(error))
            return
        attempt.follower = Follower(attempt.layout, step.name, self._parts.max_log_bytes)
        self._active[attempt.task.attempt_id] = attempt
        self._rows.running(step.name, attempt.number, attempt.plan.expected_seconds)

    def _begin_beside(self) -> None:
        beside, self._beside = self._beside, None
        if beside is not None:
            beside()

    def _follow(self) -> None:
        for attempt in self._active.values():
            if attempt.follower is not None:
                self._take(attempt, final=False)

    def _take(self, attempt: _Attempt, *, final: bool) -> None:
        assert attempt.follower is not None
        batch = attempt.follower.read(final=final)
        if batch:
            self._rows.step_events(attempt.step.name, batch)
            for name, value in batch.scalars:
                self._note_metric(attempt.step.name, name, value)

    def _ended(self, finished: Finished) -> None:
        attempt = self._active.pop(finished.attempt_id, None)
        if attempt is None:
            return
        self._take(attempt, final=True)
        self._give_back_lease(attempt)
        if (self._canceled or finished.canceled or not succeeded(finished.exit)) and self._parts.is_plain(attempt.step):
            assert attempt.layout is not None and attempt.watch is not None
            self._parts.keep(attempt.layout, attempt.watch, ())
        if self._canceled or finished.canceled:
            self._end(attempt, finished, State.CANCELED, "canceled")
        elif not succeeded(finished.exit):
            note = attempt.watch.failure_note() if attempt.watch else ""
            self._failed_attempt(attempt, finished, f"{finished.exit}{note}")
        else:
            self._collect(attempt, finished)

    def _collect(self, attempt: _Attempt, finished: Finished) -> None:
        assert attempt.layout is not None and attempt.watch is not None
        parts = self._parts
        arguments = (
            attempt.step, attempt.layout, attempt.plan.code, attempt.borrowed, parts.artifacts, parts.snapshots, attempt.watch.judge,
        )  # fmt: skip
        link = not parts.is_plain(attempt.step)
        if total_size(attempt.step, attempt.layout) <= INLINE_BYTES:
            self._collected(attempt, finished, collect(*arguments, link=link))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, thread_name_prefix="collect")
        try:
            future = self._pool.submit(collect, *arguments, link=link)
        except RuntimeError:  # no thread to be had: other steps wait
            self._collected(attempt, finished, collect(*arguments, link=link))
            return
        future.add_done_callback(lambda _: parts.wake())
        self._collecting[future] = (attempt, finished)

    def _collected(self, attempt: _Attempt, finished: Finished, collected: Collected) -> None:
        for digest in collected.damaged:
            self._parts.quarantine(digest, f"changed by step {attempt.step.name} of run {self.run.number}")
        if collected.error:
            if self._parts.is_plain(attempt.step):
                assert attempt.layout is not None and attempt.watch is not None
                self._parts.keep(attempt.layout, attempt.watch, collected.outputs)
            self._failed_attempt(attempt, finished, collected.error)
            return
        seconds = time.monotonic() - attempt.started
        self._decisions.note_outputs(attempt.step.name, dict(collected.outputs))
        flight, attempt.flight = attempt.flight, ""
        put_away = self._put_away(attempt, collected)
        self._rows.succeeded(
            attempt.step.name, attempt.plan, collected, finished, seconds,
            pipeline=self._spec.name, structure=attempt.plan.code.structure if attempt.plan.code else "", put_away=put_away,
            then=partial(self._parts.flights.leave, flight) if flight else None,
        )  # fmt: skip
        if self._parts.deliveries is not None:
            self._parts.deliveries.begin(attempt.step, dict(collected.outputs))
        self._count_and_settle(attempt.step.name, State.SUCCEEDED, "executed")

    def _put_away(self, attempt: _Attempt, collected: Collected) -> str:
        """What the row says of a directory that is not kept."""
        parts = self._parts
        if not parts.is_plain(attempt.step):
            return ""
        assert attempt.layout is not None and attempt.watch is not None
        put_away = parts.put_away(attempt.step, attempt.layout, attempt.watch) if attempt.number == 1 else ""
        if not put_away:
            parts.keep(attempt.layout, attempt.watch, collected.outputs)
        return put_away

    def _failed_attempt(self, attempt: _Attempt, finished: Finished, error: str) -> None:
        step = attempt.step
        if attempt.number <= step.retries and not self._canceled:
            delay = step.retry_delay_seconds * 2 ** (attempt.number - 1)
            attempt.not_before = time.monotonic() + delay
            self._rows.retrying(step.name, f"attempt {attempt.number} {error}; next of {step.retries + 1} in {delay:g} s")
            self._waiting.append(attempt)
            return
        self._end(attempt, finished, State.FAILED, error)

    def _end(self, attempt: _Attempt, finished: Finished, state: State, error: str) -> None:
        self._rows.ended(attempt.step.name, state, finished, time.monotonic() - attempt.started, error)
        self._release(attempt)
        self._count_and_settle(attempt.step.name, state, state.value)

    def _fail(self, step: StepSpec, error: str) -> None:
        """A step that could not even be started."""
        self._rows.ended(step.name, State.FAILED, None, 0.0, error)
        self._count_and_settle(step.name, State.FAILED, "failed")

    def _count_and_settle(self, name: str, state: State, count: str, *, by_condition: bool = False) -> None:
        self._counts[count] += 1
        self._settle(name, state, by_condition=by_condition)

    def _settle(self, name: str, state: State, *, by_condition: bool = False) -> None:
        for skipped, root in self._scheduler.finished(name, state, by_condition=by_condition):
            word = {State.FAILED: "failed", State.CANCELED: "was canceled"}.get(state, "was skipped")
            self._rows.skipped(skipped, (Cause(kind="upstream", subject=f"step {root} {word}"),))
            self._counts["skipped"] += 1

    def _final(self, name: str, state: State) -> None:
        self._rows.ended(name, state, None, 0.0, "")
        self._counts["canceled"] += 1

    def _metric(self, step: str, name: str) -> float | None:
        return self._metrics.get((step, name))

    def _note_metric(self, step: str, name: str, value: float) -> None:
        self._metrics[step, name] = value

    def _finish(self) -> State:
        self._begin_beside()
        state = self._final_state()
        seconds = time.monotonic() - self._began
        finished = RunFinished(
            run_id=self.run.id, number=self.run.number, state=state, time=utc_now(), seconds=seconds,
            saved_seconds=self._saved_seconds, error=self._error, **self._counts,
        )  # fmt: skip
        self._parts.keep_digests()
        self._rows.run_finished(finished)
        self._parts.recorder.flush()
        self._emit()
        return state

    def _final_state(self) -> State:
        if self._canceled:
            return State.CANCELED
        if self._counts["failed"] or self._error:
            return State.FAILED
        if self._counts["canceled"]:
            return State.CANCELED
        return State.SUCCEEDED if self._counts["executed"] or not self._counts["reused"] else State.REUSED

    def _acknowledge(self, event: Event) -> None:
        """From the recorder's thread: what the event says is durable now."""
        self._acknowledged.put(event)

    def _emit(self) -> None:
        while True:
            try:
                event = self._acknowledged.get_nowait()
            except queue.Empty:
                return
            self._sink(event)

    def _give_back_lease(self, attempt: _Attempt) -> None:
        if attempt.shared is not None:
            attempt.shared.release()
            attempt.shared = None
        if attempt.lease is not None:
            self._free_leases.append(attempt.lease)
            attempt.lease = None

    def _release(self, attempt: _Attempt) -> None:
        self._give_back_lease(attempt)
        if attempt.flight:
            self._parts.flights.leave(attempt.flight)
            attempt.flight = ""

    def _close(self) -> None:
        self._parts.executor.close()
        self._parts.tables.close()
        for attempt in (*self._waiting, *self._active.values(), *(pair[0] for pair in self._collecting.values())):
            self._release(attempt)
        self._give_back_free_leases()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._parts.deliveries is not None:
            self._parts.deliveries.close()
        self._parts.recorder.close()
        self._parts.flights.close()
        if self._parts.spare is not None:
            self._parts.spare.close()
        self._parts.journal.close()


def _data_parents(step: StepSpec) -> frozenset[str]:
    return frozenset(item.source.step for item in step.inputs if isinstance(item.source, StepOutputSource))
