"""A container engine of the tests' own: its network and mount namespace, its folder, thrown away after.

Never start a second dockerd outside of a network namespace of its own: with `bridge: none` it deletes the docker0 of the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

import docker

_FAKE_RUNTIME = """
import json, os, sys
words = sys.argv[1:]
if "create" in words:
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    variables = dict(item.split("=", 1) for item in config["process"]["env"] if "=" in item)
    for number in filter(None, variables.get("NVIDIA_VISIBLE_DEVICES", "").split(",")):
        if not number.isdigit() or int(number) >= int(os.environ["FAKE_GPUS"]):
            with open(words[words.index("--log") + 1], "w") as log:
                json.dump({"level": "error", "msg": "nvidia-container-cli: device error: %s: unknown device" % number}, log)
            sys.exit(1)
        place = {"type": "c", "major": 1, "minor": 3}
        config["linux"].setdefault("devices", []).append({"path": "/dev/nvidia" + number, "fileMode": 0o666, **place})
        config["linux"]["resources"].setdefault("devices", []).append({"allow": True, "access": "rw", **place})
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("runc", ["runc", *words])
"""


def _attempt(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0


@lru_cache(maxsize=1)
def can_start() -> bool:
    """Root, the programs, and a kernel that lets namespaces and overlays be made."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "containerd", "runc", "unshare", "iptables"))):
        return False
    return _attempt(["unshare", "-n", "-m", "mount", "-t", "tmpfs", "none", "/mnt"])


class PrivateEngine:
    """`with PrivateEngine() as engine:` gives one that answers at `engine.url`."""

    def __init__(self, *, live_restore: bool = False, fake_gpus: int = 0) -> None:
        """`fake_gpus`: DeviceRequests by id give /dev/nvidia0 ... (each a /dev/null) by a stand-in for NVIDIA's runtime."""
        self.folder = Path(tempfile.mkdtemp(prefix="mlpipe-engine-"))
        self.url = f"unix://{self.folder}/docker.sock"
        self._program: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None
        """A process of its own where containers are to outlive the engine, as on a machine where the system starts both."""
        self._live_restore = live_restore
        config = {
            "bridge": "none", "iptables": False, "ip6tables": False, "userland-proxy": False, "live-restore": live_restore
        }  # fmt: skip
        self._environment = dict(os.environ)
        if fake_gpus:
            self._fake(fake_gpus, config)
        (self.folder / "daemon.json").write_text(json.dumps(config))

    def _fake(self, count: int, config: dict[str, object]) -> None:
        programs = self.folder / "programs"
        programs.mkdir()
        for name, text in (
            ("nvidia-container-runtime-hook", "#!/bin/sh\n"),
            ("nvidia-runtime", f"#!{sys.executable}\n{_FAKE_RUNTIME}"),
        ):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self._environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "FAKE_GPUS": str(count)}
        config |= {"runtimes": {"nvidia": {"path": f"{programs}/nvidia-runtime"}}, "default-runtime": "nvidia"}

    def __enter__(self) -> PrivateEngine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def start(self) -> None:
        folder = self.folder
        (folder / "pid").unlink(missing_ok=True)
        with open(folder / "log", "ab") as log:
            self._program = subprocess.Popen(
                [*self._place(log), "dockerd", "--config-file", f"{folder}/daemon.json", "-H", self.url,
                 "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid",
                 *(["--containerd", f"{folder}/containerd/socket"] if self._live_restore else [])],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=self._environment,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self.answers():
            if self._program.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _place(self, log: IO[bytes]) -> list[str]:
        """Words that start a program in namespaces of its own."""
        away = ["unshare", "-n", "-m", "--propagation", "private"]
        if not self._live_restore:
            return away
        place = self.folder / "containerd"
        if self._containerd is None:
            words = ["containerd", "--root", f"{place}/root", "--state", f"{place}/state", "--address", f"{place}/socket"]
            self._containerd = subprocess.Popen(
                [*away, *words], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
            until((place / "socket").exists)
        return ["nsenter", "-t", str(self._containerd.pid), "-n", "-m", "--"]

    def answers(self) -> bool:
        with contextlib.suppress(Exception):
            return bool(self.client(timeout=2).ping())
        return False

    def client(self, timeout: float = 30) -> docker.APIClient:
        return docker.APIClient(base_url=self.url, version="auto", timeout=timeout)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._program is not None:
            with contextlib.suppress(OSError, ValueError):
                os.kill(self.pid, number)
            if self._program.poll() is None:
                self._program.wait(30)
            self._program = None

    def close(self) -> None:
        """Containers first: a daemon that is killed leaves theirs behind."""
        with contextlib.suppress(Exception):
            os.kill(self.pid, signal.SIGCONT)
        with contextlib.suppress(Exception):
            client = self.client(timeout=5)
            for row in client.containers(all=True):
                client.remove_container(row["Id"], force=True, v=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        if self._program is not None:
            self._program.kill()
            self._program.wait()
        if self._containerd is not None:
            self._containerd.terminate()
            self._containerd.wait()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1].replace("\\040", " ")
            if place.startswith(str(self.folder)):
                subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def over_tcp(engine: PrivateEngine) -> Iterator[str]:
    """The same engine under a tcp:// address of this machine, which says nothing of whose files it sees."""
    server = socket.create_server(("127.0.0.1", 0))

    def pipe(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(engine.url.removeprefix("unix://"))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pipe, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    server.close()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def small_image(engine: PrivateEngine) -> str:
    """Made by the product's own way from the base interpreter of the one that runs the tests, without its packages."""
    import platform
    from dataclasses import replace

    from mlpipe_engine.executors import interpreters
    from mlpipe_engine.executors.containers import host_image
    from mlpipe_engine.executors.interpreters import Interpreter
    from mlpipe_engine.hashing.stat_cache import StatCache

    stats = StatCache()
    base = Interpreter(os.path.realpath(sys.executable), "the tests")
    description, _ = interpreters.describe_cached(base, "/", None, stats)
    contents, _ = host_image.contents_of(base, description, stats, None)
    contents = replace(contents, sites=(), key="0" * 12 + contents.key)
    client = engine.client(timeout=300)
    architecture = "arm64" if platform.machine() == "aarch64" else "amd64"
    host_image.build(contents, architecture, str(engine.folder / "images"), lambda data: list(client.load_image(data)))
    return str(client.inspect_image(contents.tag)["Id"])
