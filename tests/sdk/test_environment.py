"""Environment and its relatives as values: what a definition says, and what it may not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlpipe_engine import (
    CommandStep,
    CondaDependencies,
    Environment,
    Pipeline,
    PythonScriptStep,
    RunConfiguration,
    Workspace,
)
from mlpipe_engine.errors import DefinitionError
from mlpipe_engine.model import wire
from mlpipe_engine.model.spec import EnvironmentSpec, StepSpec


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.py").write_text("")
    return Workspace.create("demo", path=tmp_path)


def built(ws: Workspace, **more: object) -> StepSpec:
    step = PythonScriptStep("main.py", name="s", source_directory="src", **more)  # type: ignore[arg-type]
    return Pipeline(ws, [step], name="p").to_spec().step("s")


def test_an_environment_crosses_process_borders_and_its_name_is_no_part_of_it(ws: Workspace) -> None:
    env = Environment.from_pip_requirements("one", Path(ws.root) / "req.txt")
    env.python.conda_dependencies.add_pip_package("polars")
    env.python.conda_dependencies.set_python_version("3.12")
    spec = built(ws, environment=env)
    assert spec.environment is not None
    assert wire.load(StepSpec, wire.dump(spec)) == spec
    assert spec.environment == EnvironmentSpec(
        name="two", requirements_file="req.txt", packages=("polars",), python_version="3.12"
    )
    assert spec.environment.where.startswith(__file__)


def test_a_run_configuration_carries_an_environment(ws: Workspace) -> None:
    config = RunConfiguration()
    config.environment = Environment.from_conda_specification("x", "env.yml")
    config.environment.environment_variables = {"A": "1"}
    spec = built(ws, runconfig=config, environment_variables={"B": "2"})
    assert spec.environment is not None and spec.environment.conda_file == "env.yml"
    assert spec.environment_variables == (("A", "1"), ("B", "2"))
    config = RunConfiguration(conda_dependencies=CondaDependencies.create(conda_packages=["numpy"], pip_packages=["a", "a"]))
    spec = built(ws, runconfig=config)
    assert spec.environment is not None and (spec.environment.packages, spec.environment.conda_packages) == (("a",), ("numpy",))


def test_an_environment_without_packages_is_none(ws: Workspace) -> None:
    spec = built(ws, environment=Environment("empty"))
    assert spec.environment is None and spec.python is None
    managed = Environment.from_pip_requirements("managed", "req.txt")
    managed.python.user_managed_dependencies = True
    assert built(ws, environment=managed).environment is None
    managed.python.interpreter_path = "venv/bin/python"
    assert built(ws, environment=managed).python == "venv/bin/python"


def test_packages_of_a_file_are_read_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "env.yml"
    wanted = CondaDependencies(path)
    path.write_text("channels: [c]\ndependencies: [numpy, pip]\n")
    wanted.add_conda_package("scipy")
    wanted.add_channel("d")
    assert list(wanted.conda_packages) == ["numpy", "pip", "scipy"] and list(wanted.conda_channels) == ["c", "d"]
    wanted.remove_conda_package("scipy")
    assert list(wanted.conda_packages) == ["numpy", "pip"]
    with pytest.raises(DefinitionError, match="'numpy' was not added by the definition"):
        wanted.remove_conda_package("numpy")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Environment(3), "the name of an environment is 3"),  # type: ignore[arg-type]
        (lambda: Environment.from_pip_requirements("x", ""), "file_path is ''; expected the path of a file"),
        (lambda: CondaDependencies.create(pip_packages="numpy"), "pip_packages is 'numpy'; expected a list of texts"),
        (lambda: CondaDependencies().add_pip_package("a\nb"), "expected one line of text, such as 'numpy>=2'"),
        (lambda: CondaDependencies().set_python_version(3.12), "python version 3.12; expected a text such as '3.12'"),  # type: ignore[arg-type]
        (lambda: CondaDependencies.create(pip_pakages=["a"]), "did you mean 'pip_packages'?"),  # type: ignore[call-arg]
        (lambda: setattr(RunConfiguration(), "environment", "x"), "environment is a str; expected an Environment"),
        (lambda: CommandStep(["p"], name="s", environment="x"), "environment='x'; expected an Environment"),  # type: ignore[arg-type]
        (lambda: CommandStep(["p"], name="s", python=3.12), "python=3.12; expected the path of a Python"),  # type: ignore[arg-type]
        (
            lambda: CommandStep(["p"], name="s", python="x", environment=Environment.from_pip_requirements("e", "r")),
            "expected either python or an environment with packages ('e')",
        ),
    ],
)
def test_what_makes_no_sense_is_told_where_it_stands(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        wrong()
    assert told in str(caught.value) and __file__ in str(caught.value)
