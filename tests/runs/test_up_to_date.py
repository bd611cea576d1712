"""The thin way answers "nothing to do" only while nothing that the decisions rested on has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.store.uptodate import check
from worlds import World

DEFINITION = """
import os
from pathlib import Path
from mlpipe_engine import *
ws = Workspace.from_config()
made, joined, folder = PipelineData("made"), PipelineData("joined"), PipelineData("folder", is_directory=True)
read = PythonScriptStep("read.py", name="read", source_directory="lib/src", arguments=[made, folder], outputs=[made, folder])
join = CommandStep(["bin/join.sh", made, Path("data.csv"), Dataset.File.from_files("parts/*.csv").as_named_input("parts").as_mount(), joined],
                   name="join", source_directory="tools", inputs=[made], outputs=[joined], environment_variables={"WORD": os.environ.get("WORD", "none")})
p = Pipeline(ws, steps=[join], name="p")
"""


@pytest.fixture
def known(world: World) -> World:
    """A project that the thin way knows to be up to date."""
    world.write("pipeline.py", DEFINITION)
    world.write("lib/.gitignore", "*.tmp\n")
    world.write(
        "lib/src/read.py",
        "import sys, helper, os\nopen(sys.argv[1], 'w').write(helper.text)\nopen(os.path.join(sys.argv[2], 'x'), 'w').write('x')\n",
    )
    world.write("lib/src/helper.py", "text = 'a'\n")
    world.write("lib/src/NOTES", "")
    world.write("tools/bin/join.sh", '#!/bin/sh\ncat "$1" "$2" "$3"/* > "$4"\n', mode=0o755)
    world.write("data.csv", "1\n")
    world.write("parts/a.csv", "2\n")
    past = time.time() - 100
    for folder, _, names in os.walk(world.root):
        for name in (*names, "."):
            os.utime(os.path.join(folder, name), (past, past))
    time.sleep(2.1)  # the inode times cannot be set back
    assert world.cli("run").returncode == 0
    assert check(str(world.root), ["run"]) is not None
    return world


def _artifact(world: World, step: str) -> Path:
    return next((world.root / f".mlpipe/runs/p/1/{step}/out").iterdir()).resolve()


def damage(world: World) -> None:
    path = _artifact(world, "join")
    path.chmod(0o644)
    path.write_text("other")


def remove(world: World) -> None:
    path = _artifact(world, "join")
    path.parent.chmod(0o755)
    path.unlink()


CHANGES: dict[str, Callable[[World], object]] = {
    "a file of the code": lambda w: w.write("lib/src/helper.py", "text = 'b'\n"),
    "equal size and old time": lambda w: (w.write("lib/src/helper.py", "text = 'c'\n"), os.utime(w.root / "lib/src/helper.py", (1, 1))),
    "a new file in the code": lambda w: w.write("lib/src/new.py", ""),
    "a file of the code gone": lambda w: (w.root / "lib/src/NOTES").unlink(),
    "an exec bit": lambda w: (w.root / "lib/src/helper.py").chmod(0o755),
    "an ignore file above the code": lambda w: w.write("lib/.gitignore", "helper.py\n"),
    "an ignore file that was not there": lambda w: w.write(".gitignore", "NOTES\n"),
    "an input": lambda w: w.write("data.csv", "3\n"),
    "an input gone": lambda w: (w.root / "data.csv").unlink(),
    "a new match of a pattern": lambda w: w.write("parts/b.csv", "4\n"),
    "an input turned into a link": lambda w: ((w.root / "data.csv").rename(w.root / "other.csv"), (w.root / "data.csv").symlink_to("other.csv")),
    "the definition": lambda w: w.write("pipeline.py", DEFINITION + "\n# more\n"),
    "mlpipe.toml": lambda w: w.write("mlpipe.toml", "[default]\ncompute = 'local'\n"),
    "the program of a command": lambda w: w.write("tools/bin/join.sh", "#!/bin/sh\n", mode=0o755),
    "a damaged output": damage,
    "an output gone": remove,
    "a new result": lambda w: w.cli("run", "--force"),
    "a withdrawn result": lambda w: w.cli("rm", "1"),
    "an interpreter of the project": lambda w: w.write(".venv/bin/python", "#!/bin/sh\n", mode=0o755),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_anything_that_changed_is_left_to_the_long_way(known: World, change: Callable[[World], object]) -> None:
    change(known)
    assert check(str(known.root), ["run"]) is None


@pytest.mark.parametrize("name", ["WORD", "VIRTUAL_ENV", "CONDA_PREFIX"])
def test_a_variable_that_was_asked_for_counts(known: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/other")
    assert check(str(known.root), ["run"]) is None


def test_other_words_are_another_question(known: World) -> None:
    assert check(str(known.root), ["run", "p"]) is None
    assert check(str(known.root), ["run", "--force"]) is None


def test_many_quick_answers_are_one_row_each_and_say_what_they_repeat(known: World) -> None:
    for number in (2, 3, 4):
        done = known.cli("run")
        assert f"run {number} is up to date" in done.stdout and "read  reused     from run 1" in done.stdout, done.stdout
    shown = known.json("show", "4")
    assert [(step["name"], step["state"]) for step in shown["items"]] == [("join", "reused"), ("read", "reused")]
    assert not (known.root / ".mlpipe/runs/p/4").exists()
    folder = next(
        line.split(None, 1)[1] for line in known.cli("show", "4").stdout.splitlines() if line.strip().startswith("folder")
    )
    assert Path(folder.strip(), "read/logs/stdout.log").is_file()


def test_a_file_as_young_as_the_look_is_not_trusted(world: World) -> None:
    world.write("data.csv", "1")
    world.define('from pathlib import Path\np = Pipeline(ws, steps=[CommandStep(["/bin/cat", Path("data.csv")], name="s")])')
    world.cli("run")
    assert check(str(world.root), ["run"]) is None


def test_a_project_file_that_changed_after_it_was_read_is_no_ground(world: World) -> None:
    world.define('p = Pipeline(ws, steps=[CommandStep("true", name="s")])')
    engine = Engine.open(str(world.root))
    spec = engine.pipeline()
    world.write("mlpipe.toml", "[default]\ncompute = 'local'\n")
    time.sleep(2.1)
    engine.run(spec, world.options(request=("run",)))
    assert check(str(world.root), ["run"]) is None
    again = Engine.open(str(world.root))
    again.run(spec, world.options(request=("run",)))
    assert check(str(world.root), ["run"]) is not None


def test_files_touched_with_equal_bytes_are_no_change(known: World) -> None:
    """Hashed, not decided: once their times are old enough to be told apart, the entry stands for them as they are now."""
    root = str(known.root)
    for name in ("lib/src/helper.py", "data.csv"):
        os.utime(known.root / name)
    found = check(root, ["run"])
    assert found is not None and found._body is None, "as young as the look"
    assert "up to date" in known.cli("run").stdout
    time.sleep(2.1)
    found = check(root, ["run"])
    assert found is not None and found._body is not None
    assert "up to date" in known.cli("run").stdout
    again = check(root, ["run"])
    assert again is not None and again._body is None, "nothing is hashed any more"
    known.write("data.csv", "9\n")
    assert check(root, ["run"]) is None
    assert known.run().ran == {"join"}


def test_a_file_whose_digest_is_not_known_is_left_to_the_long_way(known: World) -> None:
    os.utime(known.root / "mlpipe.toml")
    assert check(str(known.root), ["run"]) is None
