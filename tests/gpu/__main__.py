"""python -m tests.gpu [ENGINE]: what only a machine with a GPU can show, printed as lines for docs/gpu.md. Exit 0 when all holds.

Two steps ask for the one GPU, as processes and in containers: each allocates, multiplies matrices and checks the product.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "engine"), str(HERE.parents[1]), str(HERE.parent)]

from mlpipe_engine.executors import nvml  # noqa: E402
from mlpipe_engine.executors.containers import gpu_requests  # noqa: E402
from mlpipe_engine.executors.containers.engines import EngineAccess, engine_is_near  # noqa: E402
from worlds import World  # noqa: E402


def main(words: list[str]) -> int:
    try:
        found = nvml.gpus()
    except nvml.NoDriver as error:
        print(f"no GPU here: {error}")
        return 2
    for gpu in found:
        print(f"device {gpu.index}: {gpu.name}, {gpu.memory_bytes / 1e9:.0f} GB, {gpu.uuid}")
    engine = words[0] if words else ""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        world = prepare(Path(folder), engine)
        good = check(world, "plain", "processes")
        if engine or engine_is_near():
            facts = EngineAccess(engine).facts
            print(
                f"engine: {'Podman' if facts.podman else 'Docker'} {facts.version}, devices by {gpu_requests.mode_of(facts) or 'nothing'}"
            )
            good = check(world, "boxed", "containers") and good
        else:
            print("no container engine here: containers were not tried")
    return 0 if good else 1


def prepare(folder: Path, engine: str) -> World:
    world = World(folder / "project")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    world.write("mlpipe.toml", (
        f'[default]\npython = "{folder}/venv"\n[compute.plain]\nkind = "process"\ngpus = ["0"]\n'
        f'[compute.boxed]\nkind = "docker"\nengine = "{engine or "unix:///var/run/docker.sock"}"\ngpus = ["0"]\n'
    ))  # fmt: skip
    world.write("src/product.py", (HERE / "product.py").read_text())
    world.define("""
steps = []
for name in ("one", "two"):
    out = PipelineData(f"out_{name}")
    steps.append(PythonScriptStep("product.py", name=name, source_directory="src", arguments=[out, name], outputs=[out], gpus=1, cpus=0.5))
p = Pipeline(ws, steps, name="p")
""")
    return world


def check(world: World, target: str, word: str) -> bool:
    done = world.run(compute=target, force=True)
    if set(done.states.values()) != {"succeeded"}:
        print(f"{word}: FAILED: {done.states}\n{done.log('one')}{done.step('one').error}")
        return False
    rows = sorted(done.output(name, f"out_{name}").decode().split(" ", 5) for name in ("one", "two"))
    apart = float(rows[0][1]) <= float(rows[1][0])
    curve = (Path(done.engine.step_dir(done.record.id, "one")) / "logs/gpu.csv").read_text().splitlines()[1:]
    peak = max(int(line.split(",")[2]) for line in curve)
    memory = max(int(line.split(",")[3]) for line in curve)
    print(
        f"{word}: both products right on {rows[0][5]}; {rows[0][2]} and {rows[1][2]} launches; they see {rows[0][3]} device"
        f" (CUDA_VISIBLE_DEVICES {rows[0][4]}); one after the other: {apart}; utilisation up to {peak} %, memory {memory / 1e6:.0f} MB"
    )
    return apart and peak > 0 and rows[0][3] == "1"


if __name__ == "__main__":
    os.chdir(HERE.parents[1])
    sys.exit(main(sys.argv[1:]))
