"""Starts processes and times them for the harness. Small, so that the memory it reports is not that of the harness.

`python -I -S timer.py`: one JSON object a line in ({"argv", "cwd", "env", "output"}), one out ({"wall", "cpu", "rss", "code"} or {"error"}).
"""

import json
import os
import sys
import time


def main():
    for line in sys.stdin:
        wanted = json.loads(line)
        try:
            answer = timed(wanted)
        except OSError as error:
            answer = {"error": error.strerror}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def timed(wanted):
    os.chdir(wanted["cwd"])
    os.sync()  # what an earlier process left to be written is not paid by this one
    argv = wanted["argv"]
    begun = time.perf_counter()
    pid = os.posix_spawn(
        argv[0],
        argv,
        wanted["env"],
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, wanted["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    rss = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": rss, "code": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    main()
