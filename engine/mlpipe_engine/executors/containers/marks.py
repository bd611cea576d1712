"""A small file for every container a project made, written before the container is and removed after it is gone.

What a killed runner left behind is found through them, by the runner that goes on with its run or by the next command; a project
without one never asks an engine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from mlpipe_engine.errors import FilesystemError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    attempt: str
    run: str
    step: str
    engine: str
    fingerprint: str
    """Of the execution: another one is no use to the step."""


def folder_of(state_dir: str) -> str:
    return f"{state_dir}/locks/containers"


def path_of(state_dir: str, attempt: str) -> str:
    return f"{folder_of(state_dir)}/{attempt}"


def write(state_dir: str, mark: Mark) -> str:
    """Its path. Raises FilesystemError."""
    path = path_of(state_dir, mark.attempt)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(asdict(mark), file)
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise FilesystemError.of(error, "write", path) from error
    return path


def read_all(state_dir: str) -> Iterator[Mark]:
    try:
        names = sorted(os.listdir(folder_of(state_dir)))
    except OSError:
        return
    for name in names:
        try:
            with open(path_of(state_dir, name), encoding="utf-8") as file:
                yield Mark(**json.load(file))
        except (OSError, ValueError, TypeError):
            continue


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
