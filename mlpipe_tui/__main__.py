"""`mlpipe-tui` and `python -m mlpipe_tui`: everything is a command so far."""

import sys


def main() -> None:
    from mlpipe_engine.cli.main import main as command_line

    sys.exit(command_line(sys.argv[1:]))


if __name__ == "__main__":
    main()
