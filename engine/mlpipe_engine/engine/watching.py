"""Watch mode: the verbs that start a watcher and host the run its spare is ready for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from uuid import uuid4

from mlpipe_engine.engine.experiments import Experimenting
from mlpipe_engine.engine.reading import Sink
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import State
from mlpipe_engine.store import results
from mlpipe_engine.store import runs as run_rows

if TYPE_CHECKING:
    from mlpipe_engine.executors.process import ProcessExecutor
    from mlpipe_engine.model.execution import WarmStart
    from mlpipe_engine.runner.hosting import Ahead
    from mlpipe_engine.runner.standing import Ready
    from mlpipe_engine.runner.watcher import Watcher


class WatchVerbs(Experimenting):
    """`watcher` is for whoever looks on (command line, terminal UI); `host_ready` and `supersede` are what it is made with."""

    _made_ready: tuple[str, Ahead] | None = None

    def watcher(self, pipeline: str | None, options: SubmitOptions) -> Watcher:
        """A watcher of one pipeline (None: the default one); nothing happens before its `run`. Parameters stand in `options`.

        An empty experiment is named after the pipeline. Its store is made when there is none.
        """
        from mlpipe_engine.runner.watcher import Watcher

        self._writable()
        return Watcher(
            self.root, pipeline, options, supersede=self.supersede, forget=self._forget_unstarted, merge=self._merge_log
        )

    def _merge_log(self) -> None:
        if os.path.isdir(self.state_dir):
            self._writable().checkpoint()

    def supersede(self, run_id: str, steps: tuple[str, ...]) -> None:
        """Ask a runner to stop these steps, and not to start them; what does not need them goes on."""
        with self._writable().write() as db:
            run_rows.supersede_steps(db, run_id, steps)

    def _forget_unstarted(self, run_id: str) -> bool:
        """A run that was superseded before its first step started is no run. True: it is gone from the lists."""
        run = self._runs().get(run_id)
        if run.state is not State.CANCELED or any(step.attempt or step.state is State.REUSED for step in self.steps(run_id)):
            return False
        self.remove_runs((run,))
        return True

    def make_ready(
        self, spec: PipelineSpec, warm: Iterable[tuple[str, WarmStart]] = (), lent: ProcessExecutor | None = None
    ) -> Ahead:  # fmt: skip
        """Do now what the next run of this pipeline would have to do between a save and its first step.

        `warm`: programs and what they preload, for steps to be forked from. `lent`: an executor to use instead of one of its own.
        """
        from mlpipe_engine.runner.hosting import Ahead
        from mlpipe_engine.runner.parts import sdk_dir

        database = self._writable()
        sdk_dir(self.state_dir)
        with database.write() as db:
            kept = run_rows.keep_spec(db, spec)
        ahead = self._made_ready[1] if self._made_ready else Ahead(self.state_dir, self.config, lent)
        for python, wish in warm:
            ahead.executor.warm_up(python, wish)
        self._made_ready = kept, ahead
        self.tracing_problem()
        return ahead

    def host_ready(self, spec: PipelineSpec, ready: Ready, begun: Callable[[str, int], None], sink: Sink) -> RunRecord:
        """Host a run that is decided already, in this process. `begun` is told its id and number before its first step starts.

        Prereq: `reap`, a moment ago.
        """
        if self._made_ready is None:
            self.make_ready(spec)
        assert self._made_ready is not None
        (kept, ahead), self._made_ready = self._made_ready, None
        from mlpipe_engine.planning import parameters
        from mlpipe_engine.runner.record import utc_now

        self._register_inputs(ready.decisions, ready.selection)
        run_id = uuid4().hex
        lock = ahead.take_lock(self._life_path(run_id))
        assert lock is not None, "nobody else knows this id"
        values = parameters.effective(spec, dict(ready.options.parameters))
        with self._writable().write(durable=False) as db:  # its first event is told when a later write has made it durable
            run_rows.insert_run(db, run_id, spec, ready.options, values, utc_now(), ready.selection, kept=kept)
            for key, text in self._fresh_texts.items():
                results.put_cached(db, key, text)
        self._fresh_texts.clear()
        run = self._runs().get(run_id)
        begun(run_id, run.number)
        ready.decisions.resolver.say = self.say
        return self._host(run, (ready.decisions, ready.selection), lock, sink, ahead)
