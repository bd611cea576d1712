"""`completion`: a script for the shell."""

from __future__ import annotations

from mlpipe_engine.cli import help
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.errors import UsageError


def completion(arguments: Arguments) -> int:
    shell = arguments.positionals["SHELL"]
    scripts = {"bash": help.bash, "zsh": help.zsh, "fish": help.fish}
    if shell not in scripts:
        raise UsageError(f"no completion for {shell!r}", expected="bash, zsh or fish")
    print(scripts[shell]())
    return 0
