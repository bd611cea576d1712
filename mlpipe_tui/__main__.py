"""`mlpipe-tui` and `python -m mlpipe_tui`: without a command, on a terminal, the app; everything else is the command line.

Nothing of the app is imported before it is asked for: `mlpipe-tui run` must start as fast as if there were none.
"""

import os
import sys

_SWITCHES = ("--read-only", "--ascii", "--no-mouse", "--debug")
_VALUES = ("-C", "--directory", "--theme")
_LOOKS = ("--read-only", "--ascii", "--no-mouse", "--theme")
"""Options that only the app has."""


def main() -> None:
    words = sys.argv[1:]
    if wants_app(words) and on_a_terminal():
        code = _app(words)
    elif wants_app(words) and any(word.partition("=")[0] in _LOOKS for word in words):
        print("error: the app needs a terminal: keys from stdin, the screen on stderr, and $TERM", file=sys.stderr)
        print("hint: In a pipe use a command, for instance `mlpipe-tui runs`.", file=sys.stderr)
        code = 2
    else:
        from mlpipe_engine.cli.main import main as command_line

        code = command_line(words)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        pass  # the reader left
    os._exit(code)  # closing the store's connection would merge its log into it, with syncs that nobody waits for


def wants_app(words: list[str]) -> bool:
    """Only options of the app, and no command."""
    at = 0
    while at < len(words):
        name, equals, _ = words[at].partition("=")
        if words[at] in _SWITCHES:
            at += 1
        elif name in _VALUES and (equals or at + 1 < len(words)):
            at += 1 if equals else 2
        else:
            return False
    return True


def on_a_terminal() -> bool:
    """The screen is drawn on stderr, keys come from stdin."""
    return all(os.isatty(number) for number in (0, 1, 2)) and os.environ.get("TERM", "") not in ("", "dumb")


def _app(words: list[str]) -> int:
    from mlpipe_engine.cli.main import guarded

    def run() -> int:
        from mlpipe_tui.app import Settings, start

        given: dict[str, str] = {}
        rest = list(words)
        while rest:
            name, equals, value = rest.pop(0).partition("=")
            given[name] = value if equals or name in _SWITCHES else rest.pop(0)
        settings = Settings(
            directory=given.get("-C", given.get("--directory")), read_only="--read-only" in given, theme=given.get("--theme", ""),
            glyphs="ascii" if "--ascii" in given else "auto", mouse="--no-mouse" not in given, debug="--debug" in given,
        )  # fmt: skip
        return start(settings)

    return guarded(run, debug="--debug" in words)


if __name__ == "__main__":
    main()
