"""`runs --filter`: the database finds what the terms say."""

from __future__ import annotations

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.filters import parse_filter
from worlds import World


@pytest.fixture
def project(world: World) -> World:
    world.write("src/a.py", "import sys\nfrom mlpipe_run import Run\nrun = Run.get_context()\nrun.log('auc', float(sys.argv[1]))\n"
                            "run.log('auc', float(sys.argv[1]) * 2)\nsys.exit(float(sys.argv[1]) > 5)\n")  # fmt: skip
    world.define("rate = PipelineParameter('rate', 0.5)\nkeep = PipelineParameter('keep', True)\n"
                 "a = PythonScriptStep('a.py', name='train', source_directory='src', arguments=[rate, keep])\n"
                 "pipeline = Pipeline(ws, steps=[a], name='p')")  # fmt: skip
    world.run(tags=(("team", "100% blue"),))
    world.run(parameters={"rate": 2.0})
    world.run(parameters={"rate": 9.0}, source="tui")
    world.run()
    return world


@pytest.mark.parametrize(("text", "numbers"), [
    ("", [4, 3, 2, 1]), ("state:failed", [3]), ("!state:failed", [4, 2, 1]), ("metric.auc>1", [3, 2]), ("metric.train.auc=1.0", [4, 1]),
    ("metric.other>1", []), ("!metric.other>1", [4, 3, 2, 1]), ("param.rate=5e-1", [4, 1]), ("param.rate>=2", [3, 2]),
    ("param.keep=true", [4, 3, 2, 1]), ("param.keep=false", []), ("step:train", [3, 2, 1]), ("by:tui", [3]), ("by:cli state:reused", [4]),
    ("since:1h", [4, 3, 2, 1]), ("until:1h", []), ("since:2099-01-01", []), ('tag.team="100% blue"', [1]), ("100%", [1]), ("1_0%", []),
    ("pipeline:P", [4, 3, 2, 1]), ("experiment:other", []), ("state:interrupted", []), ("'; DROP TABLE runs", []),
])  # fmt: skip
def test_terms(project: World, text: str, numbers: list[int]) -> None:
    engine = Engine.open(str(project.root))
    wanted = parse_filter(text)
    assert [run.number for run in engine.runs(wanted=wanted)] == numbers
    assert engine.count_runs(wanted) == len(numbers)
    engine.close()


def test_the_command(project: World) -> None:
    assert [run["number"] for run in project.json("runs", "--filter", "metric.auc>1 !state:failed")["items"]] == [2]
    assert "no run fits 'state:canceled'" in project.cli("runs", "-f", "state:canceled").stdout
    wrong = project.cli("runs", "--filter", "stat:failed")
    assert wrong.returncode == 2 and "did you mean 'state'?" in wrong.stderr


def test_what_was_seen_moves_with_other_processes(project: World) -> None:
    engine = Engine.open(str(project.root))
    before = engine.changes_seen()
    assert engine.changes_seen() == before
    project.cli("run", "--param", "rate=3")
    assert engine.changes_seen() != before
    engine.close()


def test_a_failed_run_goes_on_apart(project: World) -> None:
    engine = Engine.open(str(project.root))
    again = engine.submit_again(engine.find_run("3").id)
    assert engine.follow(again).state == "failed", "the same parameters fail again"
    assert engine.find_run(again).resumed_from == engine.find_run("3").id
    engine.close()
