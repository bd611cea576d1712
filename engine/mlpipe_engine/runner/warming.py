"""Which steps may be forked from a warm interpreter, and what that one has to have seen. Everything else starts cold and says why.

Called by `parts` for each task, and by a spare ahead of its run. The means are in `executors.warm` and `executors.zygote`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.hashing.files import hash_bytes
from mlpipe_engine.model.execution import StepTask, WarmStart
from mlpipe_engine.snapshots.roots import hook_folder

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig
    from mlpipe_engine.executors.audit import Scope
    from mlpipe_engine.model.spec import StepSpec

PROVEN = frozenset({"numpy", "scipy", "sklearn", "matplotlib"})
"""Beside the standard library: what the fork test shows to give the same bytes forked and cold, and to leave no thread running."""

_OWN = frozenset({"TMPDIR", "MLPIPE_STEP_FILE", "MLPIPE_ATTEMPT", "MLPIPE_RUN", "MLPIPE_AUDIT"})
_told: set[str] = set()


def warmed(task: StepTask, step: StepSpec, compute: ComputeConfig, scope: Scope | None, state_dir: str) -> StepTask:
    """The task, with the interpreter it may be forked from. Raises FilesystemError."""
    if not compute.preload or step.kind != "python":
        return task
    problem = _problem(task, compute)
    if problem:
        _say(f"steps of compute target {compute.name!r} start cold: {problem}")
        return task
    names = {name for name, _ in task.environment}
    per_step = _OWN | {name for name in names if name.startswith(("AZUREML_", "AML_PARAMETER_"))}
    per_step |= {item.name for item in (*step.inputs, *step.outputs)}
    declared = {name for name, _ in step.environment_variables}
    shared = tuple((name, value) for name, value in task.environment if name not in per_step or name in declared)
    if scope is not None:
        shared = (*shared, ("MLPIPE_AUDIT", _audit_file(scope, state_dir, repr((task.argv[0], compute.preload, shared)))))
    return replace(task, warm=WarmStart(modules=compute.preload, environment=shared))


def _problem(task: StepTask, compute: ComputeConfig) -> str:
    strange = [name for name in compute.preload if not _is_proven(name)]
    if strange:
        return f"no test has proven that {', '.join(strange)} can be forked (proven: the standard library, {', '.join(sorted(PROVEN))})"
    if compute.isolation == "strict":
        return "isolation is strict"
    if compute.audit == "full":
        return "audit is full"
    if os.path.isdir(hook_folder(task.step_dir)):
        return "their interpreter has code of the project in it (editable installs or .pth folders)"
    return "" if sys.platform.startswith("linux") else "this system is not Linux"


def _is_proven(name: str) -> bool:
    top = name.partition(".")[0]
    return top in PROVEN or top in sys.stdlib_module_names


def _say(text: str) -> None:
    if text not in _told:
        _told.add(text)
        print(f"mlpipe-tui: {text}", file=sys.stderr, flush=True)


_audit_files: dict[str, str] = {}


def _audit_file(scope: Scope, state_dir: str, identity: str) -> str:
    """Where the warm interpreter notes what importing made it open; it takes the file away when it has read it back."""
    key = f"{os.getpid()} {identity}"
    if key not in _audit_files:
        path = f"{state_dir}/locks/warm-{os.getpid()}-{hash_bytes(key.encode('utf-8', 'surrogateescape'))[3:19]}"
        lines = [f"{state_dir}/locks/nothing", *(f"k{known}" for known in scope.known)]
        try:
            with open(path, "wb") as file:
                file.write(os.fsencode("\0".join(lines)) + b"\0\0")
        except OSError as error:
            raise FilesystemError.of(error, "write", path) from error
        _audit_files[key] = path
    return _audit_files[key]
