"""Outputs that go to a datastore: after success, verified, recorded; again when they are gone; never over what is not ours."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from mlpipe_engine.data.objects import ObjectStore
from mlpipe_engine.data.transfer import hash_of
from mlpipe_engine.engine import Engine
from mlpipe_engine.hashing.files import hash_bytes
from mlpipe_engine.model.states import State
from servers import Served
from worlds import Done, World

MAKE = """
import os, sys
os.makedirs(sys.argv[1] + "/sub", exist_ok=True)
open(sys.argv[1] + "/a.txt", "w").write(open("word.txt").read())
open(sys.argv[1] + "/sub/b.bin", "wb").write(b"b" * 100_000)
if os.path.exists("more.txt"):
    open(sys.argv[1] + "/more.txt", "w").write("m")
"""


def define(world: World, output: str, *, word: str = "one") -> None:
    world.write("src/make.py", MAKE)
    world.write("src/word.txt", word)
    world.define(
        f"store = Datastore(ws, 'away')\nout = {output}\n"
        "p = Pipeline(ws, [PythonScriptStep('make.py', name='make', arguments=[out], outputs=[out], source_directory='src')])"
    )


def to(path: str, more: str = "") -> str:
    return f"OutputFileDatasetConfig('out', destination=(store, '{path}')){more}"


class Destination:
    def __init__(self, world: World, folder: str) -> None:
        self.world, self.folder = world, folder

    @property
    def store(self) -> ObjectStore:
        return Engine.open(str(self.world.root)).data_sources().store("away")

    def content(self) -> dict[str, str]:
        store = self.store
        return {item.path.removeprefix(self.folder + "/"): hash_of(store, item) for item in store.walk(self.folder + "/")}

    def put(self, name: str, body: bytes, files: Path) -> None:
        source = files / uuid.uuid4().hex
        source.write_bytes(body)
        self.store.write(f"{self.folder}/{name}", str(source), hash_bytes(body))


B = hash_bytes(b"b" * 100_000)


@pytest.fixture
def local(world: World) -> Destination:
    world.write("mlpipe.toml", '[datastore.away]\nurl = "delivered"\n')
    return Destination(world, "f")


def deliveries(done: Done) -> list[tuple[str, str]]:
    return [(item.output, item.address) for item in done.engine.deliveries(done.record.id)]


@pytest.mark.parametrize("server", [
    pytest.param("azurite", marks=pytest.mark.needs("azurite")), pytest.param("sftp", marks=pytest.mark.needs("sshd")),
])  # fmt: skip
def test_an_output_is_delivered_verified_and_recorded_and_again_when_it_is_gone(
    world: World, server: str, _servers: dict[str, Served], files: Path
) -> None:
    world.write("mlpipe.toml", _servers[server].toml("away"))
    if server == "azurite":
        Engine.open(str(world.root)).make_container("away")
    there = Destination(world, uuid.uuid4().hex[:8])
    define(world, to(f"{there.folder}/{{step}}/{{output-name}}"))
    first = world.run()
    assert first.record.state is State.SUCCEEDED
    assert there.content() == {"make/out/a.txt": hash_bytes(b"one"), "make/out/sub/b.bin": B}
    assert deliveries(first) == [("out", f"datastore://away/{there.folder}/make/out")]
    second = world.run()
    assert second.states == {"make": "reused"} and deliveries(second) == []
    there.store.delete(f"{there.folder}/make/out/sub/b.bin")
    third = world.run()
    assert third.states == {"make": "reused"} and there.content()["make/out/sub/b.bin"] == B
    there.put("make/out/a.txt", b"somebody else was here", files)
    fourth = world.run()
    assert fourth.record.state is State.FAILED and "no run of this project put it there" in fourth.record.error
    assert there.content()["make/out/a.txt"] == hash_bytes(b"somebody else was here"), "nothing was lost"


def test_pipeline_data_of_another_datastore_goes_below_the_run(world: World, local: Destination) -> None:
    define(world, "PipelineData('out', datastore=store)")
    done = world.run()
    folder = world.root / "delivered/azureml" / done.record.id / "make/out"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a.txt", "b.bin"]


def test_an_output_of_the_built_in_datastore_is_where_it_belongs_already(world: World, local: Destination) -> None:
    define(world, "PipelineData('out', datastore=ws.get_default_datastore())")
    assert deliveries(world.run()) == []
    define(world, "OutputFileDatasetConfig('out', destination=(ws.get_default_datastore(), 'x'))")
    assert deliveries(world.run()) == [("out", "datastore://workspaceblobstore/x")]


def test_a_new_result_takes_the_place_of_the_old_one_with_all_its_files(world: World, local: Destination) -> None:
    define(world, to("f"))
    world.write("src/more.txt", "x")
    world.run()
    assert set(local.content()) == {"a.txt", "more.txt", "sub/b.bin"}
    (world.root / "src/more.txt").unlink()
    define(world, to("f"), word="two")
    assert world.run().record.state is State.SUCCEEDED
    assert local.content() == {"a.txt": hash_bytes(b"two"), "sub/b.bin": B}


def test_what_was_there_before_is_kept_unless_overwrite_is_asked_for(world: World, local: Destination) -> None:
    world.write("delivered/f/a.txt", "precious")
    define(world, to("f", ".as_upload()"))
    done = world.cli("run")
    assert done.returncode == 1, done.stderr
    assert f"is there with other bytes ({hash_bytes(b'precious')})" in done.stdout + done.stderr
    assert "was made, but not delivered to datastore://away/f" in done.stdout + done.stderr
    assert local.content() == {"a.txt": hash_bytes(b"precious")}, "neither that file nor its neighbours"
    define(world, to("f", ".as_upload(overwrite=True)"))
    again = world.run()
    assert again.record.state is State.REUSED and again.states == {"make": "reused"}, again.why("make")
    assert local.content() == {"a.txt": hash_bytes(b"one"), "sub/b.bin": B}


def test_another_destination_runs_nothing_again(world: World, local: Destination) -> None:
    define(world, to("f"))
    world.run()
    define(world, to("g/{param.rate}"))
    world.write("pipeline.py", (world.root / "pipeline.py").read_text().replace(
        "p = Pipeline(ws, [PythonScriptStep(", "rate = PipelineParameter('rate', 0.5)\np = Pipeline(ws, [PythonScriptStep("
    ).replace("arguments=[out]", "arguments=[out], params={'rate': rate}"))  # fmt: skip
    world.run()
    assert Destination(world, "g").content() == {"0.5/a.txt": hash_bytes(b"one"), "0.5/sub/b.bin": B}
    world.define(
        (world.root / "pipeline.py").read_text().partition("ws = Workspace.from_config()\n")[2].replace("g/{param.rate}", "h")
    )
    moved = world.run()
    assert moved.states == {"make": "reused"} and Destination(world, "h").content()["a.txt"] == hash_bytes(b"one")


def test_a_single_file_and_a_choice_of_files(world: World, local: Destination) -> None:
    world.define(
        "store = Datastore(ws, 'away')\nout = OutputFileDatasetConfig('out', destination=(store, 'f/result.txt'))\n"
        "p = Pipeline(ws, [CommandStep(['cp', 'x', out], name='make', source_directory='src', outputs=[out])])"
    )
    world.write("src/x", "hello")
    world.run()
    assert local.content() == {"result.txt": hash_bytes(b"hello")}
    define(world, to("f2", ".as_upload(source_globs='**/*.bin')"))
    world.run()
    assert Destination(world, "f2").content() == {"sub/b.bin": B}


def test_a_failed_step_delivers_nothing(world: World, local: Destination) -> None:
    define(world, to("f"))
    world.write("src/make.py", MAKE + "sys.exit(3)\n")
    assert world.run().record.state is State.FAILED
    assert local.content() == {}


@pytest.mark.parametrize(("destination", "said"), [
    ("../x", "leaves the datastore"), ("x/{param.nope}", "names the parameter 'nope'"),
])  # fmt: skip
def test_destinations_that_mean_nothing(world: World, local: Destination, destination: str, said: str) -> None:
    define(world, to(destination))
    done = world.run()
    assert done.record.state is State.FAILED and said in done.record.error and done.states == {"make": "succeeded"}


def test_a_destination_that_cannot_be_reached_fails_the_run_and_keeps_the_result(world: World) -> None:
    world.write("mlpipe.toml", '[datastore.away]\nurl = "smb://127.0.0.1:9/share"\n')
    define(world, to("f"))
    first = world.run()
    assert (
        first.record.state is State.FAILED
        and "cannot be reached" in first.record.error
        and "(tried 4 times)" in first.record.error
    )
    world.write("mlpipe.toml", '[datastore.away]\nurl = "delivered"\n')
    second = world.run()
    assert second.states == {"make": "reused"} and second.record.state is State.REUSED
    assert os.path.exists(world.root / "delivered/f/a.txt")
