"""A Workspace: one project folder, seen from a script or a notebook."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from mlpipe_engine.config.project import FILE_NAME, ProjectConfig, find_root, load_config, render_default_config
from mlpipe_engine.errors import ConfigError, FilesystemError, ProjectNotFoundError, nearest
from mlpipe_engine.sdk import loading
from mlpipe_engine.sdk.keywords import strict

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig
    from mlpipe_engine.engine import Engine
    from mlpipe_engine.model.datastores import DatastoreSpec
    from mlpipe_engine.sdk.dataset import FileDataset
    from mlpipe_engine.sdk.datastore import AbstractDatastore
    from mlpipe_engine.sdk.experiment import Experiment
    from mlpipe_engine.sdk.runs import PipelineRun
    from mlpipe_engine.sdk.tabular import TabularDataset

V = TypeVar("V")


class View(Mapping[str, V], Generic[V]):
    """Names at hand, objects made when asked for; an unknown name is a KeyError that names the nearest."""

    def __init__(self, names: Callable[[], list[str]], make: Callable[[str], V]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> V:
        names = self._names()
        if name not in names:
            close = nearest(name, names)
            raise KeyError(f"{name}" + (f" (did you mean {close!r}?)" if close else ""))
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


@strict
class Workspace:
    """The project that a script works in.

    >>> import tempfile
    >>> ws = Workspace.create("demo", path=tempfile.mkdtemp())
    >>> ws.name, sorted(ws.datastores)
    ('demo', ['workspaceblobstore', 'workspacefilestore'])
    """

    def __init__(self, root: str, config: ProjectConfig, name: str | None = None) -> None:
        self.root = root
        """Absolute path of the project folder."""
        self._config = config
        self.name = name or config.name
        self.pending_datastores: dict[str, DatastoreSpec] = {}
        """What a definition that is only being loaded would register."""

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str] | None = None,
        auth: object = None,
        _logger: object = None,
        _file_name: str | None = None,
    ) -> Workspace:
        """The nearest project upward from `path` (a folder or the file itself) or from the current folder.

        An Azure `.azureml/config.json` beside the project lends its workspace name and nothing else. Raises ProjectNotFoundError, ConfigError.
        """
        start = os.fspath(path) if path is not None else None
        if start is not None and os.path.isfile(start):
            start = os.path.dirname(os.path.abspath(start))
        root = find_root(start)
        return cls(root, load_config(root), _foreign_name(root))

    @classmethod
    def create(
        cls, name: str, auth: object = None, subscription_id: str | None = None, resource_group: str | None = None,
        location: str | None = None, create_resource_group: bool = True, sku: str = "basic", tags: Mapping[str, str] | None = None,
        exist_ok: bool = False, show_output: bool = True, path: str | os.PathLike[str] = ".",
    ) -> Workspace:  # fmt: skip
        """Make a project in the folder `path`. Raises ConfigError when there is one and `exist_ok` is False.

        What only a cloud needs (subscription, group, location, sku) is taken and not used.
        """
        root = os.path.realpath(os.fspath(path))
        if os.path.exists(os.path.join(root, FILE_NAME)):
            if not exist_ok:
                raise ConfigError(f"{root} already is a project", hint="Use Workspace.from_config, or exist_ok=True.")
            return cls(root, load_config(root))
        if loading.active:
            loading.note(f"Workspace.create({name!r})")
            return cls(root, ProjectConfig(name=name))
        try:
            os.makedirs(root, exist_ok=True)
            with open(os.path.join(root, FILE_NAME), "x", encoding="utf-8") as file:
                file.write(render_default_config(name))
        except OSError as error:
            raise FilesystemError.of(error, "make a project in", root) from error
        return cls(root, load_config(root))

    @classmethod
    def get(
        cls, name: str | None = None, auth: object = None, subscription_id: str | None = None, resource_group: str | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> Workspace:  # fmt: skip
        """The project at `path`; `name` must be its name if given."""
        workspace = cls.from_config(path)
        if name is not None and name != workspace.name:
            raise ProjectNotFoundError(f"the project at {workspace.root} is called {workspace.name!r}, not {name!r}")
        return workspace

    def write_config(self, path: str | os.PathLike[str] | None = None, file_name: str | None = None) -> None:
        """Write .azureml/config.json with the workspace name, as the Azure SDK does, so that scripts find it."""
        if loading.active:
            loading.note("Workspace.write_config()")
            return
        folder = os.path.join(os.fspath(path) if path is not None else self.root, ".azureml")
        try:
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, file_name or "config.json"), "w", encoding="utf-8") as file:
                json.dump({"workspace_name": self.name}, file, indent=2)
        except OSError as error:
            raise FilesystemError.of(error, "write", folder) from error

    @cached_property
    def engine(self) -> Engine:
        """One for everything asked through this object: each holds a connection to the store."""
        from mlpipe_engine.engine import Engine

        engine = Engine.open(self.root)
        engine.say = lambda text: print(text, file=sys.stderr, flush=True)
        return engine

    @property
    def datastores(self) -> Mapping[str, AbstractDatastore]:
        """Built-in ones, those of mlpipe.toml, registered ones."""
        from mlpipe_engine.sdk.datastore import datastore_of

        return View(
            lambda: [spec.name for spec in self._datastore_specs()],
            lambda name: datastore_of(self, next(spec for spec in self._datastore_specs() if spec.name == name)),
        )

    def _datastore_specs(self) -> list[DatastoreSpec]:
        from mlpipe_engine.model.datastores import BUILT_IN, DatastoreSpec

        built_in = [DatastoreSpec(name=name, url=f".mlpipe/datastores/{name}", origin="built in") for name in BUILT_IN]
        named = {spec.name: spec for spec in (*built_in, *self._config.datastores)}
        for spec in (*self.registered_datastores(), *self.pending_datastores.values()):
            named.setdefault(spec.name, spec)
        return list(named.values())

    def registered_datastores(self) -> tuple[DatastoreSpec, ...]:
        """Those that scripts registered."""
        from mlpipe_engine.config.registered import read

        return read(self.root).datastores

    def get_default_datastore(self) -> AbstractDatastore:
        """What mlpipe.toml says, else what `set_default_datastore` chose, else workspaceblobstore."""
        from mlpipe_engine.config.registered import read
        from mlpipe_engine.sdk.datastore import Datastore

        return Datastore(self, self._config.default_datastore or read(self.root).default or "workspaceblobstore")

    def set_default_datastore(self, name: str) -> None:
        """Raises DatasetNotFoundError, and ConfigError where mlpipe.toml names another."""
        if loading.active:
            loading.note(f"set_default_datastore({name!r})")
            return
        self.engine.set_default_datastore(name)

    @property
    def datasets(self) -> Mapping[str, FileDataset | TabularDataset]:
        """Registered datasets by name, the newest version of each."""
        from mlpipe_engine.sdk.dataset import of_record

        return View(
            lambda: [record.name for record in self.engine.datasets()], lambda name: of_record(self, self.engine.dataset(name))
        )

    @property
    def experiments(self) -> Mapping[str, Experiment]:
        from mlpipe_engine.sdk.experiment import Experiment

        return View(lambda: list(self.engine.experiments()), lambda name: Experiment(self, name))

    @property
    def compute_targets(self) -> Mapping[str, ComputeConfig]:
        return View(lambda: [compute.name for compute in self._config.computes], self._config.compute)

    def get_run(self, run_id: str) -> PipelineRun:
        """By number, id or unique prefix. Raises RunNotFoundError."""
        from mlpipe_engine.sdk.runs import PipelineRun

        return PipelineRun(self, self.engine.find_run(run_id).id)

    def get_details(self) -> dict[str, object]:
        return {
            "id": self.root,
            "name": self.name,
            "workspaceid": self.root,
            "location": "local",
            "datastores": list(self.datastores),
        }

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, root={self.root!r})"


def _foreign_name(root: str) -> str | None:
    for place in (".azureml/config.json", "aml_config/config.json", "config.json"):
        try:
            with open(os.path.join(root, place), encoding="utf-8-sig") as file:
                name = json.load(file).get("workspace_name")
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
        if isinstance(name, str) and name:
            return name
    return None
