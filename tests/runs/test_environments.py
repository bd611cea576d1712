"""Interpreters and environments of steps: found in one order, built once, told in one line when they cannot be had."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from packages import sha256, wheel
from worlds import World

STEP = """
a = PipelineData("a")
{before}
p = Pipeline(ws, [PythonScriptStep("main.py", name="s", arguments=[a], outputs=[a], source_directory="src"{more})], name="p")
"""
PREFIX = "import sys\nopen(sys.argv[1], 'w').write(sys.prefix)\n"
OFFLINE = '[environments]\nfind_links = "wheels"\nno_index = true\n'


def define(world: World, before: str = "", more: str = "") -> None:
    world.define(STEP.format(before=before, more=more))


def bare(place: Path, python: str = sys.executable) -> Path:
    subprocess.run([python, "-m", "venv", "--without-pip", place], check=True)
    return place


def without_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip builds, whether this machine has uv or not."""
    folders = [folder for folder in os.environ["PATH"].split(":") if not os.path.exists(os.path.join(folder, "uv"))]
    monkeypatch.setenv("PATH", ":".join(folders))


def test_an_interpreter_is_found_in_this_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is put away in turn, and the next one is taken."""
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    places = {name: bare(world.root / name) for name in ("step", "target", "project", ".venv", "shell", "conda")}
    monkeypatch.setenv("VIRTUAL_ENV", str(places["shell"]))
    monkeypatch.setenv("CONDA_PREFIX", str(places["conda"]))
    world.write("src/main.py", PREFIX)
    world.write("mlpipe.toml", '[project]\npython = "project"\n[compute.local]\npython = "target"\n')

    def told() -> tuple[str, str]:
        prefix = Path(world.run(force=True).output("s", "a").decode())  # equal environments give equal results
        return prefix.name, world.cli("plan", "-v").stdout

    define(world, more=', python="step"')
    name, text = told()
    assert name == "step" and "(python= of step s)" in text
    define(world)
    name, text = told()
    assert name == "target" and "([compute.local] in mlpipe.toml)" in text
    world.write("mlpipe.toml", '[project]\npython = "project"\n')
    name, text = told()
    assert name == "project" and "([project] in mlpipe.toml)" in text
    world.write("mlpipe.toml", "")
    name, text = told()
    assert name == ".venv" and "(the project's .venv)" in text
    shutil.rmtree(places[".venv"])
    name, text = told()
    assert name == "shell" and "($VIRTUAL_ENV)" in text
    monkeypatch.delenv("VIRTUAL_ENV")
    name, text = told()
    assert name == "conda" and "($CONDA_PREFIX)" in text
    monkeypatch.delenv("CONDA_PREFIX")
    name, text = told()
    assert name == Path(sys.prefix).name and "(the interpreter of mlpipe-tui)" in text
    shown = world.cli("show", "latest").stdout
    assert f"Python: {sys.executable}" in shown or "the interpreter of mlpipe-tui" in shown


def test_an_environment_of_another_python_needs_nothing_of_ours(world: World) -> None:
    python = other_python()
    if python is None:
        pytest.skip("needs a second Python 3.8 or newer: any of python3.8 ... python3.14 beside the one that runs the tests")
    venv = bare(world.root / "other", python)
    world.write("src/main.py", "import sys\nfrom mlpipe_run import Run\nRun.get_context().log('x', 1)\n"
                "open(sys.argv[1], 'w').write('%d.%d' % sys.version_info[:2])\n")  # fmt: skip
    define(world, more=f', python="{venv.name}"')
    done = world.run()
    assert done.output("s", "a").decode() == version_of(python)
    define(world)
    done = world.run()
    assert done.ran == {"s"} and "python cpython" in done.why("s")


def other_python() -> str | None:
    homes = [Path(sys.base_prefix).parent, Path("/usr/bin")]
    found = [*homes[0].glob("3.*/bin/python3"), *homes[1].glob("python3.[0-9]*")]
    for path in sorted(found):
        if os.access(path, os.X_OK) and not path.name.endswith("config"):
            version = version_of(str(path))
            if version and tuple(map(int, version.split("."))) >= (3, 8) and version != version_of(sys.executable):
                return str(path)
    return None


def version_of(python: str) -> str:
    done = subprocess.run(
        [python, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def test_the_name_of_a_program_that_is_a_script_leads_to_what_it_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shims of pyenv: what they start depends on files and variables a step does not have."""
    one, two = bare(world.root / "one"), bare(world.root / "two")
    world.write("bin/mypython", f'#!/bin/sh\nexec "$(cat {world.root}/.python-version)/bin/python" "$@"\n', 0o755)
    monkeypatch.setenv("PATH", f"{world.root}/bin:{os.environ['PATH']}")
    world.write(".python-version", str(one))
    world.write("src/main.py", PREFIX)
    define(world, more=', python="mypython"')
    assert world.run().output("s", "a") == str(one).encode()
    assert world.run().ran == set()
    world.write(".python-version", str(two) + "\n")
    assert f"{two}/bin/python" in world.cli("plan", "-v").stdout


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("no/such", "the interpreter no/such does not exist"),
        ("nosuchpython", "there is no program 'nosuchpython' on PATH and nothing of that name in the project"),
        ("src", "the folder src holds no bin/python"),
        ("src/main.py", "the interpreter src/main.py is not executable"),
        ("broken", "the environment broken is broken: its bin/python leads nowhere"),
        ("shim", r"shim is a script (.*) that starts no Python: mypy: 3.99 is not installed"),
        ("/bin/true", "the interpreter /bin/true (from python= of step s) does not work: it does not answer like a Python"),
        ("old", "is Python 3.7.16; expected Python 3.8 or newer"),
        ("ancient", "is Python 2.7.18; expected Python 3.8 or newer"),
    ],
)  # fmt: skip
def test_an_unfit_interpreter_is_told_before_the_run(world: World, python: str, told: str) -> None:
    world.write("src/main.py", PREFIX)
    (world.root / "broken/bin").mkdir(parents=True)
    (world.root / "broken/bin/python").symlink_to("/nowhere/python")
    world.write("shim", "#!/bin/sh\necho 'mypy: 3.99 is not installed' >&2\nexit 127\n", 0o755)
    for name, version in (("old", "3.7.16"), ("ancient", "2.7.18")):
        answer = json.dumps({"version": version, "implementation": "cpython", "platform": "linux-x86_64", "executable": "/bin/sh",
                             "base": "/bin/sh", "prefix": "/nowhere", "prefixes": [], "sites": []})  # fmt: skip
        real = f'#!/bin/sh\n[ "$1" = -I ] && [ {version[0]} = 2 ] && exit 2\ncase "$*" in *sys.executable\\)) echo {world.root}/{name};; *) echo \'{answer}\';; esac\n'
        world.write(name, real, 0o755)
    define(world, more=f', python="{python}"')
    for words in (("run",), ("plan",)):
        done = world.cli(*words)
        assert done.returncode == 4, done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 2 and lines[1].startswith("hint: "), done.stderr
        assert "pipeline.py:6 field python: " in lines[0]
        for part in told.split("(.*)"):
            assert part in lines[0]
    assert not (world.root / ".mlpipe/state.db").exists()


def test_a_place_in_mlpipe_toml_is_named_by_its_line(world: World) -> None:
    world.write("src/main.py", PREFIX)
    define(world)
    world.write("mlpipe.toml", '[compute.local]\ncpus = 1\npython = "gone"\n')
    assert "mlpipe.toml:3 field compute.local.python: there is no program 'gone'" in world.cli("run").stderr


@pytest.fixture
def thing(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A step that imports `thing` from an environment of a requirements file; wheels lie in the project, there is no network."""
    without_uv(monkeypatch)
    wheel(
        world.root / "wheels",
        "thing",
        "1.0",
        "import other\nvalue = other.value\ndef main(): print(value)\n",
        requires=("other",),
        script=True,
    )
    wheel(world.root / "wheels", "other", "2.0", "value = 'two'\n")
    world.write("mlpipe.toml", OFFLINE)
    world.write("req.txt", "thing  # what is needed\n")
    world.write("src/main.py", "import sys, thing\nopen(sys.argv[1], 'w').write(thing.value)\n")
    define(world, 'env = Environment.from_pip_requirements("demo", "req.txt")', ", environment=env")
    return world


def folders(world: World) -> list[str]:
    place = world.root / ".mlpipe/environments"
    return sorted(path.name for path in place.iterdir() if path.is_dir()) if place.exists() else []


def test_an_environment_is_built_once_and_what_is_in_it_counts(thing: World) -> None:
    planned = thing.cli("plan")
    assert "depends on environment demo, which is not built yet" in planned.stdout and not (thing.root / ".mlpipe").exists()
    done = thing.cli("run")
    assert done.returncode == 0, done.stderr
    assert (
        "building environment demo with pip: 1 requirement, log in " in done.stderr and "environment demo is ready" in done.stderr
    )
    log = Path(done.stderr.split("log in ")[1].split("\n")[0])
    assert "Successfully installed" in log.read_text()
    assert len(folders(thing)) == 1
    again = thing.cli("run")
    assert "building" not in again.stderr and "1 reused" in again.stdout
    assert "(environment demo)" in thing.cli("plan", "-v").stdout
    wheel(thing.root / "wheels", "other", "3.0", "value = 'three'\n")
    upgraded = thing.run()
    assert upgraded.output("s", "a") == b"three" and "other 2.0 -> 3.0" in upgraded.why("s")
    thing.write("req.txt", "# another comment\nthing  \n")
    assert thing.run().ran == set() and len(folders(thing)) == 2


def test_an_environment_cut_short_or_moved_is_built_anew_and_runs_nothing(thing: World) -> None:
    """Scripts name their folder, bytecode its time: neither is what the step depends on."""
    thing.run()
    mark = next((thing.root / ".mlpipe/environments").glob("*/mlpipe-environment.json"))
    mark.unlink()
    shutil.rmtree(next(mark.parent.glob("lib/python*/site-packages")))
    assert thing.plan() == {"s": "Undecided"}
    assert thing.run().ran == set() and mark.exists()
    moved = World(thing.root.parent / "moved")
    shutil.rmtree(moved.root)
    thing.root.rename(moved.root)
    assert moved.run().ran == set()
    script = next((moved.root / ".mlpipe/environments").glob("*/bin/thing"))
    assert subprocess.run([script], capture_output=True, check=True).stdout == b"two\n"


def test_two_runs_at_once_build_it_once(thing: World) -> None:
    done: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: done.append(thing.cli("run"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.returncode for item in done] == [0, 0], [item.stderr for item in done]
    text = "".join(item.stderr for item in done)
    assert text.count("building environment demo with pip") == 1 and text.count("is being built by process") <= 1


def test_a_builder_that_was_killed_is_waited_for_by_what_it_started(thing: World) -> None:
    """Else its pip would go on writing into the folder that the next run fills."""
    waits = f"touch {thing.root}/began; until [ -e {thing.root}/go ]; do sleep 0.05; done; touch {thing.root}/ended"
    thing.write("fake/uv", f"#!/bin/sh\n{waits}\n", 0o755)
    slow = thing.environment(PATH=f"{thing.root}/fake:{os.environ['PATH']}")
    first = subprocess.Popen(thing.command("run"), cwd=thing.root, env=slow, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (thing.root / "began").exists():
        time.sleep(0.02)
    first.kill()
    first.wait()
    second = subprocess.Popen(
        thing.command("run"),
        cwd=thing.root,
        env=thing.environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert second.stderr is not None
    told = second.stderr.readline()
    assert f"is being built by process {first.pid}; waiting for it" in told
    (thing.root / "go").touch()
    rest = second.communicate(timeout=120)[1]
    assert second.returncode == 0 and "environment demo is ready" in rest, rest
    assert (thing.root / "ended").exists()


def test_what_cannot_be_had_is_told_and_leaves_nothing(thing: World) -> None:
    thing.write("req.txt", "thing\nnosuch>=2\n")
    done = thing.cli("run")
    assert done.returncode == 4
    assert (
        "pipeline.py:5: environment 'demo' could not be built: no package for nosuch>=2 in the folders of find_links"
        in done.stderr
    )
    assert "No matching distribution found for nosuch" in done.stderr and "hint: Put a wheel of it into a folder" in done.stderr
    log = Path(done.stderr.split("all of it: ")[1].split("\n")[0])
    assert "nosuch" in log.read_text()
    assert folders(thing) == [] and thing.cli("runs").stdout.startswith("no runs yet")
    thing.write("mlpipe.toml", '[environments]\nfind_links = "wheels"\n')
    unreachable = thing.environment(PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_NO_INDEX="", PIP_RETRIES="0")
    done = thing.cli("run", env=unreachable)
    assert (
        "nosuch>=2 is not here and the package index cannot be reached" in done.stderr
        and "hint: Go online, or put a wheel" in done.stderr
    )


def test_includes_constraints_markers_hashes_and_local_packages(thing: World) -> None:
    local = wheel(thing.root / "req/dist", "local", "1.0", "value = 'a'\n")
    other = wheel(thing.root / "wheels", "other", "1.5", "value = 'old'\n")
    thing.write(
        "req/base.txt", "-r more/inner.txt\n-c limits.txt\n./dist/local-1.0-py3-none-any.whl\nnothing ; python_version < '3'\n"
    )
    thing.write("req/more/inner.txt", "thing\n")
    thing.write("req/limits.txt", "other<2\n")
    thing.write("src/main.py", "import sys, thing, local\nopen(sys.argv[1], 'w').write(thing.value + local.value)\n")
    define(thing, 'env = Environment.from_pip_requirements("demo", "req/base.txt")', ", environment=env")
    assert thing.run().output("s", "a") == b"olda"
    thing.write("req/limits.txt", "other<3\n")
    wheel(local.parent, "local", "1.0", "value = 'b'\n")
    assert thing.run().output("s", "a") == b"twob", "a constraint counts, and a local package by its bytes"
    names = [thing.root / "wheels/thing-1.0-py3-none-any.whl", thing.root / "wheels/other-2.0-py3-none-any.whl"]
    locked = "".join(
        f"{path.name.split('-')[0]}=={path.name.split('-')[1]} \\\n    --hash=sha256:{sha256(path)}\n" for path in names
    )
    thing.write("req/base.txt", locked)
    thing.write("src/main.py", "import sys, thing\nopen(sys.argv[1], 'w').write(thing.value)\n")
    assert thing.run().output("s", "a") == b"two"
    thing.write("req/base.txt", locked.replace(sha256(names[1]), sha256(other)))
    assert "a package has other bytes than its --hash says" in thing.cli("run").stderr


def test_an_editable_package_of_the_environment_is_code_of_the_step(thing: World) -> None:
    """No build back end can be fetched, so the project brings one: twenty lines that write the wheel of an editable install."""
    wheel(thing.root / "wheels", "tinyback", "1", (Path(__file__).parent / "tiny_backend.txt").read_text())
    thing.write("lib/pyproject.toml", '[build-system]\nrequires = ["tinyback"]\nbuild-backend = "tinyback"\n')
    thing.write("lib/src/mine.py", "value = 1\n")
    thing.write("lib/src/unread.py", "value = 1\n")
    thing.write("req.txt", "-e ./lib\n")
    thing.write("src/main.py", "import sys, mine\nopen(sys.argv[1], 'w').write(str(mine.value))\n")
    assert thing.run().output("s", "a") == b"1"
    thing.write("lib/src/unread.py", "value = 2\n")
    assert thing.run().ran == set()
    thing.write("lib/src/mine.py", "value = 2\n")
    done = thing.run()
    assert done.output("s", "a") == b"2" and done.why("s") == "lib/src/mine.py +1 -1"
    assert len(folders(thing)) == 1


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"req.txt": "-r no.txt\n"}, "req.txt:1: the requirements file no.txt does not exist"),
        ({"req.txt": "a\n\n./no.whl\n"}, "req.txt:3: ./no.whl does not exist"),
        ({"req.txt": b"\xff\xfe"}, "req.txt is no UTF-8 text"),
        ({"req.txt": "-r https://example.org/x.txt\n"}, "req.txt:1: includes the address https://example.org/x.txt; expected a file"),
        ({"mlpipe.toml": '[environments]\n\nfind_links = ["wheels", "gone"]\n'}, "mlpipe.toml:3 field environments.find_links: there is no folder gone"),
        ({"mlpipe.toml": "[environments]\nno_index = 'yes'\n"}, "mlpipe.toml:2 field environments.no_index: found text ('yes'); expected true or false"),
        ({"mlpipe.toml": "[environments]\nfind_links = 3\n"}, "field environments.find_links: found a number (3); expected a text, or a list of texts"),
        ({"mlpipe.toml": "[environments]\nfindlinks = 'x'\n"}, "unknown name 'findlinks'; did you mean 'find_links'?"),
    ],
)  # fmt: skip
def test_requirements_that_cannot_be_read_are_told_by_plan_and_run(
    thing: World, files: dict[str, str | bytes], told: str
) -> None:
    for name, text in files.items():
        thing.write(name, text)
    for words in (("plan",), ("run",)):
        done = thing.cli(*words)
        assert done.returncode in (2, 4) and told in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert folders(thing) == []


CONDA = """
name: demo
channels: [conda-forge]
dependencies:
  - python={version}
  - pip
  - pip:
    - thing   # a comment
"""


def test_a_conda_file_that_pip_can_serve(thing: World) -> None:
    thing.write("env/conda.yml", CONDA.format(version=version_of(sys.executable)).replace("  - pip\n", ""))
    define(thing, 'env = Environment.from_conda_specification("demo", "env/conda.yml")', ", environment=env")
    assert thing.run().output("s", "a") == b"two"
    thing.write("env/conda.yml", CONDA.format(version="3.99").replace("  - pip\n", ""))
    done = thing.cli("run")
    assert (
        done.returncode == 4
        and "environment 'demo' asks for Python 3.99: there is no program 'python3.99' on PATH" in done.stderr
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("  - cudatoolkit=11", r"env/conda.yml:9: environment 'demo' needs cudatoolkit=11 from conda, and there is no micromamba, mamba or conda on PATH"),
        ("  - numpy=1.26=py311_0", "needs numpy=1.26=py311_0 from conda"),
        ("  - python>=3", "env/conda.yml:9: found 'python>=3'; expected an exact version such as 'python=3.12'"),
        ("  cudatoolkit", "env/conda.yml:9: found 'cudatoolkit'; expected a list entry that starts with '- '"),
        ("  - {a: b}", "env/conda.yml:9: found '{a: b}'; expected a package"),
        ("variables:", "env/conda.yml:9: found the key 'variables'; expected name, channels or dependencies"),
        ("\t- x", "env/conda.yml:9: found a tab at the start of the line; expected spaces"),
    ],
)  # fmt: skip
def test_a_conda_file_that_cannot_be_served(thing: World, line: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    thing.write("env/conda.yml", CONDA.format(version=version_of(sys.executable)) + line + "\n")
    define(thing, 'env = Environment.from_conda_specification("demo", "env/conda.yml")', ", environment=env")
    done = thing.cli("plan")
    assert done.returncode == 4 and told in done.stderr, done.stderr


def test_packages_only_conda_has_are_made_by_the_conda_program_that_is_there(
    thing: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for micromamba: it takes the words the real one takes and makes an environment with conda's own list of packages."""
    thing.write("bin/micromamba", f"""#!/bin/sh
[ "$1 $2 $3" = "create -y -p" ] || exit 9
echo "$@" > "{thing.root}/words"
"{sys.executable}" -m venv --without-pip "$4" && mkdir "$4/conda-meta" && touch "$4/conda-meta/cudatoolkit-11.8-h1.json"
""", 0o755)  # fmt: skip
    monkeypatch.setenv("PATH", f"{thing.root}/bin:/usr/bin:/bin")
    define(thing, """
wanted = CondaDependencies.create(conda_packages=["cudatoolkit=11.8"], pip_packages=["thing"], python_version="3.11")
wanted.add_channel("nvidia")
config = RunConfiguration()
config.environment.python.conda_dependencies = wanted
""", ", runconfig=config")  # fmt: skip
    done = thing.run()
    assert done.output("s", "a") == b"two"
    words = (thing.root / "words").read_text().split()
    assert words[4:] == ["-c", "nvidia", "python=3.11", "cudatoolkit=11.8"]
    meta = next((thing.root / ".mlpipe/environments").glob("*/conda-meta"))
    (meta / "cudatoolkit-11.8-h1.json").rename(meta / "cudatoolkit-11.8-h2.json")
    assert thing.run().ran == {"s"}


def test_a_user_managed_environment_names_its_interpreter(world: World) -> None:
    venv = bare(world.root / "mine")
    world.write("src/main.py", PREFIX)
    define(world, """
env = Environment("mine")
env.python.user_managed_dependencies = True
env.python.interpreter_path = "mine/bin/python"
env.environment_variables["A"] = "1"
""", ", environment=env")  # fmt: skip
    assert world.run().output("s", "a") == str(venv).encode()


@pytest.mark.needs("uv")
def test_uv_and_pip_make_the_same_environment(thing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    thing.run()
    shutil.rmtree(thing.root / ".mlpipe/environments")
    monkeypatch.setenv("PATH", f"{os.path.dirname(shutil.which('uv', path=ORIGINAL_PATH) or '')}:{os.environ['PATH']}")
    done = thing.cli("run")
    assert "building environment demo with uv" in done.stderr and "1 reused" in done.stdout, done.stderr


ORIGINAL_PATH = os.environ["PATH"]


def test_a_run_with_nothing_to_do_sees_all_that_interpreters_and_environments_rest_on(thing: World) -> None:
    """The quick way compares stats of what was looked at; each change is planted on top of the others and has to be named."""
    venv = bare(thing.root.parent / "venv")
    site = next((venv / "lib").glob("python*")) / "site-packages"
    thing.write("lib/used.py", "value = 1\n")
    (site / "lib.pth").write_text(f"{thing.root}/lib\n{thing.root}/later\n")
    thing.write("src/plain.py", "import sys, used\nopen(sys.argv[1], 'w').write(str(used.value))\n")
    thing.write("mlpipe.toml", OFFLINE + f'[default]\npython = "{venv}"\n')
    thing.define("""
a, b = PipelineData("a"), PipelineData("b")
env = Environment.from_pip_requirements("demo", "req.txt")
built = PythonScriptStep("main.py", name="built", arguments=[a], outputs=[a], source_directory="src", environment=env)
plain = PythonScriptStep("plain.py", name="plain", arguments=[b], outputs=[b], source_directory="src")
p = Pipeline(ws, [built, plain], name="p")
""")
    assert thing.cli("run", "p").returncode == 0
    time.sleep(2.1)
    thing.cli("run", "p")

    def changed() -> list[str]:
        row = thing.json("status")["items"][0]
        assert row["changed"] is not None, "the last run left nothing behind for the quick way"
        return [str(path) for path in row["changed"]]

    assert changed() == []
    mark = next((thing.root / ".mlpipe/environments").glob("*/mlpipe-environment.json"))
    for path, change in (
        ("lib/used.py", lambda: thing.write("lib/used.py", "value = 2\n")),
        (f"{thing.root}/later", lambda: thing.write("later/new.py", "")),
        (f"{thing.root}/req.txt", lambda: thing.write("req.txt", "thing<2\n")),
        (f"{thing.root}/wheels", lambda: thing.write("wheels/x.whl", "")),
        (str(site), lambda: (site / "new.py").write_text("")),
        (str(mark), mark.unlink),
    ):
        assert not any(path in name for name in changed())
        change()
        assert path in [name if name.startswith(("/", "lib")) else f"{thing.root}/{name}" for name in changed()], path
