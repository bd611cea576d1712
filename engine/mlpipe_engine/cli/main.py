"""The front door: picks the command, turns every foreseen trouble into one line, a hint and an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlpipe_engine.errors import MlpipeError


def main(argv: list[str]) -> int:
    """Returns the exit code. Never shows a traceback of ours without --debug."""
    return guarded(lambda: _answer(argv), debug="--debug" in argv, as_json="--json" in argv)


def guarded(work: Callable[[], int], *, debug: bool = False, as_json: bool = False) -> int:
    """The exit code of `work`; whatever is wrong becomes one line, a hint and a code."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader left; nothing more can be said to it
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if debug:
            raise
        return _trouble(error, as_json)
    except RecursionError as error:  # pragma: no cover
        return _trouble(error, as_json)


def _answer(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        return _help(argv[1:])
    if argv[0] in ("-V", "--version"):
        from mlpipe_engine import __version__

        print(f"mlpipe-tui {__version__}")
        return 0
    return _dispatch(argv)


def _help(words: list[str]) -> int:
    from mlpipe_engine.cli import help

    if words:
        from mlpipe_engine.cli.commands import BY_NAME, GROUPS

        command = BY_NAME.get(" ".join(words[:2])) or BY_NAME.get(words[0])
        if command is not None:
            print(help.of(command))
            return 0
        if words[0] in GROUPS:
            print(help.group(words[0]))
            return 0
    print(help.overview())
    return 0


def _dispatch(argv: list[str]) -> int:
    words = [word.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for word in argv]
    directory: list[str] = []
    while words and (words[0] in ("-C", "--directory") or words[0].startswith("--directory=")):
        taken = 1 if "=" in words[0] else 2
        directory, words = [*directory, *words[:taken]], words[taken:]
    if not words:
        return _help([])
    if words[0] == "run":
        from mlpipe_engine.cli import quick

        done = quick.run(words[1:], directory[-1].removeprefix("--directory=") if directory else None)
        if done is not None:
            return done
    if words[:2] == ["data", "head"]:
        from mlpipe_engine.cli import glimpse

        done = glimpse.head(words[2:], directory[-1].removeprefix("--directory=") if directory else None)
        if done is not None:
            return done
    from mlpipe_engine.cli.commands import GROUPS
    from mlpipe_engine.cli.parse import command_words, find_command, parse

    named = command_words(words)
    if named == 1 and words[0] in GROUPS:
        return _group(words)
    command = find_command(" ".join(words[:named]))
    arguments = parse(command, [*words[named:], *directory])
    arguments.words = tuple(words[named:])
    if arguments.flag("help"):
        from mlpipe_engine.cli import help

        print(help.of(command))
        return 0
    module = import_module(f"mlpipe_engine.cli.{command.module}")
    name = command.name.replace(" ", "_")
    function = getattr(module, name, None) or getattr(module, f"{name}_")  # `import` is a word of Python
    code: int = function(arguments)
    return code


def _group(words: list[str]) -> int:
    """`mlpipe-tui data` alone, or with options where a verb should stand."""
    from mlpipe_engine.cli import help

    if len(words) == 1 or words[1] in ("-h", "--help"):
        print(help.group(words[0]))
        return 0
    from mlpipe_engine.errors import UsageError

    raise UsageError(f"found {words[1]!r} behind `{words[0]}`", expected=f"a verb, as in `mlpipe-tui {words[0]} ls`")


def _trouble(error: Exception, as_json: bool) -> int:
    """Tells it and returns the exit code, which still says what happened where nothing can be written."""
    from mlpipe_engine.errors import FilesystemError, MlpipeError

    if isinstance(error, OSError) and not isinstance(error, MlpipeError):
        ours = "mlpipe_engine" in str(error.filename)  # a module that could not be opened says nothing to anybody
        error = FilesystemError.of(error, f"use {error.filename}" if error.filename and not ours else "go on", "")
    if isinstance(error, MemoryError):
        error = FilesystemError("not enough memory", hint="Close other programs, or give the process more memory.")
    if not isinstance(error, MlpipeError):
        text = f"internal error: {type(error).__name__}: {error}"
        _write(f"error: {text}\nhint: This is a bug of mlpipe-tui; repeat with --debug and report it.\n")
        return 70
    _write(_as_json(error) if as_json else _as_text(error))
    return error.exit_code


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        with suppress(OSError):  # nor is it tried again at the end of the process
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _as_json(error: MlpipeError) -> str:
    import json

    return json.dumps({"error": error.document()}) + "\n"


def _as_text(error: MlpipeError) -> str:
    from mlpipe_engine.errors import PipelineLoadError
    from mlpipe_engine.model.text import clean

    text = ""
    if isinstance(error, PipelineLoadError) and error.user_traceback:
        text += clean(error.user_traceback, limit=1 << 16, keep_newlines=True)
    for line in str(error).split("\n"):
        shown = clean(line)
        text += (shown if line.startswith("    ") else f"error: {shown}") + "\n"
    return text + (f"hint: {clean(error.hint)}\n" if error.hint else "")
