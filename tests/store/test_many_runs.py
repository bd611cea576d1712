"""A store of 100,000 runs answers like a small one."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import World

from benchmarks.storage import multiply

RUNS = 100_000
PIPELINE = """
n = PipelineParameter("n", 1)
a, b = PipelineData("a"), PipelineData("b")
one = CommandStep("cat f.txt > $a", name="one", source_directory="src", outputs=[a])
two = CommandStep("cat $a > $b; echo $AML_PARAMETER_n >> $b", name="two", inputs=[a], outputs=[b], params={"n": n})
p = Pipeline(ws, [one, two], name="p")
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("large") / "project")
    world.write("src/f.txt", "first\n")
    world.define(PIPELINE)
    world.run()
    world.run(parameters={"n": 2})
    multiply(str(world.root / ".mlpipe/state.db"), RUNS)
    return world


def test_every_page_holds_the_runs_it_should(large: World) -> None:
    first = [item["number"] for item in large.json("runs", "-n", "50")["items"]]
    deep = [item["number"] for item in large.json("runs", "-n", "50", "--before", "31000")["items"]]
    assert first == list(range(RUNS, RUNS - 50, -1)) and deep == list(range(30999, 30949, -1))


def test_why_plan_and_diff_are_right(large: World) -> None:
    assert "n 1 -> 2" in large.cli("why", "2", "two").stdout
    assert "n 1 -> 2" in large.cli("why", str(RUNS // 2), "two").stdout, "a copy of run 2"
    assert large.plan() == {"one": "Reuse", "two": "Reuse"}
    assert large.plan(parameters={"n": 3}) == {"one": "Reuse", "two": "Execute"}
    told = large.cli("diff", "1", str(RUNS)).stdout
    assert "n" in told and "1" in told and "2" in told and "two" in told
    large.write("src/f.txt", "second\n")
    planned = large.cli("plan").stdout
    assert "one" in planned and "src/f.txt +1 -1" in planned
    done = large.run()
    assert done.record.number == RUNS + 1 and done.why("one") == "src/f.txt +1 -1" and done.ran == {"one", "two"}
    assert "src/f.txt" in large.cli("diff", "1", "latest").stdout
    large.write("src/f.txt", "first\n")
    assert large.run().states == {"one": "reused", "two": "reused"}


def test_a_run_is_found_by_number_and_by_the_beginning_of_its_id(large: World) -> None:
    shown = large.json("show", "77777")["run"]
    assert shown["number"] == 77777
    assert large.json("show", shown["id"][:14])["run"]["number"] == 77777


def test_a_run_can_be_removed_from_the_middle(large: World) -> None:
    assert large.cli("rm", "50000").returncode == 0
    numbers = [item["number"] for item in large.json("runs", "-n", "3", "--before", "50002")["items"]]
    assert numbers == [50001, 49999, 49998]
    assert Path(large.root / ".mlpipe/state.db").stat().st_size > 10 << 20
