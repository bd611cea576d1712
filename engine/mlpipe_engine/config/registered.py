"""Datastores that scripts registered, and the default one: `.mlpipe/datastores.json`, names of credentials and no secrets.

A file and no table, because pipeline files ask for datastores while they are loaded: what a load opened is what its cached result
rests on, and a file of its own changes only when a datastore does.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from uuid import uuid4

from mlpipe_engine.errors import ConfigError, FilesystemError
from mlpipe_engine.model.datastores import DatastoreSpec


@dataclass(frozen=True)
class Registered:
    datastores: tuple[DatastoreSpec, ...] = ()
    default: str | None = None


def _path(root: str) -> str:
    return os.path.join(root, ".mlpipe", "datastores.json")


def read(root: str) -> Registered:
    """Raises ConfigError when the file is not what we wrote."""
    path = _path(root)
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        stores = tuple(
            DatastoreSpec.of(name, item["url"], item["settings"]) for name, item in sorted(document["datastores"].items())
        )
        return Registered(stores, document["default"])
    except (FileNotFoundError, NotADirectoryError):
        return Registered()
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"{path} is not what register wrote", hint="Remove it, and run the scripts that register datastores again."
        ) from None


def change(root: str, *, add: DatastoreSpec | None = None, remove: str | None = None, default: str | None = None) -> None:
    """One change, whole or not at all, also when several processes register at once. A removed datastore is no default. Raises FilesystemError."""
    path = _path(root)
    try:
        os.makedirs(os.path.join(root, ".mlpipe", "locks"), exist_ok=True)
        with open(os.path.join(root, ".mlpipe", "locks", "datastores"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = read(root)
            stores = {spec.name: spec for spec in known.datastores}
            if add is not None:
                stores[add.name] = add
            if remove is not None:
                stores.pop(remove, None)
            chosen = default or (None if remove is not None and known.default == remove else known.default)
            document = {
                "datastores": {
                    name: {"url": spec.url, "settings": dict((*spec.options, *spec.credentials))} for name, spec in sorted(stores.items())
                },
                "default": chosen,
            }  # fmt: skip
            if Registered(tuple(stores[name] for name in sorted(stores)), chosen) != known:
                _write(path, json.dumps(document, indent=1, sort_keys=True))
    except OSError as error:
        raise FilesystemError.of(error, "write", path) from error


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{uuid4().hex}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
