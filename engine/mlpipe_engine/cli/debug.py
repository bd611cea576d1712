"""`debug`: a shell, a command or the Python debugger in a step's directory, laid out once more."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys

from mlpipe_engine.cli.output import print_json
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import UsageError
from mlpipe_engine.model.text import clean
from mlpipe_engine.runner.debugging import Bench, cleared_afterwards

_PASSED_ON = ("TERM", "COLORTERM", "COLUMNS", "LINES")
"""What a shell needs to draw on this terminal; the step itself had none of it."""


def debug(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    only_print = arguments.flag("print")
    if arguments.flag("pdb") and (arguments.rest or only_print):
        raise UsageError("--pdb runs the step's own script; it takes no command and no --print", hint="Leave one of them out.")
    run = arguments.positionals.get("RUN")
    bench = engine.debug(arguments.positionals["STEP"], engine.find_run(run).id if run else None, arguments.text("pipeline"))
    with cleared_afterwards(bench, keep=only_print or arguments.flag("keep")):
        if arguments.flag("pdb") and bench.step.kind != "python":
            raise UsageError(f"step {bench.step.name!r} runs a command, not a Python script", hint="Leave --pdb out.")
        if arguments.flag("pdb") and bench.task.container is not None:
            way = "Leave --pdb out; the directory has a command.sh that runs the container. Or run it as a process: --compute local."
            raise UsageError(f"step {bench.step.name!r} runs in a container", hint=way)
        if arguments.flag("json"):
            print_json(
                "debug", step=bench.step.name, directory=bench.directory, cwd=bench.task.cwd, argv=list(bench.task.argv),
                command_file=f"{bench.directory}/command.sh", environment=dict(bench.task.environment), about=bench.about,
                notes=list(bench.notes), kept=only_print or arguments.flag("keep"),
            )  # fmt: skip
            sys.stdout.flush()
        else:
            _introduce(bench, arguments)
        if only_print:
            return 0
        code = _run(bench, arguments)
        for name in engine.changed_inputs(bench):
            print(
                f"warning: the stored input {clean(name)} was changed here; it is damaged, and is made again by the next run that needs it",
                file=sys.stderr,
            )
    if arguments.flag("keep") and not arguments.flag("json"):
        print(f"kept: {clean(bench.directory)}", file=sys.stderr)
    return code


def _introduce(bench: Bench, arguments: Arguments) -> None:
    """On stderr where something is started, so that the output of a command stays its own."""
    out = sys.stdout if arguments.flag("print") else sys.stderr
    print(f"step {clean(bench.step.name)}, laid out after {clean(bench.about)}", file=out)
    for note in bench.notes:
        print(f"note: {clean(note)}", file=out)
    print(f"  directory  {clean(bench.directory)}", file=out)
    print(f"  command    {clean(shlex.join(bench.task.argv))}", file=out)
    print(f"  repeat it  {clean(shlex.quote(bench.directory + '/command.sh'))}", file=out)
    if not arguments.flag("print"):
        passed = [name for name in _PASSED_ON if os.environ.get(name)]
        extra = f", and {', '.join(passed)} of this terminal" if passed else ""
        print(f"  variables  the step's own (HOME is the project's .mlpipe/home){extra}", file=out)
        if not arguments.rest and not arguments.flag("pdb"):
            what = "kept" if arguments.flag("keep") else "removed"
            print(f"A shell starts in code/; leave it with `exit`. The directory is {what} afterwards.", file=out)
    out.flush()


def _run(bench: Bench, arguments: Arguments) -> int:
    """The exit code of what ran, as a shell gives it. Ctrl-C is for it, not for us."""
    shell = os.environ.get("SHELL", "")
    words = bench.pdb() if arguments.flag("pdb") else arguments.rest or (shell if os.access(shell, os.X_OK) else "/bin/sh",)
    environment = dict(bench.task.environment) | {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    old = signal.signal(signal.SIGINT, lambda *_: None)  # a handler of ours is reset in the program that is started
    try:
        process = subprocess.Popen(list(words), cwd=bench.task.cwd, env=environment)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _: process.send_signal(received))
        code = process.wait()
    except FileNotFoundError:
        raise UsageError(
            f"the program {words[0]!r} was not found", hint="Name it as the step would: its PATH is fixed."
        ) from None
    except PermissionError:
        raise UsageError(f"the program {words[0]!r} cannot be started", hint="Is it executable?") from None
    finally:
        signal.signal(signal.SIGINT, old)
    return code if code >= 0 else 128 - code
