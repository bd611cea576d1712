"""W8w: how much sooner a forked step that needs heavy libraries gets to its own code than a cold one, and whether it makes the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from importlib.util import find_spec
from typing import Any

from benchmarks.contenders import Contender, Step, remove_store, write
from benchmarks.errors import BenchError
from benchmarks.measure import Bench, Figure, Sample
from benchmarks.site import Site

_PROVEN = ("numpy", "scipy.linalg", "sklearn.ensemble", "matplotlib.pyplot")

_SCRIPT = """\
import json, sys, time
import numpy, scipy.linalg, sklearn.ensemble, matplotlib.pyplot
began = time.time()
with open("/proc/self/cmdline", "rb") as file:
    print(json.dumps([began, b"zygote.py" in file.read()]))
rng = numpy.random.default_rng(7)
a = rng.normal(size=(60, 60))
forest = sklearn.ensemble.RandomForestClassifier(3, random_state=1).fit(a, a[:, 0] > 0)
with open(sys.argv[1], "wb") as file:
    file.write(scipy.linalg.lu_factor(a @ a)[0].tobytes() + forest.predict_proba(a).tobytes())
if sys.argv[2] == "0":
    time.sleep(15)  # the interpreter that preloads gets ready meanwhile
"""


def warm(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W8w. One core is kept busy by something else all the time."""
    if not sys.platform.startswith("linux") or any(find_spec(name.partition(".")[0]) is None for name in _PROVEN):
        bench.drop("W8w: needs Linux and the sample's libraries")
        return
    forks, colds = (4, 2) if bench.quick else (500, 10)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as load:
        try:
            cold, made = _run(bench, site, "cold", colds, ())
            forked, also = _run(bench, site, "forked", forks + 1, _PROVEN)
        finally:
            load.kill()
    if len(forked) < forks:
        bench.drop(f"W8w: only {len(forked)} of {forks} steps were forked")
    if made | also != made or len(made) != 1:
        raise BenchError(f"W8w: {len(made | also)} different outputs, where all have to be the same")
    case = f"start of a step that imports {', '.join(name.partition('.')[0] for name in _PROVEN)}; {forks} forks"
    bench.keep(Figure("W8w", case, "forked", tuple(forked)), Figure("W8w", case, "cold", tuple(cold)))


def _run(bench: Bench, site: Site, name: str, count: int, preload: tuple[str, ...]) -> tuple[list[Sample], set[str]]:
    """From the start of each step to the first line behind its imports, and the digests of what the steps made. A first fork is left out."""
    folder = site.folder("warm", name)
    if os.path.isdir(folder):
        remove_store(folder)
        shutil.rmtree(folder)
    os.makedirs(os.path.join(folder, "code"))
    write(folder, "code/step.py", _SCRIPT)
    write(folder, "mlpipe.toml", f"[compute.local]\ncpus = {bench.jobs}\npreload = {json.dumps(list(preload))}\n")
    write(
        folder, "pipeline.py",
        "from mlpipe_engine import Pipeline, PipelineData, PythonScriptStep, Workspace\n\nws = Workspace.from_config()\nsteps = []\n"
        f"for index in range({count}):\n    made = PipelineData(f'o{{index}}')\n"
        "    step = PythonScriptStep('step.py', name=f's{index}', source_directory='code', outputs=[made],\n"
        f"                            arguments=[made, index if {bool(preload)} else 'cold %d' % index])\n"
        "    steps.append(step)\n"
        "    if index:\n        step.run_after(steps[0])\n"
        "pipeline = Pipeline(ws, steps=steps, name='bench')\n",
    )  # fmt: skip
    words = {"cwd": folder, "env": dict(site.environment), "capture_output": True, "text": True, "check": False}
    done = subprocess.run([site.ours, "run"], **words)  # type: ignore[call-overload]
    if done.returncode:
        raise BenchError(f"W8w: the run failed: {done.stdout[-300:]}{done.stderr[-300:]}")
    shown = json.loads(subprocess.run([site.ours, "show", "latest", "--json"], **words).stdout)  # type: ignore[call-overload]
    samples, digests = [], set()
    for item in shown["items"]:
        digests |= set(item["outputs"].values())
        began, forked = _said(folder, shown["run"], item["name"])
        if forked == bool(preload):
            samples.append(Sample(began - datetime.fromisoformat(item["started_at"]).timestamp(), 0.0, 0))
    return samples, digests


def _said(folder: str, run: dict[str, Any], step: str) -> tuple[float, bool]:
    with open(os.path.join(folder, ".mlpipe/runs", run["experiment"], str(run["number"]), step, "logs/stdout.log")) as file:
        began, forked = json.loads(file.readline())
    return float(began), bool(forked)
