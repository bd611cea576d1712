"""Which steps may be forked from a warm interpreter, and what that one has to have seen. Everything else starts cold and says why.

Called by `parts` for each task, and by a spare ahead of its run. The means are in `executors.warm` and `executors.zygote`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.executors.interpreters import base_environment
from mlpipe_engine.hashing.files import hash_bytes
from mlpipe_engine.model.execution import StepTask, WarmStart
from mlpipe_engine.snapshots.roots import hook_folder

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig
    from mlpipe_engine.executors.audit import Scope
    from mlpipe_engine.executors.interpreters import EnvironmentDescription, Interpreter
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
    per_step = _OWN | {name for name, _ in task.environment if name.startswith(("AZUREML_", "AML_PARAMETER_"))}
    per_step |= {item.name for item in step.inputs} | {item.name for item in step.outputs}
    declared = {name for name, _ in step.environment_variables}
    shared = {name: value for name, value in task.environment if name not in per_step or name in declared}
    known = scope.known if scope is not None else None
    return replace(task, warm=_warm_start(task.argv[0], compute, shared, known, state_dir))


def ahead(
    step: StepSpec, compute: ComputeConfig, interpreter: Interpreter, description: EnvironmentDescription, sdk: str, state_dir: str
) -> tuple[str, WarmStart] | None:  # fmt: skip
    """What the task of this step will ask for, before there is a task: its program and warm interpreter. None: it will start cold."""
    if not compute.preload or step.kind != "python" or description.roots or _unfit(compute):
        return None
    home = f"{state_dir}/home"
    shared = base_environment(interpreter, state_dir, home)
    del shared["TMPDIR"]
    if description.loose_sources:
        shared["PYTHONDONTWRITEBYTECODE"] = "1"
    shared |= dict(step.environment_variables)
    places = [f"{sdk}/audit" if compute.audit != "off" else "", sdk, dict(step.environment_variables).get("PYTHONPATH")]
    shared["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    known = (sdk, home, interpreter.path, *description.packages.loose) if compute.audit != "off" else None
    return interpreter.path, _warm_start(interpreter.path, compute, shared, known, state_dir)


def _warm_start(
    python: str, compute: ComputeConfig, shared: dict[str, str], known: tuple[str, ...] | None, state_dir: str
) -> WarmStart:
    """`known`: folders the audit takes for granted; None: nothing is audited."""
    environment = tuple(sorted(shared.items()))
    if known is not None:
        environment = (
            *environment,
            ("MLPIPE_AUDIT", _audit_file(known, state_dir, repr((python, compute.preload, environment)))),
        )
    return WarmStart(modules=compute.preload, environment=environment)


def _problem(task: StepTask, compute: ComputeConfig) -> str:
    if os.path.isdir(hook_folder(task.step_dir)):
        return "their interpreter has code of the project in it (editable installs or .pth folders)"
    return _unfit(compute)


def _unfit(compute: ComputeConfig) -> str:
    strange = [name for name in compute.preload if not _is_proven(name)]
    if strange:
        return f"no test has proven that {', '.join(strange)} can be forked (proven: the standard library, {', '.join(sorted(PROVEN))})"
    if compute.isolation == "strict":
        return "isolation is strict"
    if compute.audit == "full":
        return "audit is full"
    return "" if sys.platform.startswith("linux") else "this system is not Linux"


def _is_proven(name: str) -> bool:
    top = name.partition(".")[0]
    return top in PROVEN or top in sys.stdlib_module_names


def _say(text: str) -> None:
    if text not in _told:
        _told.add(text)
        print(f"mlpipe-tui: {text}", file=sys.stderr, flush=True)


_audit_files: dict[str, str] = {}


def _audit_file(known: tuple[str, ...], state_dir: str, identity: str) -> str:
    """Where the warm interpreter notes what importing made it open; it takes the file away when it has read it back."""
    key = f"{os.getpid()} {identity}"
    if key not in _audit_files:
        place = f"{state_dir}/locks/warm-{os.getpid()}-{hash_bytes(key.encode('utf-8', 'surrogateescape'))[3:19]}"
        lines = [f"{state_dir}/locks/nothing", *(f"k{path}" for path in known)]
        try:
            with open(place, "wb") as file:
                file.write(os.fsencode("\0".join(lines)) + b"\0\0")
        except OSError as error:
            raise FilesystemError.of(error, "write", place) from error
        _audit_files[key] = place
    return _audit_files[key]
