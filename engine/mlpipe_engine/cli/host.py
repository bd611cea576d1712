"""The process of a detached run: python -m mlpipe_engine.cli.host ROOT RUN LOCK_FD. Started by `engine`, for nobody to type."""

from __future__ import annotations

import os
import sys

from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError


def main(arguments: list[str]) -> int:
    root, run_id, lock = arguments[0], arguments[1], int(arguments[2])
    os.set_inheritable(lock, False)
    os.pwrite(lock, f"pid {os.getpid()}".encode().ljust(24), 0)
    try:
        Engine.open(root).host(run_id, lock)
    except MlpipeError as error:
        print(f"run {run_id}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
