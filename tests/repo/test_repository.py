"""The repository keeps its own promises: documents name what exists, the front door is light, nothing dangerous is in the source."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import mlpipe_engine
import pytest
from worlds import REPOSITORY

ENGINE = REPOSITORY / "engine"
SOURCES = sorted([*ENGINE.rglob("*.py"), *(REPOSITORY / "mlpipe_tui").rglob("*.py")])


def test_the_hops_of_the_architecture_exist() -> None:
    text = (REPOSITORY / "docs/ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| *\d+ *\|.*$", text, re.MULTILINE)
    assert len(rows) >= 13
    for row in rows:
        for path in re.findall(r"`([\w./]+)`", row.split("|")[3]):
            assert (ENGINE / "mlpipe_engine" / path).exists() or (REPOSITORY / path).exists() or (ENGINE / path).exists(), (
                f"{path} of {row}"
            )


def test_the_readme_begins_with_the_two_commands() -> None:
    blocks = re.findall(r"```\w*\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    assert [line.split("#")[0].strip() for line in blocks[0].strip().splitlines()] == ["make demo", "make test"]


def test_links_in_documents_lead_somewhere() -> None:
    for document in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "SECURITY.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


LIGHT = [
    ("--help",), ("--version",), ("run", "--help"), ("rnu",), ("completion", "bash"),
]  # fmt: skip
HEAVY = (
    "textual",
    "rich",
    "duckdb",
    "polars",
    "docker",
    "watchdog",
    "sqlite_utils",
    "asyncio",
    "argparse",
    "sqlite3",
    "dataclasses",
    "subprocess",
    "json",
)


def modules_after(*words: str, cwd: Path = REPOSITORY) -> set[str]:
    """Through the front door, as the command goes; it ends by os._exit."""
    code = (
        "import os, sys\nfrom mlpipe_tui.__main__ import main\n"
        "os._exit = lambda code: print('\\n' + ' '.join(sys.modules))\nmain()"
    )
    environment = os.environ | {"PYTHONPATH": f"{ENGINE}{os.pathsep}{REPOSITORY}"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_help_costs_nothing(words: tuple[str, ...]) -> None:
    plain = subprocess.run(
        [sys.executable, "-c", "import sys; print(' '.join(sys.modules))"], capture_output=True, text=True, check=True
    )
    heavy = HEAVY if words != ("rnu",) else tuple(name for name in HEAVY if name not in ("dataclasses", "json"))
    assert modules_after(*words) & set(heavy) <= set(plain.stdout.split())


def test_runs_and_questions_import_no_user_interface_and_no_data_library(tmp_path: Path) -> None:
    (tmp_path / "mlpipe.toml").write_text("")
    (tmp_path / "pipeline.py").write_text(
        "from mlpipe_engine import *\nws = Workspace.from_config()\np = Pipeline(ws, [CommandStep('true', name='s')])\n"
    )
    modules_after("run", cwd=tmp_path)  # the first run makes the store, and only that needs sqlite-utils
    unwanted = {"textual", "rich", "duckdb", "polars", "docker", "watchdog", "asyncio", "numpy", "pandas", "sqlite_utils"}
    for words in (("run",), ("plan",), ("runs",), ("show",), ("why", "latest", "s")):
        assert not modules_after(*words, cwd=tmp_path) & unwanted, words


def test_nothing_is_unpickled_evaluated_or_put_through_a_shell() -> None:
    allowed = {("sdk/load.py", "exec"), ("executors/zygote.py", "exec")}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = (
                    node.func.id
                    if isinstance(node.func, ast.Name)
                    else node.func.attr
                    if isinstance(node.func, ast.Attribute)
                    else ""
                )
                place = (
                    str(path.relative_to(ENGINE / "mlpipe_engine")) if (ENGINE / "mlpipe_engine") in path.parents else path.name,
                    name,
                )
                if isinstance(node.func, ast.Name):
                    assert name not in ("eval", "exec", "__import__") or place in allowed, place
                assert not any(word.arg == "shell" for word in node.keywords), place
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "marshal", "shelve", "joblib", "cloudpickle", "yaml"} & set(names), path


def test_the_core_reads_no_clock_and_no_file() -> None:
    for path in [*(ENGINE / "mlpipe_engine/model").glob("*.py"), *(ENGINE / "mlpipe_engine/planning").glob("*.py")]:
        imported = {
            alias.name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        imported |= {
            (node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        }
        assert not imported & {
            "os",
            "time",
            "datetime",
            "subprocess",
            "sqlite3",
            "pathlib",
            "random",
            "threading",
            "socket",
            "io",
        }, path
        assert not re.search(r"\bopen\(", path.read_text()), path


PUBLIC = [
    "AdlaStep", "AmlCompute", "CommandStep", "ComputeTarget", "ComputeTargetException", "CondaDependencies", "ConfigError",
    "DataTransferStep", "DataType", "Dataset", "Datastore", "DefinitionError", "DockerConfiguration", "DockerSection",
    "Environment", "ExecutionError", "Experiment", "FileDataset", "InputError", "MlpipeError", "OutputFileDatasetConfig",
    "Pipeline", "PipelineData", "PipelineParameter", "PipelineRun", "PromoteHeadersBehavior", "PythonScriptStep", "Run",
    "RunConfiguration", "RunFailedError", "SqlStep", "StepRun", "StepSequence", "StoreError", "TabularDataset", "Workspace",
    "__version__",
]  # fmt: skip


def test_the_public_surface_is_what_it_is_meant_to_be() -> None:
    assert sorted(mlpipe_engine.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(mlpipe_engine, name) is not None


def test_every_key_of_the_project_file_is_documented() -> None:
    from mlpipe_engine.config.project import _SCHEMA

    text = (REPOSITORY / "docs/configuration.md").read_text()
    documented = set(re.findall(r"^\| `\[([^\]]+)\]` \| `(\w+)` \|", text, re.MULTILINE))
    assert documented == {(table.replace("*", "NAME"), key) for table, keys in _SCHEMA.items() for key in keys}


def test_every_module_says_what_lives_in_it() -> None:
    for path in SOURCES:
        if path.name != "__init__.py" or path.read_text().strip():
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_the_project_speaks_of_itself_alone() -> None:
    listed = subprocess.run(["git", "-C", REPOSITORY, "ls-files"], capture_output=True, text=True, check=False)
    names = listed.stdout.split() if listed.returncode == 0 else []
    for name in names:
        path = REPOSITORY / name
        if path.is_file() and path.suffix in (".py", ".md", ".toml", "") and name != "LICENSE":
            assert not re.search(r"/(work|farm)/(main|shared)", path.read_text(errors="replace")), name


def test_the_lock_has_hashes_and_names_no_host() -> None:
    text = (REPOSITORY / "requirements.lock").read_text()
    assert "://" not in text
    pins = re.findall(r"^([a-z0-9][\w.\-]*)==", text, re.MULTILINE)
    assert len(pins) > 30 and text.count("--hash=sha256:") > len(pins)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for wanted in project["dependencies"]:
        assert re.split(r"[<>=]", wanted)[0] in pins


def test_dev_py_needs_nothing_but_python() -> None:
    tree = ast.parse((REPOSITORY / "dev.py").read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= set(sys.stdlib_module_names)
