"""The process of a watcher's spare: python -m mlpipe_engine.cli.spare ROOT FD. Started by a watcher, for nobody to type."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main(arguments: list[str]) -> NoReturn:
    root, fd = arguments[0], int(arguments[1])
    os.set_inheritable(fd, False)
    from mlpipe_engine.engine.standby import Line, StandBy

    stand_by = StandBy(root, Line(fd))
    code = stand_by.serve()
    sys.stdout.flush()
    os._exit(code)  # the last connection that is closed merges the log, and the first write after that waits for the disk


if __name__ == "__main__":
    main(sys.argv[1:])
