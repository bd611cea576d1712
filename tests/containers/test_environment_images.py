"""Environments as images: named, with packages on top, from a Dockerfile, from this machine; built once, counted by id."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import EnvironmentProblem
from packages import wheel
from worlds import World

if TYPE_CHECKING:
    from private_engine import PrivateEngine

pytestmark = pytest.mark.needs("docker")

SHOW = """
import sys
try:
    import gadget
    text = gadget.VERSION
except ImportError:
    text = "none"
open(sys.argv[1], "w").write(text)
"""


@pytest.fixture
def shop(isolated: World, engine: PrivateEngine, image: str) -> World:
    """A project with a wheelhouse, and an engine with a base image."""
    world = isolated
    engine.client().tag(image, "base/python", "1")
    for version in ("1.0", "2.0"):
        wheel(world.root / "wheels", "gadget", version, f"VERSION = {version!r}\n")
    text = (world.root / "mlpipe.toml").read_text()
    inside = os.path.realpath(sys.executable)
    world.write("mlpipe.toml", f'{text}\n[environments]\nfind_links = ["wheels"]\nno_index = true\n'.replace(
        '[compute.isolated]\n', f'[compute.isolated]\npython = "{inside}"\n'))  # fmt: skip
    world.write("src/show.py", SHOW)
    return world


def define(world: World, environment: str, step: str = "environment=env") -> None:
    world.define(f"""
env = {environment}
out = PipelineData("out")
p = Pipeline(ws, [PythonScriptStep("show.py", name="show", source_directory="src", arguments=[out], outputs=[out], {step})], name="p")
""")


def test_packages_on_top_of_an_image_are_installed_once(shop: World, engine: PrivateEngine) -> None:
    world = shop
    world.write("requirements.txt", "gadget==1.0\n")
    define(world, 'Environment.from_docker_image("training", "base/python:1", pip_requirements="requirements.txt")')
    assert world.plan() == {"show": "Undecided"}, "a plan builds nothing"
    said = world.cli("run")
    assert said.returncode == 0, said.stderr
    assert "building the image of environment training" in said.stderr and "Successfully installed gadget-1.0" in said.stderr
    logs = list((world.root / ".mlpipe/environments").glob("*.image.log"))
    assert len(logs) == 1 and "Successfully installed gadget-1.0" in logs[0].read_text()
    done = world.run()
    assert done.states == {"show": "reused"} and done.output("show", "out") == b"1.0"
    entries = {entry.name: entry.value for entry in done.engine.manifest(done.record.id, "show").entries}  # type: ignore[union-attr]
    made = engine.client().inspect_image(str(entries["image"]))
    assert made["Id"] == entries["image"] and made["RepoTags"][0].startswith("mlpipe-tui/environment:")
    assert not any("wheels" in text or "PIP" in text for text in made["Config"]["Env"])
    world.write("requirements.txt", "gadget==2.0\n")
    again = world.run()
    assert again.states == {"show": "succeeded"} and again.output("show", "out") == b"2.0"
    world.write("requirements.txt", "gadget==1.0  # as before\n")
    assert world.run().states == {"show": "reused"}, "the image of before is still there"


def test_two_runs_build_one_image(shop: World, engine: PrivateEngine) -> None:
    world = shop
    world.write("requirements.txt", "gadget==1.0\n")
    define(world, 'Environment.from_docker_image("once", "base/python:1", pip_requirements="requirements.txt")')
    before = {row["Id"] for row in engine.client().images(all=True)}
    found: list[str] = []
    threads = [threading.Thread(target=lambda n=n: found.append(world.cli("run", "--experiment", f"e{n}").stderr)) for n in range(2)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(text.count("building the image") for text in found) <= 1
    assert len({row["Id"] for row in engine.client().images(all=True)} - before) <= 1


def test_a_package_nobody_has_is_named_with_what_to_do(shop: World) -> None:
    world = shop
    define(
        world,
        'Environment.from_docker_image("training", "base/python:1")\nenv.python.conda_dependencies.add_pip_package("no-such-thing>=3")',
    )
    with pytest.raises(EnvironmentProblem) as caught:
        world.run()
    assert "the image of environment 'training' could not be built: no package for no-such-thing" in str(caught.value)
    assert "pipeline.py:4" in str(caught.value) and "image.log" in str(caught.value) and "find_links" in caught.value.hint
    assert Engine.open(str(world.root)).runs() == ()


def test_a_dockerfile(shop: World) -> None:
    world = shop
    world.write("image/Dockerfile", "FROM base/python:1\nENV COLOUR=red\nCOPY extra.txt /extra.txt\n")
    world.write("image/extra.txt", "extra\n")
    world.write("src/show.py", 'import os, sys\nopen(sys.argv[1], "w").write(os.environ["COLOUR"] + open("/extra.txt").read())\n')
    define(world, 'Environment.from_dockerfile("mine", "image/Dockerfile")')
    done = world.run()
    assert done.states == {"show": "succeeded"} and done.output("show", "out") == b"redextra\n"
    assert world.run().states == {"show": "reused"}
    world.write("image/extra.txt", "more\n")
    again = world.run()
    assert again.output("show", "out") == b"redmore\n" and "image" in again.why("show")


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FROM base/python:1\nCOPY missing.txt /\n", "missing.txt"),
        ("FRM base/python:1\n", "FRM"),
        ("FROM base/python:1\nRUN exit 7\n", "7"),
    ],
)
def test_a_dockerfile_that_fails(shop: World, dockerfile: str, said: str) -> None:
    world = shop
    world.write("image/Dockerfile", dockerfile)
    define(world, 'Environment.from_dockerfile("mine", "image/Dockerfile")')
    with pytest.raises(EnvironmentProblem, match=r"the image of environment 'image' could not be built") as caught:
        world.run()
    assert said in str(caught.value) and "Mend the Dockerfile" in caught.value.hint


def test_a_dockerfile_that_is_not_there_or_beside_everything(shop: World) -> None:
    world = shop
    define(world, 'Environment.from_dockerfile("mine", "image/Dockerfile")')
    with pytest.raises(EnvironmentProblem, match="there is no Dockerfile image/Dockerfile"):
        world.run()
    world.write("Dockerfile", "FROM base/python:1\n")
    define(world, 'Environment.from_dockerfile("mine", "Dockerfile")')
    with pytest.raises(EnvironmentProblem, match="all of which would be sent"):
        world.run()


def test_packages_without_an_image_come_as_an_image_of_their_environment(shop: World, bare_python: Path) -> None:
    world = shop
    text = (world.root / "mlpipe.toml").read_text()
    world.write("mlpipe.toml", text.replace(f'python = "{os.path.realpath(sys.executable)}"\n', ""))
    world.write("requirements.txt", "gadget==2.0\n")
    define(world, 'Environment.from_pip_requirements("training", "requirements.txt")')
    container = world.run()
    assert container.states == {"show": "succeeded"}, container.log("show")
    process = world.run(compute="plain")
    assert container.output("show", "out") == process.output("show", "out") == b"2.0"


def test_from_host_beats_the_image_of_the_target(shop: World, bare_python: Path) -> None:
    world = shop
    text = (world.root / "mlpipe.toml").read_text()
    world.write("mlpipe.toml", text.replace('kind = "docker"\n', 'kind = "docker"\nimage = "no/such:1"\n').replace(
        f'python = "{os.path.realpath(sys.executable)}"\n', ""))  # fmt: skip
    define(world, "Environment.from_host()")
    done = world.run()
    assert done.states == {"show": "succeeded"} and done.output("show", "out") == b"none"
    assert world.run(compute="plain").states == {"show": "succeeded"}, "as a process it is the interpreter itself"


def test_an_image_is_nothing_for_a_process(shop: World) -> None:
    world = shop
    define(world, 'Environment.from_docker_image("training", "base/python:1")')
    with pytest.raises(
        EnvironmentProblem, match="has the image base/python:1, but its compute target 'plain' runs processes"
    ) as caught:
        world.run(compute="plain")
    assert "--compute docker" in caught.value.hint


def test_the_words_of_the_azure_sdk_choose_a_container(
    shop: World, engine: PrivateEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = shop
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    define(
        world,
        'RunConfiguration()\nenv.environment.docker.base_image = "base/python:1"\nenv.docker.use_docker = True',
        "runconfig=env",
    )
    assert Engine.open(str(world.root)).pipeline().steps[0].compute == "docker"
    define(world, "RunConfiguration()\nenv.environment.docker.enabled = True", "runconfig=env")
    assert Engine.open(str(world.root)).pipeline().steps[0].compute == "docker"
