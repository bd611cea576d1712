"""Steps in containers against the docker command: python -m benchmarks.containers [--engine URL] [--json FILE]

Twenty steps that do nothing, in a chain and two at a time, against a loop of `docker run --rm --network none` of the same image in the
same session, interleaved; and 100 MB of output against the engine's bare attach. Without --engine one of our own is started (root).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

REPOSITORY = Path(__file__).resolve().parents[1]
STEPS, ROUNDS = 20, 3


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.containers")
    parser.add_argument("--engine", help="URL of an engine; without one a private one is started")
    parser.add_argument("--json", help="write the figures there")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(words)
    with contextlib.ExitStack() as stack:
        url = options.engine or stack.enter_context(_own_engine())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        python = _bare_python(folder)
        figures = _measure(url, folder, python, options.rounds)
    _tell(figures)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(figure["ratio"] <= figure["goal"] for figure in figures["ratios"]) else 1


@contextlib.contextmanager
def _own_engine() -> Iterator[str]:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from private_engine import PrivateEngine

    with PrivateEngine() as engine:
        yield engine.url


def _bare_python(folder: Path) -> Path:
    folder.chmod(0o755)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    return folder / "venv"


def _project(folder: Path, url: str, python: Path, steps: int, *, chain: bool) -> Path:
    root = folder / uuid4().hex[:8]
    root.mkdir()
    (root / "mlpipe.toml").write_text(
        f'[default]\npython = "{python}"\ncompute = "d"\n[compute.d]\nkind = "docker"\nengine = "{url}"\n'
    )
    (root / "pipeline.py").write_text(f"""
from mlpipe_engine import *
ws = Workspace.from_config()
steps = [CommandStep(command=["true", n], name=f"s{{n:02}}", allow_reuse=False) for n in range({steps})]
for before, after in zip(steps, steps[1:]) if {chain} else ():
    after.run_after(before)
p = Pipeline(ws, steps, name="p")
""")
    return root


def _ours(root: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'engine'}:{REPOSITORY}"}
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "mlpipe_tui", "run"], cwd=root, env=environment, check=True, capture_output=True)
    return time.monotonic() - began


def _docker(url: str, image: str, count: int) -> float:
    began = time.monotonic()
    for number in range(count):
        words = ["docker", "-H", url, "run", "--rm", "--network", "none", image, "true", str(number)]
        subprocess.run(words, check=True, capture_output=True)
    return time.monotonic() - began


def _per_step(many: Callable[[int], float]) -> float:
    """Seconds of a step once things run: what one costs is taken off."""
    return (many(STEPS) - many(1)) / (STEPS - 1)


def _measure(url: str, folder: Path, python: Path, rounds: int) -> dict[str, object]:
    image = _image(url, _project(folder, url, python, 1, chain=True))
    samples: dict[str, list[float]] = {"docker run": [], "chain": [], "two at a time": [], "attach": [], "our logs": []}
    for number in range(rounds):
        samples["docker run"].append(_per_step(lambda count: _docker(url, image, count)))
        samples["chain"].append(_per_step(lambda count: _ours(_project(folder, url, python, count, chain=True))))
        samples["two at a time"].append(_per_step(lambda count: _ours(_project(folder, url, python, count, chain=False))))
        samples["attach"].append(_bare_attach(url, image, python))
        samples["our logs"].append(_our_logs(url, image, python, folder))
        print(
            f"round {number + 1} of {rounds}: "
            + ", ".join(f"{name} {values[-1] * 1000:.0f} ms" for name, values in samples.items())
        )
    middle = {name: statistics.median(values) for name, values in samples.items()}
    ratios = [
        {"what": f"{ours} / {base}", "ratio": round(middle[ours] / middle[base], 3), "goal": goal}
        for ours, base, goal in (
            ("chain", "docker run", 0.85),
            ("two at a time", "docker run", 0.45),
            ("our logs", "attach", 1.25),
        )
    ]
    return {"samples": samples, "medians": middle, "ratios": ratios, "load": os.getloadavg(), "cores": os.cpu_count()}


def _image(url: str, root: Path) -> str:
    """Made once, before anything is measured."""
    _ours(root)
    done = subprocess.run(
        ["docker", "-H", url, "images", "-q", "mlpipe-tui/host"], capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout.split()[0]


_CHATTER = "import sys\nline = 'x' * 99 + '\\n'\nfor _ in range(10_000): sys.stdout.write(line * 100)"


def _bare_attach(url: str, image: str, python: Path) -> float:
    """Seconds from start to end of 100 MB of output that nobody keeps."""
    import docker

    client = docker.APIClient(base_url=url, version="auto")
    host = client.create_host_config(network_mode="none", log_config={"type": "local"}, init=True)
    made = client.create_container(image, [f"{python}/bin/python", "-c", _CHATTER], host_config=host)["Id"]
    stream = client.attach(made, stdout=True, stderr=True, stream=True, demux=True)
    began = time.monotonic()
    client.start(made)
    size = sum(len(out or b"") for out, _ in stream)
    seconds = time.monotonic() - began
    assert size == 100_000_000, size
    client.remove_container(made, force=True)
    return seconds


def _our_logs(url: str, image: str, python: Path, folder: Path) -> float:
    sys.path.insert(0, str(REPOSITORY / "engine"))
    from mlpipe_engine.executors.containers.executor import DockerExecutor
    from mlpipe_engine.model.execution import Container, StepTask
    from mlpipe_engine.model.spec import Resources

    place = folder / uuid4().hex
    place.mkdir()
    executor = DockerExecutor()
    ended = threading.Event()
    task = StepTask(
        attempt_id=place.name, step_dir=str(place), argv=(f"{python}/bin/python", "-c", _CHATTER), cwd=str(place), environment=(),
        stdout_path=str(place / "out"), stderr_path=str(place / "err"), resources=Resources(),
        container=Container(image=image, engine=url),
    )  # fmt: skip
    _ = executor.engine(url).facts
    began = time.monotonic()
    executor.start(task)
    while not executor.wait(1.0):
        ended.wait(0)
    seconds = time.monotonic() - began
    assert (place / "out").stat().st_size == 100_000_000
    executor.close()
    (place / "out").unlink()
    return seconds


def _tell(figures: dict[str, object]) -> None:
    print(json.dumps({"load": figures["load"], "cores": figures["cores"]}))
    for figure in figures["ratios"]:  # type: ignore[attr-defined]
        word = "holds" if figure["ratio"] <= figure["goal"] else "MISSED"
        print(f"{figure['what']}: {figure['ratio']} (goal: at most {figure['goal']}) {word}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
