"""The bare loop under a runner of Python steps: a copy of the source folder a step, then its script, JOBS at a time.

python copy_and_spawn.py SOURCE TARGET STEPS JOBS PYTHON
"""

import os
import shutil
import sys


def main(source: str, target: str, steps: int, jobs: int, python: str) -> None:
    running: set[int] = set()
    for index in range(steps):
        code = f"{target}/{index}/code"
        shutil.copytree(source, code)
        if len(running) >= jobs:
            wait(running)
        script = f"{code}/step.py"
        running.add(os.posix_spawn(python, [python, script, str(index), f"{target}/{index}/out.txt"], os.environ))
    while running:
        wait(running)


def wait(running: set[int]) -> None:
    pid, status = os.wait()
    if status:
        sys.exit("a step failed")
    running.discard(pid)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
