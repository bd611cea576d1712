"""The number of rows of a Parquet file, against DuckDB, Polars, and files that are none."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlpipe_engine.data.footers import rows_of


@pytest.mark.parametrize("count", [0, 1, 127, 128, 200_000])
def test_what_duckdb_and_polars_write(tmp_path: Path, count: int) -> None:
    duckdb.sql(
        f"SELECT i, i::VARCHAR AS t, [i] AS l, {{'a': i, 'b': [true]}} AS s, i::DECIMAL(18, 2) AS d, now() AS at FROM range({count}) r(i)"
    ).write_parquet(str(tmp_path / "d"))
    polars.DataFrame({"i": range(count), "b": [True] * count}).write_parquet(tmp_path / "p", metadata={"k": "v" * 200})
    assert rows_of(str(tmp_path / "d")) == rows_of(str(tmp_path / "p")) == count


def test_a_folder_counts_when_all_of_it_is_parquet(tmp_path: Path) -> None:
    assert rows_of(str(tmp_path)) is None
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b"):
        polars.DataFrame({"i": [1, 2]}).write_parquet(tmp_path / name)
    (tmp_path / "_SUCCESS").touch()
    assert rows_of(str(tmp_path)) == 4
    (tmp_path / "notes.txt").touch()
    assert rows_of(str(tmp_path)) is None


@given(data=st.data())
def test_damage_is_never_more_than_no_answer(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "p"
    polars.DataFrame({"i": [1, 2, 3]}).write_parquet(path)
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(body[: data.draw(st.integers(0, len(body)))])
    assert rows_of(str(path)) is None or isinstance(rows_of(str(path)), int)
