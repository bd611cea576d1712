"""A rehearsal: a run of one small step in a project of its own, so that the next real run goes over paths that were gone before.

Python imports, specialises and caches what it does the first time; a run does most things for the first time, which costs more than all
it does. The project of a rehearsal lies in memory where the system has a place there, has leases of its own, and is gone afterwards; of the
real project nothing is touched. Called by `standby`, while a spare is idle.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model.spec import (
    InputRef,
    InputSpec,
    OutputRef,
    OutputSpec,
    PathSource,
    PipelineSpec,
    StepSpec,
    SubmitOptions,
    Text,
)

if TYPE_CHECKING:
    from mlpipe_engine.executors.process import ProcessExecutor

_MEMORY = "/dev/shm"
_PREFIX = "mlpipe-tui-rehearsal-"
_LONG_AGO_SECONDS = 3600.0


def rehearse(executor: ProcessExecutor) -> None:
    """Nothing is told of what goes wrong: the real run meets it again. `executor`: that of the real run, which stays open."""
    from mlpipe_engine.runner.planning import make_plan
    from mlpipe_engine.runner.standing import Ready

    with suppress(MlpipeError, OSError), _stage() as root:
        engine = Engine.open(root)
        executor.is_lent = True
        try:
            spec = PipelineSpec(name="rehearsal", steps=(_step(),))
            options = SubmitOptions(experiment="rehearsal", source="watch")
            decisions, selection = engine._decisions(spec, options)
            plan = make_plan(decisions.spec, decisions, selection, ())
            decisions.keep_plan(plan.steps)
            engine.make_ready(spec, lent=executor)
            engine.host_ready(
                spec, Ready(options, decisions, selection, plan.steps), lambda run_id, number: None, lambda event: None
            )
        finally:
            executor.is_lent = False
            engine.close()
    gc.collect()
    gc.freeze()  # what stands is not gone through again by a collection during the run


def _step() -> StepSpec:
    return StepSpec(
        name="step", kind="command", command=((Text("/bin/cp"),), (InputRef("in"),), (OutputRef("out"),)),
        inputs=(InputSpec(name="in", source=PathSource(("data",))),), outputs=(OutputSpec(name="out"),),
    )  # fmt: skip


@contextmanager
def _stage() -> Iterator[str]:
    """The project; while it stands, leases of this process are its own: a machine that is full does not hold a rehearsal up."""
    usual = os.environ.get("XDG_RUNTIME_DIR")
    place = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else tempfile.gettempdir()
    _sweep(place)
    root = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
    try:
        os.mkdir(f"{root}/runtime", 0o700)
        os.environ["XDG_RUNTIME_DIR"] = f"{root}/runtime"
        for name in ("mlpipe.toml", "data"):
            with open(f"{root}/{name}", "w"):
                pass
        yield root
    finally:
        if usual is None:
            os.environ.pop("XDG_RUNTIME_DIR", None)
        else:
            os.environ["XDG_RUNTIME_DIR"] = usual
        _remove(root)


def _sweep(place: str) -> None:
    """What a spare left that was killed at its rehearsal."""
    for name in os.listdir(place):
        if name.startswith(_PREFIX):
            with suppress(OSError):
                info = os.lstat(f"{place}/{name}")
                if info.st_uid == os.geteuid() and time.time() - info.st_ctime > _LONG_AGO_SECONDS:
                    _remove(f"{place}/{name}")


def _remove(root: str) -> None:
    for folder, _, _ in os.walk(root):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    shutil.rmtree(root, ignore_errors=True)
