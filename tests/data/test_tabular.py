"""Operations, partitions and other readers over real files."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from datetime import datetime
from pathlib import Path

import duckdb
import pytest
from mlpipe_engine.data.files import chosen
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import (
    Call,
    ColumnRef,
    ColumnType,
    Constant,
    DatasetDefinition,
    DelimitedReader,
    DropColumns,
    FilterRows,
    Found,
    JsonLinesReader,
    KeepColumns,
    ParquetReader,
    RecentRows,
    SampleRows,
    SkipRows,
    SplitRows,
    SqlReader,
    TakeRows,
)
from reading import definition, names, opened, rows
from worlds import World


def _numbers(world: World, files: int = 3, each: int = 40) -> None:
    for file in range(files):
        body = "".join(f"{file * each + row},n{row % 3}\n" for row in range(each))
        world.write(f"d/part{file}.csv", "id,name\n" + body)


CSV = DelimitedReader()


def ids(found: list[tuple[object, ...]]) -> list[object]:
    return [row[0] for row in found]


def test_rows_come_in_the_order_of_files_and_lines(world: World) -> None:
    _numbers(world)
    assert ids(rows(world, "d/*.csv", CSV)) == list(range(120))
    assert ids(rows(world, "d/*.csv", CSV, SkipRows(35), TakeRows(10))) == list(range(35, 45))
    assert ids(rows(world, "d/*.csv", CSV, TakeRows(10), SkipRows(35))) == []


def test_columns(world: World) -> None:
    _numbers(world)
    assert rows(world, "d", CSV, KeepColumns(("name", "id")), TakeRows(1)) == [("n0", 0)]
    assert names(world, "d", CSV, DropColumns(("id",))) == ["name"]
    with pytest.raises(InputError, match="there is no column 'nme'; did you mean 'name'"):
        names(world, "d", CSV, KeepColumns(("nme",)))
    with pytest.raises(InputError, match="there is no column 'id'"):
        names(world, "d", CSV, DropColumns(("id",)), FilterRows(Call("is_null", (ColumnRef("id"),))))
    with pytest.raises(InputError, match="all columns are dropped"):
        names(world, "d", CSV, DropColumns(("id", "name")))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (Call(">", (ColumnRef("v"), Constant(2))), [3]),
        (Call("!=", (ColumnRef("v"), Constant(2))), [1, 3]),
        (Call("is_null", (ColumnRef("v"),)), [4]),
        (Call("not", (Call(">", (ColumnRef("v"), Constant(2))),)), [1, 2]),
        (Call("or", (Call("is_null", (ColumnRef("v"),)), Call("==", (ColumnRef("id"), Constant(1))))), [1, 4]),
        (Call("starts_with", (ColumnRef("s"), Constant("it'"))), [1]),
        (Call("contains", (ColumnRef("s"), Constant("%"))), [2]),
        (Call("ends_with", (ColumnRef("s"), Constant('"'))), [3]),
        (Call("in", (ColumnRef("id"), Constant(2), Constant(4))), [2, 4]),
        (Call("in", (ColumnRef("id"),)), []),
        (Call(">=", (ColumnRef("t"), Constant("2026-01-02T00:00:00", "datetime"))), [2, 3]),
        (Call("==", (Call("+", (ColumnRef("v"), ColumnRef("id"))), Constant(4))), [2]),
        (Call("==", (Call("%", (ColumnRef("id"), Constant(2))), Constant(0))), [2, 4]),
        (Call(">", (Call("length", (ColumnRef("s"),)), Constant(5))), [2]),
        (Call("==", (Call("negative", (ColumnRef("v"),)), Constant(-3.0))), [3]),
    ],
)
def test_filters(world: World, expression: Call, expected: list[int]) -> None:
    world.write("a.csv", 'id,v,s,t\n1,1,it\'s,2026-01-01\n2,2,100% of,2026-01-02\n3,3,"a""",2026-01-03\n4,,,\n')
    assert ids(rows(world, "a.csv", CSV, FilterRows(expression))) == expected


def test_a_split_is_exact_disjoint_and_the_same_whatever_the_order_and_place_of_files(world: World, tmp_path: Path) -> None:
    _numbers(world, files=3, each=37)
    total = 111
    for share in (0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0):
        low = ids(rows(world, "d", CSV, SplitRows(0.0, share, 7)))
        high = ids(rows(world, "d", CSV, SplitRows(share, 1.0, 7)))
        assert len(low) == int(share * total + 0.5)
        assert sorted([*low, *high]) == list(range(total))  # type: ignore[type-var]
        assert low == sorted(low)  # type: ignore[type-var]
    first = ids(rows(world, "d", CSV, SplitRows(0.0, 0.5, 7)))
    assert first != ids(rows(world, "d", CSV, SplitRows(0.0, 0.5, 8)))
    other = World(tmp_path / "elsewhere")
    _numbers(other, files=3, each=37)
    engine = Engine.open(str(other.root))
    split = definition("d", CSV, SplitRows(0.0, 0.5, 7))
    turned = engine.find(split)[::-1]
    with engine.table(split, turned) as table:
        assert sorted(ids(table.rows())) == first  # type: ignore[type-var]


def test_a_split_is_written_down(world: World) -> None:
    """The rows of a split are part of what experiments rest on: these may never change."""
    _numbers(world, files=2, each=10)
    assert ids(rows(world, "d", CSV, SplitRows(0.0, 0.25, 42))) == SPLIT
    assert ids(rows(world, "d", CSV, SampleRows(0.25, 42))) == SAMPLE


SPLIT = [4, 9, 10, 11, 14]
SAMPLE = [4, 9, 10, 11, 14]


def test_a_split_is_what_any_program_can_compute_that_knows_md5(world: World) -> None:
    _numbers(world, files=3, each=30)

    def rank(number: int) -> int:
        text = f"9:part{number // 30}.csv:{number % 30}"
        return int.from_bytes(hashlib.md5(text.encode()).digest(), "little")

    order = sorted(range(90), key=rank)
    assert ids(rows(world, "d", CSV, SplitRows(0.2, 0.7, 9))) == sorted(order[18:63])
    sample = [number for number in range(90) if rank(number) >> 64 < 0.4 * 2**64]
    assert ids(rows(world, "d", CSV, SampleRows(0.4, 9))) == sample


def test_a_split_of_parquet_is_that_of_the_same_rows_as_text(world: World) -> None:
    world.write("c/x.csv", "id\n" + "".join(f"{n}\n" for n in range(50)))
    duckdb.sql(f"COPY (SELECT range AS id FROM range(50)) TO '{world.root}/p.parquet'")
    text = ids(rows(world, "c/x.csv", CSV, SplitRows(0.0, 0.4, 1)))
    (world.root / "q").mkdir()
    (world.root / "p.parquet").rename(world.root / "q" / "x.csv")  # the name counts, the kind of file does not
    assert ids(rows(world, "q/x.csv", ParquetReader(), SplitRows(0.0, 0.4, 1))) == text


def test_splits_then_take_and_skip_keep_the_order_of_rows(world: World) -> None:
    _numbers(world)
    half = ids(rows(world, "d", CSV, SplitRows(0.0, 0.5, 3)))
    assert ids(rows(world, "d", CSV, SplitRows(0.0, 0.5, 3), SkipRows(5), TakeRows(7))) == half[5:12]
    assert ids(rows(world, "d", CSV, TakeRows(50), SplitRows(0.0, 1.0, 3))) == list(range(50))
    sample = ids(rows(world, "d", CSV, SampleRows(0.3, 3)))
    assert 15 < len(sample) < 60
    assert ids(rows(world, "d", CSV, SampleRows(0.3, 3), TakeRows(4))) == sample[:4]


def test_columns_from_paths_and_files_that_need_not_be_read(world: World) -> None:
    world.write("logs/2024/01/eu.csv", "id\n1\n")
    world.write("logs/2024/02/eu.csv", "id\n2\n")
    world.write("logs/2024/03/us.csv", "id\nbroken,line\n")
    world.write("logs/readme.csv", "id\n9\n")
    reader = DelimitedReader(partition_format="/{month:yyyy/MM}/{region}.csv", include_path=True)
    eu = FilterRows(Call("==", (ColumnRef("region"), Constant("eu"))))
    assert rows(world, "logs/**/*.csv", reader, eu) == [
        ("logs/2024/01/eu.csv", 1, "eu", datetime(2024, 1, 1)), ("logs/2024/02/eu.csv", 2, "eu", datetime(2024, 2, 1)),
    ]  # fmt: skip
    with pytest.raises(InputError, match="logs/2024/03/us.csv:2: too many values"):
        rows(world, "logs/**/*.csv", reader)
    (world.root / "logs/2024/03/us.csv").unlink()
    with opened(world, "logs/**/*.csv", reader) as table:
        assert table.rows()[-1] == ("logs/readme.csv", 9, None, None)
        assert table.notes == ("1 of 3 files does not match the partition_format; their columns made from the path are null",)


def test_hive_folders_become_columns(world: World) -> None:
    for year, name in (("2023", "a"), ("2024", "b"), ("2024", "__HIVE_DEFAULT_PARTITION__")):
        world.write(f"h/year={year}/name={name}/x.csv", "v\n1\n")
    found = rows(world, "h", DelimitedReader(hive_partitions=True))
    assert sorted(found, key=str) == [(1, 2023, "a"), (1, 2024, "b"), (1, 2024, None)]
    assert rows(
        world, "h", DelimitedReader(hive_partitions=True), FilterRows(Call("==", (ColumnRef("year"), Constant(2023))))
    ) == [(1, 2023, "a")]


def test_two_objects_of_equal_bytes_are_two_files(world: World) -> None:
    path = str(world.write("a.csv", "id\n1\n"))
    found = tuple(Found(f"{name}.csv", f"datastore://s/{name}.csv", 5, "b3:1", path) for name in "xy")
    reader = DelimitedReader(include_path=True)
    with Engine.open(str(world.root)).table(definition("a.csv", reader), found) as table:
        assert table.rows() == [("datastore://s/x.csv", 1), ("datastore://s/y.csv", 1)]


def test_the_order_of_many_rows_of_many_files_with_columns_from_paths(world: World) -> None:
    for file in range(70):
        world.write(f"m/{file:03}.csv", "id\n" + "".join(f"{file * 1000 + row}\n" for row in range(1000)))
    with opened(world, "m/*.csv", DelimitedReader(include_path=True)) as table:
        assert [row[1] for row in table.rows()] == list(range(70_000))


def test_recent_rows_are_those_before_the_moment_they_are_read(world: World) -> None:
    now = datetime.now()
    world.write("a.csv", f"id,t\n1,2001-01-01\n2,{now.year + 5}-01-01\n")
    assert rows(world, "a.csv", CSV, RecentRows("t", 40 * 366 * 86400.0)) == [(1, datetime(2001, 1, 1))]


def test_parquet_files_must_have_the_same_columns(world: World) -> None:
    duckdb.sql(f"COPY (SELECT 1 AS a) TO '{world.root}/1.parquet'")
    duckdb.sql(f"COPY (SELECT 2 AS a) TO '{world.root}/2.parquet'")
    assert rows(world, "*.parquet", ParquetReader()) == [(1,), (2,)]
    duckdb.sql(f"COPY (SELECT 3 AS a, 4 AS b) TO '{world.root}/3.parquet'")
    with pytest.raises(InputError, match="3.parquet: its columns are not those of 1.parquet; the first that differs is 'b'"):
        rows(world, "*.parquet", ParquetReader())
    world.write("4.parquet", b"PAR1 no parquet PAR1")
    with pytest.raises(InputError, match="4.parquet"):
        rows(world, "4.parquet", ParquetReader())
    assert rows(world, "1.parquet", ParquetReader(column_types=(("a", ColumnType("string")),))) == [("1",)]


def test_json_lines(world: World) -> None:
    world.write("a.jsonl", '{"a": 1, "b": {"c": [1, 2]}}\n\n{"a": 2, "d": "x"}\n')
    assert rows(world, "a.jsonl", JsonLinesReader()) == [(1, {"c": [1, 2]}, None), (2, None, "x")]
    world.write("b.jsonl", '{"a": 1}\n{"a": \n[1]\n{"a": 3}\n')
    with pytest.raises(InputError, match=r"b.jsonl:2: this line is no JSON object"):
        rows(world, "b.jsonl", JsonLinesReader())
    assert rows(world, "b.jsonl", JsonLinesReader(invalid_lines="drop")) == [(1,), (3,)]


def test_a_query_over_a_duckdb_file(world: World) -> None:
    connection = duckdb.connect(str(world.root / "d.db"))
    connection.execute("CREATE TABLE t AS SELECT range AS id, 'n' || range AS name FROM range(5)")
    connection.close()
    assert rows(world, "d.db", SqlReader(query="SELECT name FROM t WHERE id > 2 ORDER BY id DESC;")) == [("n4",), ("n3",)]
    for query, said in (
        ("DELETE FROM t", "the query is DELETE; expected one SELECT"),
        ("SELECT 1; SELECT 2", "the query is SELECT and SELECT"),
        ("SELECT nope FROM t", "the query over d.db failed"),
        ("selec", "the query cannot be read"),
    ):
        with pytest.raises(InputError, match=said):
            rows(world, "d.db", SqlReader(query=query))
    endless = "SELECT max(a.range * b.range) FROM range(10000000) a, range(1000000) b"
    with pytest.raises(InputError, match=r"the query took longer than 0.3 seconds"):
        rows(world, "d.db", SqlReader(query=endless, timeout_seconds=0.3))


def test_a_query_over_a_sqlite_file(world: World) -> None:
    database = sqlite3.connect(world.root / "s.db")
    database.execute("CREATE TABLE t (a, b, c, d)")
    database.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", [(1, 1, b"x", "t"), (2, 2.5, None, 3), (None, None, b"y", None)])
    database.commit()
    database.close()
    before = (world.root / "s.db").read_bytes()
    assert rows(world, "s.db", SqlReader(query="SELECT * FROM t")) == [
        (1, 1.0, b"x", "t"), (2, 2.5, None, "3"), (None, None, b"y", None)
    ]  # fmt: skip
    assert rows(world, "s.db", SqlReader(query="SELECT a FROM t WHERE a > 5")) == []
    for query in ("DELETE FROM t", "ATTACH 'x.db' AS y", "PRAGMA writable_schema = 1", "SELECT load_extension('x')"):
        with pytest.raises(InputError, match="s.db failed"):
            rows(world, "s.db", SqlReader(query=query))
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    with pytest.raises(InputError, match=r"the query took longer than 0.3 seconds"):
        rows(world, "s.db", SqlReader(query=endless, timeout_seconds=0.3))
    assert (world.root / "s.db").read_bytes() == before
    assert not (world.root / "x.db").exists()


def test_what_is_written_is_what_was_read(world: World) -> None:
    _numbers(world)
    with opened(world, "d", CSV) as table:
        expected = table.rows()
        assert table.write_parquet(str(world.root / "out/x.parquet")) == 120
        table.write_csv(str(world.root / "out/x.csv"), ";")
        table.write_partitions(str(world.root / "out/parts"), ["name"])
    assert rows(world, "out/x.parquet", ParquetReader()) == expected
    assert rows(world, "out/x.csv", DelimitedReader(separator=";")) == expected
    assert sorted(rows(world, "out/parts", ParquetReader(hive_partitions=True))) == expected
    assert sorted(path.name for path in (world.root / "out").iterdir()) == ["parts", "x.csv", "x.parquet"]


def test_nothing_is_left_of_a_write_that_fails(world: World) -> None:
    world.write("a.csv", "id\n" + "1\n" * 50 + "x\n")
    with opened(world, "a.csv", DelimitedReader(infer_rows=10)) as table:
        with pytest.raises(InputError, match="a.csv:52"):
            table.write_parquet(str(world.root / "out.parquet"))
        scratch = Path(table.scratch)
    assert not (world.root / "out.parquet").exists() and not scratch.exists()


def test_files_of_a_file_dataset(world: World) -> None:
    for number in range(20):
        world.write(f"f/{number:02}.bin", b"x" * number)
    found = Engine.open(str(world.root)).find(DatasetDefinition(kind="file", paths=("f",)))

    def taken(*operations: object, **more: object) -> list[str]:
        made = DatasetDefinition(kind="file", paths=("f",), operations=operations, **more)  # type: ignore[arg-type]
        return [item.path for item in chosen(made, found)]

    assert taken(SkipRows(3), TakeRows(2)) == ["03.bin", "04.bin"]
    low, high = taken(SplitRows(0.0, 0.3, 5)), taken(SplitRows(0.3, 1.0, 5))
    assert len(low) == 6 and sorted(low + high) == [item.path for item in found] and low == sorted(low)
    assert taken(FilterRows(Call(">", (ColumnRef("Size"), Constant(17))))) == ["18.bin", "19.bin"]
    part = FilterRows(Call("starts_with", (ColumnRef("n"), Constant("1"))))
    assert taken(part, TakeRows(1), partition_format="/{n}.bin") == ["10.bin"]
    with pytest.raises(InputError, match="there is no column 'Sise'; did you mean 'Size'"):
        taken(FilterRows(Call(">", (ColumnRef("Sise"), Constant(17)))))
    with pytest.raises(InputError, match="'>' cannot be applied to int and str"):
        taken(FilterRows(Call(">", (ColumnRef("Size"), Constant("x")))))
    with pytest.raises(InputError, match="KeepColumns works on rows"):
        taken(KeepColumns(("Size",)))


def test_a_profile_matches_what_plain_python_counts(world: World) -> None:
    import random
    import statistics

    rng = random.Random(5)
    values = [rng.gauss(10, 3) for _ in range(2000)]
    world.write("a.csv", "v,k,s,t\n" + "".join(
        f"{value!r},{number % 7},{'' if number % 10 == 0 else f's{number % 300}'},2026-01-{number % 28 + 1:02}\n"
        for number, value in enumerate(values)
    ))  # fmt: skip
    made = Engine.open(str(world.root)).profile(definition("a.csv", CSV))
    v, k, s, t = made.columns
    assert (made.rows, made.sampled) == (2000, False)
    assert (v.minimum, v.maximum) == (min(values), max(values))
    assert v.mean == pytest.approx(statistics.fmean(values)) and v.std == pytest.approx(statistics.stdev(values))
    assert v.quantiles[4] == pytest.approx(statistics.median(values), rel=0.02)
    assert v.distinct == pytest.approx(2000, rel=0.1)
    assert sum(count for _, _, count in v.histogram) == 2000
    assert (k.distinct, k.distinct_exact, k.missing) == (7, True, 0)
    assert dict(k.top_values) == {number: len(range(number, 2000, 7)) for number in range(7)}
    assert (s.missing, s.empty, s.distinct, s.distinct_exact) == (200, 0, 270, True)
    assert (t.minimum, t.maximum, t.distinct) == ("2026-01-01 00:00:00", "2026-01-28 00:00:00", 28)
    assert v.lower_whisker is not None and v.upper_whisker is not None and v.lower_whisker < v.upper_whisker


def test_what_is_no_number_does_not_spoil_a_profile(world: World) -> None:
    world.write("a.csv", "x,y\n1.5,1\n2.5,inf\nnan,2\n")
    x, y = Engine.open(str(world.root)).profile(definition("a.csv", CSV)).columns
    assert (x.mean, x.missing, x.minimum, x.maximum) == (2.0, 1, 1.5, 2.5)
    assert (y.mean, y.missing) == (1.5, 1)
    assert json.dumps([x.quantiles, y.quantiles])


def test_a_profile_is_kept_until_the_content_changes(world: World) -> None:
    world.write("a.csv", "x\n1\n2\n")
    engine = Engine.open(str(world.root))
    made = engine.profile(definition("a.csv", CSV))
    assert engine.profile(definition("a.csv", CSV)) == made
    world.write("a.csv", "x\n1\n5\n")
    assert engine.profile(definition("a.csv", CSV)).columns[0].maximum == 5


def test_a_profile_says_what_became_null(world: World) -> None:
    world.write("a.csv", "x\n1\nz\n")
    reader = DelimitedReader(column_types=(("x", ColumnType("long")),), on_error="null")
    made = Engine.open(str(world.root)).profile(definition("a.csv", reader))
    assert made.columns[0].errors == 1 and made.problems == ("column 'x': 1 value did not fit and became null",)


def test_an_empty_table_has_a_profile(world: World) -> None:
    world.write("a.csv", "x,y\n")
    made = Engine.open(str(world.root)).profile(definition("a.csv", CSV))
    assert (made.rows, [column.distinct for column in made.columns]) == (0, [0, 0])
