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


def of(command: Command) -> str:
    words = " ".join((f"mlpipe-tui {command.name}", *command.positionals))
    lines = [f"usage: {words} [options]", "", f"{command.help[0].upper()}{command.help[1:]}."]
    if "RUN" in command.positionals or "[RUN]" in command.positionals:
        lines += ["", "RUN is a number, an id, the beginning of an id, or `latest`."]
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


def bash() -> str:
    cases = "\n".join(
        f'    {command.name}) words="{" ".join("--" + option.name for option in (*command.options, *COMMON))}" ;;'
        for command in COMMANDS
    )
    names = " ".join(command.name for command in COMMANDS)
    return f"""_mlpipe_tui() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" words
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{names}" -- "$word")); return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _mlpipe_tui mlpipe-tui"""


def zsh() -> str:
    commands = "\n".join(f"    '{command.name}:{_quoted(command.help)}'" for command in COMMANDS)
    cases = "\n".join(
        f"    {command.name}) _arguments "
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
  case $words[2] in
{cases}
  esac
}}
compdef _mlpipe_tui mlpipe-tui"""


def fish() -> str:
    lines = ["complete -c mlpipe-tui -f"]
    for command in COMMANDS:
        lines.append(f"complete -c mlpipe-tui -n __fish_use_subcommand -a {command.name} -d '{_quoted(command.help)}'")
        for option in (*command.options, *COMMON):
            short = f" -s {option.short}" if option.short else ""
            value = " -r" if option.value else ""
            lines.append(
                f"complete -c mlpipe-tui -n '__fish_seen_subcommand_from {command.name}' -l {option.name}{short}{value} -d '{_quoted(option.help)}'"
            )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return text.replace("'", "").replace(":", ",").replace("[", "(").replace("]", ")")
