"""Words of a command line become values; what does not fit is a UsageError with the nearest name."""

from __future__ import annotations

from mlpipe_engine.cli.commands import BY_NAME, COMMON, GROUPS, Command, Option


class Arguments:
    """Options by name (a text, True, or a list of texts for repeatable ones), positionals by name, and the rest: many of one kind."""

    __slots__ = ("command", "options", "positionals", "rest", "words")

    def __init__(self, command: Command) -> None:
        self.command = command
        self.options: dict[str, str | bool | list[str]] = {}
        self.positionals: dict[str, str] = {}
        self.words: tuple[str, ...] = ()
        self.rest: tuple[str, ...] = ()
        """Words of a last positional that may be repeated."""

    def flag(self, name: str) -> bool:
        return bool(self.options.get(name))

    def text(self, name: str) -> str | None:
        value = self.options.get(name)
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.options.get(name)
        return tuple(value) if isinstance(value, list) else ()

    def number(self, name: str, default: int | None = None) -> int | None:
        value = self.text(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or len(value) > 15:
            raise _usage(f"--{name} got {value!r}", expected="a whole number")
        return int(value)


def command_words(words: list[str]) -> int:
    """How many of the first words name the command: two for `data ls`, else one."""
    return 2 if words[0] in GROUPS and len(words) > 1 and not words[1].startswith("-") else 1


def find_command(name: str) -> Command:
    command = BY_NAME.get(name)
    if command is None:
        raise _usage(
            f"unknown command {name!r}" + _close(name, list(BY_NAME)), hint="Run `mlpipe-tui --help` for the list of commands."
        )
    return command


def parse(command: Command, words: list[str]) -> Arguments:
    """Options may stand anywhere; everything behind `--` is a positional. Raises UsageError."""
    found = Arguments(command)
    known = (*command.options, *COMMON)
    positionals: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            if command.positionals[-1:] == ("[-- COMMAND...]",):
                found.rest = tuple(words[at:])
            else:
                positionals += words[at:]
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            at = _take(found, _option(known, name, command), value if equals else None, words, at)
        elif word.startswith("-") and len(word) > 1 and not word[1].isdigit():
            at = _short(found, known, word, words, at, command)
        else:
            positionals.append(word)
    if not found.flag("help"):
        _name_positionals(found, positionals)
        _conflicts(found)
    return found


def _short(found: Arguments, known: tuple[Option, ...], word: str, words: list[str], at: int, command: Command) -> int:
    """-d, -dv, -n5, -n 5."""
    position = 1
    while position < len(word):
        option = next((option for option in known if option.short == word[position]), None)
        if option is None:
            raise _usage(f"{command.name} has no option -{word[position]}", hint=f"Run `mlpipe-tui {command.name} --help`.")
        position += 1
        if option.value:
            rest = word[position:]
            return _take(found, option, rest.removeprefix("=") if rest else None, words, at)
        _take(found, option, None, words, at)
    return at


def _take(found: Arguments, option: Option, value: str | None, words: list[str], at: int) -> int:
    if not option.value:
        if value is not None:
            raise _usage(f"--{option.name} takes no value, found {value!r}")
        found.options[option.name] = True
        return at
    if value is None:
        if at >= len(words) or words[at] == "--":
            raise _usage(f"--{option.name} needs a value", expected=option.value)
        value = words[at]
        at += 1
    if option.many:
        kept = found.options.setdefault(option.name, [])
        assert isinstance(kept, list)
        kept.append(value)
    elif option.name in found.options:
        raise _usage(f"--{option.name} was given twice: {found.options[option.name]!r} and {value!r}")
    else:
        found.options[option.name] = value
    return at


def _option(known: tuple[Option, ...], name: str, command: Command) -> Option:
    for option in known:
        if option.name == name:
            return option
    names = ["--" + option.name for option in known]
    raise _usage(
        f"{command.name} has no option --{name}" + _close("--" + name, names), hint=f"Run `mlpipe-tui {command.name} --help`."
    )


def _name_positionals(found: Arguments, words: list[str]) -> None:
    names = tuple(name for name in found.command.positionals if not name.startswith("[--"))
    required = [name for name in names if not name.startswith("[")]
    if len(words) < len(required):
        missing = required[len(words)]
        raise _usage(f"{found.command.name} needs {missing}", expected=usage(found.command))
    if names and names[-1].endswith("...]"):
        found.rest = tuple(words[len(names) - 1 :])
        words = words[: len(names) - 1]
    if len(words) > len(names):
        raise _usage(f"unexpected word {words[len(names)]!r}", expected=usage(found.command))
    for name, word in zip(names, words, strict=False):
        found.positionals[name.strip("[]")] = word


def _conflicts(found: Arguments) -> None:
    pairs = (
        ("only", "step"), ("only", "from"), ("example", "wrap"), ("stdout", "stderr"), ("list", "revoke"), ("undo", "plan"), ("undo", "to"),
    )  # fmt: skip
    for left, right in pairs:
        if found.options.get(left) and found.options.get(right):
            raise _usage(f"--{left} and --{right} exclude each other", hint="Use one of them.")


def usage(command: Command) -> str:
    words = [f"mlpipe-tui {command.name}", *command.positionals]
    return " ".join(words) + (" [options]" if command.options else "")


def _close(name: str, choices: list[str]) -> str:
    from mlpipe_engine.errors import nearest

    close = nearest(name, choices)
    return f"; did you mean {close!r}?" if close else ""


def _usage(what: str, *, expected: str = "", hint: str = "") -> Exception:
    from mlpipe_engine.errors import UsageError

    return UsageError(what, expected=expected, hint=hint)
