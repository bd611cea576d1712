"""A project in a folder that tests write to, run and look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlpipe_engine.engine import Engine
from mlpipe_engine.model.events import Event
from mlpipe_engine.model.records import RunRecord, StepRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import State

REPOSITORY = Path(__file__).resolve().parents[1]


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.write("mlpipe.toml", "")

    def write(self, name: str, text: str | bytes, mode: int | None = None) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        if mode is not None:
            path.chmod(mode)
        return path

    def define(self, body: str) -> None:
        """pipeline.py with the usual imports and `ws`."""
        self.write("pipeline.py", f"from mlpipe_engine import *\nws = Workspace.from_config()\n{body}\n")

    def options(self, **changes: Any) -> SubmitOptions:
        parameters = tuple(sorted(changes.pop("parameters", {}).items()))
        return SubmitOptions(experiment="test", parameters=parameters, **changes)

    def run(self, spec: PipelineSpec | None = None, **changes: Any) -> Done:
        """Run in this process."""
        engine = Engine.open(str(self.root))
        events: list[Event] = []
        record = engine.run(spec or engine.pipeline(), self.options(**changes), events.append)
        return Done(engine, record, events)

    def plan(self, spec: PipelineSpec | None = None, **changes: Any) -> dict[str, str]:
        """Step -> name of the decision."""
        engine = Engine.open(str(self.root))
        plan = engine.plan(spec or engine.pipeline(), self.options(**changes))
        engine.close()
        return {step.step: type(step.decision).__name__ for step in plan.steps}

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": f"{REPOSITORY / 'engine'}{os.pathsep}{REPOSITORY}"} | more

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mlpipe_tui", *words]

    def cli(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """The real command, in a pipe."""
        more.setdefault("env", self.environment())
        more.setdefault("cwd", self.root)
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL, **more
        )

    def json(self, *words: str) -> dict[str, Any]:
        done = self.cli(*words, "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return document

    def files(self) -> dict[str, bytes]:
        """Everything in the project, links as their targets."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            for name in [*names, *(f for f in folders if os.path.islink(os.path.join(folder, f)))]:
                path = Path(folder) / name
                found[str(path.relative_to(self.root))] = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        return found


class Done:
    """A finished run."""

    def __init__(self, engine: Engine, record: RunRecord, events: list[Event]) -> None:
        self.engine, self.record, self.events = engine, record, events

    @property
    def states(self) -> dict[str, str]:
        return {step.name: step.state.value for step in self.engine.steps(self.record.id)}

    @property
    def ran(self) -> set[str]:
        return {step.name for step in self.engine.steps(self.record.id) if step.state is State.SUCCEEDED}

    def step(self, name: str) -> StepRecord:
        return self.engine.find_step(self.record.id, name)

    def why(self, name: str) -> str:
        return "; ".join(map(str, self.step(name).causes))

    def unread(self, name: str) -> str:
        return "; ".join(map(str, self.step(name).unread))

    def output(self, step: str, name: str) -> bytes:
        return Path(self.engine.artifact(self.record.id, step, name)).read_bytes()

    def log(self, step: str, stream: str = "stderr") -> str:
        return Path(self.engine.log_path(self.record.id, step, stream)).read_text()
