"""Object and file servers: Azurite, an S3 gateway, OpenSSH's sftp, Samba. Each is a context manager that yields a `Served`."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from servers import AZURITE, Served, free_port, juicefs, program, running

AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of Azurite's one account, the same everywhere: it is in its documentation and protects nothing."""


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Served]:
    port = free_port()
    words = [str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), "--silent"]
    with running([*words, "--skipApiVersionCheck", "--disableTelemetry"], port, folder / "azurite.log"):
        yield Served(
            "az://data", {"account": "devstoreaccount1", "endpoint": f"http://127.0.0.1:{port}/devstoreaccount1",
                          "account_key": "env:AZURITE_KEY"},
            {"AZURITE_KEY": AZURITE_KEY},
        )  # fmt: skip


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[Served]:
    binary, port = juicefs(), free_port()
    assert binary is not None
    secrets = {"MINIO_ROOT_USER": "s3-user", "MINIO_ROOT_PASSWORD": "s3-password-of-tests"}
    meta = f"sqlite3://{folder}/meta.db"
    environment = secrets | {"HOME": str(folder), "JFS_NO_UPDATE": "1"}
    subprocess.run(
        [binary, "format", "--storage", "file", "--bucket", f"{folder}/objects/", "--trash-days", "0", meta, "tests"],
        check=True, capture_output=True, env=os.environ | environment,
    )  # fmt: skip
    words = [binary, "gateway", "--multi-buckets", "--keep-etag", "--no-usage-report", "--cache-dir", f"{folder}/cache", meta]
    with running([*words, f"127.0.0.1:{port}"], port, folder / "juicefs.log", **environment):
        yield Served(
            "s3://data", {"endpoint": f"http://127.0.0.1:{port}", "access_key": "env:S3_USER", "secret_key": "env:S3_SECRET"},
            {"S3_USER": secrets["MINIO_ROOT_USER"], "S3_SECRET": secrets["MINIO_ROOT_PASSWORD"]},
        )  # fmt: skip


@contextlib.contextmanager
def sftp(folder: Path) -> Iterator[Served]:
    """With keys, configuration and port of its own; nothing of the machine's sshd is touched."""
    port, sshd = free_port(), program("sshd")
    assert sshd is not None
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # it insists on this folder when it runs as root
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    keys = folder / "keys"
    keys.write_text((folder / "user.pub").read_text())
    keys.chmod(0o600)
    config = folder / "sshd_config"
    pam = "no" if os.geteuid() == 0 else "yes"  # without it, an account without a password counts as locked
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {keys}\nStrictModes no\nUsePAM {pam}\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nPidFile {folder}/pid\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
    )
    (folder / "data").mkdir()
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    with running([sshd, "-D", "-e", "-f", str(config)], port, folder / "sshd.log"):
        user = subprocess.run(["id", "-un"], check=True, capture_output=True, text=True).stdout.strip()
        yield Served(
            f"sftp://{user}@127.0.0.1:{port}{folder}/data", {"key_file": str(folder / "user"), "known_hosts": str(known)}
        )  # fmt: skip


@contextlib.contextmanager
def samba(folder: Path) -> Iterator[Served]:
    port, smbd = free_port(), program("smbd")
    assert smbd is not None
    data = folder / "data"
    data.mkdir()
    for name in ("private", "lock", "state", "cache", "ncalrpc"):
        (folder / name).mkdir()
    config = folder / "smb.conf"
    config.write_text(
        f"[global]\nsmb ports = {port}\ninterfaces = lo\nbind interfaces only = yes\nserver role = standalone server\n"
        f"private dir = {folder}/private\nlock directory = {folder}/lock\nstate directory = {folder}/state\n"
        f"cache directory = {folder}/cache\nncalrpc dir = {folder}/ncalrpc\npid directory = {folder}\nlog file = {folder}/smbd.log\n"
        f"disable netbios = yes\nload printers = no\nserver signing = required\nmap to guest = never\n"
        f"[data]\npath = {data}\nread only = no\nforce user = root\n"
    )
    password = "smb password & of tests"
    subprocess.run(
        ["smbpasswd", "-c", str(config), "-s", "-a", "root"],
        input=f"{password}\n{password}\n",
        text=True,
        check=True,
        capture_output=True,
    )
    words = [smbd, "--foreground", "--no-process-group", "--debug-stdout", "-s", str(config)]
    with running(words, port, folder / "smbd.out"):
        yield Served(f"smb://root@127.0.0.1:{port}/data/inner", {"password": "env:SMB_PASSWORD"}, {"SMB_PASSWORD": password})
