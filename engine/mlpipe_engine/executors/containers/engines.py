"""A container engine: where it listens, what it is, and what to do when it does not answer.

One `EngineAccess` per URL and process; every thread gets a client of its own, because sessions must not be shared. Nothing here
knows steps.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from mlpipe_engine.errors import ExecutorUnavailableError, MlpipeError

REQUEST_SECONDS = 10.0
"""A request that takes longer is asked again, or the engine is taken for hung."""
_PROBE_SECONDS = 5.0
_OLDEST_API = (1, 41)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine says of itself."""

    id: str
    name: str
    version: str
    api: str
    kernel: str
    architecture: str
    local: bool
    """It sees the files of this machine at the paths they have here, and reads of them show in their times."""
    rootless: bool
    podman: bool
    not_enforced: tuple[str, ...]
    """Limits it would silently ignore: "memory", "cpus", "pids"."""
    cdi_devices: bool
    """It knows NVIDIA devices by their CDI names."""
    runtimes: tuple[str, ...]


class EngineAccess:
    """Raises ExecutorUnavailableError from `facts` and `client`, never anything of the library."""

    def __init__(self, url: str = "") -> None:
        self.url = url or find_url()
        self._clients = threading.local()

    @cached_property
    def facts(self) -> EngineFacts:
        client = self._open(_PROBE_SECONDS, "auto")
        try:
            info, version = client.info(), client.version()
        except Exception as error:
            raise unavailable(self.url, error) from error
        finally:
            client.close()
        return _facts(self.url, client._version, info, version)

    def client(self) -> Any:
        """Of this thread."""
        found = getattr(self._clients, "client", None)
        if found is None:
            found = self._clients.client = self._open(REQUEST_SECONDS, self.facts.api)
        return found

    def stream_client(self) -> Any:
        """For requests that last: the caller closes it."""
        return self._open(REQUEST_SECONDS, self.facts.api)

    def _open(self, seconds: float, api: str) -> Any:
        import docker

        try:
            return docker.APIClient(base_url=self.url, version=api, timeout=seconds, tls=_tls(self.url), use_ssh_client=True)
        except Exception as error:
            raise unavailable(self.url, error) from error

    def patiently(self, ask: Callable[[], T], grace_seconds: float) -> T:
        """Ask again while the engine is away (it may be restarting). Answers that say no are raised at once."""
        from docker.errors import APIError

        deadline = time.monotonic() + grace_seconds
        while True:
            try:
                return ask()
            except (APIError, MlpipeError):
                raise
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def find_url() -> str:
    """$DOCKER_HOST, the current docker context, or the first socket that is there. Opens nothing."""
    named = os.environ.get("DOCKER_HOST") or _context_url()
    if named:
        return named
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    places = ["/var/run/docker.sock", f"{runtime}/docker.sock", "/run/podman/podman.sock", f"{runtime}/podman/podman.sock"]
    return "unix://" + next((place for place in places if os.path.exists(place)), places[0])


def engine_is_near() -> bool:
    """Whether a socket of an engine is there; and may be used: cheap, and no promise that it answers."""
    url = find_url()
    return not url.startswith("unix://") or os.access(url.removeprefix("unix://"), os.R_OK | os.W_OK)


def _context_url() -> str:
    """Of Docker Desktop, Colima and the like, which tell their socket in the configuration of the docker command."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            name = os.environ.get("DOCKER_CONTEXT") or json.load(file).get("currentContext") or "default"
    except (OSError, ValueError, AttributeError):
        return ""
    if name == "default":
        return ""
    from hashlib import sha256

    try:
        with open(
            os.path.join(folder, "contexts", "meta", sha256(name.encode()).hexdigest(), "meta.json"), encoding="utf-8"
        ) as file:
            return str(json.load(file)["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tls(url: str) -> Any:
    """As the docker command does: $DOCKER_TLS_VERIFY with the three files of $DOCKER_CERT_PATH."""
    if not url.startswith("tcp://") or not os.environ.get("DOCKER_TLS_VERIFY"):
        return False
    import docker

    folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    pair = (os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
    return docker.tls.TLSConfig(client_cert=pair, ca_cert=os.path.join(folder, "ca.pem"), verify=True)


def _facts(url: str, api: str, info: dict[str, Any], version: dict[str, Any]) -> EngineFacts:
    parts = tuple(int(part) for part in api.split("."))
    if parts < _OLDEST_API:
        raise ExecutorUnavailableError(
            f"the engine at {url} speaks API {api}", expected=f"API {_OLDEST_API[0]}.{_OLDEST_API[1]} or newer",
            hint="Install Docker 20.10 or newer.",
        )  # fmt: skip
    podman = any("podman" in str(item.get("Name", "")).lower() for item in version.get("Components") or [])
    options = " ".join(info.get("SecurityOptions") or [])
    limits = (("memory", "MemoryLimit"), ("cpus", "CpuCfsQuota"), ("pids", "PidsLimit"))
    kernel = str(info.get("KernelVersion", ""))
    return EngineFacts(
        id=str(info.get("ID") or info.get("Name") or url), name=str(info.get("Name", "")), version=str(version.get("Version", "")), api=api,
        kernel=kernel, architecture=str(version.get("Arch", "")), local=url.startswith("unix://") and kernel == os.uname().release,
        rootless="name=rootless" in options or (podman and "/user/" in url), podman=podman,
        not_enforced=tuple(name for name, key in limits if not info.get(key)),
        cdi_devices=_knows_cdi(info), runtimes=tuple(sorted(info.get("Runtimes") or {})),
    )  # fmt: skip


def _knows_cdi(info: dict[str, Any]) -> bool:
    """Newer engines list what they discovered; of older ones only the folders of specifications are known."""
    listed = info.get("DiscoveredDevices")
    if listed is not None:
        return any("nvidia.com/gpu" in str(item) for item in listed)
    return any(
        "nvidia" in name for folder in info.get("CDISpecDirs") or [] if os.path.isdir(folder) for name in os.listdir(folder)
    )  # fmt: skip


def unavailable(url: str, error: BaseException) -> ExecutorUnavailableError:
    """What the library raised, as one sentence and what to do."""
    text, start = (
        " ".join(str(error).split()),
        "Start it (for example: sudo systemctl start docker), or use a compute target of kind process.",
    )
    if isinstance(error, ExecutorUnavailableError):
        return error
    if "FileNotFoundError" in text or "No such file" in text:
        return ExecutorUnavailableError(f"no container engine listens at {url}", hint=f"Install Docker or Podman. {start}")
    if "PermissionError" in text or "Permission denied" in text:
        hint = "Add yourself to the group docker (sudo usermod -aG docker $USER, then log in anew), or use rootless Docker or Podman."
        return ExecutorUnavailableError(f"this user may not use the container engine at {url}", hint=hint)
    if "refused" in text:
        return ExecutorUnavailableError(
            f"the container engine at {url} does not run: its address refuses connections", hint=start
        )
    if "timed out" in text.lower() or "Timeout" in type(error).__name__:
        hint = "See what it does (journalctl -u docker), restart it, then run again."
        return ExecutorUnavailableError(f"the container engine at {url} does not answer", hint=hint)
    if "paramiko" in text or "ssh" in text.lower():
        hint = f"Try `docker -H {url} info`: the same command with its messages."
        return ExecutorUnavailableError(f"the container engine at {url} cannot be reached: {text[:200]}", hint=hint)
    return ExecutorUnavailableError(f"the container engine at {url} cannot be used: {text[:300]}", hint=start)
