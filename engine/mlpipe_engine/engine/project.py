"""What every verb stands on: the folder, its configuration, its definitions, and the adapters, each made where it is first needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Self

from mlpipe_engine.config.pools import read_pools
from mlpipe_engine.config.project import FILE_NAME, ProjectConfig, find_root, load_config
from mlpipe_engine.errors import (
    FilesystemError,
    InputError,
    RunNotFoundError,
    UsageError,
    nearest,
)  # fmt: skip
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.store import results
from mlpipe_engine.store import runs as run_rows
from mlpipe_engine.store.database import PerThread

if TYPE_CHECKING:
    from mlpipe_engine.definitions.loader import Definitions
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.datastores import DatastoreSpec
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.runner.observe import Observer
    from mlpipe_engine.runner.sources import DataSources
    from mlpipe_engine.snapshots.source import SourceSnapshots
    from mlpipe_engine.store.artifacts import ArtifactStore
    from mlpipe_engine.store.database import Database


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _nothing(text: str) -> None:
    return


class Project:
    """A folder with an mlpipe.toml. `open()` finds it upward from the current folder. One thread at a time."""

    def __init__(self, root: str, config: ProjectConfig) -> None:
        self.root = root
        self.config = config
        self.state_dir = os.path.join(root, ".mlpipe")
        self._databases = PerThread(self.state_dir, network=config.store.network)
        self.warnings: tuple[str, ...] = ()
        """What the last plan or run noticed about its source directories: ignore rules that do not apply, large files."""
        self.say: Callable[[str], None] = _nothing
        """Told what goes on before a run starts: the building of an environment, which may take minutes."""
        self._project_id = ""
        self._config_seen: os.stat_result | None = None
        """mlpipe.toml as it was before it was read."""
        self._fresh_texts: dict[str, str] = {}
        self._observers: dict[str, Observer] = {}
        self._tracing: dict[int, str] = {}
        """By file system."""

    @classmethod
    def open(cls, start: str | None = None) -> Self:
        """Raises ProjectNotFoundError, ConfigError."""
        root = find_root(start)
        seen = _lstat(os.path.join(root, FILE_NAME))
        engine = cls(root, load_config(root))
        engine._config_seen = seen
        return engine

    def close(self) -> None:
        """Give back what this thread holds of the store. The engine can be used again afterwards."""
        self._databases.close()

    @cached_property
    def definitions(self) -> Definitions:
        """Raises DefinitionError. Files that are broken are in `errors`."""
        from mlpipe_engine.definitions.loader import load_definitions

        found = load_definitions(self.root, _Texts(self), _import_ahead)
        if any(pool.name not in {compute.name for compute in self.config.computes} for pool in read_pools(self.root)):
            self.config = load_config(self.root)  # a definition made a compute target
        return found

    def pipelines(self) -> tuple[PipelineSpec, ...]:
        """All pipelines of the project. Raises PipelineLoadError when a file is broken."""
        definitions = self.definitions
        if definitions.errors:
            raise definitions.errors[0]
        return definitions.pipelines

    def pipeline(self, name: str | None = None) -> PipelineSpec:
        """By name; without one the default of mlpipe.toml, or the only one. A broken file elsewhere does not matter."""
        definitions = self.definitions
        found = definitions.pipelines
        wanted = name or self.config.default_pipeline
        for pipeline in found:
            if pipeline.name == wanted:
                return pipeline
        if definitions.errors:
            raise definitions.errors[0]
        names = [pipeline.name for pipeline in found]
        if wanted is not None:
            close = nearest(wanted, names)
            raise UsageError(
                f"there is no pipeline {wanted!r}" + (f"; did you mean {close!r}?" if close else ""),
                expected="one of " + ", ".join(names) if names else "a definition", hint="List them with `mlpipe-tui pipelines`.",
            )  # fmt: skip
        if len(found) == 1:
            return found[0]
        if not found:
            raise InputError(
                "the definition files define no Pipeline at module level", where=self.root,
                hint='A Pipeline made below `if __name__ == "__main__":` is not seen; move it to the top level.',
            )  # fmt: skip
        raise UsageError(
            "this project has several pipelines",
            expected="one of " + ", ".join(names),
            hint=f"For example: mlpipe-tui run {names[0]}",
        )

    def tracing_problem(self) -> str:
        """ "" when the reads of steps can be told here; else why not. Tried once per boot and file system."""
        device = os.stat(self.state_dir).st_dev
        if device not in self._tracing:
            self._tracing[device] = self._find_tracing_problem(device)
        return self._tracing[device]

    def _find_tracing_problem(self, device: int) -> str:
        from mlpipe_engine.snapshots.canary import can_trace

        key = f"canary {device} {_boot_id()}"
        known = self._cached(key)
        if known is None:
            known = can_trace(self.state_dir)
            with self._writable().write() as db:
                results.put_cached(db, key, known)
        return known

    def _database(self) -> Database | None:
        return self._databases.get(create=False)

    def _writable(self) -> Database:
        database = self._databases.get(create=True)
        assert database is not None
        if database.read_only:
            raise FilesystemError(
                f"cannot write {self.state_dir}/state.db: uid {os.geteuid()} may only read it",
                hint="Change the owner or the mode of .mlpipe, or copy the project.",
            )
        if not self._project_id:
            from mlpipe_engine.runner.record import utc_now
            from mlpipe_engine.store import identity

            self._project_id = identity.settle(database, self.state_dir, utc_now())
        return database

    def _reading(self) -> Database:
        database = self._database()
        if database is None:
            raise RunNotFoundError("this project has no run yet", hint="Start one with `mlpipe-tui run`.")
        return database

    def _runs(self) -> run_rows.RunQueries:
        return run_rows.RunQueries(self._reading())

    def _life_path(self, run_id: str) -> str:
        return os.path.join(self.state_dir, "locks", "runs", run_id)

    def _artifacts(self, protect: Callable[[str], None] = lambda digest: None) -> ArtifactStore:
        from mlpipe_engine.store.artifacts import ArtifactStore

        return ArtifactStore(os.path.join(self.state_dir, "artifacts"), protect)

    def _stats(self) -> StatCache:
        from mlpipe_engine.hashing.stat_cache import StatCache

        database = self._database()
        rows = results.ResultQueries(database).stat_rows() if database else []
        return StatCache(rows, root=self.root)

    def _snapshots(self, stats: StatCache) -> SourceSnapshots:
        from mlpipe_engine.snapshots.source import SourceSnapshots

        return SourceSnapshots(os.path.join(self.state_dir, "snapshots"), self.root, stats)

    def _cached(self, key: str) -> str | None:
        database = self._database()
        return results.ResultQueries(database).cached(key) if database else None

    def data_sources(self, stats: StatCache | None = None) -> DataSources:
        """Where addresses lead in this project. One for each plan, run or question."""
        from mlpipe_engine.runner.sources import DataSources

        return DataSources(self.root, self.config.datastores, self._registered_datastores, stats or self._stats(), self._say_now)

    def _say_now(self, text: str) -> None:
        self.say(text)

    def _registered_datastores(self) -> tuple[DatastoreSpec, ...]:
        from mlpipe_engine.config.registered import read

        return read(self.root).datastores

    def _unchecked(self, spec: PipelineSpec, options: SubmitOptions) -> Decisions:
        from mlpipe_engine.planning import parameters
        from mlpipe_engine.runner import versions
        from mlpipe_engine.runner.decisions import Decisions
        from mlpipe_engine.runner.resolve import Resolver

        values = dict(parameters.effective(spec, dict(options.parameters)))
        stats = self._stats()
        snapshots = self._snapshots(stats)
        resolver = Resolver(self.root, self.config, snapshots, stats, self._cached, self.data_sources(stats))
        database = self._database()
        queries = results.ResultQueries(database) if database else None
        return Decisions(
            versions.looked_up(spec, database), options, values, resolver, snapshots, self._artifacts(), database, queries,
            self.config.default_compute, as_written=spec,
        )  # fmt: skip


class _Texts:
    """The cache of definitions: read from the store; what is new is kept until a run writes anyway, so that a plan writes nothing."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def get(self, key: str) -> str | None:
        return self._project._cached(key)

    def put(self, key: str, text: str) -> None:
        self._project._fresh_texts[key] = text


def _import_ahead() -> None:
    """Modules that a run needs, while the definition is loaded by another process. Not by name: these imports are checked."""
    from mlpipe_engine.executors import audit, choosing, interpreters, packages, process, spare, staging  # noqa: F401
    from mlpipe_engine.planning import fingerprint, graph, parameters, planner, scheduler  # noqa: F401
    from mlpipe_engine.runner import collect, decisions, hosting, loop, parts, resolve, upkeep  # noqa: F401
    from mlpipe_engine.store import journal, recorder, step_writes, uptodate  # noqa: F401


@cache
def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
