"""A step tried by hand: same code, inputs and environment, nothing left behind, nothing written into the store."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from worlds import World

DEFINITION = """
data, model = PipelineData("data"), PipelineData("model")
prep = CommandStep(["sh", "prep.sh", data], name="prep", outputs=[data], source_directory="src")
train = PythonScriptStep("train.py", name="train", arguments=[data, model], inputs=[data], outputs=[model], source_directory="src",
    runconfig=None)
pipeline = Pipeline(ws, [prep, train], name="demo")
"""


@pytest.fixture
def demo(world: World) -> World:
    world.write("src/prep.sh", 'echo data > "$1"\n')
    world.write("src/train.py", "import sys\nprint(open(sys.argv[1]).read().strip())\nopen(sys.argv[2], 'w').write('m')\n")
    world.define(DEFINITION)
    return world


def stored(world: World) -> dict[str, object]:
    """Rows and files of the store; not the files that only reading it touches."""
    skipped = ("locks", "sdk", "home", "meta.lock", "state.db", "state.db-shm", "state.db-wal")
    found: dict[str, object] = {
        name: body for name, body in world.files().items() if name.startswith(".mlpipe/") and name.split("/")[1] not in skipped
    }
    with closing(sqlite3.connect(world.root / ".mlpipe/state.db")) as database:
        found["rows"] = list(database.iterdump())
    return found


def test_a_failed_step_is_laid_out_as_it_failed(demo: World) -> None:
    demo.write("src/train.py", "import sys\nsys.exit('broken ' + open(sys.argv[1]).read())\n")
    demo.run()
    demo.write("src/train.py", "print('another version')\n")
    before = stored(demo)
    again = demo.cli("debug", "train", "--", "sh", "../command.sh")
    assert again.returncode == 1 and "broken data" in again.stderr and "run 1, where it failed: exited 1" in again.stderr
    assert demo.cli("debug", "train", "--", "cat", "train.py").stdout.startswith("import sys\nsys.exit")
    assert stored(demo) == before and not (demo.root / ".mlpipe/debug").exists()


def test_the_exit_code_and_the_output_are_those_of_the_command(demo: World) -> None:
    demo.run()
    done = demo.cli("debug", "train", "--", "sh", "-c", "cat ../in/data; exit 7")
    assert (done.returncode, done.stdout) == (7, "data\n")
    assert demo.cli("debug", "train", "--", "sh", "-c", "kill -9 $$").returncode == 137
    missing = demo.cli("debug", "train", "--", "no-such-program")
    assert missing.returncode == 2 and "'no-such-program' was not found" in missing.stderr
    assert not (demo.root / ".mlpipe/debug").exists()


def test_the_environment_is_the_step_s_own(demo: World) -> None:
    demo.run()
    environment = demo.environment(SECRET="s", TERM="xterm", LANG="de_DE")
    shown = demo.cli("debug", "train", "--", "env", env=environment).stdout
    found = dict(line.partition("=")[::2] for line in shown.splitlines())
    assert "SECRET" not in found and found["LANG"] == "C.UTF-8" and found["TERM"] == "xterm"
    assert found["HOME"] == str(demo.root / ".mlpipe/home")
    assert "MLPIPE_RUN" not in found, "what ends the processes of a lost run must leave a shell alone"


def test_a_shell_starts_in_the_code(demo: World) -> None:
    demo.run()
    done = subprocess.run(
        demo.command("debug", "prep"), cwd=demo.root, env=demo.environment(SHELL="/bin/sh"), input="pwd; ls; exit 3\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stdout.splitlines()[0] == str(demo.root / ".mlpipe/debug/prep-1/code") and "prep.sh" in done.stdout
    assert "HOME is the project's .mlpipe/home" in done.stderr and "leave it with `exit`" in done.stderr


def test_print_keeps_the_directory_and_its_command(demo: World) -> None:
    demo.run()
    document = demo.json("debug", "train", "--print")
    assert document["kept"] and document["argv"][1].endswith("/code/train.py")
    done = subprocess.run([document["command_file"]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "data\n")
    assert Path(document["directory"], "out/model").read_text() == "m"
    assert demo.json("debug", "train", "--print")["directory"] != document["directory"], "a kept one is never overwritten"


def test_pdb_runs_the_script(demo: World) -> None:
    demo.run()
    done = subprocess.run(
        demo.command("debug", "train", "--pdb"), cwd=demo.root, env=demo.environment(), input="n\np sys.argv[0]\nq\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "train.py(2)<module>()" in done.stdout and done.stdout.count("(Pdb)") >= 2, done.stdout + done.stderr
    wrong = demo.cli("debug", "prep", "--pdb")
    assert wrong.returncode == 2 and "not a Python script" in wrong.stderr
    assert not (demo.root / ".mlpipe/debug").exists()


def test_a_step_that_never_ran_is_laid_out_from_the_definition(demo: World) -> None:
    early = demo.cli("debug", "train", "--", "true")
    assert early.returncode == 4 and "has no result that could be used" in early.stderr
    planned = demo.cli("debug", "prep", "--", "cat", "prep.sh")
    assert planned.returncode == 0 and "it never ran" in planned.stderr and 'echo data > "$1"' in planned.stdout
    assert not list((demo.root / ".mlpipe").glob("snapshots/blobs/*")), "laying out stores nothing"
    demo.run(until_steps=("prep",))
    assert demo.cli("debug", "train", "--", "cat", "../in/data").stdout == "data\n"
    assert demo.json("runs")["items"][0]["number"] == 1


def test_a_reused_step_is_laid_out_as_its_result_was_made(demo: World) -> None:
    demo.run()
    demo.write("src/unread.txt", "")
    (demo.root / "src/unread.txt").unlink()
    demo.run()
    assert "run 1, where it succeeded" in demo.cli("debug", "train", "2", "--", "true").stderr


def test_a_changed_input_is_told_and_not_used_again(demo: World) -> None:
    demo.run()
    spoiled = demo.cli("debug", "train", "--", "sh", "-c", "chmod u+w $(readlink ../in/data); echo x >> ../in/data")
    assert "the stored input data was changed here" in spoiled.stderr
    assert demo.run().output("prep", "data") == b"data\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trian",), "did you mean 'train'"),
        (("trian", "1"), "did you mean 'train'"),
        (("train", "9"), "there is no run '9'"),
        (("train", "--pdb", "--", "ls"), "takes no command"),
        ((), "debug needs STEP"),
    ],
)
def test_what_is_not_there_is_told(demo: World, words: tuple[str, ...], said: str) -> None:
    demo.run()
    done = demo.cli("debug", *words)
    assert done.returncode in (2, 4) and said in done.stderr and "Traceback" not in done.stderr
    assert not os.path.exists(demo.root / ".mlpipe/debug")
