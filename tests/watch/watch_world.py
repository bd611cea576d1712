"""A real `mlpipe-tui watch --json` in a project, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from worlds import World

PATIENCE_SECONDS = 30.0


class Watching:
    """Documents in the order they came; `since` marks where the next look begins."""

    def __init__(self, world: World, *words: str, under: tuple[str, ...] = (), **environment: str) -> None:
        """`under`: words that start the command, such as those of unshare."""
        self.world = world
        self.process = subprocess.Popen(
            [*under, *world.command("watch", "--json", *words)], cwd=world.root, env=world.environment(**environment), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said: list[dict[str, Any]] = []
        self.since = 0
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.said.append(json.loads(line))
                self._more.notify_all()

    def wait(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The next document that is wanted; later waits begin behind it."""
        deadline = time.monotonic() + seconds
        with self._more:
            while True:
                for at in range(self.since, len(self.said)):
                    if wanted(self.said[at]):
                        self.since = at + 1
                        return self.said[at]
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise AssertionError(f"not said: {self.said}\n{self._errors()}")
                self._more.wait(min(left, 0.1))

    def _errors(self) -> str:
        if self.process.poll() is None:
            return ""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def begun(self) -> dict[str, Any]:
        return self.wait(lambda said: said["_"] == "WatchBegan")

    def looked(self) -> str:
        """What the next look says, as a line for people."""
        from mlpipe_engine.model import wire
        from mlpipe_engine.model.watch import Looked

        return str(wire.load(Looked, json.dumps(self.wait(lambda said: said["_"] == "Looked"))).look)

    def finished(self, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        return self.wait(lambda said: said["_"] == "RunFinished", seconds)

    def trouble(self) -> str:
        return str(self.wait(lambda said: said["_"] == "Trouble")["text"])

    def note(self, part: str) -> str:
        return str(self.wait(lambda said: said["_"] == "Note" and part in said["text"])["text"])

    def is_ready(self) -> None:
        """The next spare stands: what is saved now is looked at, at once."""
        self.wait(lambda said: said["_"] == "SpareReady")

    def _children(self) -> list[int]:
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            return [int(pid) for pid in file.read().split()]

    @staticmethod
    def _is_spare(pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return b"mlpipe_engine.cli.spare" in file.read()
        except OSError:
            return False

    def runs(self) -> list[int]:
        """Numbers of the runs that began so far."""
        return [said["number"] for said in self.said if said["_"] == "RunStarted"]

    def quiet(self, seconds: float) -> list[dict[str, Any]]:
        """Nothing is waited for: what was said meanwhile."""
        with self._more:
            before = len(self.said)
        time.sleep(seconds)
        return [said for said in self.said[before:] if said["_"] != "SpareReady"]

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self._thread.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@contextmanager
def watching(world: World, *words: str, under: tuple[str, ...] = (), **environment: str) -> Iterator[Watching]:
    made = Watching(world, *words, under=under, **environment)
    try:
        yield made
    finally:
        made.end()


def three_steps(world: World) -> None:
    """prep -> train -> evaluate: prep and train have scripts of their own, evaluate reads a helper; data is read by prep."""
    world.write("data.txt", "1 2 3")
    script = (
        "import sys\nsource, target = sys.argv[1:3]\nwith open(source) as file:\n    text = file.read()\n"
        "with open(target, 'w') as file:\n    file.write(text + ' {name}')\n"
    )
    for name in ("prep", "train"):
        world.write(f"src/{name}.py", script.format(name=name))
    world.write("src/helper.py", "WORD = 'evaluate'\n")
    world.write("src/evaluate.py", "from helper import WORD\n" + script.replace("' {name}'", "' ' + WORD"))
    world.write("src/notes.txt", "nobody reads this\n")
    world.define(
        "from pathlib import Path\n"
        "a, b, c = PipelineData('a'), PipelineData('b'), PipelineData('c')\n"
        "prep = PythonScriptStep('prep.py', name='prep', source_directory='src', arguments=[Path('data.txt'), a],"
        " inputs=[Path('data.txt')], outputs=[a])\n"
        "train = PythonScriptStep('train.py', name='train', source_directory='src', arguments=[a, b], inputs=[a], outputs=[b])\n"
        "evaluate = PythonScriptStep('evaluate.py', name='evaluate', source_directory='src', arguments=[b, c], inputs=[b], outputs=[c])\n"
        "pipeline = Pipeline(ws, steps=[prep, train, evaluate], name='three')\n"
    )


def replace(world: World, name: str, text: str) -> None:
    """A save by rename, as editors do it."""
    temporary = world.root / f"{name}.tmp{os.getpid()}"
    temporary.write_text(text)
    os.replace(temporary, world.root / name)
