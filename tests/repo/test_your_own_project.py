"""docs/your-own-project.md, followed to the letter: its files are written, its commands run, and what it shows is what is shown."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

from worlds import REPOSITORY

PAGE = REPOSITORY / "docs/your-own-project.md"
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def normal(line: str) -> str:
    """Without what differs from one machine to the next: times, and the width they take."""
    return re.sub(r"\s+", " ", re.sub(r"\b\d[\d.]* (ms|s|min)\b", "TIME", line)).strip()


def programs(folder: Path) -> str:
    """A PATH on which the two programs the page names are found."""
    folder.mkdir()
    for name, words in (("python", ""), ("mlpipe-tui", "-m mlpipe_tui ")):
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
        (folder / name).chmod(0o755 | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_newcomer_gets_from_a_csv_and_a_script_to_a_pipeline(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "runtime").mkdir(mode=0o700)
    environment = os.environ | {
        "PATH": programs(tmp_path / "bin"), "XDG_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONPATH": f"{REPOSITORY / 'engine'}{os.pathsep}{REPOSITORY}",
    }  # fmt: skip
    ran = 0
    for language, name, body in BLOCKS:
        if language != "console":
            assert name, f"a block of {language} names no file"
            (project / name).parent.mkdir(exist_ok=True)
            (project / name).write_text(body)
            continue
        for command, *shown in (part.splitlines() for part in re.split(r"^\$ ", body, flags=re.MULTILINE) if part.strip()):
            done = subprocess.run(
                ["sh", "-c", command], cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
            )
            said = done.stdout + done.stderr
            failing = any(" failed " in line for line in shown)
            assert done.returncode == (1 if failing else 0), f"$ {command}\n{said}"
            lines = [normal(line) for line in said.splitlines()]
            for line in map(normal, filter(str.strip, shown)):
                assert line in lines, f"$ {command}\nexpected: {line}\nfound:\n{said}"
                lines = lines[lines.index(line) + 1 :]
            ran += 1
    assert ran >= 12
