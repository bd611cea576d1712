"""The Data screen on real runs: what is there, its rows, SQL over it, what it holds, what changed, where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import ALL, living
from house import drive, screen_text, until
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.datasets import (
    ChangedRow,
    DatasetDefinition,
    DatasetDiff,
    DatasetVersionRecord,
    Moved,
    RowsDiff,
    SchemaChange,
    StatisticChange,
)
from mlpipe_engine.model.states import State
from worlds import World

from mlpipe_tui.app import PipelineApp
from mlpipe_tui.glyphs import UNICODE
from mlpipe_tui.screens.data import DataView, SqlBox
from mlpipe_tui.shelf import shelf
from mlpipe_tui.tables import Profile, TableColumn
from mlpipe_tui.viewmodels import data
from mlpipe_tui.viewmodels.data import Item, ShelfShot, TableFacts
from mlpipe_tui.widgets.frame import Pane

CLEAN = """
import sys
rows = [line.split(',') for line in open(sys.argv[1]).read().split()][1:]
with open(sys.argv[2], 'w') as out:
    out.write('id,plan,churn\\n' + ''.join(f'{a},{b},{int(a) % 2}\\n' for a, b in rows if int(a) >= int(sys.argv[3])))
"""


@pytest.fixture
def shop(world: World) -> World:
    world.write("data/raw.csv", "id,plan\n" + "".join(f"{number},{'fiber' if number % 3 else 'dsl'}\n" for number in range(300)))
    world.write("src/clean.py", CLEAN)
    world.write("src/train.py", "import sys\nopen(sys.argv[2], 'wb').write(b'\\x80model')\n")
    world.define(
        "least = PipelineParameter('least', 0)\nraw = Dataset.File.from_files('data/raw.csv').as_named_input('raw').as_mount()\n"
        "features, model = PipelineData('features'), PipelineData('model')\n"
        "clean = PythonScriptStep('clean.py', name='clean', source_directory='src', arguments=[raw, features, least], inputs=[raw], outputs=[features])\n"
        "train = PythonScriptStep('train.py', name='train', source_directory='src', arguments=[features, model], inputs=[features], outputs=[model])\n"
        "pipeline = Pipeline(ws, steps=[clean, train], name='churn')"
    )
    world.run()
    world.run(parameters={"least": 100})
    return world


def test_what_is_there(shop: World) -> None:
    engine = Engine.open(str(shop.root))
    shot = shelf(None)(engine)
    found = {item.name: item for item in shot.items}
    assert set(found) == {"data/raw.csv", "clean/features", "train/model"} and shot.run is not None and shot.run.number == 2
    assert (found["data/raw.csv"].kind, found["clean/features"].kind, found["train/model"].kind) == ("csv", "csv", "")
    assert found["clean/features"].state is State.SUCCEEDED and found["train/model"].size_bytes == 6
    assert [number for number, _ in shot.versions["clean/features"]] == [2, 1]
    assert set(data.sql_names(shot.items)) == {"data_raw_csv", "features"}
    text = "\n".join(line.plain for line in data.lineage(shot, found["train/model"]))
    assert "made by  train" in text and "sources  data/raw.csv" in text and "above    clean" in text
    (Path(engine.artifact(shot.run.id, "train", "model"))).parent.chmod(0o755)
    Path(engine.artifact(shot.run.id, "train", "model")).unlink()
    gone = {item.name: item for item in shelf(None)(engine).items}["train/model"]
    assert gone.path == "" and gone.note == "no longer kept"
    engine.close()


def test_the_screen(shop: World) -> None:
    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("3")
        view = app.query_one(DataView)
        await until(app, pilot, lambda: "fiber" in screen_text(app) and "row 1 of 200" in screen_text(app))
        text = screen_text(app)
        assert "Sources" in text and "Outputs of run 2" in text and "clean/features" in text and "plan" in text
        await pilot.press("enter", "right", "enter")
        await until(app, pilot, lambda: "row 1" in screen_text(app) and view.query_one("#about", Pane).tab == "Row")
        about = view.query_one("#about", Pane)
        about.open_tab("Profile")
        await until(app, pilot, lambda: "often" in screen_text(app) and "67.0%" in screen_text(app))
        about.open_tab("Schema")
        await until(app, pilot, lambda: "bigint" in screen_text(app) and "varchar" in screen_text(app))
        about.open_tab("Diff")
        await until(app, pilot, lambda: "300 → 200  -100" in screen_text(app))
        assert "run 1 → run 2" in screen_text(app) and "id" in screen_text(app)
        about.open_tab("Lineage")
        await until(app, pilot, lambda: "made by  clean" in screen_text(app))
        await pilot.press("slash", *"plan=dsl", "enter")
        await until(app, pilot, lambda: "of 66 (200 in all)" in screen_text(app))
        await pilot.press("e")
        view.line.value = "out.csv"
        await pilot.press("enter")
        await until(app, pilot, lambda: (Path(app.root) / "out.csv").exists())
        assert (Path(app.root) / "out.csv").read_text().count("\n") == 67

    drive(shop.root, act)


def test_sql_over_all_tables_and_back(shop: World) -> None:
    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("3")
        view = app.query_one(DataView)
        await until(app, pilot, lambda: view.table.rows == 200)
        await pilot.press("S")
        box = view.query_one(SqlBox)
        assert box.text == "SELECT * FROM features LIMIT 100"
        box.text = "SELECT plan, count(*) AS n FROM features JOIN data_raw_csv USING (id, plan) GROUP BY 1 ORDER BY 2 DESC"
        await pilot.press("enter")
        await until(app, pilot, lambda: "SQL result" in screen_text(app) and "134" in screen_text(app))
        assert "fiber" in screen_text(app) and "row 1 of 2" in screen_text(app)
        await pilot.press("S")
        box.text = "SELECT nosuch FROM features"
        await pilot.press("enter")
        await until(app, pilot, lambda: "nosuch" in view.table.problem)
        assert "Binder Error" in screen_text(app)
        await pilot.press("escape")
        await until(app, pilot, lambda: view.table.rows == 200 and "clean/features" in screen_text(app))

    drive(shop.root, act)


def test_what_one_looks_at_is_not_swapped_for_a_newer_run(shop: World) -> None:
    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("3")
        view = app.query_one(DataView)
        await until(app, pilot, lambda: view.table.rows == 200)
        shop.run(parameters={"least": 250})
        await until(app, pilot, lambda: "newer: run 3 (R)" in screen_text(app))
        assert view.table.rows == 200
        await pilot.press("R")
        await until(app, pilot, lambda: view.table.rows == 50 and "Outputs of run 3" in screen_text(app))

    drive(shop.root, act)


@pytest.mark.parametrize("size", [(80, 24), (160, 45), (60, 15)])
def test_every_size_shows_something_to_go_on_with(shop: World, size: tuple[int, int]) -> None:
    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("3")
        view = app.query_one(DataView)
        await until(app, pilot, lambda: view.table.rows == 200)
        assert "clean/features" in screen_text(app)
        await pilot.press("tab")
        await until(app, pilot, lambda: "fiber" in screen_text(app))

    drive(shop.root, act, size)


def test_without_a_run_sources_are_shown(world: World) -> None:
    world.write("data.csv", "a,b\n1,2\n")
    world.write("src/a.py", "print(1)\n")
    world.define(
        "d = Dataset.File.from_files('data.csv').as_named_input('d').as_mount()\n"
        "pipeline = Pipeline(ws, steps=[PythonScriptStep('a.py', name='a', source_directory='src', arguments=[d], inputs=[d])], name='p')"
    )

    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("3")
        await until(app, pilot, lambda: "data.csv" in screen_text(app) and "row 1 of 1" in screen_text(app))

    drive(world.root, act)


def test_registered_datasets_with_their_versions_and_what_moved(world: World) -> None:
    """A version before, the newest one, and files that changed since: rows, columns and differences of each."""
    world.write("data/old.csv", "id;name\n1;Ann\n2;Bo\n")
    world.define("pipeline = Pipeline(ws, steps=[CommandStep(['true'], name='s')], name='p')")
    assert world.cli("data", "register", "people", "data/old.csv", "--separator", ";").returncode == 0
    world.write("data/people.csv", "id;name\n1;Ann\n2;Bob\n3;Cy\n")
    assert "v2" in world.cli("data", "register", "people", "data/people.csv", "--separator", ";", "--new-version").stdout

    async def act(app: PipelineApp, pilot: Any) -> None:
        await pilot.press("3")
        view = app.query_one(DataView)
        await until(app, pilot, lambda: "people" in screen_text(app) and "row 1 of 3" in screen_text(app))
        text = screen_text(app)
        assert "Datasets" in text and "v2" in text and "data moved" not in text and "Bob" in text
        about = view.query_one("#about", Pane)
        about.open_tab("Diff")
        await until(app, pilot, lambda: "people v1 → people v2" in screen_text(app) and "2 → 3" in screen_text(app))
        about.open_tab("Lineage")
        await until(app, pilot, lambda: "2 versions of a dataset" in screen_text(app))
        world.write("data/people.csv", "id;name\n1;Ann\n")
        view.ask()
        await until(app, pilot, lambda: "data moved" in screen_text(app))
        about.open_tab("Diff")
        await until(
            app, pilot, lambda: "people v2 as it is now" in screen_text(app) and "rows cannot be compared" in screen_text(app)
        )
        await pilot.press("S")
        view.query_one(SqlBox).text = "SELECT count(*) AS people FROM people"
        await pilot.press("enter")
        await until(app, pilot, lambda: "SQL result" in screen_text(app) and "row 1 of 1" in screen_text(app))

    drive(world.root, act, (140, 40))


@pytest.mark.parametrize("text", ALL)
def test_hostile_names(text: str) -> None:
    record = DatasetVersionRecord(
        name=text, version=1, definition=DatasetDefinition(kind="file", paths=(text,)), content="", file_count=1, size_bytes=1, description=text,
        tags=((text, text),),
    )  # fmt: skip
    dataset = Item(key=text, section=text, name=text, path=text, kind="table", version=1, moved=True)
    shot = ShelfShot(items=(dataset,), datasets={text: (record,)}, needs=((text, (f"dataset:{text}",)),))
    rows = RowsDiff(
        key=(text,), before=1, after=2, added=1, removed=1, changed=1, note=text, added_examples=((text,),), removed_examples=((text,),),
        changed_examples=(ChangedRow((text,), ((text, text, text),)),),
    )  # fmt: skip
    found = DatasetDiff(
        before=text, after=text, definition=((text, text, text),), files=Moved((text,), (text,), (text,)), rows=rows,
        schema=(SchemaChange(text, text, text),), statistics=(StatisticChange(column=text, statistic="mean", before=text, after=text),),
    )  # fmt: skip
    for lines in (data.lineage(shot, dataset), data.dataset_difference(found, UNICODE)):
        assert lines and living("".join(line.plain.replace(text, "") for line in lines)) == []
    item = Item(key=text, section=text, name=text, path=text, kind="csv", step=text, output=text, note=text)
    assert all(name.replace("_", "a").isalnum() for name in data.sql_names([item]))
    column = TableColumn(name=text, type="VARCHAR")
    profile = Profile(column=text, rows=2, nulls=1, distinct=1, low=text, middle=text, high=text, top=((text, 1),))
    before, after = (TableFacts(label=text, rows=1, columns=(column,), profiles=(profile,)) for _ in range(2))
    assert data.difference_lines(before, after, UNICODE) and data.profile_lines(profile, UNICODE) and data.schema_lines([column])
    assert living("".join(line.plain.replace(text, "") for line in data.row_lines(0, [("a", text)]))) == []
