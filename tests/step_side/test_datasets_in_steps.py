"""What a step script can do with its inputs, in an interpreter that has much, little or nothing installed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import mlpipe_run
import polars
import pytest
from worlds import REPOSITORY

ROWS = [{"i": 1, "t": "a"}, {"i": 2, "t": None}]


def dataset(path: Path, **item: object) -> mlpipe_run.Dataset:
    return mlpipe_run.Dataset("table", {"path": str(path), **item})


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "table"
    duckdb.sql("SELECT * FROM (VALUES (1, 'a'), (2, NULL)) AS t(i, t)").write_parquet(str(path))
    return path


def bare(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """An interpreter that sees the standard library and mlpipe_run alone."""
    environment = {"PYTHONPATH": str(REPOSITORY / "engine"), "PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [sys.executable, "-S", "-c", "from mlpipe_run import Run\nrun = Run.get_context()\n" + script],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_input_is_a_path_and_a_table(parquet: Path) -> None:
    table = dataset(parquet)
    assert table == str(parquet) == table.path and os.path.join(table, "x") == f"{parquet}/x"
    assert table.format == "parquet" and table.to_path() == ["table"]
    assert table.to_polars().to_dicts() == list(table.rows()) == ROWS
    assert table.to_duckdb().fetchall() == [(1, "a"), (2, None)]
    again = pickle.loads(pickle.dumps(table))
    assert again == table and again.name == "table"


def test_a_folder_of_parts_is_one_table_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b", "a"):
        duckdb.sql(f"SELECT '{name}' AS name").write_parquet(str(tmp_path / f"{name}.parquet"))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part").write_text("x")
    table = dataset(tmp_path)
    assert table.to_path() == ["a.parquet", "b.parquet"]
    assert [row["name"] for row in table.rows()] == ["a", "b"] == table.to_polars()["name"].to_list()


def test_csv_in_an_interpreter_with_nothing_installed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfname,note\nann,"two\nlines"\n')
    done = bare(
        f"print(list(run.input_datasets['t'].rows())); print(run.input_datasets['t'].to_csv('{tmp_path}/copy.csv'))",
        MLPIPE_INPUTS=f"t={path}", MLPIPE_OFFLINE_DIR=str(tmp_path / "offline"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[{'name': 'ann', 'note': 'two\\nlines'}]"


@pytest.mark.parametrize(
    ("call", "library"), [("to_pandas_dataframe()", "pandas"), ("to_polars()", "polars"), ("to_arrow()", "pyarrow")]
)
def test_a_missing_library_is_one_line_that_says_what_to_install(parquet: Path, tmp_path: Path, call: str, library: str) -> None:
    done = bare(f"run.input_datasets['t'].{call}", MLPIPE_INPUTS=f"t={parquet}", MLPIPE_OFFLINE_DIR=str(tmp_path / "offline"))
    last = done.stderr.splitlines()[-1]
    assert (
        last.startswith("mlpipe_run.MissingLibrary: t as ") and f"needs {library}, which {sys.executable} does not have" in last
    )
    assert f"-m pip install {library}" in last


def test_what_is_no_table_says_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    with pytest.raises(ValueError, match=r"table is no table: a\.png; expected Parquet, CSV or JSON lines"):
        dataset(tmp_path).to_polars()
    with pytest.raises(FileNotFoundError, match="holds no file"):
        dataset(tmp_path / "nothing").to_polars()


def test_files_are_copied_out_whole_and_never_over_others(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "sub/a.txt").write_text("a")
    target = tmp_path / "out"
    assert dataset(source).download(str(target)) == [str(target / "sub/a.txt")]
    (target / "sub/a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        dataset(source).download(str(target))
    with dataset(source).mount() as context:
        assert Path(context.mount_point, "sub/a.txt").read_text() == "a"


READERS: dict[str, Callable[[mlpipe_run.Dataset], list[object]]] = {
    "jsonl": lambda table: list(table.rows()),
    "csv": lambda table: table.to_polars().to_dicts(),
}


@pytest.mark.parametrize("kind", READERS)
def test_text_formats(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    path.write_text({"jsonl": '{"i": 1, "t": "a"}\n{"i": 2, "t": null}\n', "csv": "i,t\n1,a\n2,\n"}[kind])
    assert READERS[kind](dataset(path)) == ROWS
    assert polars.DataFrame(READERS[kind](dataset(path))).height == 2
