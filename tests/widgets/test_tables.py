"""Tables by pages: the right rows wherever they are read, whatever the files are, and nothing but those files."""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import polars
import pytest
from hostile import ALL, living

from mlpipe_tui.tables import Interrupted, Table, TableProblem, query


@pytest.fixture(scope="module")
def frame() -> polars.DataFrame:
    luck = random.Random(5)
    return polars.DataFrame(
        {
            "id": list(range(5000)),
            "k": [luck.randrange(100) for _ in range(5000)],
            "f": [luck.random() if luck.random() > 0.1 else None for _ in range(5000)],
            "name": [luck.choice(["ann", "Bob", "Ünal", ""]) for _ in range(5000)],
            "d": [None if index % 7 == 0 else index % 2 == 0 for index in range(5000)],
        }
    )


@pytest.fixture
def table(tmp_path: Path, frame: polars.DataFrame) -> Any:
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=700)
    found = Table.open(str(tmp_path / "t.parquet"), str(tmp_path / "previews"))
    yield found
    found.close()


def test_pages_are_the_rows_of_the_file(table: Table, frame: polars.DataFrame) -> None:
    rows = frame.rows()
    assert table.rows == 5000 and [column.name for column in table.columns] == frame.columns
    for start, count in ((0, 10), (699, 3), (4990, 50), (2000, 1024), (5000, 5)):
        assert table.page(start, count) == rows[start : start + count]
    assert table.page(10, 2, ["name", "id"]) == [(rows[10][3], 10), (rows[11][3], 11)]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("column", ["k", "f", "name", "d"])
def test_sorted_pages(table: Table, frame: polars.DataFrame, column: str, descending: bool) -> None:
    table.arrange((column, descending))
    at = frame.columns.index(column)
    filled = [row for row in frame.rows() if row[at] is not None]
    empty = [row for row in frame.rows() if row[at] is None]
    wanted = sorted(filled, key=lambda row: row[at].encode() if isinstance(row[at], str) else row[at], reverse=descending) + empty
    wanted = [row[at] for row in wanted]
    got = [row[at] for start in range(0, 5000, 333) for row in table.page(start, 333)]
    assert got == wanted
    table.arrange(None)
    assert table.page(0, 3) == frame.rows()[:3]


@pytest.mark.parametrize(
    ("typed", "keeps"),
    [
        ("k>=50", lambda r: r[1] >= 50),
        ("k=7 name=ann", lambda r: r[1] == 7 and r[3] == "ann"),
        ("name:ünal", lambda r: r[3] == "Ünal"),
        ("bob", lambda r: r[3] == "Bob"),
        ("!name=Bob", lambda r: r[3] != "Bob"),
        ("f=", lambda r: r[2] is None),
        ("d!=", lambda r: r[4] is not None),
        ("K<3", lambda r: r[1] < 3),
        ("k=many", lambda r: False),
        ('"ann" k<50', lambda r: r[3] == "ann" and r[1] < 50),
    ],
)
def test_filters(table: Table, frame: polars.DataFrame, typed: str, keeps: Any) -> None:
    table.arrange(("id", True), typed)
    wanted = [row for row in reversed(frame.rows()) if keeps(row)]
    assert table.rows == len(wanted) and table.page(0, 5000) == wanted


def test_a_filter_that_makes_no_sense_changes_nothing(table: Table) -> None:
    table.arrange(None, "k<50")
    before = table.rows
    with pytest.raises(TableProblem, match="no column is called nosuch"):
        table.arrange(None, "nosuch>5")
    assert table.rows == before and table.filter == "k<50"
    for typed in ALL:
        try:
            table.arrange(None, typed)
        except TableProblem as problem:
            assert living(str(problem)) == []


def test_a_profile_is_true(table: Table, frame: polars.DataFrame) -> None:
    found = table.profile("f")
    assert (
        (found.rows, found.nulls) == (5000, frame["f"].null_count())
        and sum(found.bars) == 5000 - found.nulls
        and not found.sampled
    )
    assert found.low == frame["f"].min() and found.high == frame["f"].max()
    names = table.profile("name")
    assert (
        dict(names.top).items() <= {name: frame["name"].to_list().count(name) for name in ("ann", "Bob", "Ünal", "")}.items()
        and len(names.top) == 3
    )
    assert table.profile("d").nulls == frame["d"].null_count()


def test_a_long_table_is_sampled_unless_all_is_asked_for(tmp_path: Path) -> None:
    polars.DataFrame({"n": range(250_000)}).write_parquet(tmp_path / "n.parquet")
    table = Table.open(str(tmp_path / "n.parquet"), str(tmp_path))
    assert table.profile("n").sampled and table.profile("n").rows == 100_000
    assert table.profile("n", full=True).rows == 250_000
    table.close()


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.jsonl", "t.json", "t"])
def test_other_kinds_are_converted_once(tmp_path: Path, name: str) -> None:
    rows = [{"a": 1, "b": "x,y"}, {"a": 2, "b": "z"}]
    text = {
        "t.json": json.dumps(rows), "t.jsonl": "\n".join(map(json.dumps, rows)), "t.tsv": "a\tb\n1\tx,y\n2\tz\n",
    }.get(name, 'a,b\n1,"x,y"\n2,z\n')  # fmt: skip
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    previews = tmp_path / "previews"
    for _ in range(2):
        table = Table.open(str(path), str(previews))
        assert table.page(0, 9) == [(1, "x,y"), (2, "z")]
        table.close()
    assert len(list(previews.glob("*.parquet"))) == 1
    if name == "t.csv":
        path.write_text("a,b\n9,w\n")
        table = Table.open(str(path), str(previews))
        assert table.page(0, 9) == [(9, "w")]
        table.close()


def test_a_folder_of_parts_is_one_table_even_where_a_part_lacks_a_column(tmp_path: Path) -> None:
    folder = tmp_path / "parts [x]*?"
    folder.mkdir()
    polars.DataFrame({"a": [1, 2], "b": ["x", "y"]}).write_parquet(folder / "p1")
    polars.DataFrame({"b": ["z"], "a": [3]}).write_parquet(folder / "p2")
    polars.DataFrame({"a": [4]}).write_parquet(folder / "p3")
    (folder / "README.md").write_text("hello")
    table = Table.open(str(folder), str(tmp_path / "previews"))
    assert table.page(0, 9) == [(1, "x"), (2, "y"), (3, "z"), (4, None)] and table.page(1, 2) == [(2, "y"), (3, "z")]
    table.arrange(("a", True), "a>=2")
    assert table.page(0, 9) == [(4, None), (3, "z"), (2, "y")]
    table.close()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.pkl", b"\x80\x04\x95\x00\x00", "is no table"),
        ("empty.csv", b"", "is empty"),
        ("broken.parquet", b"PAR1 and then nothing", ""),
        ("notes.txt", b"just text", "is no table"),
        ("broken.json", b'{"a": [1, 2', ""),
    ],
)
def test_what_is_no_table_is_said_in_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableProblem) as caught:
        Table.open(str(tmp_path / name), str(tmp_path / "previews"))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not [*(tmp_path / "previews").glob("*.parquet*")], "a conversion that failed was left behind"
    (tmp_path / "folder").mkdir()
    with pytest.raises(TableProblem, match="no file in it is a table"):
        Table.open(str(tmp_path / "folder"), str(tmp_path / "previews"))
    with pytest.raises(TableProblem, match="No such file"):
        Table.open(str(tmp_path / "gone"), str(tmp_path / "previews"))


def test_without_a_place_to_write_a_temporary_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    table = Table.open(str(tmp_path / "t.csv"), str(tmp_path / "file" / "previews"))
    assert table.page(0, 1) == [(1, 2)] and [*(tmp_path / "tmp").rglob("*.parquet")]
    table.close()


# SQL


def test_sql_over_outputs(tmp_path: Path, frame: polars.DataFrame) -> None:
    frame.write_parquet(tmp_path / "features")
    (tmp_path / "names.csv").write_text("name,team\nann,1\nBob,2\n")
    tables = {"features": str(tmp_path / "features"), "names": str(tmp_path / "names.csv"), "unused": str(tmp_path / "nowhere")}
    result = query(
        "SELECT team, count(*) n FROM features JOIN names USING (name) GROUP BY 1 ORDER BY 1;", tables, str(tmp_path / "previews")
    )
    counts = frame["name"].to_list()
    assert result.page(0, 9) == [(1, counts.count("ann")), (2, counts.count("Bob"))]
    result.arrange(("n", True), "n>0")
    assert result.rows == 2
    result.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{secret}')", "SELECT * FROM '{secret}'", "COPY (SELECT 1) TO '{made}'", "SELECT * FROM t; DROP VIEW t",
        "ATTACH '{made}' AS x", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access=true", "CREATE TABLE x AS SELECT 1", "DROP VIEW t", "SELECT 1) TO '{made}' --",
        "SELECT getenv('HOME')", "SELECT * FROM read_text('{secret}')", "SELECT * FROM glob('{folder}/*')", "PRAGMA database_list", "EXPLAIN ANALYZE SELECT 1", "SELEC", "",
        "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')", "CALL pragma_version()", "SELECT * FROM nowhere", "VACUUM", "EXPORT DATABASE '{made}'", "SELECT read_blob('{secret}')",
    ],
)  # fmt: skip
def test_sql_sees_nothing_else_and_writes_nothing(tmp_path: Path, sql: str) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.csv").write_text("a,b\n3,4\n")
    made = tmp_path / "made"
    text = sql.format(secret=tmp_path / "secret.csv", made=made, folder=tmp_path)
    with pytest.raises(TableProblem) as caught:
        query(text, {"t": str(tmp_path / "t.csv")}, str(tmp_path / "previews"))
    assert "\n" not in str(caught.value) and living(str(caught.value)) == []
    assert not made.exists() and not [*(tmp_path / "previews").glob("result*")]


def test_a_long_query_stops_at_once_when_told_to(tmp_path: Path) -> None:
    polars.DataFrame({"n": range(100_000)}).write_parquet(tmp_path / "n.parquet")

    def told(interrupt: Any) -> None:
        threading.Timer(0.5, interrupt).start()

    started = time.monotonic()
    with pytest.raises(Interrupted):
        query(
            "SELECT count(*) FROM n a, n b, n c WHERE a.n + b.n * c.n = 7",
            {"n": str(tmp_path / "n.parquet")},
            str(tmp_path),
            started=told,
        )
    assert time.monotonic() - started < 5


def test_hostile_columns_and_values_come_back_as_they_are(tmp_path: Path) -> None:
    texts = [text for text in ALL if text.isprintable() or not any("\ud800" <= c <= "\udfff" for c in text)]
    names = list(dict.fromkeys(text[:50].lower() for text in texts if text and "\0" not in text))
    values = dict.fromkeys(names, texts)
    polars.DataFrame(values).write_parquet(tmp_path / "h.parquet")
    table = Table.open(str(tmp_path / "h.parquet"), str(tmp_path))
    assert [column.name for column in table.columns] == names
    assert [row[0] for row in table.page(0, 999)] == texts
    for name in names:
        table.arrange((name, False))
        table.profile(name)
    table.close()


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_a_view_is_exported_as_it_is_shown_and_nothing_is_overwritten(table: Table, tmp_path: Path, kind: str) -> None:
    table.arrange(("id", True), "k<5")
    path = tmp_path / f"out [x].{kind}"
    assert table.export(str(path)) == table.rows
    again = Table.open(str(path), str(tmp_path / "previews"))
    assert [row[0] for row in again.page(0, 9999)] == [row[0] for row in table.page(0, 9999)] and [
        c.name for c in again.columns
    ] == ["id", "k", "f", "name", "d"]
    again.close()
    before = path.read_bytes()
    with pytest.raises(TableProblem, match="there already"):
        table.export(str(path))
    with pytest.raises(TableProblem, match="must end with"):
        table.export(str(tmp_path / "x.xlsx"))
    with pytest.raises(TableProblem):
        table.export(str(tmp_path / "nowhere" / f"x.{kind}"))
    assert path.read_bytes() == before and not [name for name in tmp_path.iterdir() if name.suffix.strip(".").isdigit()]


def test_columns_may_be_called_anything(tmp_path: Path) -> None:
    polars.DataFrame(
        {"r": [2, 1], "R2": [3, 4], "rowid": [5, 6], "select": ["a", "b"], "v": [7, 8], "value": ["$1", "$value"]}
    ).write_parquet(tmp_path / "t.parquet")
    table = Table.open(str(tmp_path / "t.parquet"), str(tmp_path))
    table.arrange(("r", False), "r>0 select!=z value:$value")
    assert table.page(0, 9) == [(1, 4, 6, "b", 8, "$value")]
    assert all(table.profile(column.name).rows == 2 for column in table.columns)
    assert table.export(str(tmp_path / "out.csv")) == 1
    table.close()
