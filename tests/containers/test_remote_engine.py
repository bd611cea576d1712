"""An engine that does not see our files, over tcp: the same results under the same keys, and nothing left on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from private_engine import PrivateEngine, over_tcp
from worlds import World

pytestmark = pytest.mark.needs("docker")


@pytest.fixture(scope="module")
def far() -> Iterator[tuple[PrivateEngine, str]]:
    with PrivateEngine() as engine, over_tcp(engine) as url:
        yield engine, url


def prepare(world: World, more: str) -> None:
    world.write("mlpipe.toml", (world.root / "mlpipe.toml").read_text() + more)
    world.write("src/first.py", """
import os, sys, mlpipe_run
import used
data, one, made = sys.argv[1:]
for name in sorted(os.listdir(data)):
    with open(os.path.join(data, name)) as source, open(os.path.join(made, name), "w") as target:
        target.write(source.read() + open(one).read())
os.symlink("a.txt", os.path.join(made, "link"))
os.makedirs(os.path.join(made, "empty/folder"))
run = mlpipe_run.Run.get_context()
run.log("files", 3)
run.upload_file("note.txt", one)
print("to stdout"); print("to stderr", file=sys.stderr)
""")  # fmt: skip
    world.write("src/used.py", "X = 1\n")
    for name in "abc":
        world.write(f"data/{name}.txt", name * 10)
    world.write("one.txt", "one")
    world.define("""
from pathlib import Path
made, count = PipelineData("made", is_directory=True), PipelineData("count")
first = PythonScriptStep("first.py", name="first", source_directory="src", arguments=[Path("data"), Path("one.txt"), made], outputs=[made])
second = CommandStep(command="cat $made/*.txt | wc -c > $count; test -x $made/empty/folder", name="second", inputs=[made], outputs=[count])
p = Pipeline(ws, [first, second], name="p")
""")


def outputs(done: Any) -> dict[str, tuple[tuple[str, str], ...]]:
    assert set(done.states.values()) == {"succeeded"}, done.log("first")
    return {step.name: step.outputs for step in done.engine.steps(done.record.id)}


def keys(done: Any) -> dict[str, str]:
    return {step.name: step.fingerprint for step in done.engine.steps(done.record.id)}


def test_three_ways_equal_bytes_and_equal_keys_of_containers(isolated: World, far: tuple[PrivateEngine, str]) -> None:
    world, (engine, url) = isolated, far
    prepare(world, f'[compute.far]\nkind = "docker"\nengine = "{url}"\n')
    here, there, process = world.run(), world.run(compute="far", force=True), world.run(compute="plain")
    assert outputs(here) == outputs(there) == outputs(process)
    assert keys(here) == keys(there) != keys(process)
    assert there.log("first", "stdout") == "to stdout\n" and there.log("first") == "to stderr\n"
    assert [(m.name, m.value) for m in there.engine.metrics(there.record.id, "first")] == [("files", "3")]
    assert Path(there.engine.file_path(there.record.id, "first", "note.txt")).read_text() == "one"
    client = engine.client()
    assert client.containers(all=True) == [] and not client.volumes()["Volumes"]
    assert world.run(compute="far").states == {"first": "reused", "second": "reused"}


def test_where_reads_cannot_be_seen_all_code_counts(isolated: World, far: tuple[PrivateEngine, str]) -> None:
    world, (_, url) = isolated, far
    prepare(world, f'[compute.far]\nkind = "docker"\nengine = "{url}"\n')
    world.write("src/unused.py", "Y = 1\n")
    world.run(compute="far")
    world.write("src/unused.py", "Y = 2\n")
    assert world.run(compute="far").states == {"first": "succeeded", "second": "reused"}


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo changed > $data/a.txt", "Read-only file system"),
        ('python3 -c "import os, sys; os.mkfifo(sys.argv[1])" $out', "cannot be taken"),
        ("ln -s /etc/passwd $out", "cannot be taken"),
        ("true", "missing"),
    ],
)
def test_what_may_not_come_back_does_not(isolated: World, far: tuple[PrivateEngine, str], script: str, said: str) -> None:
    world, (engine, url) = isolated, far
    world.write("mlpipe.toml", (world.root / "mlpipe.toml").read_text() + f'[compute.far]\nkind = "docker"\nengine = "{url}"\n')
    world.write("data/a.txt", "a")
    world.define(f"""
from pathlib import Path
out = PipelineData("out")
step = CommandStep(command='''{script}''', name="s", inputs=[Dataset.File.from_files("data").as_named_input("data").as_mount()], outputs=[out])
p = Pipeline(ws, [step], name="p")
""")
    done = world.run(compute="far")
    assert done.states == {"s": "failed"}
    assert said in done.step("s").error + done.log("s")
    assert engine.client().containers(all=True) == [] and not engine.client().volumes()["Volumes"]
