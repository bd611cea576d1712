"""Python steps over one shared source folder of fifty files, against copying that folder and spawning the script in a bare loop."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from benchmarks.contenders import Contender, Step, remove_store, write
from benchmarks.errors import BenchError
from benchmarks.measure import Bench, Entry
from benchmarks.site import PROGRAMS, Site

_USED = 5


def python_steps(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W2p."""
    count = 4 if bench.quick else 200
    folder, target = site.folder("python-steps"), site.folder("python-steps-loop")
    make_project(folder, count, bench.jobs)
    shutil.rmtree(target, ignore_errors=True)

    def check_loop() -> int:
        return checked(count, [os.path.join(target, str(index), "out.txt") for index in range(count)])

    def check_ours() -> int:
        done = subprocess.run([site.ours, "show", "latest", "--json"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"show latest --json: {done.stderr.strip()}")
        hexes = [
            str(digest).partition(":")[2] for item in json.loads(done.stdout)["items"] for digest in item["outputs"].values()
        ]
        return checked(count, [os.path.join(folder, ".mlpipe/artifacts", name[:2], name) for name in hexes])

    loop = [
        sys.executable,
        str(PROGRAMS / "copy_and_spawn.py"),
        f"{folder}/code",
        target,
        str(count),
        str(bench.jobs),
        sys.executable,
    ]
    entries = [
        Entry("mlpipe-tui", lambda: [site.ours, "run"], folder, lambda _: remove_store(folder), check_ours),
        Entry("copy and spawn", lambda: loop, site.root, lambda _: shutil.rmtree(target, ignore_errors=True), check_loop),
    ]
    bench.compare("W2p", f"{count} Python steps", entries, steps=count, rounds=max(1, bench.rounds - 2), warm=False)


def make_project(folder: str, count: int, jobs: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "code"))
    for index in range(49):
        body = "".join(f"def f{number}(x):\n    return x + {index} * {number}\n\n\n" for number in range(40))
        write(folder, f"code/part{index}.py", body)
    imports = "".join(f"import part{index}\n" for index in range(_USED))
    total = " + ".join(f"part{index}.f1(number)" for index in range(_USED))
    write(
        folder, "code/step.py",
        f"import sys\n\n{imports}\nnumber = int(sys.argv[1])\nwith open(sys.argv[2], 'w') as file:\n    file.write(str({total}))\n",
    )  # fmt: skip
    write(folder, "mlpipe.toml", f"[compute.local]\ncpus = {jobs}\n")
    write(
        folder, "pipeline.py",
        "from mlpipe_engine import Pipeline, PipelineData, PythonScriptStep, Workspace\n\nws = Workspace.from_config()\nsteps = []\n"
        f"for index in range({count}):\n    made = PipelineData(f'o{{index}}')\n"
        "    steps.append(PythonScriptStep('step.py', name=f's{index}', source_directory='code', arguments=[index, made], outputs=[made]))\n"
        "pipeline = Pipeline(ws, steps=steps, name='bench')\n",
    )  # fmt: skip


def checked(count: int, paths: list[str]) -> int:
    """How many outputs there are, all right. Raises BenchError."""
    found = []
    for path in paths:
        with open(path) as file:
            found.append(int(file.read()))
    if sorted(found) != sorted(_USED * number + sum(range(_USED)) for number in range(count)):
        raise BenchError("an output is missing or wrong")
    return count
