"""Database servers: PostgreSQL and MariaDB, on data of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from servers import Served, free_port, postgres, program, running

PASSWORD = "pg p@ss/word%"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Served]:
    """It refuses to run as root, so there it runs as the user its package made."""
    port, data = free_port(), folder / "data"
    user = "postgres" if os.geteuid() == 0 else None
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if user is not None:
        for parent in (folder, *folder.parents):
            if str(parent).startswith("/tmp/"):
                parent.chmod(0o755)
        for path in (folder, secret):
            shutil.chown(path, user)
    initdb, server = postgres("initdb"), postgres("postgres")
    assert initdb is not None and server is not None
    subprocess.run(
        [initdb, "-D", str(data), "-N", "-U", "owner", "-A", "scram-sha-256", f"--pwfile={secret}"], check=True, capture_output=True,
        user=user, cwd=folder,
    )  # fmt: skip
    words = [server, "-D", str(data), "-p", str(port), "-k", str(folder), "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
    with running(words, port, folder / "postgres.log", user=user):
        yield Served(f"postgresql://owner@127.0.0.1:{port}/postgres", {"password": "env:PG_PASSWORD"}, {"PG_PASSWORD": PASSWORD})


@contextlib.contextmanager
def mariadb(folder: Path) -> Iterator[Served]:
    port, data = free_port(), folder / "data"
    install, server = program("mariadb-install-db"), program("mariadbd")
    assert install is not None and server is not None
    account = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db", *account],
        check=True, capture_output=True,
    )  # fmt: skip
    words = [server, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/s"]
    with running([*words, f"--pid-file={folder}/pid", "--skip-name-resolve", *account], port, folder / "mariadb.log"):
        yield Served(f"mysql://root@127.0.0.1:{port}/mysql", {}, {})
