"""Looks up what steps are made of: code trees, input content, environments. Reads files, writes nothing.

Everything is read once per run, so that all steps of a run see one state of the project. Used by `plan` and by runs.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.errors import EnvironmentProblem, InputMissingError, MlpipeError
from mlpipe_engine.model.manifest import ManifestEntry
from mlpipe_engine.model.spec import PathSource, PipelineSpec, StepSpec, Text
from mlpipe_engine.model.trees import Entry, Tree
from mlpipe_engine.planning.planner import Surroundings

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig, ProjectConfig
    from mlpipe_engine.executors.interpreters import EnvironmentDescription, Interpreter
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.snapshots.source import SourceSnapshots


@dataclass(frozen=True)
class PathInput:
    """Files outside the store that a step reads."""

    tree: Tree
    base: str
    """Absolute: the one path, or the folder that holds all `files`."""
    files: tuple[str, ...] | None
    """Paths below `base` that belong to it; None: all of `base`."""


class Resolver:
    """One per plan or run."""

    def __init__(
        self,
        root: str,
        config: ProjectConfig,
        snapshots: SourceSnapshots,
        stats: StatCache,
        cached: Callable[[str], str | None],
    ) -> None:
        self.root = root
        self._config = config
        self._snapshots = snapshots
        self._stats = stats
        self._cached = cached
        self._code: dict[str, Tree] = {}
        self._paths: dict[PathSource, PathInput] = {}
        self._interpreters: dict[str | None, tuple[Interpreter, EnvironmentDescription]] = {}
        self._commands: dict[tuple[str, str], tuple[ManifestEntry, ...]] = {}
        self.to_cache: dict[str, str] = {}
        """What the store should keep for the next time."""

    def stat_rows(self) -> list[tuple[object, ...]]:
        """Digests of files that were computed here, for the store to remember."""
        return self._stats.new_rows()

    def code(self, step: StepSpec) -> Tree | None:
        """The source tree as it was when this run first looked. Raises SnapshotError."""
        if step.source_directory is None:
            return None
        known = self._code.get(step.source_directory)
        if known is None:
            known = self._snapshots.scan(self.directory(step))
            self._code[step.source_directory] = known
        return known

    def directory(self, step: StepSpec) -> str:
        return os.path.normpath(os.path.join(self.root, step.source_directory or ""))

    def path_input(self, source: PathSource, step: StepSpec) -> PathInput:
        """Content of a path or glob. Raises InputMissingError naming the step, SnapshotError."""
        known = self._paths.get(source)
        if known is None:
            known = self._paths[source] = self._read_paths(source, step)
        return known

    def fresh_path_input(self, source: PathSource, step: StepSpec) -> PathInput:
        """As it is now, not as the run first saw it."""
        return self._read_paths(source, step)

    def _read_paths(self, source: PathSource, step: StepSpec) -> PathInput:
        from mlpipe_engine.hashing.scan import scan_tree

        if len(source.paths) == 1 and not glob.has_magic(source.paths[0]):
            path = os.path.normpath(os.path.join(self.root, source.paths[0]))
            if not os.path.lexists(path):
                raise self._missing(source.paths[0], step)
            path = os.path.realpath(path)
            return PathInput(scan_tree(path, ignore=None, cache=self._stats), path, None)
        found: set[str] = set()
        for pattern in source.paths:
            matches = self._matches(pattern)
            if not matches and source.validate:
                raise self._missing(pattern, step)
            found.update(matches)
        base = os.path.commonpath([os.path.dirname(path) for path in found]) if found else self.root
        entries: list[Entry] = []
        for path in sorted(found):
            relative = os.path.relpath(path, base).replace(os.sep, "/")
            tree = scan_tree(os.path.realpath(path), ignore=None, cache=self._stats)
            entries.extend(
                Entry(f"{relative}/{entry.path}" if entry.path else relative, entry.kind, entry.digest, entry.size_bytes)
                for entry in tree.entries
            )
        return PathInput(Tree.of(entries), base, tuple(sorted(os.path.relpath(path, base) for path in found)))

    def _matches(self, pattern: str) -> list[str]:
        full = os.path.join(self.root, pattern)
        if not glob.has_magic(pattern):
            return [os.path.normpath(full)] if os.path.lexists(full) else []
        return [os.path.normpath(path) for path in glob.glob(full, recursive=True) if not os.path.isdir(path)]

    def _missing(self, path: str, step: StepSpec) -> InputMissingError:
        from mlpipe_engine.errors import nearest

        folder, name = os.path.split(os.path.join(self.root, path))
        try:
            close = nearest(name, os.listdir(folder))
        except OSError:
            close = None
        path = path if len(path) <= 300 else f"{path[:297]}... ({len(path)} characters)"
        kind = "nothing matches" if glob.has_magic(path) else "no file or folder"
        return InputMissingError(
            f"step {step.name!r} needs {path}, but {kind} {'it' if glob.has_magic(path) else 'of that name exists'}"
            + (f"; did you mean {close!r}?" if close else ""),
            where=step.where,
            hint="Correct the path (it is relative to the project folder), or bring the file.",
        )

    def interpreter(self, step: StepSpec, compute: str) -> tuple[Interpreter, EnvironmentDescription]:
        """The interpreter of a step and what is installed in it. Raises EnvironmentProblem."""
        from mlpipe_engine.executors import interpreters

        configured = self._config.compute(compute).python
        known = self._interpreters.get(configured)
        if known is None:
            interpreter = interpreters.find_interpreter(self.root, configured)
            key = f"environment {interpreter.path}"
            description, text = interpreters.describe_cached(interpreter, self.root, self._cached(key), self._stats)
            if text is not None:
                self.to_cache[key] = text
            known = self._interpreters[configured] = (interpreter, description)
        return known

    def environment(self, step: StepSpec, compute: str) -> tuple[ManifestEntry, ...]:
        """Entries of the manifest for what runs the step. Raises EnvironmentProblem when a program is not there."""
        from mlpipe_engine.executors import interpreters

        interpreter, description = self.interpreter(step, compute)
        if step.kind == "python":
            return interpreters.manifest_entries(description)
        program = "/bin/sh" if step.kind == "shell" else self._program(step)
        key = (program, interpreter.path)
        known = self._commands.get(key)
        if known is None:
            code = self.directory(step) if step.source_directory is not None else None
            known = self._commands[key] = interpreters.describe_command(program, interpreter, description, self._stats, code)
        return known

    def compute(self, name: str) -> ComputeConfig:
        return self._config.compute(name)

    @property
    def stats(self) -> StatCache:
        return self._stats

    def surroundings(self, step: StepSpec, compute: str) -> Surroundings:
        """How things that earlier executions used undeclared are now."""
        from mlpipe_engine.executors import audit
        from mlpipe_engine.executors.packages import owner_text
        from mlpipe_engine.runner.watching import versions

        _, description = self.interpreter(step, compute)
        return Surroundings(
            file=lambda path, then: audit.signature(audit.absolute(self.root, path), then, self._stats),
            providers=lambda name: owner_text(description.packages, versions(description), name),
        )

    def _program(self, step: StepSpec) -> str:
        first = step.command[0] if step.command else ()
        if len(first) == 1 and isinstance(first[0], Text) and first[0].text:
            return first[0].text
        raise EnvironmentProblem(
            f"step {step.name!r}: the program of a command must be a plain word",
            where=step.where,
            hint="Write the program's name as the first word of the command.",
        )

    def problems(self, spec: PipelineSpec, steps: frozenset[str], compute_of: Callable[[StepSpec], str]) -> list[MlpipeError]:
        """Everything that would stop the run before it starts: missing inputs, code, programs."""
        from mlpipe_engine.runner import watching

        found: list[MlpipeError] = []
        for step in spec.steps:
            if step.name not in steps:
                continue
            try:
                watching.check(self._config.compute(compute_of(step)))
                self.environment(step, compute_of(step))
                self.code(step)
                for item in step.inputs:
                    if isinstance(item.source, PathSource):
                        self.path_input(item.source, step)
            except MlpipeError as error:
                if str(error) not in {str(known) for known in found}:
                    found.append(error)
        return found


def platform_tag() -> str:
    return f"{sys.platform}-{os.uname().machine}"
