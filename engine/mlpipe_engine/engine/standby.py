"""The idle spare of a watcher: a process that has everything loaded and decided, and becomes the runner of the next run.

It speaks JSON lines over one socket. It writes nothing until it is told to run; when the watcher is gone, an idle spare leaves and
a runner goes on to the end of its run. Started by `engine.watching` through `cli.spare`.

In: {"stand": {...}} once, {"look": [paths] or null, "n": number}, {"run": {"tags": [...]}}, {"want": true}.
Out: {"ready": {...}}, {"looked": {...}, "n"}, {"failed": error, "n"}, {"running": {...}}, {"nothing": true}, {"event": text}, {"done": {...}}.
"""

from __future__ import annotations

import json
import os
import select
import socket
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model import wire
from mlpipe_engine.model.events import Event
from mlpipe_engine.model.plan import Execute, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.spec import SubmitOptions
from mlpipe_engine.model.watch import FileEdit, Look
from mlpipe_engine.watch.settle import SHORT_SECONDS

if TYPE_CHECKING:
    from mlpipe_engine.runner.standing import Ready, Standing

WHOLE_STEPS = 100
"""Runs of pipelines with at most so many steps show all of them; of larger ones only what a change touches and what is below."""
_BACKLOG_BYTES = 8 << 20
_QUIET_SECONDS = 0.05
"""So long nothing was asked: now there is time to rehearse."""


class Line:
    """The socket to the watcher. Never blocks the run: what a watcher that stands still does not take is dropped in the end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._in = b""
        self._out = bytearray()

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        return b"\n" not in self._in and not select.select([self._socket], [], [], seconds)[0]

    def read(self, awake_seconds: float = 0.0) -> dict[str, Any] | None:
        """The next message; waits, the first `awake_seconds` without giving the processor up. None: the watcher is gone."""
        until = time.monotonic() + awake_seconds
        while time.monotonic() < until and self.is_quiet(0.0):
            pass
        self._socket.setblocking(True)
        while b"\n" not in self._in:
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                return None
            if not data:
                return None
            self._in += data
        line, self._in = self._in.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def say(self, **message: object) -> None:
        """Waits until it is taken: only while nothing runs."""
        self._socket.setblocking(True)
        try:
            self._socket.sendall(bytes(self._out) + json.dumps(message).encode() + b"\n")
        except OSError:
            return
        self._out.clear()

    def tell(self, **message: object) -> None:
        if len(self._out) > _BACKLOG_BYTES:
            return
        self._out += json.dumps(message).encode() + b"\n"
        self._socket.setblocking(False)
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except OSError:
            return


class StandBy:
    def __init__(self, root: str, line: Line) -> None:
        self._root = root
        self._line = line
        self._pipeline: str | None = None
        self._options = SubmitOptions(experiment="")
        self._keys: dict[str, str] = {}
        self._engine: Engine | None = None
        self._standing: Standing | None = None
        self._gone: Standing | None = None
        """What stood before something could not be read any more."""
        self._ready: Ready | None = None
        """A run of what is wanted, where nothing has happened since it was made."""

    def serve(self) -> int:
        first = self._line.read()
        if first is None:
            return 0
        wish = first["stand"]
        self._options = wire.load(SubmitOptions, wish["options"])
        _load_what_a_run_needs()
        self.stand(wish["pipeline"], wish["keys"])
        while not self._line.is_quiet(_QUIET_SECONDS):
            if (message := self._line.read()) is None or self._take(message):
                return 0
        self._rehearse()
        while (message := self._line.read(SHORT_SECONDS if self._ready is not None else 0.0)) is not None:
            if self._take(message):
                return 0
        return 0

    def _take(self, message: dict[str, Any]) -> bool:
        """True: a run was made, and this process is done."""
        if "look" in message:
            self.look(message["look"], message["n"])
        elif "want" in message:
            self._want_everything()
        elif "run" in message:
            return self._run(message["run"])
        return False

    # ---- standing

    def stand(self, pipeline: str | None, keys: dict[str, str]) -> None:
        """Decide everything. `keys`: of steps that the spare before this one ran or left alone: they are not wanted unless their
        files are others by now."""
        self._pipeline, self._keys = pipeline, keys
        try:
            look = self._stand()
        except MlpipeError as error:
            self._line.say(failed=_document(error), scope=self._scope(), n=-1)
            return
        self._say_ready(look)
        self._get_ready()

    def _get_ready(self) -> None:
        """Ahead of the next run; what fails here fails again, and is told, when there is one."""
        if self._engine is not None and self._standing is not None:
            with suppress(MlpipeError):
                self._engine.make_ready(self._standing.as_written, self._standing.warm_starts(self._engine.state_dir))

    def _rehearse(self) -> None:
        """Once: what a look, a decision and a run do the first time is done now, while nobody waits."""
        if self._engine is None or self._standing is None:
            return
        from mlpipe_engine.engine.rehearsing import rehearse

        with suppress(MlpipeError):
            look = self._standing.rehearse()
            if look is not None:
                self._line.say(looked=wire.dump(look), n=-2, touched=self._touched())
            rehearse(self._engine.make_ready(self._standing.as_written).executor)

    def _say_ready(self, look: Look) -> None:
        assert self._standing is not None and self._engine is not None
        self._line.say(
            ready=wire.dump(look), pipeline=self._standing.spec.name, files=self._standing.file_count(), scope=self._scope(),
            steps=len(self._standing.plans), warnings=list(self._engine.warnings), touched=self._touched(),
        )  # fmt: skip

    def _stand(self) -> Look:
        """Decide everything anew. What stood before stays when this fails."""
        from mlpipe_engine.runner.standing import Standing

        engine = Engine.open(self._root)
        engine._writable()
        spec = engine.pipeline(self._pipeline)
        options = replace(self._options, experiment=self._options.experiment or experiment_of(spec.name))
        decisions, selection = engine._decisions(spec, options, build=False)
        standing = Standing(
            engine.root,
            decisions.spec,
            options,
            decisions,
            selection,
            engine.definitions,
            (engine.config.path, engine._config_seen),
        )
        before = self._standing
        self._engine, self._standing = engine, standing
        if before is None:
            return self._first_look(standing)
        return self._changed_look(before, standing)

    def _first_look(self, standing: Standing) -> Look:
        """What there is to do already: what changed while nobody watched, or what a run in progress does not have yet."""
        standing.want_what_differs(self._keys)
        standing.wanted |= {
            name for name in standing.to_run() if name not in self._keys and not _only_disabled(standing.plans[name])
        }
        names = standing.in_order(standing.wanted)
        causes = dict.fromkeys(
            str(cause)
            for name in names
            if isinstance(decision := standing.plans[name].decision, Execute)
            for cause in decision.because[:1]
        )
        text = ", ".join(list(causes)[:3]) + (f" and {len(causes) - 3} more causes" if len(causes) > 3 else "")
        return Look(
            reloaded=text or ("something changed meanwhile" if names else "up to date"),
            steps=names,
            untouched=standing.in_order(standing.plans.keys() - set(names)),
        )

    def _changed_look(self, before: Standing, after: Standing) -> Look:
        moved = {name for name, plan in after.plans.items() if _is_other(before.plans.get(name), plan)}
        after.wanted |= moved | (before.wanted & after.plans.keys())
        return Look(steps=after.in_order(moved), untouched=after.in_order(after.plans.keys() - moved))

    def _want_everything(self) -> None:
        """Asked for by a person: everything that a plain run would run."""
        if self._standing is not None:
            self._ready = None
            self._standing.sync()
            self._standing.wanted |= set(self._standing.to_run())
        self._line.say(
            looked=wire.dump(Look(steps=self._standing.to_run() if self._standing else ())), n=-2, touched=self._touched()
        )

    def _touched(self) -> list[str]:
        """Everything a run would cover now."""
        return list(self._standing.covered()) if self._standing is not None else []

    def _scope(self) -> dict[str, list[str]]:
        """Where events count. Definitions may appear where none are yet."""
        own = {self._root, os.path.join(self._root, "pipelines")}
        names = {os.path.join(self._root, name) for name in ("mlpipe.toml", "pipeline.py", "pipelines")}
        standing = self._standing or self._gone
        if standing is None:
            return {"folders": sorted(own), "whole": sorted(own), "names": sorted(names)}
        scope = standing.scope()
        return {"folders": sorted(own | scope.folders), "whole": sorted(scope.whole), "names": sorted(names | scope.names)}

    # ---- looking

    def look(self, paths: list[str] | None, number: int) -> None:
        self._ready = None
        self._answer_look(paths, number)
        if self._standing is not None and self._standing.wanted:
            with suppress(MlpipeError):
                self._make_run()

    def _make_run(self) -> None:
        """While the watcher still waits for the file to settle: what a run of what is wanted is made from. Raises MlpipeError."""
        assert self._engine is not None and self._standing is not None
        self._engine.reap()
        self._ready = self._standing.ready(whole_below=WHOLE_STEPS)
        if self._ready is not None:
            self._ready.decisions.spec.look_through()

    def _answer_look(self, paths: list[str] | None, number: int) -> None:
        from mlpipe_engine.runner.standing import MustReload

        try:
            if self._standing is None:
                self._line.say(
                    looked=wire.dump(replace(self._stand(), reloaded="everything")),
                    n=number,
                    scope=self._scope(),
                    touched=self._touched(),
                )
                return
            self._standing.sync()
            scope: dict[str, list[str]] | None = None
            try:
                look = self._standing.look(paths)
            except MustReload as reason:
                before = self._standing
                look = self._stand()
                edits = self._standing.edits_since(before)
                own = not str(reason).startswith((os.pardir, os.sep))
                if own or (not edits and look.steps):  # a folder above the project matters only where nothing else does
                    edits = (FileEdit(path=str(reason), kind="changed"), *edits)
                look = replace(look, edits=edits, reloaded="" if edits else look.reloaded)
                scope = self._scope()
                self._get_ready()
            if look.edits and scope is None and any(edit.kind in ("added", "removed") for edit in look.edits):
                scope = self._scope()
            self._line.say(looked=wire.dump(look), n=number, scope=scope, touched=self._touched())
        except MlpipeError as error:
            self._line.say(failed=_document(error), n=number, scope=self._scope())
            self._forget_what_failed()

    def _forget_what_failed(self) -> None:
        """The next look decides everything anew: what stands was decided on files that are gone."""
        self._engine = None
        self._gone, self._standing = self._standing, None

    # ---- running

    def _run(self, wish: dict[str, Any]) -> bool:
        """True: a run was made, and this process is done."""
        if self._standing is None or self._engine is None:
            self._line.say(nothing=True)
            return False
        try:
            if self._standing.sync() or self._ready is None:
                self._make_run()
            ready = self._ready
        except MlpipeError as error:
            self._line.say(failed=_document(error), n=-3)
            return False
        if ready is None:
            self._line.say(nothing=True)
            return False
        try:
            self._host(self._engine, self._standing, ready.tagged((str(name), str(value)) for name, value in wish["tags"]))
        except MlpipeError as error:
            self._line.tell(failed=_document(error), n=-3)
        return True

    def _host(self, engine: Engine, standing: Standing, ready: Ready) -> None:
        will = [plan.step for plan in ready.plans if not isinstance(plan.decision, Reuse | Skip)]
        begun: list[tuple[str, int]] = []

        def sink(event: Event) -> None:
            if begun:  # told behind the first step's start: the keys take a moment
                run_id, number = begun.pop()
                self._line.tell(
                    running={"id": run_id, "number": number, "steps": will, "keys": standing.keys({*will, *standing.to_run()})}
                )
            self._line.tell(event=wire.dump(event))

        record = engine.host_ready(standing.as_written, ready, lambda run_id, number: begun.append((run_id, number)), sink)
        self._line.tell(done={"id": record.id, "number": record.number, "state": record.state.value})


def experiment_of(pipeline: str) -> str:
    import re

    return re.sub(r"[^A-Za-z0-9_\-]", "_", pipeline).lstrip("_-") or "pipeline"


def _document(error: MlpipeError) -> dict[str, object]:
    from mlpipe_engine.errors import PipelineLoadError

    return {
        "error": error.document(), "text": str(error), "hint": error.hint,
        "traceback": error.user_traceback if isinstance(error, PipelineLoadError) else "",
    }  # fmt: skip


def _only_disabled(plan: StepPlan) -> bool:
    """A step that is never reused has a result and would run again for no other reason."""
    decision = plan.decision
    return isinstance(decision, Execute) and decision.because[0].kind == "disabled" and decision.compared_with is not None


def _is_other(before: StepPlan | None, after: StepPlan) -> bool:
    if before is None:
        return True
    left, right = before.decision, after.decision
    if isinstance(left, Reuse) and isinstance(right, Reuse):
        return left.result.id != right.result.id
    if isinstance(right, Undecided):
        return not isinstance(left, Undecided)
    fingerprints = [plan.manifest.fingerprint if plan.manifest else "" for plan in (before, after)]
    return type(left) is not type(right) or fingerprints[0] != fingerprints[1]


def _load_what_a_run_needs() -> None:
    """So that nothing is imported between a save and the first instruction of a step."""
    from importlib import import_module

    tempfile.gettempdir()  # it tries the folder out the first time
    for name in _NEEDED:
        import_module(f"mlpipe_engine.{name}")


_NEEDED: Iterable[str] = (
    "runner.loop", "runner.hosting", "runner.parts", "runner.collect", "runner.follow", "runner.step_events", "runner.standing",
    "runner.watching", "runner.record", "runner.resolve", "runner.decisions", "runner.planning", "store.recorder", "store.journal", "store.share",
    "executors.process", "executors.staging", "executors.leases", "executors.audit", "snapshots.git", "snapshots.lines", "snapshots.canary",
    "planning.parameters", "definitions.loader", "store.identity",
)  # fmt: skip
