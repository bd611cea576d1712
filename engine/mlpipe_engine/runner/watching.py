"""How a step is watched and confined: what its compute target asks for becomes words, variables and files of its task.

Called by `parts` when a task is made, and by `loop` when it ended. The means are in `executors`: audit, tracing, landlock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mlpipe_engine.executors import audit
from mlpipe_engine.hashing.files import real_path
from mlpipe_engine.model.plan import Undeclared

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig
    from mlpipe_engine.executors.interpreters import EnvironmentDescription
    from mlpipe_engine.executors.staging import Layout
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.execution import StepTask
    from mlpipe_engine.model.spec import StepSpec


@dataclass(frozen=True)
class Watch:
    """One attempt of a step under watch; without a scope nothing is watched."""

    scope: audit.Scope | None
    stats: StatCache
    strict: bool = False
    plain: StepTask | None = None
    """The step as it is repeated by hand: unwatched."""

    def judge(self) -> tuple[Undeclared, str]:
        """What it used undeclared, and why its result may not serve again ("" when it may)."""
        return audit.judge(self.scope, self.stats) if self.scope is not None else (Undeclared(), "")

    def is_silent(self) -> bool:
        """Whether nothing was recorded that somebody might want to read."""
        return not self.strict and (self.scope is None or audit.is_silent(self.scope))

    def failure_note(self) -> str:
        """What of its isolation may have made a step fail, to stand behind its exit."""
        if self.scope is None:
            return ""
        notes = []
        refused = audit.refused(self.scope) if self.strict else []
        if refused:
            more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
            notes.append(f"refused by isolation = strict: {', '.join(refused[:3])}{more}; declare it as an input")
        for path, rule in audit.missing_ignored(self.scope)[:1]:
            notes.append(f"it looked for {path}, which {rule} keeps out of its copy of the source; declare it as an input")
        return "".join(f"; {note}" for note in notes)


def scope_of(
    step: StepSpec, layout: Layout, compute: ComputeConfig, environment: EnvironmentDescription, *,
    root: str, known: Iterable[str], source: str,
) -> audit.Scope | None:  # fmt: skip
    if compute.audit == "off":
        return None
    return audit.Scope(
        root=root, step_dir=real_path(layout.step_dir), inputs=layout.lent, packages=environment.packages,
        known=(*known, *environment.packages.loose), versions=versions(environment) if step.kind == "python" else {}, python=step.kind == "python",
        level=compute.audit, source=source, strict=compute.isolation == "strict",
    )  # fmt: skip


@lru_cache(maxsize=8)
def versions(environment: EnvironmentDescription) -> dict[str, tuple[str, str]]:
    return {name: (version, digest) for name, version, digest in environment.distributions}


def watched(task: StepTask, scope: audit.Scope | None, compute: ComputeConfig, layout: Layout, sdk: str, home: str) -> StepTask:
    """The task as an executor gets it. Raises FilesystemError, EnvironmentProblem."""
    argv, environment = task.argv, dict(task.environment)
    if scope is not None:
        audit.begin(scope)
        environment["MLPIPE_AUDIT"] = scope.file
        environment["PYTHONPATH"] = f"{sdk}/audit{os.pathsep}{environment['PYTHONPATH']}"
        if scope.level == "full":
            from mlpipe_engine.executors import tracing

            argv = tracing.wrapped(argv, scope.trace)
    if compute.isolation == "strict":
        argv = _confined(task, argv, scope, layout, sdk, home)
    return replace(task, argv=argv, environment=tuple(sorted(environment.items())))


def _confined(
    task: StepTask, argv: tuple[str, ...], scope: audit.Scope | None, layout: Layout, sdk: str, home: str
) -> tuple[str, ...]:
    from mlpipe_engine.executors import landlock

    ours = (sdk, *((*scope.packages.prefixes, *scope.packages.sites, *scope.packages.loose) if scope is not None else ()))
    reads = (*ours, *layout.lent, os.path.realpath(task.argv[0]))
    rules = landlock.write_rules(layout.step_dir, reads, (os.path.realpath(layout.step_dir), home))
    return (sys.executable, "-I", "-S", landlock.LAUNCHER, rules, *argv)


def check(compute: ComputeConfig) -> None:
    """Raises EnvironmentProblem when this machine cannot do what the target asks for."""
    if compute.audit == "full":
        from mlpipe_engine.executors import tracing

        tracing.strace()
    if compute.isolation == "strict":
        from mlpipe_engine.executors import landlock

        landlock.require()
