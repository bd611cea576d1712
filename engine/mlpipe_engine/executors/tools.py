"""Programs of ours that steps run: the query of a SqlStep, the copy of a DataTransferStep. What of them counts, and their words.

They run under our interpreter: DuckDB comes with us, and a project's environment need not have it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlpipe_engine.hashing.files import hash_file
from mlpipe_engine.model.manifest import ManifestEntry, Section
from mlpipe_engine.model.spec import StepKind, StepSpec

if TYPE_CHECKING:
    from mlpipe_engine.executors.interpreters import EnvironmentDescription

_PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {"sql": ("step_sql.py", ("duckdb",)), "transfer": ("step_copy.py", ())}
"""Kind -> the program beside this file, and the distributions it imports."""


def programs() -> dict[str, str]:
    """Where a step finds them below the sdk folder -> where they come from."""
    return {f"tools/{name}": os.path.join(os.path.dirname(__file__), name) for name, _ in _PROGRAMS.values()}


def manifest_entries(kind: StepKind, description: EnvironmentDescription) -> tuple[ManifestEntry, ...]:
    """The program by its content and what it imports; nothing else that happens to be installed here."""
    name, wanted = _PROGRAMS[kind]
    entries = [ManifestEntry(Section.ENVIRONMENT, f"program {name}", hash_file(os.path.join(os.path.dirname(__file__), name)))]
    entries += [
        ManifestEntry(Section.ENVIRONMENT, f"distribution {item[0]}", tuple(item[1:]))
        for item in description.distributions
        if item[0] in wanted
    ]
    return tuple(entries)


def argv(
    step: StepSpec, interpreter: str, sdk: str, code: str, words: tuple[str, ...], command: tuple[str, ...]
) -> tuple[str, ...]:
    """`words`: the arguments of the step; `command`: the text of a query that stands in the definition."""
    query: tuple[str, ...] = ()
    if step.kind == "sql":
        query = ("--text", *command) if step.script is None else ("--file", f"{code}/{step.script}")
    return (interpreter, "-I", f"{sdk}/tools/{_PROGRAMS[step.kind][0]}", *words, *query)
