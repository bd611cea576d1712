"""W8: from a save to the first instruction of the step's process, against entr; what watching costs while nothing happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import Contender, Step, edit, write
from benchmarks.errors import BenchError
from benchmarks.graphs import Graph, layered
from benchmarks.measure import Bench, Figure, Sample
from benchmarks.site import PROGRAMS, Site

_PATIENCE_SECONDS = 20.0


def watch(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W8. The steps are stamp.c, which writes down the time of its first instruction; both contenders start the same program."""
    stamp = site.compiled("stamp")
    if stamp is None:
        bench.drop("W8: no C compiler")
        return
    count, saves = (20, 3) if bench.quick else (1000, 200)
    stamps = os.path.join(site.root, "stamps")
    graph = layered(count)
    folder = site.folder("watch", graph.name)
    make_project(folder, graph, [stamp, stamps], bench.jobs)
    latency(bench, site, graph, folder, stamp, stamps, saves)
    decision(bench, site, stamp, stamps)
    idle(bench, site, 200 if bench.quick else 20_000, 3.0 if bench.quick else 90.0)


def make_project(folder: str, graph: Graph, words: list[str], jobs: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "src"))
    for index in range(graph.size):
        edit(folder, index, 0)
    write(folder, "mlpipe.toml", f"[compute.local]\ncpus = {jobs}\n")
    write(
        folder, "pipeline.py",
        "from pathlib import Path\n\nfrom mlpipe_engine import CommandStep, Pipeline, PipelineData, Workspace\n\n"
        f"NEEDS = {graph.needs!r}\nWORDS = {words!r}\n\nws = Workspace.from_config()\n"
        "made = [PipelineData(f\"o{index}\") for index in range(len(NEEDS))]\nsteps = []\nfor index, needs in enumerate(NEEDS):\n"
        "    inputs = [Path(f\"src/{index}.txt\"), *(made[need] for need in needs)]\n"
        "    steps.append(CommandStep([*WORDS, made[index], *inputs], name=f\"s{index}\", inputs=inputs, outputs=[made[index]]))\n"
        "pipeline = Pipeline(ws, steps=steps, name=\"bench\")\n",
    )  # fmt: skip


class Ours:
    """`mlpipe-tui watch --json`; after `settled` the next save finds a spare that is ready."""

    name = "mlpipe-tui"

    def __init__(self, site: Site, folder: str) -> None:
        done = subprocess.run(
            [site.ours, "run"], cwd=folder, env=dict(site.environment), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(f"the first run failed: {done.stdout[-300:]}{done.stderr[-300:]}")
        self.process = subprocess.Popen(
            [site.ours, "watch", "--json"], cwd=folder, env=dict(site.environment), stdout=subprocess.PIPE, text=True
        )
        self.said: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        self._ready = 0
        self.settled()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def settled(self) -> None:
        self._ready += 1
        wait(lambda: sum(said["_"] == "SpareReady" for said in list(self.said)) >= self._ready, "its next spare is not ready")
        time.sleep(0.3)

    def runs(self) -> int:
        return sum(said["_"] == "RunStarted" for said in list(self.said))

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


class Entr:
    """Every source is named to it; it starts the same program."""

    name = "entr"

    def __init__(self, program: str, folder: str, graph: Graph, words: list[str]) -> None:
        self.process = subprocess.Popen(
            [program, "-n", "-p", *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{folder}/src/{index}.txt\n" for index in range(graph.size)))
        self.process.stdin.close()
        time.sleep(1.0)

    def settled(self) -> None:
        time.sleep(0.3)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def latency(bench: Bench, site: Site, graph: Graph, folder: str, stamp: str, stamps: str, saves: int) -> None:
    index = graph.step_with_below(1)
    entr = shutil.which("entr")
    if entr is None:
        bench.drop("W8: entr is not on this machine (apt-get install entr)")
    kinds: list[Callable[[], Ours | Entr]] = [lambda: Ours(site, folder)]
    if entr is not None:
        kinds.append(lambda: Entr(entr, folder, graph, [stamp, stamps]))
    for begin in kinds:
        contender = begin()
        try:
            for how, save in (("write", _write), ("atomic replace", _replace)):
                taken, missed, runs = [], 0, contender.runs() if isinstance(contender, Ours) else 0
                for _ in range(saves):
                    if os.path.exists(stamps):
                        os.unlink(stamps)
                    began = time.monotonic_ns()
                    save(f"{folder}/src/{index}.txt", b"%s %d\n" % (how.encode(), time.time_ns()))
                    first = _first_stamp(stamps)
                    if first is None:
                        missed += 1
                        continue
                    taken.append(Sample((first - began) / 1e9, 0.0, 0))
                    contender.settled()
                if missed:
                    bench.drop(f"W8: {contender.name} missed {missed} of {saves} ({how})")
                made = contender.runs() - runs if isinstance(contender, Ours) else None
                if made is not None and made != saves:
                    bench.drop(f"W8: {made} runs for {saves} saves ({how})")
                if taken:
                    bench.keep(Figure("W8", f"{how}, {graph.size:,} steps", contender.name, tuple(taken), ran=made))
        finally:
            contender.end()


def _write(path: str, body: bytes) -> None:
    with open(path, "wb") as file:
        file.write(body)


def _replace(path: str, body: bytes) -> None:
    _write(f"{os.path.dirname(path)}/.saving", body)
    os.replace(f"{os.path.dirname(path)}/.saving", path)


def _first_stamp(stamps: str) -> int | None:
    try:
        wait(lambda: os.path.exists(stamps) and os.path.getsize(stamps) > 0, "")
    except BenchError:
        return None
    with open(stamps) as file:
        return int(file.readline())


def wait(for_what: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not for_what():
        if time.monotonic() > deadline:
            raise BenchError(problem)
        time.sleep(0.002)


def decision(bench: Bench, site: Site, stamp: str, stamps: str) -> None:
    """Everything between an event and the line that says what it touches, in a pipeline of 5,000 steps that never ran."""
    graph = layered(50 if bench.quick else 5000)
    folder = site.folder("watch", graph.name)
    make_project(folder, graph, [stamp, stamps], bench.jobs)
    done = subprocess.run([site.ours, "run"], cwd=folder, env=dict(site.environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the first run failed: {done.stderr[-300:]}")
    count = 3 if bench.quick else 20
    engine = os.path.join(os.path.dirname(os.path.dirname(PROGRAMS)), "engine")
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "decide.py"), folder, "src/0.txt", str(count)], cwd=folder,
        env={**site.environment, "PYTHONPATH": engine}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"decide.py: {done.stderr[-300:]}")
    samples = tuple(Sample(float(line), 0.0, 0) for line in done.stdout.split())
    bench.keep(
        Figure("W8", f"decision, {graph.size:,} steps", "mlpipe-tui", samples),
        Figure("W8", f"decision, {graph.size:,} steps", "50 ms", (Sample(0.050, 0.0, 0),)),
    )


def idle(bench: Bench, site: Site, files: int, seconds: float) -> None:
    """Processor time of the watcher and its spare while nothing happens."""
    folder = site.folder("watch", "idle")
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(files):
        if number % 100 == 0:
            os.makedirs(f"{folder}/src/d{number // 100}")
        with open(f"{folder}/src/d{number // 100}/f{number}.txt", "w") as file:
            file.write(f"{number}\n")
    write(folder, "mlpipe.toml", "")
    write(
        folder, "pipeline.py",
        "from mlpipe_engine import CommandStep, Pipeline, PipelineData, Workspace\nws = Workspace.from_config()\no = PipelineData('o')\n"
        "pipeline = Pipeline(ws, steps=[CommandStep(['cp', 'd0/f0.txt', o], name='s', source_directory='src', outputs=[o])], name='idle')\n",
    )  # fmt: skip
    ours = Ours(site, folder)
    try:
        time.sleep(1.0)
        before = _cpu(ours.process.pid)
        time.sleep(seconds)
        used = _cpu(ours.process.pid) - before
    finally:
        ours.end()
    bench.keep(
        Figure("W8", f"idle, {files:,} files", "mlpipe-tui", (Sample(used, used, 0),)),
        Figure("W8", f"idle, {files:,} files", "0.5 % of the time", (Sample(seconds * 0.005, seconds * 0.005, 0),)),
    )


def _cpu(pid: int) -> float:
    """Of a process and its children, from the kernel's accounts."""
    total = 0.0
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        pids = [pid, *map(int, file.read().split())]
    for one in pids:
        with open(f"/proc/{one}/stat") as file:
            words = file.read().rpartition(")")[2].split()
        total += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return total
