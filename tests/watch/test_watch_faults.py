"""What befalls a watcher: floods of events while it stands still, too few watches, storms of saves, wrong clocks, a full disk, itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.events import RunFinished
from mlpipe_engine.model.spec import SubmitOptions
from mlpipe_engine.model.watch import Looked, SpareReady
from mlpipe_engine.runner import watcher as watcher_module
from mlpipe_engine.watch.notify import Notices
from worlds import World

sys.path.insert(0, str(Path(__file__).parent))
from watch_world import PATIENCE_SECONDS, Watching, replace, three_steps, watching

REPOSITORY = Path(__file__).resolve().parents[2]


def last_word(world: World, number: int) -> str:
    """What the last run that ran evaluate made."""
    done = world.cli("get", str(number), "evaluate", "c", "-o", f"out-{number}")
    assert done.returncode == 0, done.stderr
    path = world.root / f"out-{number}"
    text = path.read_text()
    path.unlink()
    return text.rsplit(" ", 1)[-1]


def is_made(world: World, watch: Watching, word: str, seconds: float) -> None:
    """The result of the last content stands, so many seconds after it was saved; on a busy machine a multiple of them."""
    deadline = time.monotonic() + seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    while time.monotonic() < deadline:
        done = [said for said in list(watch.said) if said["_"] == "RunFinished"]
        if done and done[-1]["state"]["value"] in ("succeeded", "reused") and last_word(world, done[-1]["number"]) == word:
            return
        time.sleep(0.1)
    raise AssertionError(f"{word} was not made: {watch.said[-10:]}")


def test_twenty_thousand_events_while_it_is_stopped(world: World) -> None:
    three_steps(world)
    world.write("src/.gitignore", "flood*\n")
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        os.kill(watch.process.pid, signal.SIGSTOP)
        path = world.root / "src/flood"
        for _ in range(10_000):
            path.write_text("x")
        world.write("src/helper.py", "WORD = 'last'\n")
        for _ in range(3_000):
            path.write_text("x")
        os.kill(watch.process.pid, signal.SIGCONT)
        is_made(world, watch, "last", 5)
        assert len(watch.runs()) == 1


def test_a_limit_of_fifty_watches(world: World) -> None:
    """In a user namespace of its own: the folders of packages alone are more."""
    limited = ("unshare", "-Ur", "sh", "-c", 'echo 50 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh")
    if subprocess.run([*limited, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces with a limit of watches of their own")
    three_steps(world)
    for number in range(60):
        world.write(f"src/sub{number}/part.txt", "1")
    world.run()
    with watching(world, under=limited) as watch:
        assert "limit of inotify watches" in watch.begun()["polling"]
        watch.looked()
        watch.is_ready()
        world.write("src/sub59/part.txt", "2")
        world.write("src/helper.py", "WORD = 'last'\n")
        is_made(world, watch, "last", 5)


def test_a_storm_of_saves_ends_with_the_last_content(world: World) -> None:
    three_steps(world)
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        end, number = time.monotonic() + 10, 0
        while time.monotonic() < end:
            number += 1
            text = f"WORD = 'w{number}'\n"
            if number % 2:
                world.write("src/helper.py", text)
            else:
                replace(world, "src/helper.py", text)
            time.sleep(0.02)
        is_made(world, watch, f"w{number}", 5)
        runs = len(watch.runs())
        assert runs < number / 5
        assert [said for said in watch.quiet(2.0) if said["_"] == "RunStarted"] == []


def test_two_hundred_files_at_once_are_one_run(world: World) -> None:
    three_steps(world)
    world.write("pipeline.py", (world.root / "pipeline.py").read_text().replace("Path('data.txt')", "Path('data')").replace(
        "'prep.py'", "'list.py'"))  # fmt: skip
    world.write("src/list.py", "import os, sys\nopen(sys.argv[2], 'w').write(' '.join(sorted(os.listdir(sys.argv[1]))))\n")
    world.write("data/first", "1")
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        for number in range(200):
            world.write(f"data/{number}", "1")
        watch.finished()
        watch.quiet(1.5)
        assert len(watch.runs()) == 1


@pytest.mark.parametrize("year", [1970, 2058])
def test_times_of_files_mean_nothing(world: World, year: int) -> None:
    three_steps(world)
    world.run()
    when = (year - 1970) * 365 * 86400 + 86400
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        path = world.write("src/helper.py", "WORD = 'timed'\n")
        os.utime(path, (when, when))
        is_made(world, watch, "timed", 5)


@pytest.mark.needs("cc")
@pytest.mark.parametrize("seconds", [-86_400, 32 * 365 * 86_400])
def test_a_wrong_clock(world: World, tmp_path: Path, seconds: int) -> None:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from faults import shim

    three_steps(world)
    world.run()
    with watching(world, **shim.variables(tmp_path / "shim", clock=seconds)) as watch:
        watch.looked()
        watch.is_ready()
        world.write("src/helper.py", "WORD = 'timed'\n")
        is_made(world, watch, "timed", 5)


def test_nothing_of_ours_runs_anything(world: World) -> None:
    """The project folder itself is the source, so the store lies in what is watched; the output goes to a file there."""
    world.write("step.py", "import sys\nopen(sys.argv[1], 'w').write('1')\nprint('noise')\n")
    world.write("other.py", "")
    world.define(
        "o = PipelineData('o')\n"
        "s = PythonScriptStep('step.py', name='s', source_directory='.', arguments=[o], outputs=[o])\n"
        "pipeline = Pipeline(ws, steps=[s], name='own')\n"
    )
    world.write("log.txt", "")
    world.run()
    with watching(world) as watch:
        watch.looked()
        watch.is_ready()
        world.write("step.py", (world.root / "step.py").read_text() + "# one\n")
        watch.finished()
        watch.is_ready()
        world.cli("runs")
        world.cli("plan")
        said = watch.quiet(3.0)
        assert said == []
        assert len(watch.runs()) == 1


@pytest.mark.needs("unshare")
def test_a_full_disk_is_told_and_got_over(world: World, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    three_steps(world)
    world.write("ballast", b"0" * 1_000_000)
    small = (
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount -t tmpfs -o size=3m none "$0" && cp -r "$1"/. "$0" && cd "$0" && shift && exec "$@"',
    )
    with watching(world, under=(*small, str(mount), str(world.root))) as watch:
        watch.finished()
        watch.is_ready()
        inside = Path(f"/proc/{watch.process.pid}/root{mount}")
        filler = os.open(inside / "filler", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space"):
            while True:
                os.write(filler, b"0" * 4096)
        os.close(filler)
        with open(inside / "src/helper.py", "r+") as file:
            file.write("WORD = 'fuller  '\n")
        watch.wait(lambda said: said["_"] == "Trouble" or (said["_"] == "RunFinished" and said["failed"]))
        (inside / "filler").unlink()
        (inside / "ballast").unlink()
        with open(inside / "src/helper.py", "r+") as file:
            file.write("WORD = 'emptier '\n")
        done = watch.wait(lambda said: said["_"] == "RunFinished" and not said["failed"])
        assert done["executed"] == 1
    assert "Traceback" not in str(watch.said)


def test_after_a_sleep_everything_is_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed while the machine slept may have raised no event here."""
    three_steps(world)
    world.run()
    slept = [0.0]
    monkeypatch.setattr(watcher_module, "_asleep", lambda: slept[0])
    monkeypatch.setattr(Notices, "take", lambda self: [])
    watcher = Engine.open(str(world.root)).watcher(None, SubmitOptions(experiment="", source="watch"))
    told: list[object] = []
    thread = threading.Thread(target=watcher.run, args=(told.append,))
    thread.start()
    try:

        def until(kind: type, what: Callable[[Any], bool] = lambda said: True) -> None:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not any(isinstance(said, kind) and what(said) for said in list(told)):
                assert time.monotonic() < deadline, told[-5:]
                time.sleep(0.02)

        until(SpareReady)
        path = world.root / "src/train.py"
        path.write_text(path.read_text() + "# while it slept\n")
        os.utime(path, (time.time() - 100, time.time() - 100))
        watcher._wake()
        time.sleep(0.3)
        assert not any(isinstance(said, RunFinished) for said in told), "nobody told of the change"
        slept[0] = 3600.0
        watcher._wake()
        until(Looked, lambda said: said.look.steps == ("train",))
        until(RunFinished, lambda said: said.executed == 1)
    finally:
        watcher.stop()
        thread.join()
