"""Many runs in one process, as a long-lived client makes them: python soak_inside.py PROJECT RUNS EVERY.

Every second run has a new parameter, so that its steps run; the other one reuses everything. Prints a JSON line every
EVERY runs and at the end: what this process holds; then waits for a line, so that its reader can look around in peace.
"""

import json
import os
import sys
import threading
import time

from mlpipe_engine.engine import Engine
from mlpipe_engine.model.spec import SubmitOptions


def held(done: int, began: float) -> dict[str, float]:
    with open("/proc/self/status") as file:
        rss = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
    return {
        "runs": done, "seconds": time.monotonic() - began, "rss": rss, "fds": len(os.listdir("/proc/self/fd")) - 1,
        "threads": threading.active_count(),
    }  # fmt: skip


def main(folder: str, runs: int, every: int) -> None:
    engine = Engine.open(folder)
    spec = engine.pipeline()
    began = time.monotonic()
    for number in range(runs):
        record = engine.run(spec, SubmitOptions(experiment="soak", parameters=(("value", f"inside {number // 2}"),)))
        if record.state.value not in ("succeeded", "reused"):
            sys.exit(f"run {record.number} is {record.state.value}: {record.error}")
        if (number + 1) % every == 0:
            print(json.dumps(held(number + 1, began)), flush=True)
            sys.stdin.readline()
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
