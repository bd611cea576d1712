"""Datasets as a script uses them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlpipe_engine import Dataset, Datastore, DataType, PromoteHeadersBehavior, TabularDataset, Workspace
from mlpipe_engine.errors import (
    DatasetNotFoundError,
    DatasetTimestampMissingError,
    DefinitionTypeError,
    DefinitionValueError,
    InputError,
)
from worlds import World


@pytest.fixture
def ws(world: World, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    world.write("a.csv", "id,v,t\n" + "".join(f"{n},{n * 1.5},2026-01-{n + 1:02}\n" for n in range(20)))
    monkeypatch.chdir(world.root)
    return Workspace.from_config()


def tabular(**options: Any) -> TabularDataset:
    return Dataset.Tabular.from_delimited_files("a.csv", **options)


def test_nothing_is_read_before_it_is_asked_for(ws: Workspace) -> None:
    made = Dataset.Tabular.from_delimited_files("nowhere/*.csv").skip(1).take(5).keep_columns(["x"]).random_split(0.5)[0]
    assert made.name is None and made.version is None and made.tags is None
    with pytest.raises(InputError, match=r"nowhere/\*.csv"):
        made.to_polars()


def test_every_way_out(ws: Workspace, world: World) -> None:
    made = tabular().filter(tabular()["id"] >= 18)
    assert made.to_polars().rows() == [(18, 27.0, datetime(2026, 1, 19)), (19, 28.5, datetime(2026, 1, 20))]
    assert made.to_duckdb().filter("id = 19").fetchall() == [(19, 28.5, datetime(2026, 1, 20))]
    assert [column.type for column in made.schema] == ["BIGINT", "DOUBLE", "TIMESTAMP"]
    frame = made.with_timestamp_columns("t").to_pandas_dataframe()
    assert list(frame.index) == [datetime(2026, 1, 19), datetime(2026, 1, 20)] and list(frame["v"]) == [27.0, 28.5]
    files = made.to_parquet_files()
    assert Dataset.Tabular.from_parquet_files(files.paths[0]).to_polars().rows() == made.to_polars().rows()
    assert made.to_parquet_files().paths == files.paths
    text = made.to_csv_files(separator=";", target_path="out/x.csv")
    assert (world.root / "out/x.csv").read_text().splitlines()[0] == "id;v;t" and text.paths == ("out/x.csv",)


def test_polars_needs_neither_pandas_nor_pyarrow(ws: Workspace, world: World) -> None:
    import subprocess
    import sys

    program = (
        "import sys; sys.modules.update(dict.fromkeys(['pandas', 'pyarrow', 'numpy']))\n"
        "from mlpipe_engine import Dataset\n"
        "ds = Dataset.Tabular.from_delimited_files('a.csv')\n"
        "print(ds.to_polars().shape, ds.random_split(0.5)[0].to_polars().height)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=world.root, env=world.environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(20, 3) 10", done.stderr


def test_expressions(ws: Workspace) -> None:
    ds = tabular()
    assert ds.filter((ds["id"] > 2) & ~(ds["id"] >= 5) | (ds["v"] == 0)).to_polars()["id"].to_list() == [0, 3, 4]
    assert ds.filter(ds["t"] == datetime(2026, 1, 3)).to_polars()["id"].to_list() == [2]
    assert ds.filter(ds["id"].is_in([1, 7]) & (ds["v"] / 1.5 > 5)).to_polars()["id"].to_list() == [7]
    assert ds.filter(-ds["id"] + 19 == 0).to_polars()["id"].to_list() == [19]
    assert ds.filter(ds["v"] == None).to_polars().height == 0  # noqa: E711
    with pytest.raises(DefinitionTypeError, match="no truth value"):
        ds.filter(ds["id"] > 1 and ds["id"] < 3)
    with pytest.raises(DefinitionTypeError, match="the filter is a bool"):
        ds.filter(True)  # type: ignore[arg-type]
    with pytest.raises(DefinitionTypeError, match="a list cannot stand in a filter"):
        ds.filter(ds["id"] == [1])


def test_time_series(ws: Workspace, world: World) -> None:
    with pytest.raises(DatasetTimestampMissingError):
        tabular().time_before(datetime(2026, 1, 3))
    ds = tabular().with_timestamp_columns("t")
    days = (datetime(2026, 1, 3), datetime(2026, 1, 5))
    assert ds.time_before(days[0]).to_polars()["id"].to_list() == [0, 1, 2]
    assert ds.time_before(days[0], include_boundary=False).to_polars()["id"].to_list() == [0, 1]
    assert ds.time_after(datetime(2026, 1, 19)).to_polars()["id"].to_list() == [18, 19]
    assert ds.time_between(*days).to_polars()["id"].to_list() == [2, 3, 4]
    assert ds.time_between(*days, include_boundary=False).to_polars()["id"].to_list() == [3]
    assert ds.time_before(datetime(2026, 1, 3, tzinfo=UTC)).to_polars().height == 3
    assert ds.time_recent(timedelta(days=36500)).definition.depends_on_clock
    assert ds.drop_columns("t").timestamp_columns == (None, None) == ds.keep_columns("id").timestamp_columns
    assert ds.keep_columns(["t", "id"]).timestamp_columns == ("t", None)
    with pytest.raises(InputError, match="the timestamp column 'v' holds DOUBLE"):
        tabular().with_timestamp_columns("v").time_before(days[0]).to_polars()


def test_time_filters_leave_out_whole_files(ws: Workspace, world: World) -> None:
    for month in (1, 2, 3):
        world.write(f"log/2026/{month:02}/x.csv", f"t\n2026-{month:02}-10\n" if month != 2 else "t\n2026-02-28\nnot,read\n")
    ds = Dataset.Tabular.from_delimited_files("log", partition_format="/{day:yyyy/MM}/x.csv")
    ds = ds.with_timestamp_columns("t", "day")
    assert ds.time_after(datetime(2026, 3, 5)).keep_columns("t").to_polars().rows() == [(datetime(2026, 3, 10),)]
    assert ds.time_before(datetime(2026, 1, 31)).keep_columns("t").to_polars().rows() == [(datetime(2026, 1, 10),)]
    world.write("log/2026/02/x.csv", "t\n2026-02-28\n")
    assert ds.time_after(datetime(2026, 2, 20)).to_polars().height == 2


def test_registering(ws: Workspace, world: World) -> None:
    ds = tabular().with_expectations(min_rows=1, unique="id", ranges={"v": (0, None)}, max_null_share={"v": 0.1})
    first = ds.register(ws, "numbers", description="d", tags={"a": "1"})
    assert (first.name, first.version, first.tags, first.description) == ("numbers", 1, {"a": "1"}, "d")
    assert all(verdict.holds for verdict in first.check())
    assert ds.register(ws, "numbers").version == 1
    second = ds.take(3).register(ws, "numbers", create_new_version=True)
    assert second.version == 2 and Dataset.get_by_name(ws, "numbers").version == 2
    assert Dataset.get_by_name(ws, "numbers", 1).to_polars().height == 20  # type: ignore[union-attr]
    assert Dataset.get_by_name(ws, "numbers", "1").expectations == ds.expectations
    assert list(ws.datasets) == ["numbers"] and ws.datasets["numbers"].id == "numbers:2"
    assert Dataset.get_by_id(ws, "numbers:1").version == 1 and set(Dataset.get_all(ws)) == {"numbers"}
    assert second.add_tags({"b": "2"}).remove_tags(["a"]).tags == {"b": "2"}
    with pytest.raises(DatasetNotFoundError, match="did you mean 'numbers'"):
        Dataset.get_by_name(ws, "number")
    with pytest.raises(InputError, match="version is 'x'"):
        Dataset.get_by_name(ws, "numbers", "x")
    with pytest.raises(InputError, match="already a dataset registered under name"):
        tabular().skip(1).register(ws, "numbers")
    second.unregister_all_versions()
    assert list(ws.datasets) == []


def test_frames(ws: Workspace) -> None:
    import polars

    frame = polars.DataFrame({"a": [1, 2], "s": ["x", None]})
    store = Datastore(ws)
    made = Dataset.Tabular.register_polars_dataframe(frame, (store, "frames"), "f", show_progress=False)
    assert made.version == 1 and made.to_polars().equals(frame)
    assert Dataset.Tabular.register_polars_dataframe(frame, (store, "frames"), "f", show_progress=False).version == 1
    changed = Dataset.Tabular.register_polars_dataframe(frame.head(1), (store, "frames"), "f", show_progress=False)
    assert changed.version == 2 and made.to_polars().equals(frame)


def test_partition_by(ws: Workspace, world: World) -> None:
    world.write("k.csv", "k,v\na,1\nb,2\na,3\n")
    made = Dataset.Tabular.from_delimited_files("k.csv").partition_by("k", "parts", name="k", show_progress=False)
    assert isinstance(made, TabularDataset) and made.version == 1
    assert sorted(made.to_polars().select("v", "k").rows()) == [(1, "a"), (2, "b"), (3, "a")]
    assert (world.root / "parts/k=a").is_dir()
    with pytest.raises(InputError, match="parts is there already"):
        Dataset.Tabular.from_delimited_files("k.csv").partition_by("k", "parts")


def test_misfits(ws: Workspace, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.write("m.csv", "v\n1\nz\n")
    ds = Dataset.Tabular.from_delimited_files("m.csv", set_column_types={"v": DataType.to_long()})
    with pytest.raises(InputError, match="m.csv:3: column 'v': 'z' is no whole number"):
        ds.to_pandas_dataframe()
    assert ds.to_pandas_dataframe(on_error="null")["v"].isna().sum() == 1
    assert "column 'v': 1 value did not fit and became null" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"header": "SOME"}, "header is 'SOME'.*ALL_FILES_HAVE_SAME_HEADERS"),
        ({"encoding": "utf-9"}, "encoding is 'utf-9'"),
        ({"encoding": "lattin1"}, "did you mean 'latin1'"),
        ({"separator": ""}, "separator is ''"),
        ({"separator": '"'}, "separator is"),
        ({"partition_format": "x"}, "There must be at least one"),
        ({"set_column_types": {"a": int}}, "set_column_types has 'a'"),
        ({"set_column_types": ["a"]}, "set_column_types is a list"),
        ({"infer_rows": -1}, "infer_rows is -1"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"seperator": ";"}, "did you mean 'separator'"),
    ],
)
def test_options_that_cannot_be(ws: Workspace, options: dict[str, Any], said: str) -> None:
    with pytest.raises((DefinitionValueError, DefinitionTypeError), match=said) as caught:
        Dataset.Tabular.from_delimited_files("a.csv", **options)
    assert "test_datasets.py" in str(caught.value.where)


def test_operations_that_cannot_be(ws: Workspace) -> None:
    for make in (
        lambda: tabular().take(-1), lambda: tabular().skip(True), lambda: tabular().take_sample(1.5), lambda: tabular().random_split(-0.1),
        lambda: tabular().keep_columns([]), lambda: tabular().keep_columns(["a", "a"]),
    ):  # fmt: skip
        with pytest.raises(DefinitionValueError):
            make()
    with pytest.raises(InputError, match="no column 'vv'; did you mean 'v'"):
        tabular().keep_columns("vv", validate=True)


def test_headers_by_the_names_of_azure(ws: Workspace) -> None:
    for given in (PromoteHeadersBehavior.NO_HEADERS, "NO_HEADERS", False):
        assert tabular(header=given).to_polars().columns == ["Column1", "Column2", "Column3"]


def test_files(ws: Workspace, world: World, tmp_path: Path) -> None:
    for name in ("x/1.txt", "x/2.txt", "x/y/3.txt"):
        world.write(f"f/{name}", name)
    ds = Dataset.File.from_files("f/**/*.txt")
    assert ds.to_path() == ["/1.txt", "/2.txt", "/y/3.txt"]
    assert ds.filter(ds.file_metadata("Size") > 7).to_path() == ["/y/3.txt"]
    low, high = ds.random_split(1 / 3, seed=1)
    assert len(low.to_path()) == 1 and sorted(low.to_path() + high.to_path()) == ds.to_path()
    placed = ds.take(2).download(str(tmp_path / "out"))
    assert [Path(path).read_text() for path in placed] == ["x/1.txt", "x/2.txt"]
    with pytest.raises(InputError, match="is there already"):
        ds.download(str(tmp_path / "out"))
    assert len(ds.download(str(tmp_path / "out"), overwrite=True)) == 3
    with ds.mount() as mounted:
        assert (Path(mounted) / "y/3.txt").read_text() == "x/y/3.txt"
        place = str(mounted)
    assert not os.path.exists(place) and (world.root / "f/x/y/3.txt").exists()
    with pytest.raises(InputError, match="is not empty"):
        ds.mount(str(tmp_path / "out")).start()
    registered = ds.register(ws, "files")
    assert registered.version == 1 and Dataset.get_by_name(ws, "files").to_path() == ds.to_path()  # type: ignore[union-attr]


def test_addresses_in_a_column(ws: Workspace, world: World) -> None:
    world.write("f/1.txt", "one")
    world.write("list.csv", "path\nf/1.txt\n\n")
    ds = Dataset.Tabular.from_delimited_files("list.csv", set_column_types={"path": DataType.to_stream()})
    (path,) = ds.download("path")
    assert Path(path).read_text() == "one"


def test_a_query_is_a_dataset(ws: Workspace, world: World) -> None:
    import sqlite3

    database = sqlite3.connect(world.root / "s.db")
    database.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
    database.close()
    ds = Dataset.Tabular.from_sql_query(("s.db", "SELECT a FROM t ORDER BY a DESC"))
    assert ds.to_polars().rows() == [(2,), (1,)] and ds.take(1).to_polars().rows() == [(2,)]
    assert ds.register(ws, "q").version == 1
    with pytest.raises(DefinitionTypeError, match="query is"):
        Dataset.Tabular.from_sql_query("SELECT 1")
