"""What a step uses without declaring it: noticed, named, and never the cause of a stale result; refused where it is confined."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlpipe_engine.executors.confine import landlock_abi
from worlds import World

confined = pytest.mark.skipif(landlock_abi()[0] < 1, reason="needs a kernel with Landlock: Linux 5.13")


@dataclass(frozen=True)
class Plant:
    """A step that reads X, a file of its own outside the project, in one of the ways there are."""

    name: str
    code: str
    seen_by: tuple[str, ...] = ("python", "full")
    prepare: Callable[[Path, str], None] = lambda path, text: path.write_text(text) and None  # type: ignore[assignment, misc]
    shell: bool = False


def _module(path: Path, text: str) -> None:
    path.mkdir(exist_ok=True)
    (path / "planted.py").write_text(f"value = {text!r}\n")


def _zip(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zipped.py", f"value = {text!r}\n")


def _database(path: Path, text: str) -> None:
    import sqlite3

    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x TEXT)")
        db.execute("INSERT INTO t VALUES (?)", (text,))
    db.close()


def _names(path: Path, text: str) -> None:
    path.mkdir(exist_ok=True)
    (path / text).write_text("")


def _created(path: Path, text: str) -> None:
    if text != "first":
        path.write_text(text)


def _point(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _linked(path: Path, text: str) -> None:
    """What was read stays as it was; the link to it leads elsewhere."""
    path.with_name(f"{path.name}-{text}").write_text(text)
    _point(path, f"{path.name}-{text}")


def _linked_folder(path: Path, text: str) -> None:
    folder = path.with_name(f"{path.name}-{text}")
    folder.mkdir(exist_ok=True)
    (folder / "x").write_text(text)
    _point(path, str(folder))


def _linked_twice(path: Path, text: str) -> None:
    """The first link stays; the second one leads elsewhere."""
    _linked(path.with_name(f"{path.name}-way"), text)
    _point(path, f"{path.name}-way")


_WRITERS: list[subprocess.Popen[bytes]] = []
"""Kept open to the end of the test: the last one that closes a database moves what is beside it into it."""

_WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = wal")
db.execute("PRAGMA wal_autocheckpoint = 0")
db.execute("CREATE TABLE IF NOT EXISTS t (x TEXT)")
db.execute("INSERT INTO t VALUES (?)", (sys.argv[2],))
print(flush=True)
sys.stdin.read()
"""


def _log_of_database(path: Path, text: str) -> None:
    """The file of the database stays as it was; the last change stands in the log beside it."""
    words = [sys.executable, "-c", _WRITER, str(path), text]
    writer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    _WRITERS.append(writer)
    assert writer.stdout is not None and writer.stdout.readline() == b"\n"


_READ_DATABASE = "import sqlite3; value = sqlite3.connect(X).execute('select x from t').fetchall()"

PLANTS = [
    Plant("open", "value = open(X).read()"),
    Plant("os.open", "value = os.read(os.open(X, os.O_RDONLY), 100)"),
    Plant("pathlib", "import pathlib; value = pathlib.Path(X).read_text()"),
    Plant("bytes", "value = open(os.fsencode(X), 'rb').read()"),
    Plant("code", "import io; value = io.open_code(X).read()"),
    Plant("mmap", "import mmap; f = open(X, 'rb'); value = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)[:]"),
    Plant("configparser", "value = __import__('fileinput').input(X).readline()"),
    Plant("numpy", "import numpy; value = numpy.fromfile(X, dtype='u1').tobytes()"),
    Plant("copyfile", "import shutil; shutil.copyfile(X, 'copy'); value = open('copy').read()"),
    Plant("relative", "value = open(os.path.relpath(X)).read()"),
    Plant("chdir", "os.chdir(os.path.dirname(X)); value = open(os.path.basename(X)).read()"),
    Plant("symlink", "os.symlink(X, 'link'); value = open('link').read()"),
    Plant("module", "sys.path.insert(0, X); import planted; value = planted.value", prepare=_module),
    Plant("zip", "sys.path.insert(0, X); import zipped; value = zipped.value", prepare=_zip),
    Plant("runpy", "import runpy; value = runpy.run_path(X + '/planted.py')['value']", prepare=_module),
    Plant("sqlite", _READ_DATABASE, prepare=_database),
    Plant("log_of_database", _READ_DATABASE, seen_by=("python",), prepare=_log_of_database),
    Plant("linked", "value = open(X).read()", prepare=_linked),
    Plant("linked_folder", "value = open(X + '/x').read()", prepare=_linked_folder),
    Plant("linked_twice", "value = open(X).read()", prepare=_linked_twice),
    Plant("linked_listing", "value = [open(os.path.join(X, n)).read() for n in os.listdir(X)]", prepare=_linked_folder),
    Plant("linked_cat", "import subprocess; value = subprocess.check_output(['cat', X])", seen_by=("full",), prepare=_linked),
    Plant("linked_folder_cat", "cat {X}/x > $out", seen_by=("full",), shell=True, prepare=_linked_folder),
    Plant("linked_duckdb", "import duckdb; value = duckdb.sql(f\"select content from read_text('{X}/x')\").fetchall()", seen_by=("full",), prepare=_linked_folder),
    Plant("listdir", "value = sorted(os.listdir(X))", prepare=_names),
    Plant("glob", "import glob; value = sorted(glob.glob(X + '/*'))", prepare=_names),
    Plant("absent", "value = open(X).read() if [1 for _ in [0] if not fails(open, X)] else 'none'", prepare=_created),
    Plant("child", "import subprocess; value = subprocess.check_output([sys.executable, '-c', 'import sys; print(open(sys.argv[1]).read())', X])"),
    Plant("fork", "import multiprocessing; value = multiprocessing.get_context('fork').Pool(1).apply(read, (X,))"),
    Plant("cat", "import subprocess; value = subprocess.check_output(['cat', X])", seen_by=("full",)),
    Plant("duckdb", "import duckdb; value = duckdb.sql(f\"select content from read_text('{X}')\").fetchall()", seen_by=("full",)),
    Plant("polars", "import polars; value = polars.scan_csv(X, has_header=False).collect().rows()", seen_by=("full",)),
    Plant("shell", "cat {X} > $out", seen_by=("full",), shell=True),
]  # fmt: skip

HEAD = """import os, sys
X = sys.argv[2]
def read(path):
    with open(path) as file:
        return file.read()
def fails(call, *args):
    try:
        call(*args)
    except OSError:
        return True
"""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "outside"
    folder.mkdir()
    yield folder
    for writer in _WRITERS:
        writer.communicate()
    _WRITERS.clear()


def plant(world: World, outside: Path, text: str, level: str = "python", plants: list[Plant] | None = None) -> None:
    steps = []
    for item in PLANTS if plants is None else plants:
        path = outside / item.name
        item.prepare(path, text)
        if item.shell:
            steps.append(f'CommandStep({item.code.format(X=path)!r}, name={item.name!r}, outputs=[PipelineData("out")])')
            continue
        world.write(f"src/{item.name}/main.py", f"{HEAD}{item.code}\nopen(sys.argv[1], 'w').write(str(value))\n")
        steps.append(
            f'PythonScriptStep("main.py", name={item.name!r}, source_directory="src/{item.name}", '
            f'arguments=[(o := PipelineData("out")), {str(path)!r}], outputs=[o])'
        )
    world.define(f"p = Pipeline(ws, [{', '.join(steps)}], name='p')")
    key = 'isolation = "strict"' if level == "strict" else f'audit = "{level}"'
    world.write("mlpipe.toml", f"[compute.local]\ncpus = 2\n{key}\n")


@pytest.mark.parametrize("level", ["python", pytest.param("full", marks=pytest.mark.needs("strace"))])
def test_every_planted_read_is_named_and_never_stale(world: World, outside: Path, level: str) -> None:
    plants = [item for item in PLANTS if level in item.seen_by]
    plant(world, outside, "first", level, plants)
    first = world.run()
    assert set(first.states.values()) == {"succeeded"}, {n: first.log(n) for n, s in first.states.items() if s != "succeeded"}
    assert world.run().ran == set(), "unchanged: everything is reused"
    before = {item.name: first.output(item.name, "out") for item in plants}
    plant(world, outside, "second", level, plants)
    assert set(world.plan().values()) == {"Execute"}
    done = world.run()
    assert done.ran == {item.name for item in plants}
    for item in plants:
        assert str(outside / item.name) in done.why(item.name), (item.name, done.why(item.name))
        assert done.output(item.name, "out") != before[item.name]
    assert world.run().ran == set()


def test_what_python_cannot_see_is_what_the_documentation_says(world: World, outside: Path) -> None:
    """The default level is blind to native readers and other programs; should it learn to see them, the page must say so."""
    blind = [item for item in PLANTS if item.seen_by == ("full",)]
    plant(world, outside, "first", "python", blind)
    world.run()
    plant(world, outside, "second", "python", blind)
    assert world.run().ran == set()


@confined
def test_every_planted_read_is_refused_in_strict_isolation(world: World, outside: Path) -> None:
    plant(world, outside, "first", "strict")
    done = world.run(continue_on_step_failure=True)
    allowed = {name for name, state in done.states.items() if state == "succeeded"}
    assert allowed <= {"absent", "glob"}, "glob says nothing of a folder it may not list"
    for name in allowed:
        assert b"first" not in done.output(name, "out")
    for item in PLANTS:
        if "python" in item.seen_by and item.name not in allowed and item.name not in ("fork",):
            error = done.step(item.name).error
            assert "refused by isolation = strict" in error and str(outside / item.name) in error, (item.name, error)


def one_step(world: World, code: str, more: str = "") -> None:
    world.write("src/main.py", f"import os, sys\nvalue = ''\n{code}\nopen(sys.argv[1], 'w').write(str(value))\n")
    world.define(
        'out = PipelineData("out")\n'
        f'p = Pipeline(ws, [PythonScriptStep("main.py", name="s", arguments=[out], outputs=[out], source_directory="src"{more})])'
    )


@confined
def test_a_confined_step_reads_its_inputs_and_writes_its_folders(world: World) -> None:
    world.write("data/a.txt", "a")
    world.write("mlpipe.toml", '[compute.local]\nisolation = "strict"\n')
    world.write(
        "src/main.py",
        """
import os, subprocess, sys, tempfile, multiprocessing, locale, ssl, zoneinfo
import numpy
data, out = sys.argv[1:]
open(os.path.expanduser("~/cache"), "w").write("x")
open("beside.txt", "w").write("x")
tempfile.NamedTemporaryFile().write(b"x")
os.rename("beside.txt", out + ".tmp")
multiprocessing.Lock()
zoneinfo.ZoneInfo("Europe/Berlin")
text = subprocess.check_output(["cat", data + "/a.txt"]).decode() + open(data + "/a.txt").read()
open(os.devnull, "w").write("x")
try:
    open("/tmp/mlpipe-should-not-be", "w")
except PermissionError:
    text += "!"
open(out, "w").write(text)
""",
    )
    world.define("""
data = Dataset.File.from_files("data").as_named_input("data")
out = PipelineData("out")
p = Pipeline(ws, [PythonScriptStep("main.py", name="s", arguments=[data, out], inputs=[data], outputs=[out], source_directory="src")])
""")
    done = world.run()
    assert done.states == {"s": "succeeded"}, done.log("s")
    assert done.output("s", "out") == b"aa!"
    assert world.run().ran == set()


def test_a_file_made_by_the_step_itself_is_no_undeclared_input(world: World, outside: Path) -> None:
    one_step(
        world,
        f"""
path = {str(outside / "made.txt")!r}
open(path, "w").write("x"); value = open(path).read()
folder = {str(outside / "cache")!r}
os.makedirs(folder, exist_ok=True)
""",
    )
    done = world.run()
    assert done.engine.undeclared(done.record.id) == {}
    assert world.run().ran == set()


def test_a_link_that_leads_elsewhere_counts(world: World, outside: Path) -> None:
    (outside / "a").write_text("same")
    (outside / "b").write_text("same")
    (outside / "link").symlink_to("a")
    one_step(world, f"value = os.path.realpath(open({str(outside / 'link')!r}).name)")
    world.run()
    (outside / "link").unlink()
    (outside / "link").symlink_to("b")
    assert world.run().ran == {"s"}


def test_undeclared_bytecode_counts_by_its_source(world: World, outside: Path) -> None:
    _module(outside / "lib", "one")
    one_step(world, f"sys.path.insert(0, {str(outside / 'lib')!r}); import planted; value = planted.value")
    world.run()
    world.run(force=True)
    assert (outside / "lib/__pycache__").exists(), "the second run took the bytecode"
    _module(outside / "lib", "three")
    assert world.run().output("s", "out") == b"three"


def test_a_connection_to_outside_forbids_reuse_and_one_to_itself_does_not(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one_step(world, f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))")
        done = world.run()
        assert "connected to 127.0.0.1" in done.step("s").error and "cannot be hashed" in done.step("s").error
        assert world.run().ran == {"s"}
    one_step(
        world, "import socket\nserver = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())"
    )
    world.run()
    assert world.run().ran == set()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("open(X).read(); open(X, 'a').write('more')", "changed while it ran"),
        ("open(X).read(); open(X, 'w').write('more')", "after reading it"),
        ("import time; open(X).read(); os.utime(X)", "changed while it ran"),
        ("os.mkfifo(X + 'f'); os.close(os.open(X + 'f', os.O_RDONLY | os.O_NONBLOCK))", "named pipe"),
    ],
)
def test_what_cannot_be_hashed_forbids_reuse(world: World, outside: Path, code: str, why: str) -> None:
    (outside / "x").write_text("one")
    one_step(world, f"X = {str(outside / 'x')!r}\n{code}")
    done = world.run()
    assert why in done.step("s").error, (done.step("s").error, done.log("s"))
    (outside / "xf").unlink(missing_ok=True)
    assert world.run().ran == {"s"}


def test_a_step_that_cannot_be_recorded_is_not_reused_and_not_disturbed(world: World) -> None:
    one_step(world, "os.unlink('../audit'); import json.tool; value = open('/etc/hostname').read() and 'fine'")
    done = world.run()
    assert done.output("s", "out") == b"fine"
    assert "could not be recorded" in done.step("s").error
    assert world.run().ran == {"s"}


def test_undeclared_variables_do_not_reach_a_python_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one_step(world, "value = os.environ.get('SECRET_MULTIPLIER')")
    monkeypatch.setenv("SECRET_MULTIPLIER", "1")
    assert world.run().output("s", "out") == b"None"
    monkeypatch.setenv("SECRET_MULTIPLIER", "2")
    assert world.run().ran == set()


@pytest.mark.parametrize("how", ["looked for", "absolute path"])
def test_an_ignored_file_is_named_with_the_line_that_ignores_it(world: World, how: str) -> None:
    world.write("src/.gitignore", "# data\n*.csv\n")
    world.write("src/local.csv", "1")
    path = "local.csv" if how == "looked for" else str(world.root / "src/local.csv")
    one_step(world, f"value = open({path!r}).read()")
    done = world.cli("run")
    if how == "looked for":
        assert "it looked for local.csv, which src/.gitignore:2 *.csv keeps out" in done.stdout
        one_step(world, f"try:\n    open({path!r})\nexcept OSError:\n    pass")
        world.cli("run")
    else:
        assert "outside their declared inputs: s: src/local.csv" in done.stdout
    assert (
        "src/local.csv is kept out of its copy of the source by src/.gitignore:2 *.csv" in world.cli("why", "latest", "s").stdout
    )
    if how == "absolute path":
        world.write("src/local.csv", "2")
        assert "undeclared file src/local.csv changed" in world.cli("plan").stdout


def test_the_summary_says_it_once_and_why_lists_it_even_when_reused(world: World, outside: Path) -> None:
    (outside / "x").write_text("one")
    one_step(world, f"value = open({str(outside / 'x')!r}).read()")
    first, second = world.cli("run"), world.cli("run")
    line = f"1 step read files outside their declared inputs: s: {outside}/x (why 1 s)"
    assert first.stdout.count(line) == 1 and "outside" not in second.stdout.replace(str(outside), "")
    assert f"{outside}/x" in world.cli("why", "latest", "s").stdout
    assert world.json("why", "latest", "s")["undeclared"]["files"][0]["path"] == str(outside / "x")


def test_with_audit_off_nothing_is_noticed(world: World, outside: Path) -> None:
    plant(world, outside, "first", "off", PLANTS[:1])
    world.run()
    plant(world, outside, "two", "off", PLANTS[:1])
    assert world.run().ran == set()


def test_a_persons_own_sitecustomize_still_runs(world: World) -> None:
    world.write("own/sitecustomize.py", "import builtins\nbuiltins.mine = 'yes'\n")
    one_step(
        world, "import builtins; value = builtins.mine", f', environment_variables={{"PYTHONPATH": {str(world.root / "own")!r}}}'
    )
    done = world.run()
    assert done.output("s", "out") == b"yes", done.log("s")
    shutil.rmtree(world.root / "own/__pycache__")  # Python trusts one of the same second
    world.write("own/sitecustomize.py", "import builtins\nbuiltins.mine = 'now'\n")
    assert world.run().output("s", "out") == b"now"


@pytest.fixture
def site(world: World) -> Path:
    """A virtual environment of its own for the steps, with the distribution `used` in it."""
    venv = world.root.parent / "venv"
    subprocess.run([shutil.which("python3") or sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    world.write("mlpipe.toml", f'[default]\npython = "{venv}"\n')
    folder = next((venv / "lib").iterdir()) / "site-packages"
    install(folder, "used", "1.0")
    return folder


def install(site: Path, name: str, version: str, files: tuple[str, ...] = (), text: str = "") -> None:
    for old in site.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    names = files or (f"{name}/__init__.py",)
    for file in names:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree((site / file).parent / "__pycache__", ignore_errors=True)  # Python trusts one of the same second
        (site / file).write_text(text or f"version = {version!r}\n")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},sha256={version},1\n" for file in (*names, f"{info.name}/METADATA")))


IMPORTS = "import used\ntry:\n    import wanted\n    value = wanted.version\nexcept ImportError:\n    value = used.version"


def test_only_imported_distributions_count(world: World, site: Path) -> None:
    one_step(world, IMPORTS)
    assert world.run().output("s", "out") == b"1.0"
    install(site, "linter", "1.0")
    assert world.run().ran == set(), "nobody asked for it"
    assert "only these count: used" in world.cli("why", "latest", "s").stdout
    install(site, "used", "2.0")
    done = world.run()
    assert (done.output("s", "out"), done.why("s")) == (b"2.0", "used 1.0 -> 2.0"), "the linter is no cause"
    install(site, "wanted", "7")
    done = world.run()
    assert (done.output("s", "out"), done.why("s")) == (b"7", "wanted nothing -> 7")
    assert world.run().ran == set()


@pytest.mark.parametrize(
    "code",
    [
        "import importlib.metadata as m; value = sorted(d.name for d in m.distributions())",
        "import importlib.metadata as m; value = list(m.entry_points())",
        "import pkgutil; value = sorted(i.name for i in pkgutil.iter_modules())",
        "value = [sorted(os.listdir(p)) for p in sys.path if p.endswith('site-packages')]",
        "import subprocess; subprocess.check_call([sys.executable, '-I', '-c', 'import used'])",
        "import subprocess; subprocess.check_call(['sh', '-c', 'true'])",
        "os.system('true')",
        "import subprocess; subprocess.check_call([sys.executable, '-c', 'import used'], env={})",
    ],
)
def test_where_an_import_may_go_unseen_every_distribution_counts(world: World, site: Path, code: str) -> None:
    one_step(world, code)
    world.run()
    assert world.run().ran == set()
    install(site, "linter", "1.0")
    assert world.run().why("s") == "linter nothing -> 1.0"


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("import importlib; value = importlib.import_module('used').version", "used"),
        ("import importlib.util; value = importlib.util.find_spec('wanted') is None", "wanted"),
        ("import importlib.metadata as m; value = m.version('used')", "used"),
        ("import space.left; value = 1", "left"),
        ("import native_module_of_used; value = 1", "single"),
        ("value = [open(p + '/used/__init__.py').read() for p in sys.path if p.endswith('site-packages')]", "used"),
        (
            "import subprocess; value = subprocess.check_output([sys.executable, '-c', 'import used; print(used.version)'])",
            "used",
        ),
        ("import subprocess; subprocess.check_call(['uname'], stdout=-3); import used", "used"),
    ],
)
def test_the_owner_of_what_was_used_is_found(world: World, site: Path, code: str, changed: str) -> None:
    install(site, "left", "1", ("space/left.py",))
    install(site, "right", "1", ("space/right.py",))
    install(site, "single", "1", ("native_module_of_used.py",))
    one_step(world, code)
    world.run()
    install(site, "linter", "1.0")
    assert world.run().ran == set()
    install(site, changed, "9", {"left": ("space/left.py",), "single": ("native_module_of_used.py",)}.get(changed, ()))
    done = world.run()
    assert done.ran == {"s"} and changed in done.why("s")


def test_a_module_copied_into_the_site_folder_by_hand_counts_by_its_content(world: World, site: Path) -> None:
    one_step(world, "import handmade; value = handmade.x")
    (site / "handmade.py").write_text("x = 1\n")
    world.run()
    (site / "handmade.py").write_text("x = 22\n")
    assert world.run().output("s", "out") == b"22"


def test_a_command_step_counts_all_distributions(world: World, site: Path) -> None:
    world.define(
        'out = PipelineData("out")\np = Pipeline(ws, [CommandStep("python -c \'import used\'; echo 1 > $out", name="s", outputs=[out])])'
    )
    world.run()
    install(site, "linter", "1.0")
    assert world.run().why("s") == "linter nothing -> 1.0"


def test_a_missing_strace_and_a_wrong_level_are_told_before_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one_step(world, "")
    world.write("mlpipe.toml", '[compute.local]\naudit = "everything"\n')
    done = world.cli("run")
    assert (
        done.returncode == 2 and "mlpipe.toml:2 field compute.local.audit" in done.stderr and "python, full, off" in done.stderr
    )
    world.write("mlpipe.toml", "[compute.local]\nisolation = true\n")
    assert "field compute.local.isolation" in world.cli("run").stderr


def test_the_witness_is_python_3_8() -> None:
    import ast

    from mlpipe_engine.executors import step_audit

    ast.parse(Path(step_audit.__file__).read_text(), feature_version=(3, 8))


def test_a_reader_of_the_trace_understands_names_of_every_kind(tmp_path: Path) -> None:
    from mlpipe_engine.executors.tracing import strace, traced, wrapped

    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    odd = tmp_path / 'odd "name"\n\té>'
    odd.mkdir()
    (odd / "x").write_text("1")
    assert os.path.exists(strace())
    command = wrapped(("/bin/cat", str(odd / "x"), str(odd / "missing")), str(tmp_path / "trace"))
    subprocess.run(command, capture_output=True, check=False)
    found = traced(str(tmp_path / "trace"))
    assert found is not None
    assert ("r", f"\t{odd}/x") in found[0] and ("r", f"-\t{odd}/missing") in found[0]
