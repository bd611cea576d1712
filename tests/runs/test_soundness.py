"""Reuse is right: what changed runs, what did not is reused, and the reason is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from worlds import World

TWO_READERS = """
a, b = PipelineData("a"), PipelineData("b")
first = PythonScriptStep("first.py", name="first", arguments=[a], outputs=[a], source_directory="src")
second = PythonScriptStep("second.py", name="second", arguments=[b], outputs=[b], source_directory="src")
pipeline = Pipeline(ws, [first, second], name="demo")
"""


@pytest.fixture
def helpers(world: World) -> World:
    """Two steps over one source directory: second imports helper.py, first does not."""
    world.write("src/first.py", "import sys\nopen(sys.argv[1], 'w').write('1')\n")
    world.write("src/second.py", "import sys, helper\nopen(sys.argv[1], 'w').write(str(helper.f(5)))\n")
    world.write("src/helper.py", "def f(x):\n    return x * 1\n")
    world.write("src/README.md", "hello\n")
    world.define(TWO_READERS)
    assert world.run().ran == {"first", "second"}
    return world


def test_a_second_run_executes_nothing(helpers: World) -> None:
    done = helpers.run()
    assert done.ran == set()
    assert done.record.state == "reused"


def test_an_edited_import_runs_the_step_that_read_it_and_no_other(helpers: World) -> None:
    helpers.write("src/helper.py", "def f(x):\n    return x * 2\n")
    assert helpers.plan() == {"first": "Reuse", "second": "Execute"}
    done = helpers.run()
    assert done.ran == {"second"}
    assert done.output("second", "b") == b"10"
    assert done.why("second") == "src/helper.py +1 -1"
    assert done.unread("first") == "src/helper.py +1 -1"


def test_editing_a_file_nobody_reads_runs_nothing_and_why_says_so(helpers: World) -> None:
    helpers.write("src/README.md", "hello\nworld\n")
    done = helpers.run()
    assert done.ran == set()
    assert done.unread("first") == done.unread("second") == "src/README.md +1 -0"
    assert "never read" in helpers.cli("why", "latest", "second").stdout


def test_touching_runs_nothing(helpers: World) -> None:
    for path in (helpers.root / "src").iterdir():
        os.utime(path)
    assert helpers.run().ran == set()


@pytest.mark.parametrize(
    "change",
    ["added file", "removed file", "renamed file", "exec bit", "link target", "empty folder", "kind"],
)
def test_names_kinds_and_modes_of_all_files_count(helpers: World, change: str) -> None:
    source = helpers.root / "src"
    (source / "link").symlink_to("README.md")
    helpers.run()
    match change:
        case "added file":
            (source / "new.txt").write_text("")
        case "removed file":
            (source / "README.md").unlink()
        case "renamed file":
            (source / "README.md").rename(source / "READ.md")
        case "exec bit":
            (source / "README.md").chmod(0o755)
        case "link target":
            (source / "link").unlink()
            (source / "link").symlink_to("first.py")
        case "empty folder":
            (source / "folder").mkdir()
        case "kind":
            (source / "link").unlink()
            (source / "link").write_text("README.md")
    assert helpers.run().ran == {"first", "second"}


def test_reverting_an_edit_reuses_the_earlier_result(helpers: World) -> None:
    before = (helpers.root / "src/helper.py").read_text()
    helpers.write("src/helper.py", before.replace("1", "3"))
    assert helpers.run().ran == {"second"}
    helpers.write("src/helper.py", before)
    done = helpers.run()
    assert done.ran == set()
    assert done.output("second", "b") == b"5"


def test_a_deep_import_found_through_a_package_counts(world: World) -> None:
    world.write("src/main.py", "import sys\nfrom package.inner import value\nopen(sys.argv[1], 'w').write(str(value))\n")
    world.write("src/package/__init__.py", "")
    world.write("src/package/inner.py", "from package.deepest import value\n")
    world.write("src/package/deepest.py", "value = 1\n")
    world.define(
        'a = PipelineData("a")\np = Pipeline(ws, [PythonScriptStep("main.py", arguments=[a], outputs=[a], source_directory="src")])'
    )
    world.run()
    world.write("src/package/deepest.py", "value = 2\n")
    assert world.run().output("main.py", "a") == b"2"


def test_reads_of_native_code_and_of_other_programs_are_seen(world: World) -> None:
    """duckdb opens its file from C++; cat is another process; both files count, the third does not."""
    script = """
import subprocess, sys
import duckdb
rows = duckdb.connect().execute("select sum(x)::int from read_csv('numbers.csv')").fetchone()[0]
text = subprocess.run(["cat", "text.txt"], capture_output=True, check=True).stdout.decode()
open(sys.argv[1], "w").write(f"{rows} {text}")
"""
    world.write("src/main.py", script)
    world.write("src/numbers.csv", "x\n1\n2\n")
    world.write("src/text.txt", "one")
    world.write("src/other.txt", "one")
    world.define(
        'a = PipelineData("a")\np = Pipeline(ws, [PythonScriptStep("main.py", arguments=[a], outputs=[a], source_directory="src")])'
    )
    assert world.run().output("main.py", "a") == b"3 one"
    world.write("src/other.txt", "two")
    assert world.run().ran == set()
    world.write("src/numbers.csv", "x\n1\n5\n")
    assert world.run().output("main.py", "a") == b"6 one"
    world.write("src/text.txt", "two")
    assert world.run().output("main.py", "a") == b"6 two"


def test_a_file_a_shell_step_reads_counts(world: World) -> None:
    world.write("src/read.txt", "1")
    world.write("src/unread.txt", "1")
    world.define(
        'a = PipelineData("a")\np = Pipeline(ws, [CommandStep("cat read.txt > $a", name="s", outputs=[a], source_directory="src")])'
    )
    world.run()
    world.write("src/unread.txt", "2")
    assert world.run().ran == set()
    world.write("src/read.txt", "2")
    assert world.run().output("s", "a") == b"2"


def test_with_code_snapshot_any_file_counts(helpers: World) -> None:
    helpers.define(TWO_READERS.replace('source_directory="src")', 'source_directory="src", code="snapshot")'))
    helpers.write("src/README.md", "changed\n")
    assert helpers.run().ran == {"first", "second"}


def test_hash_paths_count_although_they_are_not_read(helpers: World) -> None:
    helpers.define(TWO_READERS.replace('name="first",', 'name="first", hash_paths=["README.md"],'))
    helpers.run(force=True)
    helpers.write("src/README.md", "changed\n")
    assert helpers.run().ran == {"first"}
    helpers.write("src/helper.py", "def f(x):\n    return x * 9\n")
    assert helpers.run().ran == {"second"}


INPUT = """
data = Dataset.File.from_files("data.csv").as_named_input("data").as_mount()
a, b = PipelineData("a"), PipelineData("b")
copy = CommandStep(["cp", data, a], name="copy", inputs=[data], outputs=[a])
count = CommandStep("wc -c < $a > $b", name="count", inputs=[a], outputs=[b])
pipeline = Pipeline(ws, [count], name="demo")
"""


def test_input_replaced_under_the_same_path(world: World) -> None:
    world.write("data.csv", "one")
    world.define(INPUT)
    assert world.run().ran == {"copy", "count"}
    info = (world.root / "data.csv").stat()
    world.write("data.csv", "two")
    os.utime(world.root / "data.csv", ns=(info.st_atime_ns, info.st_mtime_ns))
    done = world.run()
    assert done.output("copy", "a") == b"two"
    assert done.why("copy").startswith("input data ")


def test_equal_bytes_upstream_leave_everything_below_reused(world: World) -> None:
    world.write("data.csv", "one")
    world.define(INPUT)
    world.run()
    world.define(INPUT.replace('["cp", data, a]', '["cp", "--", data, a]'))
    done = world.run()
    assert done.states == {"copy": "succeeded", "count": "reused"}


def test_the_root_cause_is_named_below(world: World) -> None:
    world.write("data.csv", "one")
    world.define(INPUT)
    world.run()
    world.write("data.csv", "three")
    why = world.run().why("count")
    assert "step copy ran" in why and "input data" in why


def test_a_damaged_output_is_found_before_it_is_used_and_made_again(world: World) -> None:
    world.write("data.csv", "one")
    world.define(INPUT)
    first = world.run()
    path = Path(first.engine.artifact(first.record.id, "copy", "a"))
    path.chmod(0o644)
    path.write_text("two")
    done = world.run()
    assert done.output("copy", "a") == b"one"
    assert "gone or damaged" in done.why("copy")
    assert list((world.root / ".mlpipe/quarantine").iterdir())
    assert world.run().ran == set()


@pytest.mark.parametrize("damage", ["deleted", "truncated", "appended", "swapped"])
def test_no_damage_goes_unnoticed(world: World, damage: str) -> None:
    world.write("data.csv", "one")
    world.define(INPUT)
    first = world.run()
    path = Path(first.engine.artifact(first.record.id, "copy", "a"))
    other = Path(first.engine.artifact(first.record.id, "count", "b"))
    path.chmod(0o644)
    match damage:
        case "deleted":
            path.unlink()
        case "truncated":
            os.truncate(path, 1)
        case "appended":
            path.write_text("one!")
        case "swapped":
            path.unlink()
            shutil.copyfile(other, path)
    done = world.run()
    assert done.output("copy", "a") == b"one"
    assert "copy" in done.ran


def test_a_moved_project_keeps_its_results(world: World) -> None:
    world.write("data.csv", "one")
    world.define(INPUT)
    world.run()
    target = world.root.parent / "elsewhere"
    subprocess.run(["cp", "-a", world.root, target], check=True)
    moved = World.__new__(World)
    moved.root = target
    assert moved.run().ran == set()


def test_an_undeclared_variable_does_not_reach_the_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.define('a = PipelineData("a")\np = Pipeline(ws, [CommandStep("echo x$MUL > $a", name="s", outputs=[a])])')
    monkeypatch.setenv("MUL", "1")
    assert world.run().output("s", "a") == b"x\n"
    monkeypatch.setenv("MUL", "2")
    assert world.run().ran == set()


def test_a_declared_variable_counts(world: World) -> None:
    body = 'a = PipelineData("a")\np = Pipeline(ws, [CommandStep("echo x$MUL > $a", name="s", outputs=[a], environment_variables={"MUL": "1"})])'
    world.define(body)
    assert world.run().output("s", "a") == b"x1\n"
    world.define(body.replace('"1"', '"2"'))
    done = world.run()
    assert done.output("s", "a") == b"x2\n"
    assert done.why("s") == "MUL 1 -> 2"


def test_a_new_parameter_value_names_the_parameter(world: World) -> None:
    world.define("""
a = PipelineData("a")
n = PipelineParameter("n", 1)
p = Pipeline(ws, [CommandStep(["sh", "-c", 'echo $1 > $2', "sh", n, a], name="s", outputs=[a])])
""")
    assert world.run().output("s", "a") == b"1\n"
    done = world.run(parameters={"n": 2})
    assert done.output("s", "a") == b"2\n"
    assert done.why("s") == "n 1 -> 2"
    assert world.run(parameters={"n": 1}).ran == set()


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ("another name", True),
        ('description="x"', False),
    ],
)
def test_names_and_descriptions_do_not_count(world: World, change: str, runs: bool) -> None:
    body = 'a = PipelineData("a")\nstep = CommandStep("echo 1 > $a", name="{name}", outputs=[a])\np = Pipeline(ws, [step], name="p"{more})'
    world.define(body.format(name="s", more=""))
    world.run()
    world.define(body.format(name="renamed" if runs else "s", more="" if runs else f", {change}"))
    assert world.run().ran == set(), "a step is what it does, not what it is called"


def test_disabled_reuse_runs_every_time_and_its_result_serves_others(world: World) -> None:
    body = 'a = PipelineData("a")\np = Pipeline(ws, [CommandStep("echo 1 > $a", name="s", outputs=[a]{more})])'
    world.define(body.format(more=", allow_reuse=False"))
    world.run()
    done = world.run()
    assert done.ran == {"s"} and "allow_reuse is off" in done.why("s")
    world.define(body.format(more=""))
    assert world.run().ran == set(), "toggling allow_reuse changes no identity"


def test_forcing_runs_everything_and_the_results_are_reusable(world: World) -> None:
    world.write("data.csv", "one")
    world.define(INPUT)
    world.run()
    assert world.run(force=True).ran == {"copy", "count"}
    assert world.run(force_steps=("copy",)).states == {"copy": "succeeded", "count": "reused"}
    assert world.run().ran == set()


def test_version_counts(world: World) -> None:
    body = 'a = PipelineData("a")\np = Pipeline(ws, [CommandStep("echo 1 > $a", name="s", outputs=[a]{more})])'
    world.define(body.format(more=""))
    world.run()
    world.define(body.format(more=', version="2"'))
    assert world.run().ran == {"s"}


def test_reuse_crosses_experiments_and_repeats_what_was_logged_to_the_parent(world: World) -> None:
    world.write(
        "src/main.py",
        "import sys\nfrom mlpipe_run import Run\nrun = Run.get_context()\nrun.log('x', 1)\nrun.parent.log('y', 2)\nrun.tag('k', 'v')\n",
    )
    world.define('p = Pipeline(ws, [PythonScriptStep("main.py", name="s", source_directory="src")])')
    world.run()
    engine_run = world.run()
    assert engine_run.ran == set()
    metrics = {(m.step, m.name): (m.value, m.origin) for m in engine_run.engine.metrics(engine_run.record.id)}
    assert metrics == {("s", "x"): ("1", ""), ("", "y"): ("2", "s")}
    assert engine_run.step("s").tags == (("k", "v"),)


def test_a_failed_step_is_never_reused(world: World) -> None:
    world.write("flag", "0")
    world.define("""
a = PipelineData("a")
flag = Dataset.File.from_files("flag").as_named_input("flag")
p = Pipeline(ws, [CommandStep("echo 1 > $a; exit 3", name="s", outputs=[a])])
""")
    assert world.run().record.state == "failed"
    done = world.run()
    assert done.record.state == "failed"
    assert "no result yet" in done.why("s")


def test_a_step_that_changes_its_input_fails_and_the_output_is_made_again(world: World) -> None:
    world.define("""
a, b = PipelineData("a"), PipelineData("b")
make = CommandStep("echo 1 > $a", name="make", outputs=[a])
spoil = CommandStep('f=$(readlink "$a"); chmod 644 $f; echo 2 > $f; echo done > $b', name="spoil", inputs=[a], outputs=[b])
p = Pipeline(ws, [spoil])
""")
    done = world.run()
    assert done.states == {"spoil": "failed", "make": "succeeded"}
    assert "changed its input a" in done.step("spoil").error
    again = world.run()
    assert again.step("make").state == "succeeded", "the spoilt output is not offered again"


def test_an_input_that_changes_while_the_step_runs_makes_its_result_not_reusable(world: World) -> None:
    world.write("data.csv", "one")
    world.define("""
data = Dataset.File.from_files("data.csv").as_named_input("data")
a = PipelineData("a")
p = Pipeline(ws, [CommandStep('f=$(readlink "$data"); echo more >> $f; cp $data $a', name="s", inputs=[data], outputs=[a])])
""")
    done = world.run()
    assert done.states == {"s": "succeeded"}
    assert "changed while the step ran" in done.step("s").error
    assert world.run().ran == {"s"}


def test_two_environments_differ(world: World) -> None:
    """A distribution that is installed, upgraded or removed shows with its versions."""
    site = bare_environment(world)
    venv = world.root.parent / "venv"
    world.write(
        "src/main.py",
        "import sys\ntry:\n    import thing\nexcept ImportError:\n    pass\nopen(sys.argv[1], 'w').write(sys.prefix)\n",
    )
    world.define(
        'a = PipelineData("a")\np = Pipeline(ws, [PythonScriptStep("main.py", name="s", arguments=[a], outputs=[a], source_directory="src")])'
    )
    assert world.run().output("s", "a") == str(venv).encode()
    assert world.run().ran == set()

    def install(version: str) -> None:
        for folder in site.glob("thing-*"):
            shutil.rmtree(folder)
        info = site / f"thing-{version}.dist-info"
        info.mkdir()
        (info / "RECORD").write_text(f"thing.py,sha256={version},1\n")
        (site / "thing.py").write_text("")

    install("1.0")
    assert world.run().why("s") == "thing nothing -> 1.0"
    install("1.1")
    assert world.run().why("s") == "thing 1.0 -> 1.1"
    time.sleep(0.01)
    assert world.run().ran == set()


def bare_environment(world: World) -> Path:
    """A virtual environment for the steps; returns its site-packages."""
    venv = world.root.parent / "venv"
    subprocess.run([shutil.which("python3") or "python3", "-m", "venv", "--without-pip", venv], check=True)
    world.write("mlpipe.toml", f'[default]\npython = "{venv}"\n')
    return next((venv / "lib").iterdir()) / "site-packages"


@pytest.mark.parametrize("how", ["path file", "editable install"])
def test_code_that_is_imported_from_beside_the_source_counts(world: World, how: str) -> None:
    site = bare_environment(world)
    library = world.root / "library"
    world.write("library/shared.py", "value = 1\n")
    (site / "library.pth").write_text(f"{library}\n")
    if how == "editable install":
        info = site / "shared-1.0.dist-info"
        info.mkdir()
        (info / "RECORD").write_text("")
        (info / "direct_url.json").write_text(f'{{"url": "file://{library}", "dir_info": {{"editable": true}}}}')
    world.write("src/main.py", "import sys, shared\nopen(sys.argv[1], 'w').write(str(shared.value))\n")
    world.define(
        'a = PipelineData("a")\np = Pipeline(ws, [PythonScriptStep("main.py", name="s", arguments=[a], outputs=[a], source_directory="src")])'
    )
    assert world.run().output("s", "a") == b"1"
    assert world.run().ran == set()
    world.write("library/shared.py", "value = 2\n")
    done = world.run()
    assert done.output("s", "a") == b"2"
    assert done.why("s") == "library/shared.py +1 -1"
