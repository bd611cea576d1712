"""Plants one fault for each gate in a copy of the tree and expects the gate to turn red: a gate that cannot fail is none.

Run by `make gates`. Not collected by pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def append(name: str, text: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        path = root / name
        path.write_text((path.read_text() if path.exists() else "") + text)

    return plant


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text, f"{name} has no {old!r}"
        (root / name).write_text(text.replace(old, new, 1))

    return plant


def pytest(*words: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-p", "no:xdist", "-q", *words]


MYPY = [str(BIN / "mypy"), "--cache-dir", os.devnull]
IMPORTS = [str(BIN / "lint-imports"), "--no-cache"]
REPO = pytest("tests/repo")

GATES = {
    "type error": (append("engine/mlpipe_engine/model/states.py", '\nwrong: str = 42\n'), MYPY),
    "untyped function": (append("engine/mlpipe_engine/model/states.py", "\n\ndef f(x):\n    return x\n"), MYPY),
    "unused import": (append("engine/mlpipe_engine/model/states.py", "\nimport os\n"), [str(BIN / "ruff"), "check", "--no-cache", "."]),
    "formatting": (append("engine/mlpipe_engine/model/states.py", "\nx=1\n"), [str(BIN / "ruff"), "format", "--no-cache", "--check", "."]),
    "textual in the engine": (append("engine/mlpipe_engine/runner/record.py", "\nimport textual\n"), IMPORTS),
    "a layer upwards": (append("engine/mlpipe_engine/store/runs.py", "\nimport mlpipe_engine.runner\n"), IMPORTS),
    "a clock in the core": (append("engine/mlpipe_engine/planning/planner.py", "\nimport time\n"), IMPORTS),
    "a new top-level room": (append("engine/mlpipe_engine/utils.py", '"""x"""\n'), IMPORTS),
    "a hop without a file": (replace("docs/ARCHITECTURE.md", "`planning/scheduler.py`", "`planning/schedule.py`"), REPO),
    "an undocumented command": (replace("docs/cli.md", "## mlpipe-tui why\n", ""), pytest("tests/cli", "-k", "documented or current")),
    "a heavy import at the front door": (replace("mlpipe_tui/__main__.py", "import sys\n", "import sys\nimport json\n"), REPO),
    "eval": (append("engine/mlpipe_engine/store/locks.py", "\n\ndef f() -> object:\n    return eval('1')\n"), REPO),
    "a wider public surface": (replace("engine/mlpipe_engine/__init__.py", '    "StoreError": "errors",', '    "StoreError": "errors",\n    "InputMissingError": "errors",'), REPO),
    "a changed key": (replace("engine/mlpipe_engine/model/encoding.py", 'SCHEME = "k1"', 'SCHEME = "k2"'), pytest("tests/model")),
    "a lost exit code": (replace("engine/mlpipe_engine/executors/process.py", "return Exited(code)", "return Exited(0)"), pytest("tests/executors/test_process.py", "-k", "exit_code")),
    "reuse that ignores what was read": (replace("engine/mlpipe_engine/planning/planner.py", "now[path].digest == digest", "True"), pytest("tests/runs/test_soundness.py", "-k", "edited_import")),
    "a skip where CI installs": (append("tests/model/test_text.py", '\n\n@pytest.mark.needs("git")\ndef test_needs() -> None:\n    pass\n'), pytest("tests/model/test_text.py")),
}  # fmt: skip


def nothing(root: Path) -> None:
    """The control: without a fault every gate is green, so that a red one is red for its fault."""


def is_red(plant: Callable[[Path], None], command: list[str], *, only_python: bool) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        shutil.copytree(
            HERE, root, ignore=shutil.ignore_patterns(".git", ".venv", ".cache", ".mlpipe", "__pycache__", ".hypothesis")
        )
        plant(root)
        environment = os.environ | {
            "PYTHONPATH": f"{root / 'engine'}{os.pathsep}{root}",
            "CI": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        if only_python:
            environment["PATH"] = str(BIN)
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False).returncode != 0


def main() -> int:
    wrong = []
    controls = {" ".join(command): command for _, command in GATES.values()}
    for command in controls.values():
        if is_red(nothing, command, only_python=False):
            wrong.append("control")
            print(f"RED    without a fault: {' '.join(command[1:])}", flush=True)
    for name, (plant, command) in GATES.items():
        red = is_red(plant, command, only_python=name == "a skip where CI installs")
        print(f"{'red' if red else 'GREEN':<6} {name}", flush=True)
        if not red:
            wrong.append(name)
    print(f"\n{len(GATES) + len(controls) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
