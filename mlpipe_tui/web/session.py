"""One page's app. Its screen is a pipe to the server, which is why it does not ask whether there is a terminal."""

from __future__ import annotations

import argparse
import sys


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mlpipe-tui web", allow_abbrev=False)
    parser.add_argument("-C", dest="directory")
    parser.add_argument("--theme", default="")
    parser.add_argument("--read-only", action="store_true")
    given = parser.parse_args(words)
    from mlpipe_tui.app import Settings, start

    return start(Settings(directory=given.directory, read_only=given.read_only, theme=given.theme, glyphs="unicode"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
