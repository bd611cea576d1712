"""What differs between two runs of a real project, also where they were reused, mirrored, or made by other pipelines."""

from __future__ import annotations

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.store import runs as run_rows
from worlds import World

DEFINITION = """
data, model = PipelineData("data"), PipelineData("model")
lr = PipelineParameter("lr", 1)
prep = PythonScriptStep("prep.py", name="prep", arguments=[Path("raw.csv"), data], outputs=[data], source_directory="src")
train = PythonScriptStep("train.py", name="train", arguments=[data, model, lr], inputs=[data], outputs=[model], source_directory="src")
pipeline = Pipeline(ws, [prep, train], name="demo")
"""
TRAIN = """import sys
from mlpipe_run import Run
Run.get_context().log("rmse", float(sys.argv[3]))
open(sys.argv[2], "w").write(open(sys.argv[1]).read())
"""


@pytest.fixture
def demo(world: World) -> World:
    world.write("raw.csv", "a,b\n1,2\n")
    world.write("src/prep.py", "import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read())\n")
    world.write("src/train.py", TRAIN)
    world.define(f"from pathlib import Path\n{DEFINITION}")
    world.run()
    return world


def test_code_parameters_inputs_outputs_and_metrics(demo: World) -> None:
    demo.write("raw.csv", "a,b\n1,2\n3,4\n")
    demo.write("src/train.py", TRAIN.replace("float(sys.argv[3])", "2 * float(sys.argv[3])"))
    demo.run(parameters={"lr": 3})
    text = demo.cli("diff", "1", "2").stdout
    assert "parameters:\n  lr  1 -> 3\n" in text
    assert "src/train.py +1 -1" in text
    assert "input data " in text and "lines +1 -0" in text and "8 B -> 12 B" in text
    assert "train.rmse  1 -> 6  (+5, +500.0%)" in text
    assert "they differ: 0 of 2 steps are the same" in text
    document = demo.json("diff", "1", "2")
    assert document["equal"] is False and document["parameters"][0]["after"] == 3
    assert [item["status"] for item in document["items"]] == ["changed", "changed"]
    assert demo.cli("diff", "1", "2").returncode == 0 and demo.cli("diff", "1", "2", "--exit-code").returncode == 1
    only = demo.cli("diff", "1", "2", "--step", "prep").stdout
    assert "~ prep" in only and "~ train" not in only and "rmse" not in only


def test_a_patch_is_cleaned_for_terminals(demo: World) -> None:
    demo.write("src/train.py", "# \x1b[31m red\n" + TRAIN)
    demo.run()
    text = demo.cli("diff", "1", "2", "--patch").stdout
    assert "    +# ␛[31m red\n" in text and "\x1b" not in text
    assert any("+# \x1b[31m red" in line for line in demo.json("diff", "1", "2", "--patch")["patches"]["src/train.py"])


def test_reused_steps_are_what_their_results_were_made_from(demo: World) -> None:
    demo.write("src/README", "nobody reads this")
    (demo.root / "src/README").unlink()
    demo.write("src/train.py", TRAIN)
    assert demo.run().ran == set()
    found = Engine.open(str(demo.root))
    diff = found.diff(found.find_run("1").id, found.find_run("2").id)
    assert diff.equal and [step.status for step in diff.steps] == ["same", "same"]
    assert demo.cli("diff", "1", "2", "--exit-code").returncode == 0


def test_a_mirrored_run_shows_the_results_it_points_at(demo: World) -> None:
    engine = Engine.open(str(demo.root))
    with engine._writable().write() as db:
        run_rows.insert_mirror(db, "f" * 32, 1, demo.options(), "2026-01-01T00:00:00.000000Z", 0.0)
    demo.run(parameters={"lr": 2})
    assert engine.diff("f" * 32, engine.find_run("1").id).equal
    diff = engine.diff("f" * 32, engine.find_run("3").id)
    assert [(change.name, change.before, change.after) for change in diff.metrics] == [("rmse", 1.0, 2.0)]
    assert [step.status for step in diff.steps] == ["same", "changed"]


def test_added_renamed_and_other_pipelines(demo: World) -> None:
    text = DEFINITION.replace('name="prep"', 'name="prepare"').replace('name="demo"', 'name="other"')
    text = text.replace("[prep, train]", '[prep, train, CommandStep("true", name="extra")]')
    demo.define(f"from pathlib import Path\n{text}")
    demo.run()
    shown = demo.cli("diff", "1", "2").stdout
    assert "these are runs of different pipelines: demo and other" in shown
    assert "= prepare  was called prep" in shown and "+ extra  added" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [(("1", "9"), "there is no run '9'"), (("1",), "diff needs OTHER"), (("1", "1", "--step", "trian"), "did you mean 'train'")],
)
def test_what_is_not_there_is_told(demo: World, words: tuple[str, ...], said: str) -> None:
    done = demo.cli("diff", *words)
    assert done.returncode in (2, 4) and said in done.stderr


def test_a_comparison_asks_nothing_of_other_runs(demo: World) -> None:
    """Every query of a diff goes through an index."""
    engine = Engine.open(str(demo.root))
    first = engine.find_run("1").id
    engine.diff(first, first)
    database = engine._reading()
    seen: list[str] = []
    database._connection.set_trace_callback(seen.append)
    engine.diff(first, first)
    engine.compare((first,))
    database._connection.set_trace_callback(None)
    scans = [
        str(row[3])
        for sql in seen if sql.startswith("SELECT")
        for row in database.query(f"EXPLAIN QUERY PLAN {sql}")
        if str(row[3]).startswith("SCAN") and "stat_cache" not in str(row[3])
    ]  # fmt: skip
    assert seen and scans == []
