"""The process of a watcher's spare: python -m mlpipe_engine.cli.spare ROOT FD. Started by a watcher, for nobody to type."""

from __future__ import annotations

import os
import sys


def main(arguments: list[str]) -> int:
    root, fd = arguments[0], int(arguments[1])
    os.set_inheritable(fd, False)
    from mlpipe_engine.engine.standby import Line, StandBy

    return StandBy(root, Line(fd)).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
