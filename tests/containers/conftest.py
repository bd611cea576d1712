"""Worlds whose steps run in containers of the tests' own engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from worlds import World

if TYPE_CHECKING:
    from private_engine import PrivateEngine


@pytest.fixture(scope="session")
def bare_python() -> Iterator[Path]:
    """A virtual environment with nothing in it: its image takes two seconds. Not below /tmp, which containers have of their own."""
    folder = Path(tempfile.mkdtemp(prefix="mlpipe-bare-", dir="/var/tmp"))
    folder.chmod(0o755)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    yield folder / "venv"
    shutil.rmtree(folder)


@pytest.fixture
def isolated(world: World, engine: PrivateEngine, bare_python: Path) -> World:
    """A project whose default target is of kind docker."""
    world.write("mlpipe.toml", config(bare_python, engine.url))
    return world


def config(python: Path, url: str, more: str = "", target: str = "isolated") -> str:
    return (
        f'[default]\npython = "{python}"\ncompute = "{target}"\n'
        f'[compute.isolated]\nkind = "docker"\nengine = "{url}"\n{more}\n[compute.plain]\nkind = "process"\n'
    )
