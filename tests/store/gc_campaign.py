"""A collector in a loop beside writers, both killed now and then: nothing that is used goes, and nothing is lost for good.

    python3 tests/store/gc_campaign.py --minutes 30

Every writer runs a pipeline of two steps with a few values again and again, so that results are made, reused, collected and made
again at the same time. The collector sees everything as two hours old: only what living runs name protects what is being made.
Prints one JSON line at the end; exit 1 when a run failed for any other reason than being killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

PIPELINE = """
from mlpipe_engine import *
ws = Workspace.from_config()
o, q = PipelineData("o"), PipelineData("q")
n = PipelineParameter("n", 1)
first = CommandStep(["sh", "-c", 'mkdir "$1"; for i in 1 2 3; do echo $0 $i > "$1/$i"; done', n, o], name="first", outputs=[o])
second = CommandStep(["sh", "-c", 'cat "$0"/* > "$1"; test $(wc -l < "$1") = 3', o, q], name="second", inputs=[o], outputs=[q])
p = Pipeline(ws, [first, second], name="p")
"""

COLLECTOR = """
import sys, time
from dataclasses import replace
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
taken = 0
while True:
    engine = Engine.open(sys.argv[1])
    try:
        keeper = replace(engine.upkeep(), now=lambda: time.time() + 7200)
        survey = keeper.survey()
        taken += keeper.carry_out(survey, keeper.plan(survey, to_bytes=0)).count
        keeper.trash.empty(1.0)
    except MlpipeError as error:
        print("error", error, file=sys.stderr, flush=True)
    engine.close()
    print(taken, flush=True)
    time.sleep(0.05)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--folder", default="")
    options = parser.parse_args()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="gc-campaign-"))
    folder.mkdir(exist_ok=True)
    (folder / "mlpipe.toml").write_text('[store]\nquota = "off"\n')
    (folder / "pipeline.py").write_text(PIPELINE)
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'engine'}{os.pathsep}{REPOSITORY}", "XDG_RUNTIME_DIR": str(folder)}
    found = campaign(folder, environment, options.writers, options.minutes * 60 + options.seconds)
    print(json.dumps(found))
    return 1 if found["failures"] else 0


def campaign(folder: Path, environment: dict[str, str], writers: int, seconds: float) -> dict[str, object]:
    command = [sys.executable, "-m", "mlpipe_tui", "-C", str(folder), "run"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    rng, deadline = random.Random(1), time.monotonic() + seconds
    running: dict[int, subprocess.Popen[str]] = {}
    collector = start_collector(folder, environment)
    collected = runs = kills = collector_kills = 0
    failures: list[str] = []
    while time.monotonic() < deadline:
        for slot in range(writers):
            process = running.get(slot)
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                runs += 1
                output = process.communicate()[0]
                if process.returncode not in (0, -9):
                    failures.append(output[-2000:])
            words = [*command, "--param", f"n={rng.randint(1, 4)}"]
            running[slot] = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if rng.random() < 0.02:
            running[rng.randrange(writers)].send_signal(signal.SIGKILL)
            kills += 1
        if rng.random() < 0.03:
            collected += stop(collector, failures)
            collector_kills += 1
            collector = start_collector(folder, environment)
        time.sleep(0.1)
    collected += stop(collector, failures)
    for process in running.values():
        process.communicate()
    check(folder, environment, failures)
    return {
        "runs": runs,
        "collected": collected,
        "writers_killed": kills,
        "collector_killed": collector_kills,
        "failures": failures,
    }


def start_collector(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    log = open(folder / "collector.log", "a+")  # noqa: SIM115  (lives as long as the process)
    log.seek(0, os.SEEK_END)
    process = subprocess.Popen([sys.executable, "-c", COLLECTOR, str(folder)], env=environment, stdout=log, stderr=log, text=True)
    process.log, process.begin = log, log.tell()  # type: ignore[attr-defined]
    return process


def stop(process: subprocess.Popen[str], failures: list[str]) -> int:
    process.kill()
    process.wait()
    process.log.seek(process.begin)  # type: ignore[attr-defined]
    lines = process.log.read().splitlines()  # type: ignore[attr-defined]
    process.log.close()  # type: ignore[attr-defined]
    failures += [line for line in lines if not line.isdigit()]
    return max((int(line) for line in lines if line.isdigit()), default=0)


def check(folder: Path, environment: dict[str, str], failures: list[str]) -> None:
    """Afterwards every value can be run, a second time reuses it, nothing is damaged, and the check-up is content."""
    for n in (1, 2, 3, 4):
        for _ in range(2):
            words = [sys.executable, "-m", "mlpipe_tui", "-C", str(folder), "run", "--param", f"n={n}"]
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0 or "damaged" in done.stderr + done.stdout:
                failures.append(done.stdout + done.stderr)
        if "is up to date" not in done.stdout:
            failures.append("not reused: " + done.stdout)
    doctor = subprocess.run(
        [sys.executable, "-m", "mlpipe_tui", "-C", str(folder), "doctor"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if doctor.returncode != 0 or "it is missing" in doctor.stdout:
        failures.append(doctor.stdout + doctor.stderr)


if __name__ == "__main__":
    sys.exit(main())
