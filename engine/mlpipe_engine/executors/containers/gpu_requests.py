"""How a container gets the GPUs that were leased for its step: by CDI, by NVIDIA's toolkit, or as raw devices where neither is.

The ids are always ours: an engine that is asked for a number of GPUs gives everybody the first ones. Inside, devices are numbered from 0.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlpipe_engine.errors import EnvironmentProblem

if TYPE_CHECKING:
    from mlpipe_engine.executors.containers.engines import EngineFacts

Mode = Literal["cdi", "toolkit", "raw", ""]
TOOLKIT = (
    "Install NVIDIA's container toolkit: sudo apt-get install nvidia-container-toolkit, then sudo nvidia-ctk runtime configure"
    " --runtime=docker, then sudo systemctl restart docker."
)
_CONTROL = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_LIBRARY_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
)
_LIBRARIES = re.compile(
    r"lib(cuda|nvidia-(ml|ptxjitcompiler|nvvm|gpucomp|allocator|cfg|opencl)|nvcuvid|cudadebugger)\.so\.\d[\d.]*$"
)


@dataclass(frozen=True)
class Devices:
    """Parts of what a container is made with."""

    requests: list[Any] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    mounts: list[tuple[str, str]] = field(default_factory=list)
    """(path here, path inside), read-only."""
    variables: dict[str, str] = field(default_factory=dict)


def mode_of(facts: EngineFacts) -> Mode:
    """What this engine can do; "" for nothing."""
    if facts.cdi_devices:
        return "cdi"
    if "nvidia" in facts.runtimes or (facts.local and shutil.which("nvidia-container-runtime-hook")):
        return "toolkit"
    return "raw" if facts.local and os.path.exists("/dev/nvidiactl") and _driver_libraries() else ""


def require(facts: EngineFacts, step: str, where: str) -> None:
    """Raises EnvironmentProblem with the commands that help."""
    if not mode_of(facts):
        lacks = f"the container engine {facts.name or facts.id} cannot give one: it has no NVIDIA toolkit and no CDI device"
        raise EnvironmentProblem(f"step {step!r} asks for a GPU, but {lacks}", where=where, hint=TOOLKIT)


def devices_of(ids: tuple[str, ...], facts: EngineFacts) -> Devices:
    if not ids:
        return Devices()
    from docker.types import DeviceRequest

    mode = mode_of(facts)
    if mode == "cdi":
        return Devices(requests=[DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={id}" for id in ids])])
    if mode == "toolkit":
        return Devices(requests=[DeviceRequest(device_ids=list(ids), capabilities=[["gpu"]])])
    return _raw(ids)


def _raw(ids: tuple[str, ...]) -> Devices:
    """The driver's device files and libraries, as NVIDIA's toolkit would bring them in, without it."""
    nodes = [*(path for path in _CONTROL if os.path.exists(path)), *(f"/dev/nvidia{id}" for id in ids)]
    libraries = _driver_libraries()
    folder = next((os.path.dirname(path) for path in libraries), "")
    inside = "/usr/local/nvidia/lib64"
    mounts = [(path, f"{inside}/{name}") for path in libraries for name in _names(path)]
    return Devices(
        devices=[f"{node}:{node}:rwm" for node in nodes], mounts=mounts if folder else [], variables={"LD_LIBRARY_PATH": inside}
    )  # fmt: skip


def _names(path: str) -> set[str]:
    """Its own name and those by which programs open it: libcuda.so.580.1 is libcuda.so.1, too."""
    base = os.path.basename(path)
    stem = base.split(".so.")[0]
    return {base, f"{stem}.so.1"}


def _driver_libraries() -> list[str]:
    for folder in _LIBRARY_FOLDERS:
        found = [
            path for path in sorted(glob.glob(f"{folder}/lib*.so.*")) if _LIBRARIES.search(path) and not os.path.islink(path)
        ]
        if any(os.path.basename(path).startswith("libcuda.") for path in found):
            return found
    return []


def explained(text: str) -> str:
    """What an engine says about devices, in words that help."""
    if "could not select device driver" in text or "Unknown runtime specified nvidia" in text:
        return f"{text}. {TOOLKIT}"
    if "unresolvable CDI devices" in text or "unknown device" in text.lower():
        return f"{text}. List what there is: nvidia-ctk cdi list; make it anew: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    return text
