"""Code beside the source directory: staged, traced, told by the name people know."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from worlds import World

ONE_STEP = """
a = PipelineData("a")
p = Pipeline(ws, [PythonScriptStep("main.py", name="s", arguments=[a], outputs=[a], source_directory="src")])
"""
TWO_STEPS = """
a, b = PipelineData("a"), PipelineData("b")
first = PythonScriptStep("first.py", name="first", arguments=[a], outputs=[a], source_directory="src")
second = PythonScriptStep("second.py", name="second", arguments=[b], outputs=[b], source_directory="src")
p = Pipeline(ws, [first, second])
"""
WRITE = "open(sys.argv[1], 'w').write(str(value))\n"


def site_of(world: World) -> Path:
    """site-packages of a virtual environment for the steps, outside of the project."""
    venv = world.root.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    world.write("mlpipe.toml", f'[default]\npython = "{venv}"\n')
    return next((venv / "lib").glob("python*")) / "site-packages"


def editable(site: Path, name: str, folder: Path, record: str = "") -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "RECORD").write_text(record)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps({"url": f"file://{folder}", "dir_info": {"editable": True}}))


@pytest.fixture
def library(world: World) -> World:
    """Two steps that each import another module of a folder a .pth file names."""
    site = site_of(world)
    world.write("lib/used.py", "value = 1\n")
    world.write("lib/other.py", "value = 10\n")
    (site / "library.pth").write_text(f"{world.root}/lib\n")
    world.write("src/first.py", "import sys\nfrom used import value\n" + WRITE)
    world.write("src/second.py", "import sys\nfrom other import value\n" + WRITE)
    world.define(TWO_STEPS)
    assert world.run().ran == {"first", "second"}
    return world


def test_only_the_step_that_imports_a_module_runs_again(library: World) -> None:
    library.write("lib/used.py", "value = 2\n")
    assert library.plan() == {"first": "Execute", "second": "Reuse"}
    done = library.run()
    assert done.ran == {"first"} and done.output("first", "a") == b"2"
    assert done.why("first") == "lib/used.py +1 -1"
    assert done.unread("second") == "lib/used.py +1 -1"


def test_touching_and_rewriting_the_same_text_runs_nothing(library: World) -> None:
    library.write("lib/used.py", "value = 1\n")
    os.utime(library.root / "lib/other.py")
    assert library.run().ran == set()


def test_a_new_module_in_the_folder_counts_because_it_could_be_imported(library: World) -> None:
    library.write("lib/extra.py", "")
    done = library.run()
    assert done.ran == {"first", "second"} and done.why("first") == "lib/extra.py added"


def test_ignored_files_are_no_code_but_ignored_modules_are(library: World) -> None:
    library.write("lib/.gitignore", "*.log\n_version.py\n")
    library.write("lib/_version.py", "number = '1'\n")
    library.write("src/first.py", "import sys\nfrom _version import number as value\n" + WRITE)
    assert library.run().output("first", "a") == b"1"
    library.write("lib/noise.log", "x")
    assert library.run().ran == set()
    library.write("lib/_version.py", "number = '2'\n")
    done = library.run()
    assert done.output("first", "a") == b"2" and done.why("first") == "lib/_version.py +1 -1"


def test_a_step_sees_a_private_copy_and_repeats_by_hand(library: World) -> None:
    library.write("src/first.py", "import sys, used\nvalue = used.__file__\n" + WRITE)
    done = library.run()
    copy = done.output("first", "a").decode()
    assert copy.startswith(str(library.root / ".mlpipe/runs")) and copy.endswith("/roots/0/lib/used.py")
    library.write("lib/used.py", "raise SystemExit('the original')\n")
    step = Path(done.engine.step_dir(done.record.id, "first"))
    (step / "out/a").unlink()
    assert subprocess.run([step / "command.sh"], check=False).returncode == 0


def test_the_copy_shadows_no_more_than_the_original_did(library: World) -> None:
    """.pth folders come after the standard library and site-packages; a module called like one of theirs must stay unseen."""
    library.write("lib/json.py", "raise SystemExit('shadowed')\n")
    library.write("lib/types.py", "raise SystemExit('shadowed')\n")
    library.write("src/first.py", "import sys, json, types\nvalue = json.dumps(1)\n" + WRITE)
    assert library.run().output("first", "a") == b"1"


def test_a_shell_step_that_starts_python_gets_the_copies_too(world: World) -> None:
    site = site_of(world)
    world.write("lib/used.py", "value = 1\n")
    world.write("lib/other.py", "value = 1\n")
    (site / "library.pth").write_text(f"{world.root}/lib\n")
    world.define(
        'a = PipelineData("a")\np = Pipeline(ws, [CommandStep("python -c \'import used; print(used.value)\' > $a", name="s", outputs=[a])])'
    )
    assert world.run().output("s", "a") == b"1\n"
    world.write("lib/other.py", "value = 2\n")
    assert world.run().ran == set()
    world.write("lib/used.py", "value = 2\n")
    assert world.run().output("s", "a") == b"2\n"


def test_the_sitecustomize_of_the_environment_still_runs(library: World) -> None:
    site = next((library.root.parent / "venv/lib").glob("python*")) / "site-packages"
    (site / "sitecustomize.py").write_text("import builtins\nbuiltins.greeting = 'hello'\n")
    library.write("src/first.py", "import sys, builtins, used\nvalue = getattr(builtins, 'greeting', 'none')\n" + WRITE)
    python = site.parents[2] / "bin/python"
    plain = subprocess.run(
        [python, "-c", "import builtins; print(getattr(builtins, 'greeting', 'none'))"], capture_output=True, check=True
    )
    assert library.run().output("first", "a") == plain.stdout.strip(), "an interpreter may have one of its own that comes first"


SETUPTOOLS_FINDER = """
import sys
from importlib.machinery import ModuleSpec, all_suffixes as module_suffixes
from importlib.util import spec_from_file_location
from itertools import chain
from pathlib import Path
MAPPING: dict[str, str] = {mapping!r}
class _EditableFinder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname in MAPPING:
            candidate = Path(MAPPING[fullname])
            for file in chain([candidate / "__init__.py"], (candidate.with_suffix(x) for x in module_suffixes())):
                if file.exists():
                    return spec_from_file_location(fullname, file)
def install():
    sys.meta_path.append(_EditableFinder)
"""


def install_finder(site: Path, folder: Path, mapping: dict[str, str]) -> None:
    (site / "__editable___thing_1_0_finder.py").write_text(textwrap.dedent(SETUPTOOLS_FINDER.format(mapping=mapping)))
    (site / "__editable__.thing-1.0.pth").write_text(
        "import __editable___thing_1_0_finder; __editable___thing_1_0_finder.install()"
    )
    editable(site, "thing", folder)


def test_packages_and_modules_of_a_finder(world: World) -> None:
    site, project = site_of(world), world.root / "thing"
    world.write("thing/pkg/__init__.py", "from pkg.inner import value\n")
    world.write("thing/pkg/inner.py", "value = 1\n")
    world.write("thing/pkg/table.txt", "a")
    world.write("thing/single.py", "text = 'x'\n")
    world.write("thing/tests.py", "")
    install_finder(site, project, {"pkg": str(project / "pkg"), "single": str(project / "single")})
    world.write("src/main.py", "import sys, pkg, single\nfrom pathlib import Path\n"
                "value = f\"{pkg.value}{single.text}{(Path(pkg.__file__).parent / 'table.txt').read_text()}\"\n" + WRITE)  # fmt: skip
    world.define(ONE_STEP)
    assert world.run().output("s", "a") == b"1xa"
    world.write("thing/tests.py", "changed = 1\n")
    world.write("thing/README", "new")
    assert world.run().ran == set(), "what the finder does not lead to is no code"
    for name, text, result in (
        ("pkg/inner.py", "value = 2\n", b"2xa"),
        ("pkg/table.txt", "b", b"2xb"),
        ("single.py", "text = 'y'\n", b"2yb"),
    ):
        world.write(f"thing/{name}", text)
        done = world.run()
        assert done.output("s", "a") == result and done.why("s") == f"thing/{name} +1 -1"


@pytest.mark.parametrize("layout", ["src", "flat"])
def test_the_project_itself_installed_editable(world: World, layout: str) -> None:
    """`pip install -e .` in the project: data beside the code stays out of it."""
    site = site_of(world)
    prefix = "src/" if layout == "src" else ""
    world.write(f"{prefix}mine/__init__.py", "from mine.inner import value\n")
    world.write(f"{prefix}mine/inner.py", "value = 1\n")
    world.write("data/big.csv", "1")
    (site / "__editable__.mine-1.0.pth").write_text(f"{world.root}/{prefix}".rstrip("/") + "\n")
    editable(site, "mine", world.root)
    world.write("steps/main.py", "import sys\nfrom mine import value\n" + WRITE)
    world.define(ONE_STEP.replace('"src"', '"steps"'))
    assert world.run().output("s", "a") == b"1"
    world.write("data/big.csv", "2")
    world.write("notes.txt", "x")
    assert world.run().ran == set()
    copied = [path.name for path in (world.root / ".mlpipe/runs").rglob("roots/*/*/data")]
    assert copied == []
    world.write(f"{prefix}mine/inner.py", "value = 2\n")
    done = world.run()
    assert done.output("s", "a") == b"2" and done.why("s") == f"{prefix}mine/inner.py +1 -1"


def test_an_editable_install_nobody_understands_counts_whole(world: World) -> None:
    site, project = site_of(world), world.root / "thing"
    world.write("thing/other.py", "value = 1\n")
    editable(site, "thing", project)
    (site / "thing.pth").write_text("import sys; sys.path.append('%s')\n" % project)  # noqa: UP031
    world.write("src/main.py", "import sys\nfrom other import value\n" + WRITE)
    world.define(ONE_STEP)
    assert world.run().output("s", "a") == b"1"
    world.write("thing/unread.txt", "x")
    done = world.run()
    assert done.ran == {"s"} and "sources of thing" in done.why("s")
    world.write("thing/other.py", "value = 2\n")
    assert world.run().output("s", "a") == b"2"
    assert "is imported in place" in world.cli("doctor").stdout


def test_a_root_outside_of_the_project_is_staged_when_it_is_small(world: World) -> None:
    site, outside = site_of(world), world.root.parent / "outside"
    outside.mkdir()
    (outside / "far.py").write_text("value = 1\n")
    (outside / "unread.py").write_text("")
    (site / "far.pth").write_text(f"{outside}\n")
    world.write("src/main.py", "import sys\nfrom far import value\n" + WRITE)
    world.define(ONE_STEP)
    world.run()
    (outside / "unread.py").write_text("x = 1\n")
    assert world.run().ran == set()
    (outside / "far.py").write_text("value = 2\n")
    done = world.run()
    assert done.output("s", "a") == b"2" and done.why("s") == f"{outside}/far.py +1 -1"
    for number in range(2001):
        (outside / f"m{number}.py").touch()
    world.run()
    (outside / "unread.py").write_text("x = 2\n")
    assert world.run().ran == {"s"}, "too many files to be copied: all of them count"
    assert f"code from {outside} (far.pth) is imported in place" in world.cli("doctor").stdout


def test_a_folder_that_appears_later_counts(world: World) -> None:
    site = site_of(world)
    (site / "late.pth").write_text(f"{world.root}/late\n")
    world.write("src/main.py", "import sys\ntry:\n    from late import value\nexcept ImportError:\n    value = 0\n" + WRITE)
    world.define(ONE_STEP)
    assert world.run().output("s", "a") == b"0"
    world.write("late/late.py", "value = 1\n")
    assert world.run().output("s", "a") == b"1"


def test_a_project_moved_with_its_environment_runs_nothing(world: World) -> None:
    """The .pth file is written anew for the new place, as an installer would; what it leads to is the same."""
    site = site_of(world)
    world.write("lib/used.py", "value = 1\n")
    (site / "library.pth").write_text(f"{world.root}/lib\n")
    world.write("src/main.py", "import sys\nfrom used import value\n" + WRITE)
    world.define(ONE_STEP)
    world.run()
    moved = World(world.root.parent / "moved")
    shutil.rmtree(moved.root)
    world.root.rename(moved.root)
    (site / "library.pth").write_text(f"{moved.root}/lib\n")
    assert moved.run().ran == set()
    moved.write("lib/used.py", "value = 2\n")
    assert moved.run().output("s", "a") == b"2"


def test_the_manifest_of_a_step_without_code_roots_does_not_change(world: World) -> None:
    """Its tree holds the source directory and nothing else."""
    site_of(world)
    world.write("src/main.py", "import sys\nvalue = 1\n" + WRITE)
    world.define(ONE_STEP)
    done = world.run()
    step = Path(done.engine.step_dir(done.record.id, "s"))
    assert not (step / "roots").exists() and "/roots/" not in (step / "command.sh").read_text()


@pytest.mark.parametrize("kind", ["hash_paths", "code snapshot"])
def test_code_roots_count_whole_where_reads_do_not(library: World, kind: str) -> None:
    more = ', code="snapshot"' if kind == "code snapshot" else ', code="snapshot", hash_paths=["first.py"]'
    library.define(TWO_STEPS.replace('source_directory="src")', f'source_directory="src"{more})'))
    library.run()
    library.write("lib/other.py", "value = 11\n")
    assert library.run().ran == {"first", "second"}
