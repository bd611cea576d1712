"""Each server is started once for the whole session, when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Served
from servers.databases import mariadb, postgresql
from servers.storage import azurite, s3, samba, sftp
from servers.web import Web, web

_STARTERS = {"azurite": azurite, "s3": s3, "sftp": sftp, "samba": samba, "postgres": postgresql, "mariadb": mariadb}


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        class Started(dict[str, Served]):
            def __missing__(self, name: str) -> Served:
                served = stack.enter_context(_STARTERS[name](tmp_path_factory.mktemp(name)))
                os.environ.update(served.secrets)
                self[name] = served
                return served

        yield Started()


def _server(name: str) -> object:
    @pytest.fixture(scope="session", name=f"{name}_server")
    def fixture(_servers: dict[str, Served]) -> Served:
        return _servers[name]

    return fixture


azurite_server = _server("azurite")
s3_server = _server("s3")
sftp_server = _server("sftp")
samba_server = _server("samba")
postgres_server = _server("postgres")
mariadb_server = _server("mariadb")


@pytest.fixture
def site() -> Iterator[Web]:
    with web() as served:
        yield served


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder
