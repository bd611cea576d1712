"""Bad input: one line that says what, where and what was expected; the right exit code; and nothing left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from worlds import World

STEP = 'pipeline = Pipeline(ws, [CommandStep(["true"], name="s")], name="p")'


@dataclass(frozen=True)
class Case:
    name: str
    code: int
    says: str
    """A pattern for standard error."""
    toml: str | bytes | None = None
    body: str | None = None
    """Of pipeline.py, behind the usual imports."""
    words: tuple[str, ...] = ("plan",)
    prepare: Callable[[World], Any] | None = field(default=None)


def toml(name: str, body: str | bytes, says: str) -> Case:
    return Case(name, 2, says, toml=body)


def definition(name: str, body: str, says: str, code: int = 3) -> Case:
    return Case(name, code, says, body=body)


CASES = [
    # the project file: missing, unreadable, not text, not TOML, unknown, wrong (rows 1 to 11)
    Case("no project", 2, r"no mlpipe.toml in .*\n.*mlpipe-tui init", prepare=lambda w: (w.root / "mlpipe.toml").unlink()),
    Case("toml is a folder", 2, "mlpipe.toml is a folder", prepare=lambda w: ((w.root / "mlpipe.toml").unlink(), (w.root / "mlpipe.toml").mkdir())),
    toml("utf-16", "[project]\nname = 'x'".encode("utf-16"), "UTF-16 text; expected UTF-8"),
    toml("NUL", b"[project]\nname = 'a\0b'\n", r"mlpipe.toml:2: a NUL character"),
    toml("not utf-8", b"[project]\nname = '\xff'\n", r"mlpipe.toml:2: byte 0xff, which is not UTF-8"),
    toml("too large", b"#" * (2 << 20), "2,097,152 bytes; expected at most"),
    toml("syntax", "[project]\nname = \n", r"mlpipe.toml:2:8: .*\n +name = \n +\^"),
    toml("duplicate key", "[project]\nname = 'a'\nname = 'b'\n", r"mlpipe.toml:3:\d+: name stands here for the second time"),
    toml("duplicate table", "[project]\n[default]\n[project]\n", r"mlpipe.toml:3:\d+: project stands here for the second time"),
    toml("deep nesting", "[project]\nname = " + "[" * 3000 + "]" * 3000, r"mlpipe.toml:2: nested more than 100 deep"),
    toml("huge integer", "[compute.x]\ncpus = " + "9" * 5000, r"mlpipe.toml:2: a number of more than 400 digits"),
    toml("nan", "[compute.x]\ncpus = nan\n", r"mlpipe.toml:2 field compute.x.cpus: found a number \(nan\); expected a number greater than 0"),
    toml("negative", "[compute.x]\ncpus = -1\n", "expected a number greater than 0"),
    toml("date", "[project]\nname = 2020-01-01\n", "found a date"),
    toml("unknown table", "[projekt]\nname = 'x'\n", r"mlpipe.toml:1 field projekt: unknown name 'projekt'; did you mean 'project'\?"),
    toml("misspelt key", "[project]\nnmae = 'x'\n", r"mlpipe.toml:2 field project.nmae: unknown name 'nmae'; did you mean 'name'\?"),
    toml("wrong type", "[project]\n\nname = 3\n", r"mlpipe.toml:3 field project.name: found a number \(3\); expected a text"),
    toml("empty text", "[project]\nname = ' '\n", "expected a text that is not empty"),
    toml("no table", "project = 1\n", r"expected a table \[project\]"),
    toml("size", "[compute.x]\nmemory = 'lots'\n", 'expected a size such as "2GB"'),
    toml("unknown default compute", "[default]\ncompute = 'bgi'\n[compute.big]\n", r"mlpipe.toml:2 field default.compute: .*'bgi'; did you mean 'big'\?"),
    # definitions: missing, broken, clashing names, cycles, unknown references (rows 12, 13)
    Case("no definition", 3, "no pipeline is defined in .*; expected pipelines/\\*.py or pipeline.py"),
    definition("syntax error", "x = (", r'pipeline.py", line \d+\n.*\n +\^\n(.*\n)*error: .*pipeline.py:3: SyntaxError: '),
    definition("exception", "def f():\n    return 1 / 0\nf()", r"in f\n +return 1 / 0\n(.*\n)+error: .*pipeline.py:4: ZeroDivisionError"),
    definition("exit", "import sys\nsys.exit(3)", r"pipeline.py calls exit\(3\)"),
    definition("killed", "import os\nos._exit(7)", "exited with code 7 before it was done"),
    definition("no pipeline in it", "x = 1", "define no Pipeline at module level", code=4),
    definition("misspelt keyword", 'PythonScriptStep("a.py", souce_directory="x")', r"unexpected keyword argument 'souce_directory'; did you mean 'source_directory'"),
    definition("script missing", 'p = Pipeline(ws, [PythonScriptStep("pipelin.py")])', r"Step \[pipelin.py\]: script not found at: .*; did you mean 'pipeline.py'"),
    definition("empty", 'p = Pipeline(ws, [], name="p")', "pipeline 'p' has no steps"),
    definition("same names", 'p = Pipeline(ws, [CommandStep("true", name="a"), CommandStep("true", name="A")])', r"pipeline.py:3 field name: two steps are called 'A'"),
    definition("two pipelines of one name", STEP + '\nother = Pipeline(ws, [CommandStep("true", name="t")], name="P")', "two pipelines are called 'P'"),
    definition("bad step name", 'p = Pipeline(ws, [CommandStep("true", name="a/b")])', "step name 'a/b'; expected 1 to 100 letters"),
    definition("control character", 'p = Pipeline(ws, [CommandStep("true", name="a\\x1b[2J")])', r"step name 'a\\x1b\[2J'"),
    definition("very long name", 'p = Pipeline(ws, [CommandStep("true", name="x" * 300)])', r"300 characters"),
    definition("cycle", 'a, b = CommandStep("true", name="a"), CommandStep("true", name="b")\na.run_after(b)\nb.run_after(a)\np = Pipeline(ws, [a, b])', "Cycle detected: [ab] -> [ab] -> [ab]"),
    definition("waits for itself", 'a = CommandStep("true", name="a")\na.run_after(a)\np = Pipeline(ws, [a])', "Cycle detected: a -> a"),
    definition("two producers", 'o = PipelineData("o")\np = Pipeline(ws, [CommandStep("true", name="a", outputs=[o]), CommandStep("true", name="b", outputs=[o])])', r"o is already an output of step \[a\]"),
    definition("no producer", 'o = PipelineData("o")\np = Pipeline(ws, [CommandStep(["cat", o], name="a")])', "input 'o' is an output of no step"),
    definition("bad condition", 'p = Pipeline(ws, [CommandStep("true", name="a", when="import os")])', "cannot read the condition 'import os' at column"),
    definition("retries", 'p = Pipeline(ws, [CommandStep("true", name="a", retries=-1)])', "field retries: step 'a': retries is -1; expected 0 to 100"),
    definition("memory", 'p = Pipeline(ws, [CommandStep("true", name="a", memory="much")])', "memory='much'; expected a number of bytes"),
    definition("port name", 'PipelineData("a-b")', "may contain only letters, digits, and underscores"),
    definition("raw dataset", 'p = Pipeline(ws, [CommandStep("true", name="a", inputs=[Dataset.File.from_files("x")])])', "use dataset.as_named_input"),
    definition("same name, other dataset", 'f = Dataset.File.from_files\np = Pipeline(ws, [CommandStep("true", name="a", inputs=[f("x").as_named_input("i"), f("y").as_named_input("i")])])', r"\[i\] is repeated. Input port names must be unique."),
    definition("result of a submit", 'r = Experiment(ws, "e").submit(Pipeline(ws, [CommandStep("true", name="a")]))\nprint(r.id)', "is only being loaded; its result has no 'id' yet(.*\n)+.*__main__"),
    # parameters (rows 10, 14)
    Case("unknown parameter", 3, "has no parameter 'x'", body=STEP, words=("plan", "--param", "x=1")),
    Case("no value", 2, "--param got 'x'; expected NAME=VALUE", body=STEP, words=("plan", "--param", "x")),
    Case("wrong parameter", 3, "field n: parameter 'n': found 'x'; expected an integer",
         body='n = PipelineParameter("n", 1)\np = Pipeline(ws, [CommandStep(["echo", n], name="s")])', words=("plan", "--param", "n=x")),
    Case("out of range", 3, "9 is out of range; expected a int from 0 to 5",
         body='n = PipelineParameter("n", 1, minimum=0, maximum=5)\np = Pipeline(ws, [CommandStep(["echo", n], name="s")])', words=("run", "--param", "n=9")),
    Case("infinity", 3, "no number one can compute with",
         body='n = PipelineParameter("n", 1.0)\np = Pipeline(ws, [CommandStep(["echo", n], name="s")])', words=("run", "--param", "n=1e999")),
    Case("missing parameter", 3, "parameter 'n' has no value; expected any value(.*\n)+hint: Give it with --param n=VALUE",
         body='n = PipelineParameter("n")\np = Pipeline(ws, [CommandStep(["echo", n], name="s")])', words=("run",)),
    # programs and paths (rows 15 to 17)
    Case("program missing", 4, "the program 'pyhton3' was not found on the fixed PATH .*did you mean 'python3", body='p = Pipeline(ws, [CommandStep(["pyhton3"], name="s")])', words=("run",)),
    Case("program not executable", 4, "not executable\nhint: chmod", body='p = Pipeline(ws, [CommandStep(["./x.sh"], name="s", source_directory=".")])', words=("run",),
         prepare=lambda w: w.write("x.sh", "#!/bin/sh\n")),
    Case("interpreter of a script missing", 4, "asks for /no/such in its #! line", body='p = Pipeline(ws, [CommandStep(["./x.sh"], name="s", source_directory=".")])', words=("run",),
         prepare=lambda w: w.write("x.sh", "#!/no/such\n", 0o755)),
    Case("empty command", 3, "CommandStep needs a command", body='CommandStep([])', words=("run",)),
    Case("input missing", 4, r"pipeline.py:3: step 's' needs dta.csv, but no file or folder of that name exists; did you mean 'data.csv'",
         body='p = Pipeline(ws, [CommandStep(["cat", Dataset.File.from_files("dta.csv").as_named_input("d")], name="s")])', words=("run",), prepare=lambda w: w.write("data.csv", "")),
    Case("pattern without a match", 4, "nothing matches it", words=("run",),
         body='p = Pipeline(ws, [CommandStep(["cat", Dataset.File.from_files("x/*.csv").as_named_input("d")], name="s")])'),
    Case("special file as input", 4, "named pipe", words=("run",), prepare=lambda w: os.mkfifo(w.root / "pipe"),
         body='p = Pipeline(ws, [CommandStep(["cat", Dataset.File.from_files("pipe").as_named_input("d")], name="s")])'),
    Case("special file in the source", 4, "src/pipe is a named pipe", words=("run",), prepare=lambda w: (w.write("src/a.py", ""), os.mkfifo(w.root / "src/pipe")),
         body='p = Pipeline(ws, [PythonScriptStep("a.py", source_directory="src")])'),
    Case("the whole disk as source", 4, "the source directory / holds far more than the code", words=("run",),
         body='p = Pipeline(ws, [CommandStep(["true"], name="s", source_directory="/")])'),
    Case("a kernel folder as source", 4, "the source directory /proc holds far more", words=("run",),
         body='p = Pipeline(ws, [CommandStep(["true"], name="s", source_directory="/proc")])'),
    Case("source missing", 4, "the source directory .*nope does not exist", words=("run",),
         body='p = Pipeline(ws, [CommandStep(["true"], name="s", source_directory="nope")])'),
    Case("path with NUL", 4, "no file or folder of that name exists", words=("run",), body='p = Pipeline(ws, [CommandStep(["cat", Dataset.File.from_files("a\\0b").as_named_input("d")], name="s")])'),
    Case("path too long", 4, "no file or folder of that name exists", words=("run",), body='p = Pipeline(ws, [CommandStep(["cat", Dataset.File.from_files("x" * 5000).as_named_input("d")], name="s")])'),
    Case("script outside", 3, "lies outside its source directory", words=("run",), prepare=lambda w: w.write("a.py", ""),
         body='p = Pipeline(ws, [PythonScriptStep("../a.py", source_directory="src")])'),
    Case("broken interpreter", 4, "mlpipe.toml:2 field default.python: the interpreter no/such does not exist", toml='[default]\npython = "no/such"\n', body=STEP, words=("run",)),
    Case("docker without an engine", 4, "no container engine listens at unix:///no/such.sock", toml='[compute.box]\nkind = "docker"\nengine = "unix:///no/such.sock"\n', body=STEP, words=("run", "--compute", "box")),
    Case("a kind nobody knows", 2, "compute.box.kind: unknown name 'dockr'; did you mean 'docker'", toml='[compute.box]\nkind = "dockr"\n', body=STEP, words=("run",)),
    Case("half a process", 2, r"mlpipe.toml:2 field compute.box.pids: found a number \(0.5\); expected a whole number greater than 0", toml='[compute.box]\npids = 0.5\n', body=STEP, words=("run",)),
    Case("unknown compute", 2, "there is no compute target 'bgi'; did you mean 'big'", toml="[compute.big]\n", body=STEP, words=("run", "--compute", "bgi")),
    # the command line (row 25)
    Case("unknown command", 2, "unknown command 'rnu'; did you mean 'run'", words=("rnu",)),
    Case("unknown option", 2, "plan has no option --verbos; did you mean '--verbose'", words=("plan", "--verbos")),
    Case("unknown short option", 2, "plan has no option -x", words=("plan", "-x")),
    Case("missing word", 2, "why needs STEP; expected mlpipe-tui why RUN STEP", words=("why", "1")),
    Case("too many words", 2, "unexpected word 'b'", words=("plan", "a", "b")),
    Case("option without its value", 2, "--step needs a value; expected STEP", words=("plan", "--step")),
    Case("value for a switch", 2, "--force takes no value", words=("plan", "--force=1")),
    Case("option twice", 2, "--compute was given twice", words=("plan", "--compute", "a", "--compute", "b")),
    Case("conflict", 2, "--only and --step exclude each other", words=("plan", "--only", "a", "--step", "b")),
    Case("not a number", 2, "--limit got 'x'; expected a whole number", words=("runs", "-n", "x")),
    Case("unknown step", 2, "has no step 'x'; expected one of s", body=STEP, words=("plan", "--step", "x")),
    Case("unknown pipeline", 2, "there is no pipeline 'pp'; did you mean 'p'", body=STEP, words=("plan", "pp")),
    Case("unknown run", 4, "this project has no run yet", body=STEP, words=("show", "7")),
    Case("unknown state", 2, "--state 'x'; expected one of queued", words=("runs", "--state", "x")),
    Case("bad experiment", 2, "--experiment '-x'", body=STEP, words=("run", "--experiment=-x")),
    Case("not a folder", 2, "is not a folder", words=("plan", "-C", "/no/such/folder")),
    Case("unknown shell", 2, "no completion for 'csh'; expected bash, zsh or fish", words=("completion", "csh")),
    Case("undecodable word", 2, r"unknown command 'r\\\\xff'", words=("r\udcff",)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(world: World, case: Case) -> None:
    if case.toml is not None:
        world.write("mlpipe.toml", case.toml)
    if case.body is not None:
        world.define(case.body)
    if case.prepare is not None:
        case.prepare(world)
    before = sorted(os.listdir(world.root))
    done = world.cli(*case.words)
    assert done.returncode == case.code, (done.returncode, done.stdout, done.stderr)
    assert re.search(case.says, done.stderr), done.stderr
    assert re.search(r"^error: ", done.stderr, re.MULTILINE)
    assert "mlpipe_engine/" not in done.stderr, "a traceback of ours"
    assert sorted(os.listdir(world.root)) == before, "something was left behind"


@pytest.mark.parametrize("body", ["", "# only a comment\n", "\ufeff[project]\r\nname = 'x'\r\n", "\t[project]\n\tname = 'x'\n"])
def test_odd_but_valid_project_files(world: World, body: str) -> None:
    world.write("mlpipe.toml", body)
    world.define(STEP)
    assert world.cli("run").returncode == 0


def test_errors_as_json(world: World) -> None:
    import json

    world.write("mlpipe.toml", "[project]\nnmae = 'x'\n")
    error = json.loads(world.cli("plan", "--json").stderr)["error"]
    assert error["exit"] == 2 and error["field"] == "project.nmae" and error["where"].endswith("mlpipe.toml:2") and error["hint"]


def test_a_broken_file_does_not_hide_the_others(world: World) -> None:
    world.write("pipelines/good.py", f"from mlpipe_engine import *\nws = Workspace.from_config()\n{STEP}\n")
    world.write("pipelines/bad.py", "1 / 0\n")
    assert world.cli("run", "p").returncode == 0
    listed = world.cli("pipelines")
    assert listed.returncode == 3 and "bad.py:1: ZeroDivisionError" in listed.stderr


@pytest.mark.parametrize("variables", [{"COLUMNS": "0"}, {"HOME": ""}, {"TMPDIR": "/no/such"}, {"LANG": "C", "PYTHONUTF8": "0"}])
def test_odd_surroundings(world: World, variables: dict[str, str]) -> None:
    world.define(STEP)
    done = world.cli("run", env=world.environment(**variables))
    assert done.returncode == 0, done.stderr


def test_a_deleted_current_folder(world: World) -> None:
    import subprocess

    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *world.command("plan")],
        cwd=world.root,
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the current folder no longer exists")


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_any_umask(world: World, mask: int) -> None:
    world.define(STEP)
    old = os.umask(mask)
    try:
        assert world.cli("run").returncode == 0
    finally:
        os.umask(old)


def test_ignore_rules_that_cannot_match_and_large_folders_are_told(world: World) -> None:
    world.write("src/a.py", "")
    world.write("src/.amlignore", "ok\nx[\n")
    with open(world.root / "src/big.bin", "wb") as file:
        file.truncate(150_000_000)
    world.define('p = Pipeline(ws, [PythonScriptStep("a.py", source_directory="src")])')
    done = world.cli("plan")
    assert done.returncode == 0
    assert "warning: .amlignore:2: a pattern that can never match" in done.stderr
    assert "the biggest are big.bin (150 MB)" in done.stderr


def test_arguments_never_reach_a_shell(world: World) -> None:
    world.define(
        'p = Pipeline(ws, [CommandStep(["echo", "$(touch hacked)", "${{x}}", "a;b", "*"], name="s", source_directory="src")])'
    )
    world.write("src/a", "")
    assert world.cli("run").returncode == 0
    assert world.cli("logs", "latest", "s").stdout == "$(touch hacked) ${{x}} a;b *\n"


def test_links_in_a_source_directory_stay_links(world: World) -> None:
    world.write("src/a.py", "import os; print(os.readlink('loop'), os.readlink('out'))\n")
    (world.root / "src/loop").symlink_to(".")
    (world.root / "src/out").symlink_to("/etc")
    world.define('p = Pipeline(ws, [PythonScriptStep("a.py", name="s", source_directory="src")])')
    assert world.cli("run").returncode == 0
    assert world.cli("logs", "latest", "s").stdout == ". /etc\n"


def test_an_argument_that_is_too_long_for_the_system(world: World) -> None:
    world.define('p = Pipeline(ws, [CommandStep(["echo", "x" * 3_000_000], name="s")])')
    done = world.cli("run")
    assert done.returncode == 1 and "exited 126" in done.stdout and "too long together" in done.stdout


def test_a_script_in_a_sub_folder_is_named_like_the_script(world: World) -> None:
    world.write("src/deep/a.py", "")
    world.define('p = Pipeline(ws, [PythonScriptStep("deep/a.py", source_directory="src")])')
    assert world.run().states == {"a.py": "succeeded"}
