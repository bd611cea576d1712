"""`mlpipe-tui` and `python -m mlpipe_tui`: everything is a command so far."""

import os
import sys


def main() -> None:
    from mlpipe_engine.cli.main import main as command_line

    code = command_line(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass  # the reader left
    os._exit(code)  # closing the store's connection would merge its log into it, with syncs that nobody waits for


if __name__ == "__main__":
    main()
