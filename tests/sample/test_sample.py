"""The sample project, end to end, on its real data."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import polars
import pytest
from mlpipe_engine.engine import Engine
from worlds import REPOSITORY, World

pytestmark = pytest.mark.needs("sample")


@pytest.fixture
def sample(world: World) -> World:
    shutil.rmtree(world.root)
    shutil.copytree(REPOSITORY / "sample_project", world.root, ignore=shutil.ignore_patterns(".mlpipe", "__pycache__"))
    return world


def test_flights_from_raw_tables_to_the_report_and_then_only_what_an_edit_touches(sample: World) -> None:
    first = sample.cli("run", "flights")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "10 ran" in first.stdout
    assert "10 reused" in sample.cli("run").stdout
    metrics = {(m["step"], m["name"]): m["value"] for m in sample.json("show", "1", "--metrics")["metrics"]}
    assert metrics[("clean", "flights")] == 336_776
    assert metrics[("evaluate", "rmse_trees")] < metrics[("evaluate", "rmse_as")] < 20
    rows = {item["name"]: item["rows"] for item in sample.json("show", "1")["items"]}
    assert rows["ingest"]["input"] == {"flights": 336_776, "weather": 26_115, "airports": 1_458}
    assert rows["join_weather"]["output"] == {"joined": rows["clean"]["output"]["flights_clean"]}
    engine = Engine.open(str(sample.root))
    assert {record.name: (record.version, bool(record.expectations)) for record in engine.datasets()} == dict.fromkeys(
        ("flights", "weather", "planes", "airports"), (1, True)
    )
    target = sample.root / "report.html"
    assert sample.cli("get", "latest", "report", "page", "-o", str(target)).returncode == 0
    page = target.read_text()
    assert page.count("<svg") == 2 and not re.search(r"(src|href)=\"http", page)
    trees = sample.root / "src/train_trees.py"
    trees.write_text(trees.read_text().replace("default=60", "default=20"))
    states = {item["name"]: item["state"] for item in sample.json("run")["items"]}
    assert {name for name, state in states.items() if state == "reused"} == {
        "ingest",
        "clean",
        "join_weather",
        "features",
        "split",
        "train_linear",
    }
    sample.write("src/notes.md", "x")
    sample.write("README.md", "changed")
    (sample.root / "src/notes.md").unlink()
    assert "10 reused" in sample.cli("run").stdout


def test_a_table_that_is_not_as_expected_stops_the_step_that_takes_it(sample: World) -> None:
    planes = sample.root / "data/planes.parquet"
    table = polars.read_parquet(planes)
    polars.concat([table, table.head(1)]).write_parquet(planes)
    done = sample.cli("run", "flights", "--step", "join_weather")
    assert done.returncode == 1
    assert "input 'planes': unique 'tailnum': 1 key comes more than once" in done.stdout, done.stdout


def test_iris_as_in_the_article(sample: World) -> None:
    done = sample.cli("run", "iris")
    assert done.returncode == 0, done.stdout + done.stderr
    path = sample.json("get", "latest", "compare", "comparison")["path"]
    result = json.loads(Path(path).read_text())
    assert result["accuracy"] > 0.9 > result["guessing"]


def test_the_data_is_all_there_and_small() -> None:
    folder = REPOSITORY / "sample_project/data"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8 << 20
    assert len((folder / "iris.csv").read_text().splitlines()) == 151
