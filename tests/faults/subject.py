"""What the campaigns torment: a pipeline of four steps whose right outputs are known, and the questions asked of it afterwards.

Every question is answered without the engine where that is possible: rows by plain SQL from another process, bytes by a
computation of their own, processes from /proc.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from mlpipe_engine.hashing.scan import walk_artifact

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = ("one", "two", "three", "four")
TIMEOUT_SECONDS = 60

_WORK = """name=$1; n=$2; out=$3; trace=$4; pause=$5; shift 5
echo "start $name $n" >> "$trace"
sleep "$pause"
cat "$@" > "$out"; echo "$name $n" >> "$out"
"""
_LAST = """import os, sys
from mlpipe_run import Run
n, out, trace, *inputs = sys.argv[1:]
with open(trace, "a") as file:
    file.write(f"start four {n}\\n")
Run.get_context().log("n", float(n))
os.mkdir(out)
for number, path in enumerate(inputs):
    with open(path) as source, open(f"{out}/{number}", "w") as target:
        target.write(source.read())
with open(f"{out}/large", "wb") as target:
    target.write(n.encode() * 20_000)
"""
_PIPELINE = """from mlpipe_engine import *
ws = Workspace.from_config()
n = PipelineParameter("n", 0)
one, two, three, four = [PipelineData(name) for name in ("one", "two", "three", "four")]
def step(name, out, *inputs):
    words = ["sh", "work.sh", name, n, out, {trace!r}, "{pause}", *(inputs or ["/dev/null"])]
    return CommandStep(words, name=name, source_directory="src", inputs=list(inputs), outputs=[out])
last = PythonScriptStep("last.py", name="four", source_directory="src", arguments=[n, four, {trace!r}, two, three],
    inputs=[two, three], outputs=[four])
pipeline = Pipeline(ws, [step("one", one), step("two", two, one), step("three", three, one), last], name="subject")
"""


@dataclass
class Subject:
    root: Path
    pause: float = 0.02
    """Seconds each of the first three steps takes."""
    environment: dict[str, str] = field(default_factory=dict)

    _started: int = 0

    def __post_init__(self) -> None:
        self.trace = self.root.parent / f"{self.root.name}.trace"
        self.runtime = self.root.parent / f"{self.root.name}.runtime"

    def make(self) -> Subject:
        (self.root / "src").mkdir(parents=True)
        self.runtime.mkdir(mode=0o700, exist_ok=True)
        (self.root / "mlpipe.toml").write_text("")
        (self.root / "src/work.sh").write_text(_WORK)
        (self.root / "src/last.py").write_text(_LAST)
        (self.root / "pipeline.py").write_text(_PIPELINE.format(trace=str(self.trace), pause=self.pause))
        return self

    @property
    def state(self) -> Path:
        return self.root / ".mlpipe"

    def variables(self, more: dict[str, str] | None = None) -> dict[str, str]:
        found = os.environ | {
            "PYTHONPATH": f"{REPOSITORY / 'engine'}{os.pathsep}{REPOSITORY}",
            "XDG_RUNTIME_DIR": str(self.runtime),
        }
        return found | self.environment | (more or {})

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mlpipe_tui", *words]

    def run_words(self, n: int) -> list[str]:
        return self.command("run", "--param", f"n={n}")

    def start(self, command: list[str], more: dict[str, str] | None = None) -> Started:
        """Its output goes to files, so that it can be looked at while the command goes on."""
        self._started += 1
        base = self.trace.parent / f"{self.root.name}.{self._started}"
        with open(f"{base}.out", "wb") as out, open(f"{base}.err", "wb") as err:
            process = subprocess.Popen(
                command, cwd=self.root, env=self.variables(more), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        return Started(process, Path(f"{base}.out"), Path(f"{base}.err"))

    def finish(self, started: Started, seconds: float = TIMEOUT_SECONDS) -> Ended:
        """Waits; a process that takes longer is killed, and told as such."""
        hung = False
        try:
            started.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            hung = True
            kill([*tree_of(started.pid), *processes_of(self.root)])
            started.process.wait()
        ended = Ended(started.process.returncode, started.said(), started.err.read_text(errors="replace"), hung)
        started.out.unlink()
        started.err.unlink()
        return ended

    def await_moment(self, started: Started, n: int, random: Random) -> None:
        """A random moment of a run: soon after its start, or soon after one of the things that happen in it."""
        if random.random() < 0.25:
            time.sleep(random.uniform(0.02, 0.5))
            return
        wanted = random.randint(1, 2 * len(STEPS))
        while started.process.poll() is None:
            if sum(self.starts(n).values()) + len(started.printed()) >= wanted:
                time.sleep(random.uniform(0.0, 0.06))
                return
            time.sleep(0.002)

    def run(self, n: int, more: dict[str, str] | None = None, command: list[str] | None = None) -> Ended:
        return self.finish(self.start(command or self.run_words(n), more))

    # questions

    def rows(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """From a connection that only reads, so that nothing is mended by looking. No store yet: no rows."""
        path = self.state / "state.db"
        if not path.exists():
            return []
        try:
            return _ask(path, "ro", sql, values)
        except sqlite3.OperationalError as error:
            if "readonly" in str(error):  # killed while the file was made: SQLite has to roll back before anybody can read
                return _ask(path, "rw", sql, values)
            raise

    def acknowledged(self, n: int) -> set[str]:
        """Steps that count as done for this value: succeeded in a run with it."""
        sql = "SELECT DISTINCT s.name FROM step_runs s JOIN runs r ON r.number = s.run WHERE s.state = 'succeeded' AND r.parameters = ?"
        return {str(row[0]) for row in self.rows(sql, (f'[["n",{n}]]',))}

    def starts(self, n: int) -> dict[str, int]:
        """How often each step was started with this value, as the steps themselves tell it."""
        text = self.trace.read_text() if self.trace.exists() else ""
        return {step: len(re.findall(rf"^start {step} {n}$", text, re.MULTILINE)) for step in STEPS}

    def expected(self, n: int) -> dict[str, bytes]:
        one = f"one {n}\n".encode()
        two, three = one + f"two {n}\n".encode(), one + f"three {n}\n".encode()
        return {"one": one, "two": two, "three": three, "four/0": two, "four/1": three, "four/large": str(n).encode() * 20_000}

    def wrong_outputs(self, n: int) -> list[str]:
        """Of the last run with this value that ended well: outputs that do not have the bytes they should."""
        sql = """SELECT s.name, s.outputs FROM step_runs s JOIN runs r ON coalesce(r.mirrors, r.number) = s.run WHERE r.parameters = ?
            AND r.number = (SELECT max(number) FROM runs WHERE parameters = r.parameters AND state IN ('succeeded', 'reused'))"""
        found: dict[str, Path] = {}
        for name, outputs in self.rows(sql, (f'[["n",{n}]]',)):
            for digest in re.findall(r":([0-9a-f]{64})", str(outputs)):
                found[str(name)] = self.state / "artifacts" / digest[:2] / digest
        wrong = [f"no output of step {step}" for step in STEPS if step not in found]
        for name, content in self.expected(n).items():
            step, _, inner = name.partition("/")
            if step in found:
                path = found[step] / inner if inner else found[step]
                if not path.is_file() or path.read_bytes() != content:
                    wrong.append(f"output {name} has other bytes")
        return wrong

    def damage(self, *, since: str = "") -> list[str]:
        """Everything in the store that is not whole. `since`: only artifacts recorded later."""
        found = [f"integrity_check: {row[0]}" for row in self.rows("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"foreign_key_check: {row}" for row in self.rows("PRAGMA foreign_key_check")]
        for (digest,) in self.rows("SELECT digest FROM artifacts WHERE created_at > ?", (since,)):
            hexes = str(digest).partition(":")[2]
            try:
                tree = walk_artifact(str(self.state / "artifacts" / hexes[:2] / hexes))[0]
                if tree.digest != digest:
                    found.append(f"artifact {hexes[:12]} has other bytes")
            except Exception as error:
                found.append(f"artifact {hexes[:12]}: {error}")
        sql = "SELECT s.run, s.name FROM step_runs s LEFT JOIN results r ON r.id = s.result WHERE s.state = 'succeeded' AND r.id IS NULL"
        found += [f"step {name} of run {run} succeeded without a result" for run, name in self.rows(sql)]
        return found


@dataclass(frozen=True)
class Started:
    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.out.read_text(errors="replace")

    def printed(self) -> set[str]:
        """Steps it has told to be done."""
        return done_in(self.said())


def done_in(text: str) -> set[str]:
    return {step for step in STEPS if f"\n  {step:<5}  succeeded" in text}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    hung: bool = False

    @property
    def printed(self) -> set[str]:
        return done_in(self.out)

    def bad_manners(self) -> list[str]:
        """What no command may do, whatever happens to it."""
        found = ["hung for more than a minute"] if self.hung else []
        text = re.sub(r"(?m)^  \| .*$", "", self.out + self.err)  # the last words of a step are its own
        if "Traceback (most recent call last)" in text or "mlpipe_engine/" in text:
            found.append(f"a traceback of ours: {text[-1500:]}")
        if self.code == 70 or "internal error" in text:
            found.append(f"an internal error: {self.err[-500:]}")
        return found

    def __str__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}--- stderr\n{self.err}"


def _ask(path: Path, mode: str, sql: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=30.0)
    try:
        return connection.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        connection.close()


def processes_of(root: Path) -> list[int]:
    """Living processes that work for this project: by their environment (steps) or their command line (ours)."""
    marker = os.fsencode(str(root)) + b"/"
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
            with open(f"/proc/{name}/stat", "rb") as file:
                zombie = file.read().rpartition(b")")[2].split()[0] == b"Z"
        except OSError:
            continue
        if marker in environment and not zombie:
            found.append(int(name))
    return found


def tree_of(pid: int) -> list[int]:
    """A process and all below it."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        found.append(current)
        try:
            for thread in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{thread}/children") as file:
                    waiting += map(int, file.read().split())
        except OSError:
            continue
    return found


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def left_after(root: Path, pids: list[int], seconds: float) -> list[int]:
    """Who of them, or of the project, still lives after so long."""
    deadline = time.monotonic() + seconds
    while True:
        left = sorted({*processes_of(root), *(pid for pid in pids if _alive(pid))})
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
