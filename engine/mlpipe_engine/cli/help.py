"""Help texts, completion scripts and docs/cli.md, all from the table of commands. No imports but the table."""

from mlpipe_engine.cli.commands import COMMANDS, COMMON, Command, Option

TITLE = "mlpipe-tui runs machine-learning pipelines on this machine and reuses what has not changed."


def overview() -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [TITLE, "", "usage: mlpipe-tui COMMAND [options]"]
    lines += [
        "       mlpipe-tui [-C DIR] [--read-only] [--theme NAME] [--ascii] [--no-mouse]   the terminal app",
        "",
        "commands:",
    ]
    lines += [f"  {command.name:<{width}}  {command.help}" for command in COMMANDS]
    lines += [
        "",
        "Start with `mlpipe-tui init --example`, then `mlpipe-tui run`.",
        "`mlpipe-tui COMMAND --help` explains one command.",
    ]
    return "\n".join(lines)


def group(word: str) -> str:
    """The verbs of two words that begin with `word`."""
    found = [command for command in COMMANDS if command.name.startswith(word + " ")]
    width = max(len(command.name) for command in found)
    lines = [f"usage: mlpipe-tui {word} VERB [options]", ""]
    lines += [f"  {command.name:<{width}}  {command.help}" for command in found]
    return "\n".join([*lines, "", f"`mlpipe-tui {word} VERB --help` explains one of them."])


def of(command: Command) -> str:
    words = " ".join((f"mlpipe-tui {command.name}", *command.positionals))
    lines = [f"usage: {words} [options]", "", f"{command.help[0].upper()}{command.help[1:]}."]
    if "RUN" in command.positionals or "[RUN]" in command.positionals:
        lines += ["", "RUN is a number, an id, the beginning of an id, or `latest`."]
    if "DATASET" in command.positionals:
        lines += ["", "DATASET is NAME or NAME:VERSION of a registered dataset; head and profile take a path or a glob too."]
    options = [(shown(option), option.help) for option in (*command.options, *COMMON)]
    width = max(len(text) for text, _ in options)
    lines += ["", "options:", *(f"  {text:<{width}}  {help}" for text, help in options)]
    if command.examples:
        lines += ["", "examples:", *(f"  {example}" for example in command.examples)]
    return "\n".join(lines)


def shown(option: Option) -> str:
    text = f"-{option.short}, " if option.short else "    "
    return text + f"--{option.name}" + (f" {option.value}" if option.value else "") + (" ..." if option.many else "")


def markdown() -> str:
    """docs/cli.md."""
    parts = ["# Commands", "", "Made from the table of commands; a test compares. Exit codes: 0 ok, 1 a step failed, 2 usage or configuration,",
             "3 definition, 4 input, environment or machine, 5 store, 130 and 143 canceled.", ""]  # fmt: skip
    for command in COMMANDS:
        parts += [f"## mlpipe-tui {command.name}", "", "```", of(command), "```", ""]
    return "\n".join(parts)


def _first_words() -> list[str]:
    return list(dict.fromkeys(command.name.split(" ")[0] for command in COMMANDS))


def _verbs() -> dict[str, list[str]]:
    """First word of two -> the second words."""
    found: dict[str, list[str]] = {}
    for command in COMMANDS:
        first, _, second = command.name.partition(" ")
        if second:
            found.setdefault(first, []).append(second)
    return found


def _pattern(command: Command) -> str:
    """Of the first two words of a command line, for `case`."""
    return f'"{command.name}"' if " " in command.name else f'"{command.name} "*'


def bash() -> str:
    cases = "\n".join(
        f'    {_pattern(command)}) words="{" ".join("--" + option.name for option in (*command.options, *COMMON))}" ;;'
        for command in COMMANDS
    )
    verbs = "".join(
        f"""  if [ "$COMP_CWORD" -eq 2 ] && [ "${{COMP_WORDS[1]}}" = {first} ]; then
    COMPREPLY=($(compgen -W "{" ".join(seconds)}" -- "$word")); return
  fi
"""
        for first, seconds in _verbs().items()
    )
    return f"""_mlpipe_tui() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join(_first_words())}" -- "$word")); return
  fi
{verbs}  case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _mlpipe_tui mlpipe-tui"""


def zsh() -> str:
    commands = "\n".join(f"    '{command.name}:{_quoted(command.help)}'" for command in COMMANDS if " " not in command.name)
    commands += "".join(f"\n    '{first}:{' '.join(seconds)}'" for first, seconds in _verbs().items())
    verbs = "".join(
        f"  if (( CURRENT == 3 )) && [[ $words[2] == {first} ]]; then compadd {' '.join(seconds)}; return; fi\n"
        for first, seconds in _verbs().items()
    )
    cases = "\n".join(
        f"    {_pattern(command)}) _arguments "
        + " ".join(
            f"'--{option.name}[{_quoted(option.help)}]{':value' if option.value else ''}'"
            for option in (*command.options, *COMMON)
        )
        + " '*:file:_files' ;;"
        for command in COMMANDS
    )
    return f"""#compdef mlpipe-tui
_mlpipe_tui() {{
  local -a commands
  commands=(
{commands}
  )
  if (( CURRENT == 2 )); then _describe command commands; return; fi
{verbs}  case "$words[2] $words[3]" in
{cases}
  esac
}}
compdef _mlpipe_tui mlpipe-tui"""


def fish() -> str:
    lines = ["complete -c mlpipe-tui -f"]
    for first, seconds in _verbs().items():
        lines.append(f"complete -c mlpipe-tui -n __fish_use_subcommand -a {first} -d '{', '.join(seconds)}'")
    for command in COMMANDS:
        first, _, second = command.name.partition(" ")
        seen = f"__fish_seen_subcommand_from {first}"
        if second:
            others = " ".join(_verbs()[first])
            begin = f"'{seen}; and not __fish_seen_subcommand_from {others}'"
            seen += f"; and __fish_seen_subcommand_from {second}"
        else:
            begin = "__fish_use_subcommand"
        lines.append(f"complete -c mlpipe-tui -n {begin} -a {second or first} -d '{_quoted(command.help)}'")
        for option in (*command.options, *COMMON):
            short = f" -s {option.short}" if option.short else ""
            value = " -r" if option.value else ""
            lines.append(f"complete -c mlpipe-tui -n '{seen}' -l {option.name}{short}{value} -d '{_quoted(option.help)}'")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return text.replace("'", "").replace(":", ",").replace("[", "(").replace("]", ")")
