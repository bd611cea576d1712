"""Verbs that keep the store small and whole: quota, pins, removing runs, rebuilding, the check-up."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlpipe_engine.engine.reading import Reading
from mlpipe_engine.errors import (
    MlpipeError,
    UsageError,
)  # fmt: skip
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import FINAL

if TYPE_CHECKING:
    from mlpipe_engine.model.views import Finding
    from mlpipe_engine.runner.rebuild import Rebuilt
    from mlpipe_engine.runner.removal import Removed
    from mlpipe_engine.runner.upkeep import Upkeep
    from mlpipe_engine.store.pins import Pin


class Keeping(Reading):
    """What `gc`, `rm`, `pin`, `du` and `doctor` do."""

    def upkeep(self) -> Upkeep:
        """What is in the store, what of it could go, and taking it away. Raises RunNotFoundError where there is no store yet."""
        from mlpipe_engine.runner.upkeep import Upkeep

        self._reading()
        return Upkeep(
            state_dir=self.state_dir, database=self._reading(), snapshots=self._snapshots(self._stats()), quota=self.config.store.quota,
            pipelines=self._defined_steps,
        )  # fmt: skip

    def _defined_steps(self) -> frozenset[tuple[str, str]] | None:
        """(pipeline, step) of what is defined now; None when a definition is broken. Pipelines that scripts submit are defined by their runs."""
        try:
            definitions = self.definitions
        except MlpipeError:
            return None
        if definitions.errors:
            return None
        rows = self._reading().query(
            "SELECT DISTINCT s.pipeline, s.name FROM step_runs s JOIN runs r ON r.number = s.run WHERE r.source <> 'cli'"
        )
        named = {(spec.name, step.name) for spec in definitions.pipelines for step in spec.steps}
        return frozenset(named | {(str(pipeline), str(step)) for pipeline, step in rows})

    def _keep_quota(self) -> None:
        """After a run is over; whatever goes wrong here is for the next run or `gc` to tell."""
        with suppress(MlpipeError, OSError):
            self.upkeep().keep_quota(seconds=10.0)

    def remove_runs(self, runs: tuple[RunRecord, ...]) -> Removed:
        """Into the trash, with their results, as far as no other run uses them. Raises UsageError for live and pinned runs."""
        from mlpipe_engine.runner.removal import remove_runs

        for run in runs:
            if run.state not in FINAL:
                way = f"Cancel it first: mlpipe-tui cancel {run.number}"
                raise UsageError(f"run {run.number} is {'interrupted' if self.is_interrupted(run) else run.state}", hint=way)
        done = remove_runs(self.state_dir, self._writable(), runs)
        self._tell({"e": "removed", "runs": list(done.runs)})
        return done

    def pins(self) -> tuple[Pin, ...]:
        from mlpipe_engine.store.pins import pins

        database = self._database()
        return pins(database) if database else ()

    def pin(self, text: str, *, keep: bool = True) -> tuple[Pin, bool]:
        """Pin (or, `keep=False`, unpin) RUN[/STEP[/OUTPUT]]; False when it was so already. Raises RunNotFoundError."""
        from mlpipe_engine.runner.record import utc_now
        from mlpipe_engine.store import pins

        name, _, rest = text.partition("/")
        step, _, output = rest.partition("/")
        run = self.find_run(name)
        if step:
            self.find_step(run.id, step)
        if output and keep:
            self._output_digest(run.id, step, output)
        pin = pins.Pin(run.number, step, output, utc_now())
        if run.mirrors and keep:  # a run that is one row stands in the journal only when somebody wants to keep it
            self._tell_mirror(run)
        changed = (pins.add_pin if keep else pins.remove_pin)(self._writable(), pin)
        self._tell({"e": "pin" if keep else "unpin", "run": pin.run, "step": step, "output": output, "time": pin.created_at})
        return pin, changed

    def _tell_mirror(self, run: RunRecord) -> None:
        from mlpipe_engine.store import journal

        with self._writable().write() as db:
            lines = journal.run_line(db, journal.Journal(self.state_dir), run.number), journal.end_line(db, run.number)
        for line in lines:
            self._tell(line)

    def _tell(self, line: Mapping[str, object]) -> None:
        from mlpipe_engine.store.journal import Journal

        journal = Journal(self.state_dir)
        journal.append(dict(line))
        journal.close()

    def rebuild(self) -> Rebuilt:
        """A new state.db from what is on disk; the damaged one is kept. Raises UsageError where nothing is damaged."""
        from mlpipe_engine.runner.rebuild import rebuild

        self.close()
        return rebuild(self.state_dir)

    def doctor(self) -> tuple[Finding, ...]:
        """Is this machine and this project fit? Changes nothing."""
        from mlpipe_engine.runner.checkup import Patient, examine

        return examine(
            Patient(
                root=self.root,
                state_dir=self.state_dir,
                config=self.config,
                database=self._database(),
                artifacts=self._artifacts(),
                definitions=lambda: self.definitions,
                interrupted=self.interrupted,
            )
        )
