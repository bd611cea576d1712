"""Provides the environments that steps declare: finds the base Python, builds once under a lock, tells what goes on.

Used by the resolver. A plan only asks whether an environment is there; a run builds it before its first step is decided.
"""

from __future__ import annotations

import os
import sysconfig
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.errors import EnvironmentProblem
from mlpipe_engine.executors import choosing, environments, interpreters
from mlpipe_engine.executors.environments import Recipe, Wheels
from mlpipe_engine.executors.interpreters import Interpreter
from mlpipe_engine.model.spec import EnvironmentSpec
from mlpipe_engine.store.locks import owner_of, try_lock, unlock

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ProjectConfig
    from mlpipe_engine.hashing.stat_cache import StatCache

_POLL_SECONDS = 0.2


@dataclass
class Environments:
    """Of one plan or run."""

    root: str
    config: ProjectConfig
    stats: StatCache
    cached: Callable[[str], str | None]
    to_cache: MutableMapping[str, str]

    @property
    def _state_dir(self) -> str:
        return os.path.join(self.root, ".mlpipe")

    def recipe(self, spec: EnvironmentSpec, base: Interpreter) -> Recipe:
        """`base`: the interpreter the step would have without. Raises EnvironmentProblem."""
        declared = environments.declared(spec, self.root, self._wheels(), self.stats)
        wanted, platform = declared.python_version, sysconfig.get_platform()
        if declared.conda:
            return Recipe(declared, None, f"conda {wanted or 'any'} {platform}", environments.conda_tool())
        version = self._version(base)
        if wanted and not _fits(version, wanted):
            found = self._python(spec, wanted)
            if found is None:
                return Recipe(declared, None, f"{wanted} {platform}", environments.uv())
            base, version = found
        problem = choosing.too_old(version, base, choosing.Wanted("", "", spec.where, "environment"))
        if problem is not None:
            raise problem
        return Recipe(declared, base, version, environments.uv())

    def folder(self, recipe: Recipe) -> str:
        return os.path.join(self._state_dir, "environments", recipe.digest)

    def _note(self, folder: str) -> None:
        """What makes an environment whole is looked at, so that a run with nothing to do sees when it goes."""
        for path in (os.path.join(folder, environments.MARK), os.path.join(folder, "bin", "python")):
            self.stats.follow(path)

    def is_ready(self, recipe: Recipe) -> bool:
        return environments.is_built(self.folder(recipe))

    def provide(self, recipe: Recipe, say: Callable[[str], None]) -> Interpreter:
        """Builds it unless it is there; waits while another process does. Raises EnvironmentProblem, FilesystemError."""
        folder = self.folder(recipe)
        if not environments.is_built(folder):
            lock = self._lock(recipe, say)
            try:
                if not environments.is_built(folder):
                    environments.build(recipe, folder, f"{folder}.log", lock, say)
            finally:
                unlock(lock)
        _touch(f"{folder}.log")
        self._note(folder)
        return self.interpreter(recipe)

    def interpreter(self, recipe: Recipe) -> Interpreter:
        return Interpreter(os.path.join(self.folder(recipe), "bin", "python"), f"environment {recipe.name}")

    def _lock(self, recipe: Recipe, say: Callable[[str], None]) -> int:
        path, told = os.path.join(self._state_dir, "locks", "environments", recipe.digest), False
        while True:
            lock = try_lock(path, f"process {os.getpid()}")
            if lock is not None:
                return lock
            if not told:
                say(f"environment {recipe.name} is being built by {owner_of(path) or 'another process'}; waiting for it")
                told = True
            time.sleep(_POLL_SECONDS)

    def _wheels(self) -> Wheels:
        links = []
        for link in self.config.find_links:
            place = link if "://" in link else os.path.normpath(os.path.join(self.root, os.path.expanduser(link)))
            if "://" not in link and not os.path.isdir(place):
                raise EnvironmentProblem(
                    f"there is no folder {link}", where=self.config.line("environments", "find_links"), field="environments.find_links",
                    hint="Make it, or correct its path; it is relative to the project folder.",
                )  # fmt: skip
            links.append(place)
        return Wheels(find_links=tuple(links), no_index=self.config.no_index)

    def _version(self, interpreter: Interpreter) -> str:
        self.stats.follow(interpreter.path)
        version, text = interpreters.version_cached(interpreter, self.cached(f"version {interpreter.path}"))
        if text is not None:
            self.to_cache[f"version {interpreter.path}"] = text
        return version

    def _python(self, spec: EnvironmentSpec, wanted: str) -> tuple[Interpreter, str] | None:
        """A Python of that version on PATH; None where uv will provide one."""
        name = "python" + ".".join(wanted.split(".")[:2])
        asked = choosing.Wanted(name, f"{name} on PATH", spec.where, "environment")
        try:
            found = choosing.choose(self.root, (asked,), self.cached, self.to_cache, self.stats)
            version = self._version(found)
            if _fits(version, wanted):
                return found, version
            reason = f"{found.path} is {version.split()[0]}"
        except EnvironmentProblem as error:
            reason = error.what
        if environments.uv() and not self.config.no_index:
            return None
        raise EnvironmentProblem(
            f"environment {spec.name!r} asks for Python {wanted}: {reason}", where=spec.where, hint="Install that Python, or uv, which fetches it."
        )  # fmt: skip


def _touch(log: str) -> None:
    """`gc` takes environments that no run asked for in a month. Once a day is enough, so that runs need not write."""
    with suppress(OSError):
        if time.time() - os.stat(log).st_mtime > 86400.0:
            os.utime(log)


def _fits(version: str, wanted: str) -> bool:
    parts = wanted.split(".")
    return version.split()[0].split(".")[: len(parts)] == parts
