"""What is measured: our command, other tools, and the floors. Each writes the same graph in its own language.

Every tool is set up in the fastest way its documentation offers that still looks at content or modification times; what was chosen
is said beside it. A tool that is not on this machine is named as absent; nothing else depends on it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.errors import BenchError
from benchmarks.graphs import Digest, Graph, source_bytes


@dataclass(frozen=True, slots=True)
class Step:
    """The program of every step: `words OUTPUT INPUT...`, and what it makes of the bytes it reads."""

    words: tuple[str, ...]
    digest: Digest = field(compare=False)

    def argv(self, graph: Graph, index: int) -> list[str]:
        """With paths relative to the project."""
        return [*self.words, f"out/{index}.txt", *inputs(graph, index)]


def inputs(graph: Graph, index: int) -> list[str]:
    return [f"src/{index}.txt", *(f"out/{need}.txt" for need in graph.needs[index])]


class Contender(Protocol):
    name: str
    most_null: int
    """The largest graph this tool is asked to find up to date; above it, it would take the time of all others together."""
    most_cold: int

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        """The definition; sources are there already."""

    def command(self, folder: str) -> list[str]: ...

    def forget(self, folder: str, graph: Graph) -> None:
        """As if it had never run here."""

    def outputs(self, folder: str, graph: Graph) -> list[bytes]:
        """Of all steps, in order. Raises BenchError when one is missing."""

    def marks(self, folder: str, graph: Graph) -> list[object]:
        """One value a step that changes when the step runs."""


def make_project(contender: Contender, folder: str, graph: Graph, step: Step, jobs: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.join(folder, "src"))
    for index in range(graph.size):
        edit(folder, index, 0)
    contender.write(folder, graph, step, jobs)


def edit(folder: str, index: int, edition: int) -> None:
    with open(os.path.join(folder, "src", f"{index}.txt"), "wb") as file:
        file.write(source_bytes(index, edition))


def write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


class InPlace:
    """A tool that builds out/ below the project."""

    name = ""
    state: Sequence[str] = ()
    """Files and folders in which it remembers what it did."""
    most_null = 5000
    most_cold = 5000

    def forget(self, folder: str, graph: Graph) -> None:
        for name in (*self.state, "out"):
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        os.makedirs(os.path.join(folder, "out"))

    def outputs(self, folder: str, graph: Graph) -> list[bytes]:
        return [_read(os.path.join(folder, "out", f"{index}.txt")) for index in range(graph.size)]

    def marks(self, folder: str, graph: Graph) -> list[object]:
        found: list[object] = []
        for index in range(graph.size):
            try:
                seen = os.stat(os.path.join(folder, "out", f"{index}.txt"))
                found.append((seen.st_ino, seen.st_mtime_ns))
            except FileNotFoundError:
                found.append(None)
        return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BenchError(f"output {os.path.basename(path)} cannot be read: {error.strerror}") from None


def _needs_literal(graph: Graph) -> str:
    return "NEEDS = [\n" + "".join(f"    {needs!r},\n" for needs in graph.needs) + "]\n"


@dataclass
class Ours:
    """`mlpipe-tui run` in a pipe, on a pipeline written with the SDK: every step declares its files."""

    program: str
    name: str = "mlpipe-tui"
    most_null: int = 5000
    most_cold: int = 5000

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        write(folder, "mlpipe.toml", f"[compute.local]\ncpus = {jobs}\n")
        write(
            folder, "pipeline.py",
            "from pathlib import Path\n\nfrom mlpipe_engine import CommandStep, Pipeline, PipelineData, Workspace\n\n"
            f"{_needs_literal(graph)}STEP = {list(step.words)!r}\n\n"
            "ws = Workspace.from_config()\noutputs = [PipelineData(f\"o{index}\") for index in range(len(NEEDS))]\nsteps = []\n"
            "for index, needs in enumerate(NEEDS):\n"
            "    inputs = [Path(f\"src/{index}.txt\"), *(outputs[need] for need in needs)]\n"
            "    command = [*STEP, outputs[index], *inputs]\n"
            "    steps.append(CommandStep(command, name=f\"s{index}\", inputs=inputs, outputs=[outputs[index]]))\n"
            "pipeline = Pipeline(ws, steps=steps, name=\"bench\")\n",
        )  # fmt: skip

    def command(self, folder: str) -> list[str]:
        return [self.program, "run"]

    def forget(self, folder: str, graph: Graph) -> None:
        remove_store(folder)

    def outputs(self, folder: str, graph: Graph) -> list[bytes]:
        state = os.path.join(folder, ".mlpipe")
        found = []
        for step in self._steps(folder):
            for digest in step["outputs"].values():
                hexes = digest.partition(":")[2]
                found.append(_read(os.path.join(state, "artifacts", hexes[:2], hexes)))
        if len(found) != graph.size:
            raise BenchError(f"it says that {len(found)} of {graph.size} outputs exist")
        return found

    def marks(self, folder: str, graph: Graph) -> list[object]:
        """A step that was reused keeps the mark of the run that made its result."""
        run, steps = self._show(folder)
        return [run["id"] if step["state"] == "succeeded" else step["reused_from"] for step in steps]

    def _steps(self, folder: str) -> list[dict[str, Any]]:
        return self._show(folder)[1]

    def _show(self, folder: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if not os.path.isdir(os.path.join(folder, ".mlpipe")):
            return {"id": ""}, []
        done = subprocess.run([self.program, "show", "latest", "--json"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"show latest --json: {done.stderr.strip()}")
        document = json.loads(done.stdout)
        return document["run"], document["items"]


def remove_store(folder: str) -> None:
    """Its folders are read-only: whoever is not root must make them writable first."""
    path = os.path.join(folder, ".mlpipe")
    for found, folders, _ in os.walk(path):
        for name in folders:
            if not os.path.islink(os.path.join(found, name)):
                os.chmod(os.path.join(found, name), 0o700)
    shutil.rmtree(path, ignore_errors=True)


@dataclass
class Doit(InPlace):
    """Threads (its processes are slower), the JSON back end (SQLite and a dbm in pure Python are no faster), no shell."""

    program: str
    name: str = "doit"
    state: Sequence[str] = (".doit.json",)
    most_null: int = 5000
    most_cold: int = 5000

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        write(
            folder, "dodo.py",
            f"{_needs_literal(graph)}STEP = {list(step.words)!r}\n"
            "DOIT_CONFIG = {'backend': 'json', 'dep_file': '.doit.json', 'verbosity': 0, "
            f"'num_process': {jobs}, 'par_type': 'thread'}}\n\n\n"
            "def task_step():\n"
            "    for index, needs in enumerate(NEEDS):\n"
            "        files = [f'src/{index}.txt', *(f'out/{need}.txt' for need in needs)]\n"
            "        target = f'out/{index}.txt'\n"
            "        yield {'name': str(index), 'actions': [[*STEP, target, *files]], 'file_dep': files, 'targets': [target]}\n",
        )  # fmt: skip

    def command(self, folder: str) -> list[str]:
        return [self.program, "run"]


@dataclass
class Make(InPlace):
    program: str
    name: str = "make"
    most_null: int = 5000
    most_cold: int = 5000
    jobs: int = 2

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        self.jobs = jobs
        lines = ["all: " + " ".join(f"out/{index}.txt" for index in range(graph.size)), ""]
        for index in range(graph.size):
            lines += [f"out/{index}.txt: {' '.join(inputs(graph, index))}", f"\t@{' '.join(step.words)} $@ $^", ""]
        write(folder, "Makefile", "\n".join(lines) + "\n.SUFFIXES:\n")

    def command(self, folder: str) -> list[str]:
        return [self.program, "-r", f"-j{self.jobs}"]


@dataclass
class Ninja(InPlace):
    program: str
    name: str = "ninja"
    state: Sequence[str] = (".ninja_log", ".ninja_deps")
    most_null: int = 5000
    most_cold: int = 5000
    jobs: int = 2

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        self.jobs = jobs
        lines = ["rule step", f"  command = {' '.join(step.words)} $out $in", ""]
        lines += [f"build out/{index}.txt: step {' '.join(inputs(graph, index))}" for index in range(graph.size)]
        write(folder, "build.ninja", "\n".join(lines) + "\n")

    def command(self, folder: str) -> list[str]:
        return [self.program, f"-j{self.jobs}"]


@dataclass
class FloorPython(InPlace):
    """Prereq: the interpreter is the one under our own environment."""

    interpreter: str
    script: str
    name: str = "floor_py"
    state: Sequence[str] = ()
    most_null: int = 5000
    most_cold: int = 5000
    jobs: int = 2

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        self.jobs = jobs
        with contextlib.closing(sqlite3.connect(os.path.join(folder, "floor.db"), isolation_level=None)) as db:
            db.execute("CREATE TABLE steps (id INTEGER PRIMARY KEY, argv TEXT, needs TEXT, files TEXT)")
            db.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, stats TEXT, digests TEXT)")
            db.execute("BEGIN")
            db.executemany("INSERT INTO steps VALUES (?, ?, ?, ?)", [
                (index, "\t".join(step.argv(graph, index)), ",".join(map(str, needs)), "\t".join([f"out/{index}.txt", *inputs(graph, index)]))
                for index, needs in enumerate(graph.needs)
            ])  # fmt: skip
            db.execute("COMMIT")

    def forget(self, folder: str, graph: Graph) -> None:
        super().forget(folder, graph)
        with contextlib.closing(sqlite3.connect(os.path.join(folder, "floor.db"), isolation_level=None)) as db:
            db.execute("DELETE FROM records")

    def command(self, folder: str) -> list[str]:
        return [self.interpreter, "-I", "-S", self.script, "floor.db", str(self.jobs)]


@dataclass
class FloorC(InPlace):
    """Knows no change: with outputs there it looks at every file, without it runs every step."""

    program: str
    name: str = "floor_c"
    most_null: int = 5000
    most_cold: int = 5000
    jobs: int = 2

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        self.jobs = jobs
        lines = [
            "\t".join([",".join(map(str, needs)) or "-", *step.argv(graph, index)]) for index, needs in enumerate(graph.needs)
        ]
        write(folder, "graph.txt", "\n".join(lines) + "\n")

    def command(self, folder: str) -> list[str]:
        if os.path.exists(os.path.join(folder, "out", "0.txt")):
            return [self.program, "check", "graph.txt"]
        return [self.program, "run", "graph.txt", str(self.jobs)]


@dataclass
class Tup(InPlace):
    """Watches every step through a file system of its own (FUSE)."""

    program: str
    name: str = "tup"
    state: Sequence[str] = (".tup",)
    most_null: int = 5000
    most_cold: int = 1000
    jobs: int = 2

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        self.jobs = jobs
        words = " ".join(step.words)
        lines = [f": {' '.join(inputs(graph, index))} |> {words} %o %f |> out/{index}.txt" for index in range(graph.size)]
        write(folder, "Tupfile", "\n".join(lines) + "\n")

    def forget(self, folder: str, graph: Graph) -> None:
        super().forget(folder, graph)
        done = subprocess.run([self.program, "init", "--no-sync"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"tup init: {done.stderr.strip() or done.stdout.strip()}")

    def command(self, folder: str) -> list[str]:
        return [self.program, "upd", f"-j{self.jobs}"]


@dataclass
class GoTask(InPlace):
    """Checksums of sources; its own parallelism."""

    program: str
    name: str = "go-task"
    state: Sequence[str] = (".task",)
    most_null: int = 1000
    most_cold: int = 1000

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        tasks: dict[str, Any] = {"default": {"deps": [f"s{index}" for index in range(graph.size)]}}
        for index, needs in enumerate(graph.needs):
            tasks[f"s{index}"] = {
                "deps": [f"s{need}" for need in needs], "sources": inputs(graph, index), "generates": [f"out/{index}.txt"],
                "cmds": [" ".join(step.argv(graph, index))], "run": "once",
            }  # fmt: skip
        write(folder, "Taskfile.yml", json.dumps({"version": "3", "silent": True, "tasks": tasks}))

    def command(self, folder: str) -> list[str]:
        return [self.program]


@dataclass
class Scons(InPlace):
    """Decides by content, and by time first, which is its fastest way that looks at content."""

    program: str
    name: str = "scons"
    state: Sequence[str] = (".sconsign.dblite",)
    most_null: int = 1000
    most_cold: int = 1000
    jobs: int = 2

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        self.jobs = jobs
        write(
            folder, "SConstruct",
            f"{_needs_literal(graph)}STEP = {' '.join(step.words)!r}\n"
            "env = Environment(BUILDERS={}, tools=[])\nDecider('content-timestamp')\n"
            "for index, needs in enumerate(NEEDS):\n"
            "    files = ['src/%d.txt' % index] + ['out/%d.txt' % need for need in needs]\n"
            "    env.Command('out/%d.txt' % index, files, STEP + ' $TARGET $SOURCES')\n",
        )  # fmt: skip

    def command(self, folder: str) -> list[str]:
        return [self.program, "-Q", "-s", f"-j{self.jobs}", "out"]


@dataclass
class Snakemake(InPlace):
    program: str
    name: str = "snakemake"
    state: Sequence[str] = (".snakemake",)
    most_null: int = 1000
    most_cold: int = 100
    jobs: int = 2

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        self.jobs = jobs
        write(
            folder, "Snakefile",
            f"{_needs_literal(graph)}STEP = {' '.join(step.words)!r}\n\n"
            "def files(wildcards):\n    index = int(wildcards.index)\n"
            "    return [f'src/{index}.txt', *(f'out/{need}.txt' for need in NEEDS[index])]\n\n"
            "rule all:\n    input: [f'out/{index}.txt' for index in range(len(NEEDS))]\n\n"
            "rule step:\n    output: 'out/{index}.txt'\n    input: files\n    shell: STEP + ' {output} {input}'\n",
        )  # fmt: skip

    def command(self, folder: str) -> list[str]:
        return [self.program, "--cores", str(self.jobs), "--quiet", "all"]


@dataclass
class Dvc(InPlace):
    """One stage at a time: it knows no other way. Its own cache is on; there is no git repository around it."""

    program: str
    name: str = "dvc"
    state: Sequence[str] = ("dvc.lock", ".dvc")
    most_null: int = 100
    most_cold: int = 100

    def write(self, folder: str, graph: Graph, step: Step, jobs: int) -> None:
        stages = {
            f"s{index}": {
                "cmd": " ".join(step.argv(graph, index)), "deps": inputs(graph, index), "outs": [f"out/{index}.txt"],
            }
            for index in range(graph.size)
        }  # fmt: skip
        write(folder, "dvc.yaml", json.dumps({"stages": stages}))

    def forget(self, folder: str, graph: Graph) -> None:
        super().forget(folder, graph)
        done = subprocess.run([self.program, "init", "--no-scm", "-q"], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"dvc init: {done.stderr.strip()}")

    def command(self, folder: str) -> list[str]:
        return [self.program, "repro", "-q"]


PEERS: dict[str, Any] = {
    "doit": Doit, "make": Make, "ninja": Ninja, "tup": Tup, "go-task": GoTask, "scons": Scons, "snakemake": Snakemake, "dvc": Dvc,
}  # fmt: skip
"""Name -> what is made of its program."""
