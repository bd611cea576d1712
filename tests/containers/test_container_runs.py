"""Whole runs in containers: what they see, what is reused, and that results are those of processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlpipe_engine.errors import EnvironmentProblem, ExecutorUnavailableError
from private_engine import until
from worlds import World

if TYPE_CHECKING:
    from private_engine import PrivateEngine

pytestmark = pytest.mark.needs("docker")

TWO_STEPS = """
from pathlib import Path
made = PipelineData("made", is_directory=True)
count = PipelineData("count")
first = PythonScriptStep("first.py", name="first", source_directory="src", arguments=[Path("data"), made, 7], outputs=[made])
second = CommandStep(command="cat $made/* | wc -c > $count", name="second", inputs=[made], outputs=[count])
p = Pipeline(ws, [first, second], name="p")
"""
FIRST = """
import os, sys, mlpipe_run
import used
data, made, number = sys.argv[1:]
for name in sorted(os.listdir(data)):
    with open(os.path.join(data, name)) as source, open(os.path.join(made, name), "w") as target:
        target.write(source.read() * int(number))
run = mlpipe_run.Run.get_context()
run.log("files", len(os.listdir(made)))
os.makedirs("outputs", exist_ok=True)
open("outputs/note.txt", "w").write("noted")
"""


def two_steps(world: World) -> World:
    world.write("src/first.py", FIRST)
    world.write("src/used.py", "X = 1\n")
    world.write("src/unused.py", "Y = 1\n")
    for name in "abc":
        world.write(f"data/{name}.txt", name * 10)
    world.define(TWO_STEPS)
    return world


def outputs(done: Any) -> dict[str, tuple[tuple[str, str], ...]]:
    return {step.name: step.outputs for step in done.engine.steps(done.record.id)}


def keys(done: Any) -> dict[str, str]:
    return {step.name: step.fingerprint for step in done.engine.steps(done.record.id)}


def test_a_run_and_its_reuse(isolated: World, engine: PrivateEngine) -> None:
    world = two_steps(isolated)
    done = world.run()
    assert done.states == {"first": "succeeded", "second": "succeeded"}, done.log("first")
    assert done.output("second", "count") == b"210\n"
    assert [(m.name, m.value) for m in done.engine.metrics(done.record.id, "first")] == [("files", "3")]
    assert done.engine.files(done.record.id, "first") == ("outputs/note.txt",)
    assert world.run().states == {"first": "reused", "second": "reused"}
    assert engine.client().containers(all=True) == []


def test_only_code_that_was_read_counts(isolated: World) -> None:
    world = two_steps(isolated)
    world.run()
    world.write("src/unused.py", "Y = 2\n")
    again = world.run()
    assert again.states["first"] == "reused" and "unused.py" in again.unread("first")
    world.write("src/used.py", "X = 2\n")
    assert world.run().states == {"first": "succeeded", "second": "reused"}


def test_processes_and_containers_make_the_same_bytes_under_other_keys(isolated: World) -> None:
    world = two_steps(isolated)
    container, process = world.run(), world.run(compute="plain")
    assert process.states == {"first": "succeeded", "second": "succeeded"}, "a result of a container does not stand for a process"
    assert process.why("first") == "where it runs in a container -> as a process"
    assert outputs(container) == outputs(process)
    assert keys(container) != keys(process)
    assert world.run().states == {"first": "reused", "second": "reused"}


VARIABLES = tuple(f"PLANTED_{n}" for n in range(10))


def test_twenty_planted_things_twenty_invisible(isolated: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = isolated
    planted = [world.root / name for name in ("data.csv", "mlpipe.toml", "src/.env", ".mlpipe/planted", "beside.py")]
    planted += [tmp_path / "outside", Path("/tmp") / f"planted-{os.getpid()}", Path("/var/tmp") / f"planted-{os.getpid()}"]
    planted += [Path("/etc/hostname.planted"), Path.home() / f".planted-{os.getpid()}"]
    for path in planted:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("planted")
    world.write(".amlignore", ".env\n")
    for name in VARIABLES:
        monkeypatch.setenv(name, "planted")
    world.write("src/look.py", f"""
import os, sys
paths, variables = {[str(path) for path in planted]!r}, {VARIABLES!r}
seen = [path for path in paths if os.path.lexists(path)] + [name for name in variables if name in os.environ]
open(sys.argv[1], "w").write("\\n".join(seen))
""")  # fmt: skip
    world.define("""
out = PipelineData("out")
p = Pipeline(ws, [PythonScriptStep("look.py", name="look", source_directory="src", arguments=[out], outputs=[out])], name="p")
""")
    try:
        container = world.run()
        assert container.states == {"look": "succeeded"}, container.log("look")
        seen = container.output("look", "out").decode()
        as_process = world.run(compute="plain").output("look", "out").decode()
    finally:
        for path in planted[5:]:
            path.unlink()
    assert len(planted) + len(VARIABLES) == 20
    assert seen == ""
    assert len(as_process.splitlines()) >= 9, "the same step as a process finds them, so they were really there"


def test_writing_to_an_input_is_refused_and_the_store_stays_whole(isolated: World) -> None:
    world = two_steps(isolated)
    world.define("""
made, out = PipelineData("made"), PipelineData("out")
first = CommandStep(command="echo good > $made", name="first", outputs=[made])
second = CommandStep(command="chmod u+w $made; echo bad > $made; rm -f $made; cp /dev/null $out; cat $made", name="second", inputs=[made], outputs=[out])
p = Pipeline(ws, [first, second], name="p")
""")
    done = world.run()
    assert done.output("first", "made") == b"good\n"
    assert "Read-only file system" in done.log("second")


def test_the_network_is_refused_unless_the_target_has_one(isolated: World) -> None:
    world = isolated
    world.write("src/net.py", "import socket\nsocket.create_connection(('10.255.255.1', 80), timeout=2)\n")
    world.define("p = Pipeline(ws, [PythonScriptStep('net.py', name='net', source_directory='src')], name='p')")
    done = world.run()
    assert done.states == {"net": "failed"} and "Network is unreachable" in done.log("net")


def test_outputs_are_the_callers_and_many_single_files_are_lent(isolated: World) -> None:
    world = isolated
    for number in range(100):
        world.write(f"many/{number:03}.txt", f"{number}\n")
    world.write("many/not-declared.csv", "secret")
    world.define("""
from pathlib import Path
out = PipelineData("out")
few, many = Path("many/00*.txt"), Path("many/*.txt")
step = CommandStep(command=["sh", "-c", 'cat "$1"/*.txt "$2"/*.txt > "$0"; ls "$1" "$2" >&2', out, few, many], name="s", outputs=[out])
p = Pipeline(ws, [step], name="p")
""")
    done = world.run()
    assert done.states == {"s": "succeeded"}, done.log("s")
    assert len(done.output("s", "out").split()) == 110
    assert "not-declared" not in done.log("s")
    info = os.stat(done.engine.artifact(done.record.id, "s", "out"))
    assert (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid())


def test_failure_timeout_retry_and_memory_are_told(isolated: World) -> None:
    world = isolated
    world.write("src/eat.py", "x = []\nwhile True: x.append(bytearray(10**7))\n")
    world.define("""
bad = CommandStep(command="echo broken >&2; exit 3", name="bad", retries=1, retry_delay_seconds=0.1)
slow = CommandStep(command="sleep 30", name="slow", timeout_seconds=1)
big = PythonScriptStep("eat.py", name="big", source_directory="src", memory="64MB")
p = Pipeline(ws, [bad, slow, big], name="p")
""")
    done = world.run(continue_on_step_failure=True)
    assert done.states == {"bad": "failed", "slow": "failed", "big": "failed"}
    assert done.step("bad").attempt == 2 and "exited 3" in done.step("bad").error
    assert "timed out after 1 s" in done.step("slow").error
    assert "out of memory (limit 64 MB)" in done.step("big").error


def test_cancel_ends_the_container(isolated: World, engine: PrivateEngine) -> None:
    world = isolated
    world.define("p = Pipeline(ws, [CommandStep(command='sleep 60', name='s')], name='p')")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(world.cli("run")))
    thread.start()
    from mlpipe_engine.engine import Engine

    def running() -> bool:
        runs = Engine.open(str(world.root)).runs()
        return bool(runs) and len(engine.client().containers()) == 1

    until(running)
    assert world.cli("cancel", "1").returncode == 0
    thread.join(30)
    assert found[0].returncode == 130
    assert engine.client().containers(all=True) == []


def test_no_engine_fails_before_anything_starts_and_says_what_to_do(isolated: World, bare_python: Path) -> None:
    world = two_steps(isolated)
    world.write(
        "mlpipe.toml", f'[default]\npython = "{bare_python}"\n[compute.d]\nkind = "docker"\nengine = "unix:///no/where.sock"\n'
    )
    with pytest.raises(ExecutorUnavailableError, match="no container engine listens"):
        world.run(compute="d")
    assert not (world.root / ".mlpipe" / "runs").exists()
    said = world.cli("run", "--compute", "d")
    assert (
        said.returncode == 4 and "no container engine listens at unix:///no/where.sock" in said.stderr and "hint:" in said.stderr
    )
    assert "Traceback" not in said.stderr


def test_a_plan_and_a_run_with_nothing_to_do_need_no_engine(isolated: World, engine: PrivateEngine, bare_python: Path) -> None:
    world = two_steps(isolated)
    world.run()
    text = (world.root / "mlpipe.toml").read_text()
    world.write("mlpipe.toml", text.replace(engine.url, "unix:///no/where.sock"))
    assert world.plan() == {"first": "Reuse", "second": "Reuse"}
    assert world.run().states == {"first": "reused", "second": "reused"}
    code = """
import sys
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.spec import SubmitOptions
engine = Engine.open()
engine.run(engine.pipeline(), SubmitOptions(experiment="test"))
sys.exit("docker" in sys.modules or "requests" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=world.root, env=world.environment(), check=False).returncode == 0


def test_an_image_by_name_counts_by_its_id(isolated: World, engine: PrivateEngine, image: str, bare_python: Path) -> None:
    world, client = two_steps(isolated), engine.client()
    client.tag(image, "mine/python", "1")
    python = os.path.realpath(sys.executable)
    world.write(
        "mlpipe.toml",
        f"""
[default]
compute = "named"
[compute.named]
kind = "docker"
engine = "{engine.url}"
image = "mine/python:1"
python = "{python}"
""",
    )
    first = world.run()
    assert first.states == {"first": "succeeded", "second": "succeeded"}, first.log("first")
    assert image in str(first.engine.manifest(first.record.id, "first"))
    client.tag(image, "other/python", "2")
    text = (world.root / "mlpipe.toml").read_text()
    world.write("mlpipe.toml", text.replace("mine/python:1", "other/python:2"))
    assert world.run().states == {"first": "reused", "second": "reused"}, "the same image under another name"
    other = client.commit(client.create_container(image, ["true"])["Id"], "mine/python", "1", changes=["LABEL x=y"])["Id"]
    world.write("mlpipe.toml", text)
    again = world.run()
    assert again.states["first"] == "succeeded" and "image" in again.why("first")
    assert other in str(again.engine.manifest(again.record.id, "first"))
    for row in client.containers(all=True):
        client.remove_container(row["Id"], force=True)


def test_an_interpreter_below_tmp(isolated: World, engine: PrivateEngine, tmp_path: Path) -> None:
    world = two_steps(isolated)
    assert str(tmp_path).startswith("/tmp/"), "where the container's own scratch folder lies"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    world.write("mlpipe.toml", f'[compute.d]\nkind = "docker"\nengine = "{engine.url}"\npython = "{tmp_path}/venv"\n')
    assert world.run(compute="d").states == {"first": "succeeded", "second": "succeeded"}


def test_an_image_nobody_has_is_told_before_the_run(isolated: World, engine: PrivateEngine) -> None:
    world = two_steps(isolated)
    world.write(
        "mlpipe.toml", f'[compute.named]\nkind = "docker"\nengine = "{engine.url}"\nimage = "no.such.registry/nothing:1"\n'
    )
    assert world.plan(compute="named") == {"first": "Undecided", "second": "Undecided"}
    with pytest.raises(
        EnvironmentProblem, match=r"the image no\.such\.registry/nothing:1 is not here and cannot be pulled"
    ) as caught:
        world.run(compute="named")
    assert "mlpipe.toml:4" in str(caught.value) and "docker load" in caught.value.hint
