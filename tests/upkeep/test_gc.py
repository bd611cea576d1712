"""gc, quota, pins and rm: what goes, what stays, what comes back; beside running writers nothing that is used goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model.states import State
from mlpipe_engine.runner import hosting
from mlpipe_engine.runner.upkeep import Collected, Upkeep
from mlpipe_engine.store.share import Uses
from worlds import REPOSITORY, World

LATER = 7200.0

TWO_STEPS = """
o, q = PipelineData("o"), PipelineData("q")
n = PipelineParameter("n", 1)
p = Pipeline(ws, [CommandStep(["sh", "-c", 'echo made; echo $0 > "$1"', n, o], name="first", outputs=[o]),
    CommandStep(["sh", "-c", 'echo made; cat "$0" "$0" > "$1"', o, q], name="second", inputs=[o], outputs=[q])], name="p")
"""


def upkeep(world: World, later: float = LATER) -> Upkeep:
    """As it will be two hours from now, when nothing is too young to go."""
    return replace(Engine.open(str(world.root)).upkeep(), now=lambda: time.time() + later)


def collect(world: World, **wish: float) -> Collected:
    keeper = upkeep(world)
    survey = keeper.survey()
    return keeper.carry_out(survey, keeper.plan(survey, **wish))  # type: ignore[arg-type]


def artifacts(world: World) -> set[str]:
    return {path.name for path in (world.root / ".mlpipe/artifacts").glob("*/*")}


@pytest.fixture
def three_runs(world: World) -> World:
    world.define(TWO_STEPS)
    for n in (1, 2, 3):
        world.run(parameters={"n": n})
    return world


def test_what_was_collected_is_said_and_made_again(three_runs: World) -> None:
    world = three_runs
    before = artifacts(world)
    done = collect(world, to_bytes=0)
    assert len(before) - len(artifacts(world)) == 4 and done.count > 4
    shown = world.cli("get", "1", "first", "o")
    assert shown.returncode == 4 and "was collected to save space" in shown.stderr
    assert world.plan(parameters={"n": 3}) == {"first": "Reuse", "second": "Reuse"}, "the last result of every step stays"
    again = world.run(parameters={"n": 1})
    assert again.why("first") == "the result of run 1 was collected to save space"
    assert again.output("second", "q") == b"1\n1\n"
    assert not (world.root / ".mlpipe/quarantine").exists(), "nothing was damaged"
    assert world.run(parameters={"n": 1}).ran == set()
    assert any("was collected" not in line for line in world.cli("doctor").stdout.splitlines())


def test_undo_brings_everything_back(three_runs: World) -> None:
    world = three_runs
    files, before = world.files(), artifacts(world)
    collect(world, to_bytes=0)
    undone = world.cli("gc", "--undo")
    assert undone.returncode == 0 and "brought back" in undone.stdout
    assert artifacts(world) == before
    kept = {name for name in files if name.startswith((".mlpipe/runs", ".mlpipe/artifacts", ".mlpipe/snapshots"))}
    after = world.files()
    assert {name: after.get(name) for name in kept} == {name: files[name] for name in kept}
    assert world.run(parameters={"n": 1}).ran == set()
    assert world.cli("gc", "--undo").returncode == 4


def test_a_second_collection_finds_nothing_new(three_runs: World) -> None:
    collect(three_runs, to_bytes=0)
    keeper = upkeep(three_runs)
    assert not [
        d for d in keeper.plan(keeper.survey(), to_bytes=0).going if d.holding.kind in ("output", "leftover", "code", "logs")
    ]


def test_young_things_and_pins_and_tagged_runs_stay_and_are_named(three_runs: World) -> None:
    world = three_runs
    assert "newer than 1 h" in world.cli("gc", "--to", "0", "--yes", "--verbose").stdout
    assert world.cli("pin", "1/first/o").returncode == 0
    world.run(parameters={"n": 4}, tags=(("paper", "yes"),))
    world.run(parameters={"n": 5})
    collect(world, to_bytes=0)
    engine = Engine.open(str(world.root))
    assert Path(engine.artifact(engine.find_run("1").id, "first", "o")).read_text() == "1\n"
    with pytest.raises(MlpipeError, match="collected"):
        engine.artifact(engine.find_run("1").id, "second", "q")
    assert Path(engine.artifact(engine.find_run("4").id, "second", "q")).read_text() == "4\n4\n"
    stays = {item["what"]: item["why"] for item in world.json("gc", "--plan")["stays"]}
    assert stays["run 1 first: o"] == "pinned" and stays["run 4 second: q"] == "run 4 is tagged"
    assert stays["run 5 first: o"] == "last result of first in p"
    world.cli("unpin", "1/first/o")
    collect(world, to_bytes=0)
    with pytest.raises(MlpipeError, match="collected"):
        engine.artifact(engine.find_run("1").id, "first", "o")


def test_steps_that_are_no_longer_defined_keep_nothing(three_runs: World) -> None:
    world = three_runs
    world.define(TWO_STEPS.replace('name="second"', 'name="renamed"'))
    collect(world, to_bytes=0)
    engine = Engine.open(str(world.root))
    engine.artifact(engine.find_run("3").id, "first", "o")
    with pytest.raises(MlpipeError, match="collected"):
        engine.artifact(engine.find_run("3").id, "second", "q")
    world.write("pipeline.py", "syntax error (")
    world_survey = upkeep(world).survey()
    assert {h.kept_by for h in world_survey.holdings if h.name == "run 3 first: o"} == {"last result of first in p"}, (
        "what cannot be read may still be there"
    )


def test_filters_choose_by_run_and_by_time(three_runs: World) -> None:
    collect(three_runs, keep_runs=2)
    engine = Engine.open(str(three_runs.root))
    with pytest.raises(MlpipeError, match="collected"):
        engine.artifact(engine.find_run("1").id, "first", "o")
    engine.artifact(engine.find_run("2").id, "first", "o")
    assert collect(three_runs, older_than=86400.0).count == 0
    assert collect(three_runs, older_than=60.0).count > 0


def test_a_store_over_its_quota_is_collected_after_the_run(three_runs: World) -> None:
    world = three_runs
    world.write("mlpipe.toml", '[store]\nquota = "100 KB"\n')
    done = upkeep(world).keep_quota(10.0)
    assert done is not None and done.count > 0
    assert world.plan(parameters={"n": 3}) == {"first": "Reuse", "second": "Reuse"}
    world.write("mlpipe.toml", '[store]\nquota = "off"\n')
    assert upkeep(world).keep_quota(10.0) is None


@pytest.mark.parametrize("quota", ['"20 beans"', '"0%"', '"120%"', "true", "[1]"])
def test_a_quota_that_means_nothing_is_told(world: World, quota: str) -> None:
    world.write("mlpipe.toml", f"[store]\nquota = {quota}\n")
    done = world.cli("runs")
    assert done.returncode == 2 and "mlpipe.toml:2 field store.quota" in done.stderr and '"20 GB"' in done.stderr


def test_rm_hides_a_run_and_its_results_until_undo(three_runs: World) -> None:
    world = three_runs
    done = world.cli("rm", "1", "2")
    assert done.returncode == 0 and "removed runs 1, 2" in done.stdout
    assert [run["number"] for run in world.json("runs")["items"]] == [3]
    assert "was removed" in world.cli("show", "1").stderr
    assert not (world.root / ".mlpipe/runs/test/1").exists()
    assert world.plan(parameters={"n": 1})["first"] == "Execute"
    world.cli("gc", "--undo")
    assert world.plan(parameters={"n": 1}) == {"first": "Reuse", "second": "Reuse"}
    assert [run["number"] for run in world.json("runs")["items"]] == [3, 2, 1]


def test_rm_leaves_what_other_runs_use_and_refuses_pinned_and_open_runs(three_runs: World) -> None:
    world = three_runs
    world.run(parameters={"n": 1})
    assert "run 1 first stays" in world.cli("rm", "1").stdout
    assert world.plan(parameters={"n": 1}) == {"first": "Reuse", "second": "Reuse"}
    assert world.cli("show", "4").returncode == 0 and world.cli("logs", "4", "first").returncode == 0
    world.cli("pin", "4")
    refused = world.cli("rm", "4")
    assert refused.returncode == 2 and "run 4 is pinned" in refused.stderr
    assert world.cli("rm", "99").returncode == 4


def test_the_trash_is_freed_and_the_rows_of_removed_runs_with_it(three_runs: World) -> None:
    world = three_runs
    world.cli("rm", "1")
    assert "freed" in world.cli("gc", "--empty-trash").stdout
    assert os.listdir(world.root / ".mlpipe/trash") == []
    engine = Engine.open(str(world.root))
    assert engine._reading().query("SELECT count(*) FROM runs WHERE number = 1") == [(0,)]
    assert world.cli("show", "1").returncode == 4


def test_what_a_living_run_names_is_left_alone(three_runs: World) -> None:
    world = three_runs
    from mlpipe_engine.store import locks

    state = str(world.root / ".mlpipe")
    engine = Engine.open(str(world.root))
    digest = dict(engine.steps(engine.find_run("1").id)[0].outputs)["o"]
    lock = locks.try_lock(f"{state}/locks/runs/{'a' * 32}")
    uses = Uses(state, "a" * 32)
    uses.protect(digest)
    collect(world, to_bytes=0)
    engine.artifact(engine.find_run("1").id, "first", "o")
    assert lock is not None
    locks.unlock(lock, f"{state}/locks/runs/{'a' * 32}")
    collect(world, to_bytes=0)
    with pytest.raises(MlpipeError, match="collected"):
        engine.artifact(engine.find_run("1").id, "first", "o")


KILLED = """
import os, sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
import time
from dataclasses import replace
from mlpipe_engine.engine import Engine
left = int(sys.argv[4])
rename = os.rename
def counted(*words):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    rename(*words)
os.rename = counted
keeper = replace(Engine.open(sys.argv[1]).upkeep(), now=lambda: time.time() + 7200)
survey = keeper.survey()
keeper.carry_out(survey, keeper.plan(survey, to_bytes=0))
"""


@pytest.mark.parametrize("renames", [0, 1, 5, 12])
def test_a_killed_collection_loses_nothing(three_runs: World, renames: int) -> None:
    world = three_runs
    before = artifacts(world)
    words = [sys.executable, "-c", KILLED, str(world.root), str(REPOSITORY / "engine"), str(REPOSITORY), str(renames)]
    assert subprocess.run(words, check=False, env=world.environment()).returncode == -9
    assert world.plan(parameters={"n": 3}) == {"first": "Reuse", "second": "Reuse"}
    world.cli("gc", "--undo")
    assert artifacts(world) == before
    assert world.run(parameters={"n": 1}).ran == set()
    assert not (world.root / ".mlpipe/quarantine").exists()


def test_what_goes_between_plan_and_run_is_made_again_and_all_below_is_decided_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The step above makes other bytes each time: what was planned for the step below rests on bytes that are gone."""
    world.define(
        "o, q = PipelineData('o'), PipelineData('q')\nn = PipelineParameter('n', 1)\n"
        "p = Pipeline(ws, [CommandStep(['sh', '-c', 'date +%N > $0', o], name='first', outputs=[o]),\n"
        "    CommandStep(['sh', '-c', 'cat $0 > $1; echo $2 >> $1', o, q, n], name='second', inputs=[o], outputs=[q])], name='p')"
    )
    before = world.run().output("first", "o")
    make_parts = hosting._parts

    def collected_first(*words: object) -> object:
        monkeypatch.setattr(hosting, "_parts", make_parts)
        for path in artifacts_of(world):
            if (path / "data" if path.is_dir() else path).read_bytes() == before:
                os.rename(path, world.root / "gone")
        return make_parts(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(hosting, "_parts", collected_first)
    done = world.run(parameters={"n": 2})
    assert done.ran == {"first", "second"} and done.record.state is State.SUCCEEDED
    made = done.output("first", "o")
    assert made != before and done.output("second", "q") == made + b"2\n"
    assert world.plan(parameters={"n": 2}) == {"first": "Reuse", "second": "Reuse"}, "recorded under what it was really made from"


def artifacts_of(world: World) -> list[Path]:
    return list((world.root / ".mlpipe/artifacts").glob("*/*"))


def test_gc_beside_writers_takes_nothing_that_is_used(tmp_path: Path) -> None:
    """The short form of tests/store/gc_campaign.py."""
    words = [
        sys.executable,
        str(REPOSITORY / "tests/store/gc_campaign.py"),
        "--seconds",
        "8",
        "--writers",
        "2",
        "--folder",
        str(tmp_path / "p"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["collected"] > 0 and found["runs"] > 0 and found["failures"] == []


def test_environments_and_benches_go_when_nobody_used_them_for_long(three_runs: World) -> None:
    world = three_runs
    for path in ("environments/0a1b2c/bin", "debug/first-1/code"):
        world.write(f".mlpipe/{path}/file", "x" * 1000)
    world.write(".mlpipe/environments/0a1b2c.log", "built")
    world.write(".mlpipe/previews/0a1b2c.parquet", "x" * 3000)
    world.write(".mlpipe/cache/remote/blobs/aa/bb", "x" * 5000)

    def there() -> list[bool]:
        return [
            (world.root / ".mlpipe" / path).exists()
            for path in ("environments/0a1b2c", "environments/0a1b2c.log", "debug/first-1", "previews/0a1b2c.parquet")
        ]

    usage = {item["kind"]: item["size_bytes"] for item in world.json("du")["items"]}
    assert usage["previews"] >= 3000 and usage["remote files"] >= 5000
    collect(world, to_bytes=0)
    assert there() == [True, True, True, True]
    keeper = upkeep(world, later=31 * 86400.0)
    survey = keeper.survey()
    verdict = keeper.plan(survey, to_bytes=0)
    assert {d.holding.name: d.because for d in verdict.going if d.holding.kind == "environment"} == {
        "environment 0a1b2c": "no run used it for 31 d"
    }
    keeper.carry_out(survey, verdict)
    assert there() == [False, False, False, False]
    assert world.cli("gc", "--undo").returncode == 0
    assert there() == [True, True, True, True]


def test_copies_of_remote_files_go_when_they_lie_idle_and_come_back_with_undo(three_runs: World) -> None:
    """A blob that two views share stays until the second of them goes; what was used today stays, also over the quota."""
    world = three_runs
    cache, state = world.root / ".mlpipe/cache/remote", world.root / ".mlpipe"
    for name in ("one", "both", "other", "single"):
        world.write(f".mlpipe/cache/remote/blobs/{name[:2]}/{name}", name * 1000)
    for view, names in (("first", ("one", "both")), ("second", ("both", "other"))):
        for name in names:
            (cache / "views" / view).mkdir(parents=True, exist_ok=True)
            os.link(cache / "blobs" / name[:2] / name, cache / "views" / view / f"{name}.csv")
    world.write(".mlpipe/cache/remote/incoming/abc.part", "half")
    world.write(".mlpipe/cache/queries/0a1b.parquet", "answer")

    def there() -> set[str]:
        return {path.name for folder in ("blobs", "views", "incoming", "../queries") for path in (cache / folder).rglob("*")}

    everything = there()
    collect(world, to_bytes=0)
    assert there() == everything, "used today"
    tomorrow = upkeep(world, later=2 * 86400.0)
    os.utime(cache / "views/second", (tomorrow.now(), tomorrow.now()))
    survey = tomorrow.survey()
    verdict = tomorrow.plan(survey, to_bytes=0)
    reasons = {d.because for d in verdict.going if d.holding.kind == "remote"}
    assert reasons == {"can be fetched again, not used for 2 d"}
    freed = sum(d.holding.size_bytes for d in verdict.going if d.holding.kind == "remote")
    tomorrow.carry_out(survey, verdict)
    assert there() >= {"second", "both", "other", "both.csv", "other.csv"}
    assert not there() & {"first", "one", "single", "abc.part", "0a1b.parquet"} and freed > 3000 + 6000
    assert (state / "cache/remote/views/second/both.csv").read_text() == "both" * 1000
    assert world.cli("gc", "--undo").returncode == 0
    assert there() == everything
