"""Looks up what steps are made of: code trees, input content, environments. Reads files, writes nothing.

Everything is read once per run, so that all steps of a run see one state of the project. Used by `plan` and by runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

from mlpipe_engine.errors import EnvironmentProblem, MlpipeError
from mlpipe_engine.model.manifest import ManifestEntry
from mlpipe_engine.model.spec import OWN_KINDS, EnvironmentSpec, InputSpec, PathSource, PipelineSpec, StepSpec, Text
from mlpipe_engine.model.trees import Tree
from mlpipe_engine.planning.planner import Surroundings

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig, ProjectConfig
    from mlpipe_engine.data.local import PathInput
    from mlpipe_engine.data.places import Places
    from mlpipe_engine.executors.choosing import Wanted
    from mlpipe_engine.executors.containers.images import StepImage
    from mlpipe_engine.executors.environments import Recipe
    from mlpipe_engine.executors.interpreters import EnvironmentDescription, Interpreter
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.runner.provision import Environments
    from mlpipe_engine.runner.sources import DataSources
    from mlpipe_engine.runner.step_images import StepImages
    from mlpipe_engine.snapshots.source import SourceSnapshots


class Resolver:
    """One per plan or run."""

    def __init__(
        self,
        root: str,
        config: ProjectConfig,
        snapshots: SourceSnapshots,
        stats: StatCache,
        cached: Callable[[str], str | None],
        datastores: DataSources | None = None,
    ) -> None:
        """`datastores` may be left out where no input is looked at."""
        self.root = root
        self._config = config
        self._snapshots = snapshots
        self.stats = stats
        self._cached = cached
        self._code: dict[str, Tree] = {}
        self._rooted: dict[tuple[str, str], Tree | None] = {}
        self._paths: dict[PathSource, PathInput] = {}
        self._interpreters: dict[object, tuple[Interpreter, EnvironmentDescription]] = {}
        self._of_step: dict[tuple[str, str], tuple[Interpreter, EnvironmentDescription]] = {}
        self._wishes: dict[str, Wanted | None] = {}
        self._recipes: dict[tuple[EnvironmentSpec, Wanted | None], Recipe] = {}
        self.say: Callable[[str], None] | None = None
        """Where the building of environments is told; None: nothing is built, and steps that need it are undecided."""
        self._commands: dict[tuple[str, str], tuple[ManifestEntry, ...]] = {}
        self.datastores = datastores
        self.to_cache: dict[str, str] = {}
        """What the store should keep for the next time."""

    def renewed(self, code: Mapping[str, Tree], inputs: Iterable[PathSource]) -> Resolver:
        """The same project with these trees in place of what their source directories had, and with `inputs` to be read anew.

        Everything else stands as it was looked at. For a resident process that knows what has changed.
        """
        other = copy(self)
        for name in ("_environments", "places"):
            other.__dict__.pop(name, None)
        other._code = {**self._code, **code}
        other._rooted = {key: tree for key, tree in self._rooted.items() if key[0] not in code}
        forgotten = set(inputs)
        other._paths = {source: found for source, found in self._paths.items() if source not in forgotten}
        other.to_cache = {}
        return other

    def stat_rows(self) -> list[tuple[object, ...]]:
        """Digests of files that were computed here, for the store to remember."""
        return self.stats.new_rows()

    def code(self, step: StepSpec, compute: str) -> Tree | None:
        """The source tree as it was when this run first looked, with the code roots of the interpreter. Raises SnapshotError."""
        interpreter, description = self.interpreter(step, compute)
        if not description.roots or step.kind in OWN_KINDS:
            return self._source(step)
        key = (step.source_directory or "", interpreter.path)
        if key not in self._rooted:
            self._rooted[key] = self._snapshots.with_roots(self._source(step), description.roots)
        return self._rooted[key]

    def source(self, step: StepSpec) -> Tree | None:
        """The tree of its source directory alone, as this run first saw it. Raises SnapshotError."""
        return self._source(step)

    def _source(self, step: StepSpec) -> Tree | None:
        if step.source_directory is None:
            return None
        known = self._code.get(step.source_directory)
        if known is None:
            known = self._snapshots.scan(self.directory(step))
            self._code[step.source_directory] = known
        return known

    def directory(self, step: StepSpec) -> str:
        return os.path.normpath(os.path.join(self.root, step.source_directory or ""))

    @cached_property
    def places(self) -> Places:
        from mlpipe_engine.data.places import Places

        assert self.datastores is not None
        return Places(self.root, self.stats, self.datastores)

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
        return self.places.content(source.paths, validate=source.validate, need=f"step {step.name!r} needs", where=step.where)

    def interpreter(self, step: StepSpec, compute: str) -> tuple[Interpreter, EnvironmentDescription]:
        """The interpreter of a step and what is installed in it. Raises EnvironmentProblem.

        Prereq: an environment the step declares is built (see `unbuilt`).
        """
        target = self._config.compute(compute)
        inside = self.images.interpreter(step, target) if in_container(step, target) else None
        if inside is not None:
            return inside
        known = self._of_step.get((step.name, compute))
        if known is None:
            wanted = self._wanted(step, compute)
            key = (step.environment, wanted)
            known = self._interpreters.get(key)
            if known is None:
                known = self._interpreters[key] = self._looked_up(step, wanted)
            self._of_step[step.name, compute] = known
        return known

    def _looked_up(self, step: StepSpec, wanted: Wanted | None) -> tuple[Interpreter, EnvironmentDescription]:
        from mlpipe_engine.executors import choosing

        if step.environment is None or not step.environment.installs:
            found = choosing.choose(self.root, (wanted,), self._cached, self.to_cache, self.stats)
            return found, self._described(found, wanted)
        recipe, say = self._recipe(step.environment, wanted), self.say
        found = self._environments.provide(recipe, say) if say is not None else self._environments.interpreter(recipe)
        return found, self._described(found, wanted)

    def unbuilt(self, step: StepSpec, compute: str) -> str | None:
        """The name of an environment that has to be built before the step can be decided. Raises EnvironmentProblem."""
        target = self._config.compute(compute)
        if self.say is None and in_container(step, target) and self.images.source(step, target) is not None:
            return self.images.missing(step, target)
        if step.environment is None or not step.environment.installs or self.say is not None:
            return None
        recipe = self._recipe(step.environment, self._wanted(step, compute))
        return None if self._environments.is_ready(recipe) else step.environment.name

    @cached_property
    def images(self) -> StepImages:
        """Of steps that run in containers."""
        from mlpipe_engine.runner.step_images import StepImages

        return StepImages(
            self.root, self._config, self.stats, self._cached, self.to_cache, lambda spec: self._environments.declared(spec)
        )

    def image(self, step: StepSpec, compute: str) -> StepImage | None:
        """What the step runs in; None for a process. Raises EnvironmentProblem, ExecutorUnavailableError."""
        target = self._config.compute(compute)
        if not in_container(step, target):
            return None
        return self.images.of(step, target, *self.interpreter(step, compute), self.say)

    @cached_property
    def _environments(self) -> Environments:
        from mlpipe_engine.runner.provision import Environments

        return Environments(self.root, self._config, self.stats, self._cached, self.to_cache)

    def _recipe(self, environment: EnvironmentSpec, wanted: Wanted | None) -> Recipe:
        from mlpipe_engine.executors import choosing

        known = self._recipes.get((environment, wanted))
        if known is None:
            base = choosing.choose(self.root, (wanted,), self._cached, self.to_cache, self.stats)
            known = self._recipes[environment, wanted] = self._environments.recipe(environment, base)
        return known

    def _described(self, interpreter: Interpreter, wanted: Wanted | None) -> EnvironmentDescription:
        from mlpipe_engine.executors import choosing, interpreters

        key = f"interpreter {interpreter.path}"
        try:
            description, text = interpreters.describe_cached(interpreter, self.root, self._cached(key), self.stats)
        except EnvironmentProblem as error:
            if wanted is None or error.where:
                raise
            raise EnvironmentProblem(error.what, where=wanted.where, field=wanted.field, hint=error.hint) from None
        problem = choosing.too_old(description.version, interpreter, wanted)
        if problem is not None:
            raise problem
        if text is not None:
            self.to_cache[key] = text
        return description

    def _wanted(self, step: StepSpec, compute: str) -> Wanted | None:
        """Who asks first for an interpreter: the step, its compute target, mlpipe.toml."""
        from mlpipe_engine.executors.choosing import Wanted

        if step.kind in OWN_KINDS:
            return Wanted(sys.executable, "the interpreter of mlpipe-tui")
        if step.python is not None:
            return Wanted(step.python, f"python= of step {step.name}", step.where)
        if compute not in self._wishes:
            self._wishes[compute] = self._wish(compute)
        return self._wishes[compute]

    def _wish(self, compute: str) -> Wanted | None:
        from mlpipe_engine.executors.choosing import Wanted

        target = self._config.compute(compute)
        if target.python is not None:
            field = f"compute.{compute}.python"
            return Wanted(
                target.python, f"[compute.{compute}] in mlpipe.toml", self._config.line(f"compute.{compute}", "python"), field
            )
        if self._config.python is not None:
            table = "default" if self._config.python_from_default else "project"
            return Wanted(self._config.python, f"[{table}] in mlpipe.toml", self._config.line(table, "python"), f"{table}.python")
        return None

    def choices(self, steps: list[StepSpec], compute_of: Callable[[StepSpec], str]) -> tuple[tuple[str, str], ...]:
        """(step, the interpreter it runs with and why), for those that can be told."""
        found = []
        for step in steps:
            if self.unbuilt(step, compute_of(step)) is None:
                interpreter, description = self.interpreter(step, compute_of(step))
                found.append((step.name, f"{interpreter.path}, {description.version.split()[0]} ({interpreter.how})"))
        return tuple(found)

    def environment(self, step: StepSpec, compute: str) -> tuple[ManifestEntry, ...]:
        """Entries of the manifest for what runs the step. Raises EnvironmentProblem when a program is not there."""
        from mlpipe_engine.executors import interpreters, tools

        image = self.image(step, compute)
        if image is not None:
            return self.images.entries(image)
        interpreter, description = self.interpreter(step, compute)
        if step.kind == "python":
            return interpreters.manifest_entries(description)
        if step.kind in OWN_KINDS:
            own = (f"tool {step.kind}", interpreter.path)
            if own not in self._commands:
                self._commands[own] = tools.manifest_entries(step.kind, description)
            return self._commands[own]
        program = "/bin/sh" if step.kind == "shell" else self._program(step)
        key = (program, interpreter.path)
        known = self._commands.get(key)
        if known is None:
            code = self.directory(step) if step.source_directory is not None else None
            known = self._commands[key] = interpreters.describe_command(program, interpreter, description, self.stats, code)
        return known

    def compute(self, name: str) -> ComputeConfig:
        return self._config.compute(name)

    @cached_property
    def has_low_priority(self) -> bool:
        """Whether a step may have to wait for others although it is ready."""
        return any(target.priority == "lowpriority" for target in self._config.computes)

    def surroundings(self, step: StepSpec, compute: str) -> Surroundings:
        """How things that earlier executions used undeclared are now."""
        from mlpipe_engine.executors import audit
        from mlpipe_engine.executors.packages import owner_text
        from mlpipe_engine.runner.watching import versions

        _, description = self.interpreter(step, compute)
        return Surroundings(
            file=lambda path, then: audit.signature(audit.absolute(self.root, path), then, self.stats),
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

    def problems(
        self, spec: PipelineSpec, steps: frozenset[str], compute_of: Callable[[StepSpec], str], check: Callable[[InputSpec, StepSpec], None],
    ) -> list[MlpipeError]:  # fmt: skip
        """Everything that would stop the run before it starts: missing inputs, code, programs."""
        found: list[MlpipeError] = []
        for step in spec.steps:
            if step.name not in steps:
                continue
            try:
                self._check_target(step, self._config.compute(compute_of(step)))
                if self.unbuilt(step, compute_of(step)) is None:
                    self.environment(step, compute_of(step))
                    self.code(step, compute_of(step))
                else:
                    self._source(step)
                for item in step.inputs:
                    check(item, step)
            except MlpipeError as error:
                if str(error) not in {str(known) for known in found}:
                    found.append(error)
        return found

    def _check_target(self, step: StepSpec, target: ComputeConfig) -> None:
        """Raises when the machine cannot do what the step's compute target asks for."""
        from mlpipe_engine.runner import watching

        if step.resources.gpus and not step.resources.gpus_optional:
            from mlpipe_engine.executors import gpus

            gpus.require(step.resources.gpus, target.gpus, step.name, step.where)
            if in_container(step, target):
                from mlpipe_engine.executors.containers import gpu_requests

                gpu_requests.require(self.images.engine(target.engine).facts, step.name, step.where)
        if target.kind == "docker":
            return
        watching.check(target)
        named = step.environment and (step.environment.image or step.environment.dockerfile)
        if named:
            raise EnvironmentProblem(
                f"step {step.name!r} has the image {named}, but its compute target {target.name!r} runs processes", where=step.where,
                hint="Run with --compute docker, or give the step a compute_target of kind docker.",
            )  # fmt: skip


def in_container(step: StepSpec, target: ComputeConfig) -> bool:
    """Steps that are programs of ours (a query, a copy) run under our interpreter, wherever the others run."""
    return target.kind == "docker" and step.kind in ("python", "command", "shell")


def platform_tag() -> str:
    return f"{sys.platform}-{os.uname().machine}"
