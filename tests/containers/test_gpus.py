"""GPUs without one: a stand-in for the driver's library, device files that are /dev/null, a stand-in for NVIDIA's runtime.

Who gets which device when, and what is said where there is none, is tested for real; that CUDA works is for tests/gpu.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlpipe_engine.errors import EnvironmentProblem
from mlpipe_engine.executors import gpus, nvml
from mlpipe_engine.executors.containers import gpu_requests
from mlpipe_engine.executors.containers.engines import EngineAccess
from mlpipe_engine.executors.gpus import GpuLeases
from private_engine import PrivateEngine
from worlds import World

FAKE_DRIVER = r"""
#include <string.h>
#include <stdio.h>
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Rates;
static long numbers[] = {0, 1};
int nvmlInit_v2(void) { return RESULT; }
const char *nvmlErrorString(int code) { return "Driver/library version mismatch"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &numbers[index]; return 0; }
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) { snprintf(text, size, "GPU-000%ld", *(long *)handle); return 0; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { snprintf(text, size, "Imagined 9000"); return 0; }
int nvmlDeviceGetMemoryInfo(void *handle, Memory *m) { m->total = 8000000000; m->used = 1000000; m->free = m->total - m->used; return 0; }
int nvmlDeviceGetUtilizationRates(void *handle, Rates *r) { r->gpu = 40 + *(long *)handle; r->memory = 5; return 0; }
"""


def driver(folder: Path, result: int = 0) -> str:
    (folder / "driver.c").write_text(FAKE_DRIVER)
    library = folder / f"driver-{result}.so"
    subprocess.run(["cc", "-shared", "-fPIC", f"-DRESULT={result}", "-o", str(library), str(folder / "driver.c")], check=True)
    return str(library)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver with two GPUs."""
    monkeypatch.setattr(nvml, "LIBRARY", driver(tmp_path))


SHOW = """
import os, sys, time
seen = sorted(name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit())
time.sleep(0.7)
open(sys.argv[1], "w").write(os.environ.get("CUDA_VISIBLE_DEVICES", "unset") + " " + ",".join(seen))
"""


def steps(world: World, count: int, more: str = "gpus=1") -> None:
    world.write("src/show.py", SHOW)
    world.define(f"""
steps = []
for n in range({count}):
    out = PipelineData(f"out{{n}}")
    steps.append(PythonScriptStep("show.py", name=f"s{{n}}", source_directory="src", arguments=[out], outputs=[out], cpus=0.1, {more}))
p = Pipeline(ws, steps, name="p")
""")


@pytest.mark.needs("cc")
def test_processes_get_one_device_each(world: World, two: None) -> None:
    steps(world, 4)
    began = time.monotonic()
    done = world.run()
    assert set(done.states.values()) == {"succeeded"}
    seen = sorted(done.output(f"s{n}", f"out{n}").split()[0] for n in range(4))
    assert seen == [b"GPU-0000", b"GPU-0000", b"GPU-0001", b"GPU-0001"]
    assert time.monotonic() - began > 1.4, "four steps on two devices are two rounds"
    lines = (Path(done.engine.step_dir(done.record.id, "s0")) / "logs/gpu.csv").read_text().splitlines()
    assert lines[0] == "seconds,gpu,utilization_percent,memory_bytes" and lines[1].split(",")[2] in ("40", "41")


@pytest.mark.needs("cc")
def test_a_step_that_asks_for_all_waits_for_all(world: World, two: None) -> None:
    steps(world, 2, "gpus=n + 1")
    done = world.run()
    assert [done.output(f"s{n}", f"out{n}").split()[0] for n in range(2)] in (
        [b"GPU-0000", b"GPU-0000,GPU-0001"], [b"GPU-0001", b"GPU-0000,GPU-0001"]
    )  # fmt: skip


@pytest.mark.needs("cc")
def test_a_lease_is_the_machines(world: World, two: None) -> None:
    ours, theirs = GpuLeases("step a of run 1"), GpuLeases("step b of run 9")
    first = ours.try_lease(1, ())
    assert first is not None and first.ids == ("0",)
    second = theirs.try_lease(1, ())
    assert second is not None and second.ids == ("1",)
    assert theirs.try_lease(1, ()) is None
    assert ours.holders(()) == "step a of run 1, step b of run 9"
    first.release()
    first.release()
    third = theirs.try_lease(1, ())
    assert third is not None and third.ids == ("0",)
    assert theirs.try_lease(2, ()) is None, "all or none"
    for lease in (second, third):
        lease.release()


def test_without_a_driver_nothing_starts_and_the_way_out_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "LIBRARY", "libno-such-driver.so.1")
    steps(world, 1)
    with pytest.raises(EnvironmentProblem, match="step 's0' asks for 1 GPU, but the NVIDIA driver is not installed") as caught:
        world.run()
    assert "nvidia-driver" in caught.value.hint and "gpus_optional=True" in caught.value.hint
    assert not (world.root / ".mlpipe/runs").exists()
    steps(world, 1, "gpus=1, gpus_optional=True")
    assert world.run().output("s0", "out0").split() == [], "it goes without, and is told so by an empty CUDA_VISIBLE_DEVICES"


@pytest.mark.needs("cc")
def test_a_driver_that_does_not_work_and_too_few_devices(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "LIBRARY", driver(tmp_path, 18))
    steps(world, 1)
    with pytest.raises(EnvironmentProblem, match="the NVIDIA driver does not work: Driver/library version mismatch"):
        world.run()
    monkeypatch.setattr(nvml, "LIBRARY", driver(tmp_path))
    steps(world, 1, "gpus=3")
    with pytest.raises(EnvironmentProblem, match="asks for 3 GPUs, but this machine has 2 GPUs"):
        world.run()


def test_gpus_are_counted(world: World) -> None:
    from mlpipe_engine.errors import DefinitionError

    steps(world, 1, "gpus=-1")
    with pytest.raises(DefinitionError, match="gpus"):
        world.run()


@pytest.fixture(scope="module")
def with_gpus() -> Iterator[PrivateEngine]:
    with PrivateEngine(fake_gpus=2) as engine:
        yield engine


@pytest.mark.needs("docker")
def test_containers_get_one_device_each_and_see_no_other(world: World, with_gpus: PrivateEngine, bare_python: Path) -> None:
    table = f'kind = "docker"\nengine = "{with_gpus.url}"\ngpus = ["0", "1"]\n'
    world.write("mlpipe.toml", f'[default]\npython = "{bare_python}"\ncompute = "d"\n[compute.d]\n{table}')
    steps(world, 4)
    done = world.run()
    assert set(done.states.values()) == {"succeeded"}, done.step("s0").error
    seen = sorted(done.output(f"s{n}", f"out{n}") for n in range(4))
    assert seen == [b"unset nvidia0", b"unset nvidia0", b"unset nvidia1", b"unset nvidia1"]
    steps(world, 1, "")
    assert world.run(force=True).output("s0", "out0") == b"unset ", "a step that asked for none sees none"


@pytest.mark.needs("docker")
def test_a_device_the_engine_does_not_have(world: World, with_gpus: PrivateEngine, bare_python: Path) -> None:
    table = f'kind = "docker"\nengine = "{with_gpus.url}"\ngpus = ["7"]\n'
    world.write("mlpipe.toml", f'[default]\npython = "{bare_python}"\ncompute = "d"\n[compute.d]\n{table}')
    steps(world, 1)
    done = world.run()
    assert done.states == {"s0": "failed"} and "unknown device" in done.step("s0").error
    assert "nvidia-ctk cdi list" in done.step("s0").error


@pytest.mark.needs("docker")
def test_an_engine_without_the_toolkit(world: World, engine: PrivateEngine, bare_python: Path) -> None:
    if os.path.exists("/dev/nvidiactl") or shutil.which("nvidia-container-runtime-hook"):
        pytest.skip("this machine has a GPU: see tests/gpu")
    table = f'kind = "docker"\nengine = "{engine.url}"\ngpus = ["0"]\n'
    world.write("mlpipe.toml", f'[default]\npython = "{bare_python}"\ncompute = "d"\n[compute.d]\n{table}')
    steps(world, 1)
    with pytest.raises(EnvironmentProblem, match="it has no NVIDIA toolkit and no CDI device") as caught:
        world.run()
    assert "nvidia-ctk runtime configure" in caught.value.hint
    assert not (world.root / ".mlpipe/runs").exists()


@pytest.mark.needs("docker")
def test_the_ways_a_device_is_asked_for(engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dataclasses import replace

    facts = EngineAccess(engine.url).facts
    cdi = gpu_requests.devices_of(("1",), replace(facts, cdi_devices=True)).requests[0]
    assert (cdi["Driver"], cdi["DeviceIDs"], cdi["Count"]) == ("cdi", ["nvidia.com/gpu=1"], 0)
    kit = gpu_requests.devices_of(("0", "1"), replace(facts, runtimes=("nvidia", "runc"))).requests[0]
    assert (kit["DeviceIDs"], kit["Capabilities"], kit["Count"]) == (["0", "1"], [["gpu"]], 0)
    for name in ("libcuda.so.999.1", "libnvidia-ml.so.999.1", "libunrelated.so.1"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpu_requests, "_LIBRARY_FOLDERS", (str(tmp_path),))
    raw = gpu_requests.devices_of(("0",), facts)
    assert raw.requests == [] and "/dev/nvidia0:/dev/nvidia0:rwm" in raw.devices
    assert sorted(os.path.basename(inside) for _, inside in raw.mounts) == [
        "libcuda.so.1", "libcuda.so.999.1", "libnvidia-ml.so.1", "libnvidia-ml.so.999.1"
    ]  # fmt: skip


def test_asking_costs_nothing_where_nobody_asks() -> None:
    assert gpus.ids_of(("3", "5")) == ("3", "5"), "a list of ids needs no driver"
