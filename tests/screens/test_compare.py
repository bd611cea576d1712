"""The Compare screen on real runs: what differs, in which direction, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import ALL, living
from house import drive, screen_text, until
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.records import MetricRecord, RunRecord
from mlpipe_engine.model.states import State
from worlds import World

from mlpipe_tui.app import PipelineApp
from mlpipe_tui.glyphs import UNICODE
from mlpipe_tui.screens.compare import CompareView, comparison
from mlpipe_tui.viewmodels import compare
from mlpipe_tui.viewmodels.compare import ComparisonShot, Side, goal_of
from mlpipe_tui.widgets.rows import RowList

TRAIN = """
import sys
from mlpipe_run import Run
run = Run.get_context()
rate = float(sys.argv[1])
for at in range(8):
    run.log('val_auc', 0.9 - abs(rate - 0.5) / 5 + at / 100 - (at == 7) / 20)
    run.log('loss', 1 / (at + 1) + rate)
open(sys.argv[2], 'w').write('model ' * int(rate * 10))
"""


@pytest.fixture
def three_runs(world: World) -> World:
    world.write("src/train.py", TRAIN)
    world.write("src/note.py", "print('a')\n")
    world.define(
        "rate = PipelineParameter('rate', 0.5)\nseed = PipelineParameter('seed', 7)\nmodel = PipelineData('model')\n"
        "train = PythonScriptStep('train.py', name='train', source_directory='src', arguments=[rate, model], outputs=[model])\n"
        "note = PythonScriptStep('note.py', name='note', source_directory='src', arguments=[seed])\n"
        "pipeline = Pipeline(ws, steps=[train, note], name='churn')"
    )
    world.run()
    world.run(parameters={"rate": 0.9})
    world.write("src/note.py", "print('b')\nprint('c')\n")
    world.run()
    return world


def rows_of(shot: ComparisonShot, *, everything: bool = False) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for field in compare.fields(shot, UNICODE, everything=everything):
        found.setdefault(f"{field.section}: {field.name}", ["".join(text for text, _ in cell).strip() for cell in field.cells])
    return found


def test_only_what_differs_with_its_direction(three_runs: World) -> None:
    engine = Engine.open(str(three_runs.root))
    ids = [engine.find_run(number).id for number in ("1", "2", "3")]
    shot = comparison(ids)(engine)
    rows = rows_of(shot)
    assert rows["params: rate"] == ["0.5", "≠ 0.9", "="] and rows["params: (1 equal, hidden)"] == ["", "", ""]
    assert (
        rows["metrics: train.val_auc ↑"][0] == "0.92"
        and "worse" in rows["metrics: train.val_auc ↑"][1]
        and rows["metrics: train.val_auc ↑"][2] == "0.92 ="
    )
    assert rows["metrics: train.val_auc ↑ best"][0] == "0.96", "best and last are told apart"
    assert rows["metrics: train.loss ↓"][1].endswith("worse")
    assert rows["steps: train"][0].startswith("✓ succeeded") and rows["steps: train"][2] == "↺ reused"
    assert rows["code and environment: src/note.py"] == ["", "=", "≠ +2 -1"]
    assert rows["data: train gives model"][1].startswith("≠ ") and rows["data: train gives model"][2] == "="
    assert rows_of(shot, everything=True)["params: seed"] == ["7", "=", "="]
    words = "\n".join(line.plain for line in compare.reading(shot))
    assert "2 against 1: 1 parameter" in words and "worse: loss, val_auc" in words
    assert "| params" not in compare.markdown(shot, compare.fields(shot, UNICODE), UNICODE)
    assert "| rate | 0.5 | ≠ 0.9 | = |" in compare.markdown(shot, compare.fields(shot, UNICODE), UNICODE)
    engine.close()


def test_runs_that_are_gone_are_said(three_runs: World) -> None:
    engine = Engine.open(str(three_runs.root))
    shot = comparison([engine.find_run("1").id, "f" * 32])(engine)
    assert len(shot.sides) == 1 and shot.given_up == ("f" * 8,)
    assert [side.run.number for side in comparison(())(engine).sides] == [2, 3]
    engine.close()


@pytest.mark.parametrize(
    ("name", "goal"), [("val_auc", "max"), ("train/loss", "min"), ("rmse", "min"), ("rows", ""), ("lossless", ""), ("F1", "max")]
)
def test_goals_are_told_by_words(name: str, goal: str) -> None:
    assert goal_of(name) == goal


@pytest.mark.parametrize("text", ALL)
def test_hostile_names_and_values(text: str) -> None:
    def side(number: int, value: str) -> Side:
        run = RunRecord(
            id="a" * 32,
            number=number,
            pipeline=text,
            experiment=text,
            state=State.RUNNING,
            created_at="",
            parameters=((text, value),),
        )
        return Side(
            run=run,
            metrics=(
                MetricRecord(run_id="", step=text, name=text, kind="scalar", value=text),
                MetricRecord(run_id="", step=text, name=text, kind="scalar", value="NaN"),
            ),
        )

    shot = ComparisonShot(sides=(side(1, text), side(2, text + "x")))
    assert compare.fields(shot, UNICODE) and compare.markdown(shot, compare.fields(shot, UNICODE), UNICODE).count("\n") >= 3


def test_the_screen(three_runs: World) -> None:
    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("4")
        view = app.query_one(CompareView)
        await until(app, pilot, lambda: view.shot is not None and "only differences" in screen_text(app))
        text = screen_text(app)
        assert "baseline 2" in text and "rate" in text and "seed" not in text and "(1 equal, hidden)" in text
        assert "val_auc by step" in text or "loss by step" in text
        await pilot.press("a")
        await until(app, pilot, lambda: "seed" in screen_text(app))
        await pilot.press("b")
        await until(app, pilot, lambda: "baseline 3" in screen_text(app))
        await pilot.press("plus")
        await until(app, pilot, lambda: "Add a run" in screen_text(app))
        await pilot.press("enter")
        await until(app, pilot, lambda: "Compare 3 runs" in screen_text(app))
        await pilot.press("minus")
        await until(app, pilot, lambda: "Compare 2 runs" in screen_text(app))
        await pilot.press("d")
        await until(app, pilot, lambda: "print('b')" in screen_text(app))
        view.query_one("#below", type(view.query_one("#below"))).open_tab("Reading")  # type: ignore[attr-defined]
        await until(app, pilot, lambda: "against 3" in screen_text(app))
        assert living(screen_text(app).replace("\n", "")) == []
        view.query_one(RowList).focus()
        await pilot.press("y")
        await until(app, pilot, lambda: (Path(app.state_dir or "") / "clip.txt").exists())
        assert (Path(app.state_dir or "") / "clip.txt").read_text().startswith("| field | 3 ")

    drive(three_runs.root, act)


def test_one_run_is_not_enough_and_the_next_key_is_said(world: World) -> None:
    world.write("src/a.py", "print(1)\n")
    world.define("pipeline = Pipeline(ws, steps=[PythonScriptStep('a.py', name='a', source_directory='src')], name='p')")

    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("4")
        await until(app, pilot, lambda: "r on the Pipeline screen starts one" in screen_text(app))

    drive(world.root, act, (80, 24))
