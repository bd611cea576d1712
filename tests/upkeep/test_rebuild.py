"""A store that is damaged in any way is named and left alone; rebuilt from what lies beside it, everything is reused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.store.artifacts import _remove
from mlpipe_engine.store.journal import Journal
from worlds import World

STEPS = """
o, q = PipelineData("o"), PipelineData("q")
n = PipelineParameter("n", 1)
p = Pipeline(ws, [PythonScriptStep("make.py", name="make", source_directory="src", arguments=[n, o], outputs=[o]),
    CommandStep(["sh", "-c", 'mkdir "$1"; cp "$0" "$1"/copy', o, q], name="copy", inputs=[o], outputs=[q])], name="p")
"""


@pytest.fixture
def project(world: World) -> World:
    world.write(
        "src/make.py",
        "import sys\nfrom mlpipe_run import Run\nopen(sys.argv[2], 'w').write(sys.argv[1])\nRun.get_context().log('n', int(sys.argv[1]))\n",
    )
    world.define(STEPS)
    for n in (1, 2, 1):
        world.run(parameters={"n": n})
    return world


def state(world: World, suffix: str = "") -> Path:
    return world.root / f".mlpipe/state.db{suffix}"


def to_text(world: World) -> None:
    drop_log(world)
    state(world).write_text("not a database " * 500)


def to_nothing(world: World) -> None:
    drop_log(world)
    os.truncate(state(world), 0)


def to_half(world: World) -> None:
    drop_log(world)
    os.truncate(state(world), 5000)


def to_folder(world: World) -> None:
    drop_log(world)
    state(world).unlink()
    state(world).mkdir()


def to_link(world: World) -> None:
    drop_log(world)
    state(world).rename(world.root / "elsewhere.db")
    state(world).symlink_to(world.root / "elsewhere.db")


def to_absence(world: World) -> None:
    drop_log(world)
    state(world).unlink()


def to_another_program(world: World) -> None:
    to_absence(world)
    other = sqlite3.connect(state(world))
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.commit()
    other.close()


def drop_log(world: World) -> None:
    """As after the last connection was closed in order."""
    connection = sqlite3.connect(state(world))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for suffix in ("-wal", "-shm"):
        state(world, suffix).unlink(missing_ok=True)


DAMAGES = [to_text, to_nothing, to_half, to_folder, to_link, to_absence, to_another_program]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_one_line_and_rebuilding_loses_no_result(project: World, damage: object) -> None:
    damage(project)  # type: ignore[operator]
    before = state(project).read_bytes() if state(project).is_file() else None
    for words in (("run",), ("runs",)):
        refused = project.cli(*words)
        assert refused.returncode == 5, refused.stdout + refused.stderr
        assert "store damaged" in refused.stderr and "doctor --rebuild" in refused.stderr
        assert len(refused.stderr.splitlines()) == 2
    assert before is None or state(project).read_bytes() == before, "nothing is overwritten"
    done = project.cli("doctor", "--rebuild")
    assert done.returncode == 0, done.stderr
    if before is not None:
        (kept,) = [
            path for path in (project.root / ".mlpipe").glob("state.db.damaged-*") if not path.name.endswith(("-wal", "-shm"))
        ]
        assert kept.read_bytes() == before
    for n in (1, 2):
        assert project.run(parameters={"n": n}).ran == set(), "everything is reused"
    assert [run["number"] for run in project.json("runs")["items"]] == [4, 3, 2, 1], (
        "what was one row without a result of its own is not in the journal"
    )
    metrics = project.json("show", "2", "--metrics")["metrics"]
    assert [(metric["step"], metric["value"]) for metric in metrics] == [("make", 2)]
    project.write("src/make.py", "import sys\nopen(sys.argv[2], 'w').write(sys.argv[1])\n")
    assert project.run().why("make") == "n 2 -> 1; src/make.py +0 -2", "explanations know what was before"


def test_registered_datasets_survive_a_rebuild(project: World) -> None:
    project.write("data/a.csv", "id,x\n1,2\n")
    for words in (("a", "data/a.csv", "--unique", "id"), ("b", "data/a.csv")):
        assert project.cli("data", "register", *words).returncode == 0
    project.write("data/a.csv", "id,x\n1,3\n")
    assert project.cli("data", "register", "a", "data/a.csv", "--unique", "id", "--new-version", "-t", "team=x").returncode == 0
    engine = Engine.open(str(project.root))
    engine.unregister_dataset("b")
    before = engine.dataset_versions("a")
    files = [engine.dataset_manifest(version) for version in before]
    engine.close()
    to_text(project)
    assert project.cli("doctor", "--rebuild").returncode == 0
    engine = Engine.open(str(project.root))
    assert engine.dataset_versions("a") == before and len(before) == 2 and dict(before[1].tags) == {"team": "x"}
    assert [engine.dataset_manifest(version) for version in before] == files and all(files)
    assert [version.name for version in engine.datasets()] == ["a"]
    engine.close()


def test_a_rebuild_hashes_outputs_and_tells_what_is_damaged_or_missing(project: World) -> None:
    engine = Engine.open(str(project.root))
    damaged = Path(engine.artifact(engine.find_run("1").id, "make", "o"))
    missing = Path(engine.artifact(engine.find_run("2").id, "make", "o"))
    engine.close()
    damaged.chmod(0o644)
    damaged.write_text("other")
    missing.unlink()
    to_absence(project)
    done = project.json("doctor", "--rebuild")
    assert (len(done["damaged"]), done["missing"], done["results"], done["outputs"]) == (1, 2, 4, 2)
    assert project.run(parameters={"n": 1}).ran == {"make"}


def test_results_a_lost_log_took_are_found_missing_and_come_back(project: World) -> None:
    early = project.root / "early.db"
    drop_log(project)
    shutil.copy(state(project), early)
    project.run(parameters={"n": 3})
    drop_log(project)
    shutil.copy(early, state(project))
    told = project.cli("doctor")
    assert told.returncode == 4 and "lacks 2 results that the journal names" in told.stdout
    assert project.cli("doctor", "--rebuild").returncode == 0
    assert project.run(parameters={"n": 3}).ran == set()


def test_a_whole_store_is_not_rebuilt(project: World) -> None:
    refused = project.cli("doctor", "--rebuild")
    assert refused.returncode == 2 and "nothing to rebuild" in refused.stderr


def test_stale_shared_memory_and_a_log_of_nonsense_do_no_harm(project: World) -> None:
    drop_log(project)
    state(project, "-shm").write_bytes(b"\xff" * 32768)
    state(project, "-wal").write_bytes(b"\x37\x7f\x06\x82" + os.urandom(9000))
    assert project.cli("runs").returncode == 0
    assert project.run(parameters={"n": 2}).ran == set()


def test_a_store_without_a_journal_gets_one_from_its_rows_and_a_cut_line_costs_that_line(project: World) -> None:
    path = project.root / ".mlpipe/journal/results.jsonl"
    shutil.rmtree(path.parent)
    project.run(parameters={"n": 3})
    with path.open("a") as file:
        file.write('{"e":"result","run":')
    kinds = [line["e"] for line in Journal(str(project.root / ".mlpipe")).lines()]
    assert kinds.count("result") == 6
    to_absence(project)
    assert project.json("doctor", "--rebuild")["results"] == 6
    assert project.run(parameters={"n": 2}).ran == set()


def test_folders_alone_give_back_the_list_of_runs(project: World) -> None:
    to_absence(project)
    shutil.rmtree(project.root / ".mlpipe/journal")
    _remove(str(project.root / ".mlpipe/artifacts"))
    project.json("doctor", "--rebuild")
    items = project.json("runs")["items"]
    assert [(run["number"], run["state"], run["parameters"]) for run in items] == [
        (2, "canceled", {"n": 2}),
        (1, "canceled", {"n": 1}),
    ]
    assert "its end is not known" in items[0]["error"]


def test_pins_and_removed_runs_are_remembered(project: World) -> None:
    project.cli("pin", "3/make")
    project.cli("rm", "2")
    to_absence(project)
    project.json("doctor", "--rebuild")
    assert [run["number"] for run in project.json("runs")["items"]] == [3, 1]
    assert [pin["step"] for pin in project.json("pins")["items"]] == ["make"]


def test_a_journal_line_is_written_after_its_result(project: World) -> None:
    lines = [json.loads(line) for line in (project.root / ".mlpipe/journal/results.jsonl").read_text().splitlines()]
    named = {(line["run"], line["step"]) for line in lines if line["e"] == "result"}
    rows = sqlite3.connect(state(project)).execute("SELECT run, step FROM results").fetchall()
    assert named == set(rows) and len(rows) == 4
