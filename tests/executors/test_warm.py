"""Warm starts: a forked step is what a cold one is, or it starts cold and says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlpipe_engine.executors.warm import Zygotes
from mlpipe_engine.runner.warming import PROVEN
from worlds import World

ENGINE = Path(__file__).resolve().parents[2] / "engine"

PROOFS = {
    "numpy": "rng = numpy.random.default_rng(7)\na = rng.normal(size=(250, 250))\n"
    "made = (a @ a).tobytes() + numpy.linalg.svd(a)[1].tobytes() + numpy.fft.fft(a).tobytes()\n",
    "scipy": "import numpy, scipy.linalg, scipy.optimize\nrng = numpy.random.default_rng(7)\na = rng.normal(size=(200, 200))\n"
    "made = scipy.linalg.lu_factor(a)[0].tobytes() + scipy.optimize.minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 1.0]).x.tobytes()\n",
    "sklearn": "import numpy\nfrom sklearn.ensemble import RandomForestClassifier\nfrom sklearn.linear_model import LogisticRegression\n"
    "rng = numpy.random.default_rng(7)\nx = rng.normal(size=(300, 10))\ny = (x[:, 0] > 0).astype(int)\n"
    "forest = RandomForestClassifier(20, random_state=1, n_jobs=2).fit(x, y)\n"
    "made = LogisticRegression().fit(x, y).coef_.tobytes() + forest.predict_proba(x).tobytes()\n",
    "matplotlib": "import io, matplotlib.pyplot as plt\nfile = io.BytesIO()\nplt.plot([1, 3, 2])\nplt.title('x')\n"
    "plt.savefig(file, format='png', metadata={'Software': None})\nmade = file.getvalue()\n",
}
"""Library -> what is computed with it."""

PRELOADS = {
    "scipy": ["scipy.linalg", "scipy.optimize"],
    "sklearn": ["sklearn.linear_model", "sklearn.ensemble"],
    "matplotlib": ["matplotlib.pyplot"],
}

HEAD = "import os, sys, time\nbegan = time.perf_counter()\nimport {name}\nwith open('/proc/self/cmdline', 'rb') as file:\n    warm = b'zygote.py' in file.read()\n"
TAIL = "print('warm' if warm else 'cold', len(os.listdir('/proc/self/task')))\nwith open(sys.argv[1], 'wb') as file:\n    file.write(made)\n"


def project(world: World, preload: list[str], script: str, count: int, more: str = "") -> None:
    """`count` steps, one after the other, that differ by an argument only."""
    world.write(
        "mlpipe.toml", f"[compute.local]\npreload = {json.dumps(preload)}\n{more}" if preload else f"[compute.local]\n{more}"
    )
    world.write("src/step.py", script)
    world.define(
        "steps = []\n"
        f"for number in range({count}):\n"
        "    o = PipelineData(f'o{number}')\n"
        "    step = PythonScriptStep('step.py', name=f's{number}', source_directory='src', arguments=[o, number], outputs=[o])\n"
        "    if steps:\n        step.run_after(steps[-1])\n    steps.append(step)\n"
        "pipeline = Pipeline(ws, steps=steps, name='warm')\n"
    )


WAIT = "import time, sys\nif sys.argv[2] == '0':\n    time.sleep({seconds})\n"
"""The first step starts cold, and lasts until the warm interpreter is ready, on a busy machine too."""


def ways(world: World, done: object, count: int) -> list[str]:
    return [done.log(f"s{number}", "stdout").split()[0] for number in range(count)]  # type: ignore[attr-defined]


def test_every_proven_library_has_a_proof() -> None:
    assert PROOFS.keys() == PROVEN


@pytest.mark.needs("sample")
@pytest.mark.parametrize("name", sorted(PROVEN))
def test_forked_and_cold_steps_make_the_same(world: World, name: str) -> None:
    script = HEAD.format(name=name) + PROOFS[name] + TAIL + WAIT.format(seconds="1.5 + 2.5 * (time.perf_counter() - began)")
    count = 3
    project(world, PRELOADS.get(name, [name]), script, count)
    warm = world.run()
    kinds = ways(world, warm, count)
    assert kinds[0] == "cold"
    assert kinds[-1] == "warm", warm.log("s0")
    project(world, [], script, count)
    cold = world.run(force=True)
    assert ways(world, cold, count) == ["cold"] * count
    for number in range(count):
        assert warm.output(f"s{number}", f"o{number}") == cold.output(f"s{number}", f"o{number}")
    last = f"s{count - 1}"
    assert warm.step(last).fingerprint == cold.step(last).fingerprint
    seen = [done.engine.explain(done.record.id, last).undeclared for done in (warm, cold)]
    if seen[1].modules is None:
        assert seen[0].modules is None, "where a cold start cannot tell what was imported, neither can a forked one"
    else:
        assert dict(seen[0].modules or ()).items() >= dict(seen[1].modules).items(), "what was preloaded counts too"
    assert dict(seen[0].files).keys() >= dict(seen[1].files).keys()


def test_a_forked_step_has_what_a_fresh_interpreter_has(world: World) -> None:
    script = (
        "import os, random, sys, tempfile, json\n"
        "with open('/proc/self/cmdline', 'rb') as file:\n    warm = b'zygote.py' in file.read()\n"
        "print('warm' if warm else 'cold', random.random(), os.getpid() == os.getsid(0), sys.stdin.read() == '')\n"
        "import helper\n"
        "facts = [sys.argv[2:], __name__, os.path.basename(__file__), os.path.basename(sys.path[0]), os.getcwd() == sys.path[0], helper.WORD,\n"
        "         os.environ['AML_PARAMETER_x'], sorted(n for n in os.environ if 'WARM' in n), tempfile.gettempdir().endswith('/tmp'),\n"
        "         sys.modules['__main__'].WORD if hasattr(sys.modules['__main__'], 'WORD') else None, sys.orig_argv[1].endswith('step.py')]\n"
        "with open(sys.argv[1], 'w') as file:\n    json.dump(facts[1:], file)\n" + WAIT.format(seconds=3)
    )
    world.write("src/helper.py", "WORD = 'local'\n")
    project(world, ["random", "tempfile", "json"], script, 4)
    world.write(
        "pipeline.py", (world.root / "pipeline.py").read_text().replace("outputs=[o])", "outputs=[o], params={'x': str(number)})")
    )
    done = world.run()
    lines = [done.log(f"s{number}", "stdout").split() for number in range(4)]
    assert (lines[0][0], lines[3][0]) == ("cold", "warm")
    assert len({line[1] for line in lines}) == 4, "no two of them draw the same random numbers"
    facts = [json.loads(done.output(f"s{number}", f"o{number}")) for number in range(4)]
    for number, fact in enumerate(facts):
        assert fact.pop(5) == str(number)
    assert all(fact == facts[0] for fact in facts)


def test_a_forked_step_that_fails_looks_like_a_cold_one(world: World) -> None:
    script = (
        "import sys\n" + WAIT.format(seconds=3) + "def f():\n    raise ValueError('no ' + sys.argv[2])\n"
        "if sys.argv[2] == '2':\n    f()\nopen(sys.argv[1], 'w').close()\n"
    )
    project(world, ["json"], script, 3)
    warm = world.run()
    project(world, [], script, 3)
    cold = world.run()
    assert warm.states["s2"] == cold.states["s2"] == "failed"
    assert warm.step("s2").exit == cold.step("s2").exit == "exited 1"
    assert warm.log("s2").replace("/1/", "/N/") == cold.log("s2").replace("/2/", "/N/")


def test_what_is_not_proven_starts_cold_and_says_so(world: World) -> None:
    project(world, ["polars"], "import sys\nopen(sys.argv[1], 'w').close()\n", 1)
    done = world.cli("run")
    assert done.returncode == 0
    assert (
        "start cold: no test has proven that polars can be forked (proven: the standard library, matplotlib, numpy" in done.stderr
    )


def test_the_key_takes_names_of_modules(world: World) -> None:
    project(world, [], "", 1, "preload = ['no-module']\n")
    done = world.cli("run")
    assert done.returncode == 2
    assert "mlpipe.toml:2" in done.stderr


def answer(module: str, folder: Path, **environment: str) -> dict[str, object]:
    """What a zygote says that is asked to import `module`."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, str(ENGINE / "mlpipe_engine/executors/zygote.py"), str(theirs.fileno()), module],
        pass_fds=[theirs.fileno()], env={"PYTHONPATH": str(folder), **environment},
    )  # fmt: skip
    theirs.close()
    with ours, ours.makefile() as file:
        message: dict[str, object] = json.loads(file.readline())
    process.wait(10)
    return message


def test_threads_and_code_that_may_change_are_refused(tmp_path: Path) -> None:
    (tmp_path / "sdk").mkdir()
    (tmp_path / "sdk" / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text("X = 1\n")
    places = f"{tmp_path / 'sdk'}{os.pathsep}{tmp_path / 'other'}"
    assert "1 other threads are running" in str(answer("threaded", Path(places))["refused"])
    assert "no installed package" in str(answer("mine", Path(places))["refused"])
    assert "ModuleNotFoundError" in str(answer("nothing_of_that_name", Path(places))["refused"])
    assert answer("json", Path(places)) == {"ready": True}


def test_a_zygote_that_was_killed_costs_a_cold_start(tmp_path: Path) -> None:
    zygotes = Zygotes()
    wish = {"python": sys.executable, "modules": ["json"], "env": {}}
    zygote = zygotes.prepare(wish)
    deadline = time.monotonic() + 20
    while not zygotes.prepare(wish).ready and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(zygote.pid, signal.SIGKILL)
    os.waitpid(zygote.pid, 0)
    message = {"warm": wish, "argv": [sys.executable, "x"], "cwd": "/", "env": {}, "stdout": os.devnull, "stderr": os.devnull}
    assert zygotes.fork(message)[0] == 0
    assert "ended" in zygotes.fork(message)[1]


def test_a_killed_supervisor_leaves_no_forked_step(world: World) -> None:
    """The kernel shows the environment of a forked process as that of the warm interpreter: it is found all the same."""
    script = (
        WAIT.format(seconds=3)
        + "if sys.argv[2] == '1':\n    import os\n    print(os.getpid(), flush=True)\n    time.sleep(60)\nopen(sys.argv[1], 'w').close()\n"
    )
    project(world, ["json"], script, 2)
    runner = subprocess.Popen(
        world.command("run"), cwd=world.root, env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    log = world.root / ".mlpipe/runs/warm/1/s1/logs/stdout.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    step = int(log.read_text())
    with open(f"/proc/{step}/stat") as file:
        supervisor = int(file.read().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    runner.communicate(timeout=60)
    assert runner.returncode == 1
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{step}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{step}")
