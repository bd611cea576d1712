"""Versions pin definition and content; data that moved is seen; differences of rows; expectations."""

from __future__ import annotations

import os
import time

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import DatasetNotFoundError, InputError
from mlpipe_engine.model.datasets import (
    DatasetDefinition,
    DelimitedReader,
    Expectation,
    ExpectColumns,
    ExpectMaxAge,
    ExpectNulls,
    ExpectRange,
    ExpectRows,
    ExpectUnique,
    KeepColumns,
    Moved,
    TakeRows,
)
from reading import definition
from worlds import World

CSV = DelimitedReader()


@pytest.fixture
def engine(world: World) -> Engine:
    world.write("a.csv", "id,v\n" + "".join(f"{n},{n * 2}\n" for n in range(10)))
    return Engine.open(str(world.root))


def test_the_same_again_is_the_same_version(engine: Engine, world: World) -> None:
    first, new = engine.register_dataset("a", definition("a.csv", CSV), tags={"team": "x"}, description="numbers")
    assert (first.version, new, first.tags, first.description) == (1, True, (("team", "x"),), "numbers")
    assert [column.type for column in first.schema] == ["BIGINT", "BIGINT"]
    os.utime(world.root / "a.csv", (1, 1))
    assert engine.register_dataset("a", definition("a.csv", CSV)) == (first, False)
    with pytest.raises(InputError, match="There is already a dataset registered under name 'a'"):
        engine.register_dataset("a", definition("a.csv", CSV, TakeRows(1)))
    second, new = engine.register_dataset("a", definition("a.csv", CSV, TakeRows(1)), create_new_version=True)
    assert (second.version, new) == (2, True)
    assert engine.dataset("a") == second and engine.dataset("a", 1) == first
    assert [record.version for record in engine.dataset_versions("a")] == [1, 2]


def test_data_that_moved_under_a_version(engine: Engine, world: World) -> None:
    world.write("d/1.csv", "id\n1\n")
    world.write("d/2.csv", "id\n2\n")
    record, _ = engine.register_dataset("d", definition("d/*.csv", CSV))
    assert not engine.moved(record)
    world.write("d/2.csv", "id\n3\n")
    world.write("d/3.csv", "id\n3\n")
    (world.root / "d/1.csv").unlink()
    assert engine.moved(record) == Moved(added=("3.csv",), removed=("1.csv",), changed=("2.csv",))
    found = engine.diff_datasets(record, None)
    assert found.files == engine.moved(record) and not found.same and found.rows is None
    for name in ("2.csv", "3.csv"):
        (world.root / "d" / name).unlink()
    assert engine.moved(record).removed == ("1.csv", "2.csv")
    assert engine.dataset("d", 1).content == record.content


def test_a_dataset_that_cannot_be_read_is_not_registered(engine: Engine, world: World) -> None:
    world.write("bad.csv", "a,b\n1\n")
    with pytest.raises(InputError, match="bad.csv:2: too few values"):
        engine.register_dataset("bad", definition("bad.csv", CSV))
    with pytest.raises(InputError, match="nope.csv"):
        engine.register_dataset("bad", definition("nope.csv", CSV))
    with pytest.raises(InputError, match="the dataset name 'a/b'"):
        engine.register_dataset("a/b", definition("a.csv", CSV))
    assert engine.datasets() == ()


def test_names_that_are_not_there(engine: Engine) -> None:
    engine.register_dataset("flights", definition("a.csv", CSV))
    with pytest.raises(DatasetNotFoundError, match=r"Cannot find dataset registered with name 'flight'; did you mean 'flights'"):
        engine.dataset("flight")
    with pytest.raises(DatasetNotFoundError, match="dataset 'flights' has no version 7; expected one of 1"):
        engine.dataset("flights", 7)


def test_numbers_are_not_given_again(engine: Engine) -> None:
    engine.register_dataset("a", definition("a.csv", CSV))
    engine.register_dataset("a", definition("a.csv", CSV, TakeRows(1)), create_new_version=True)
    assert engine.unregister_dataset("a") == 2
    with pytest.raises(DatasetNotFoundError):
        engine.dataset("a")
    assert engine.register_dataset("a", definition("a.csv", CSV))[0].version == 3


def test_what_is_said_of_a_version_may_change(engine: Engine) -> None:
    engine.register_dataset("a", definition("a.csv", CSV), tags={"x": "1"})
    changed = engine.describe_dataset("a", 1, tags={"y": "2"})
    assert changed.tags == (("y", "2"),) and engine.describe_dataset("a", 1, description="d").tags == (("y", "2"),)


def test_file_datasets_are_registered_too(engine: Engine, world: World) -> None:
    world.write("img/a.png", b"1")
    record, _ = engine.register_dataset("img", DatasetDefinition(kind="file", paths=("img",)))
    assert (record.file_count, record.size_bytes, record.schema) == (1, 1, ())
    world.write("img/b.png", b"2")
    assert engine.moved(record).added == ("b.png",)


def test_the_same_definition_and_content_gives_one_version_to_many_at_once(world: World) -> None:
    import threading

    world.write("a.csv", "id\n1\n")
    Engine.open(str(world.root)).register_dataset("other", definition("a.csv", CSV))
    made: list[tuple[int, bool]] = []

    def register() -> None:
        engine = Engine.open(str(world.root))
        record, new = engine.register_dataset("a", definition("a.csv", CSV), create_new_version=True)
        made.append((record.version, new))
        engine.close()

    threads = [threading.Thread(target=register) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [(1, False)] * 5 + [(1, True)]


# -- differences ---------------------------------------------------------------------------------------------------------


def _two(engine: Engine, world: World, before: str, after: str, reader: DelimitedReader = CSV, *, key: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    world.write("one.csv", before)
    world.write("two.csv", after)
    left, _ = engine.register_dataset("one", definition("one.csv", reader))
    right, _ = engine.register_dataset("two", definition("two.csv", reader))
    return engine.diff_datasets(left, right, key=key)


def test_rows_by_key(engine: Engine, world: World) -> None:
    before = "id,v,s\n" + "".join(f"{n},{n},x\n" for n in range(100))
    after = "id,v,s\n" + "".join(f"{n},{n if n != 50 else 7},{'x' if n != 60 else ''}\n" for n in range(1, 102))
    found = _two(engine, world, before, after, key=("id",)).rows
    assert (found.before, found.after, found.added, found.removed, found.changed) == (100, 101, 2, 1, 2)
    assert [row.key for row in found.changed_examples] == [(50,), (60,)]
    assert found.changed_examples[0].changes == (("v", 50, 7),) and found.changed_examples[1].changes == (("s", "x", None),)
    assert found.added_examples == ((100, 100, "x"), (101, 101, "x")) and found.removed_examples == ((0, 0, "x"),)


def test_rows_without_a_key_are_a_multiset(engine: Engine, world: World) -> None:
    found = _two(engine, world, "a\n1\n1\n2\n", "a\n1\n2\n2\n3\n")
    assert (found.rows.added, found.rows.removed) == (2, 1)
    assert found.rows.added_examples == ((2,), (3,)) and found.rows.removed_examples == ((1,),)
    assert {(change.statistic, change.before, change.after) for change in found.statistics} >= {
        ("count", 3, 4),
        ("maximum", 2, 3),
    }


def test_columns_that_come_go_and_change_their_type(engine: Engine, world: World) -> None:
    found = _two(engine, world, "id,a,b\n1,1,x\n2,2,y\n", "id,a,c\n1,1,z\n2,q,z\n", key=("id",))
    assert [(change.column, change.before, change.after) for change in found.schema] == [
        ("a", "BIGINT", "VARCHAR"), ("b", "VARCHAR", ""), ("c", "", "VARCHAR")
    ]  # fmt: skip
    assert (found.rows.added, found.rows.removed, found.rows.changed) == (0, 0, 1)


def test_a_key_that_is_not_unique(engine: Engine, world: World) -> None:
    with pytest.raises(InputError, match="the key id is not unique in what was there after: 1 comes more than once"):
        _two(engine, world, "id\n1\n", "id\n1\n1\n", key=("id",))
    with pytest.raises(InputError, match="the key 'x' is no column of both sides"):
        engine.diff_datasets(engine.dataset("one"), engine.dataset("two"), key=("x",))


def test_a_key_that_was_only_expected_to_be_unique_gives_way_to_whole_rows(engine: Engine, world: World) -> None:
    world.write("one.csv", "id,x\n1,1\n2,2\n")
    world.write("two.csv", "id,x\n1,1\n1,2\n")
    left, _ = engine.register_dataset("one", definition("one.csv", CSV), expectations=[ExpectUnique(("id",))])
    right, _ = engine.register_dataset("two", definition("two.csv", CSV))
    rows = engine.diff_datasets(left, right).rows
    assert (rows.key, rows.added, rows.removed) == ((), 1, 1)
    assert rows.note == "the key id is not unique in what was there after: 1 comes more than once; whole rows are compared"
    assert world.cli("data", "diff", "one", "two").stdout.count("; whole rows are compared") == 1


def test_equal_content_is_not_read(engine: Engine, world: World) -> None:
    first, _ = engine.register_dataset("a", definition("a.csv", CSV))
    second, _ = engine.register_dataset("b", definition("a.csv", CSV))
    assert engine.diff_datasets(first, second).same
    third, _ = engine.register_dataset("c", definition("a.csv", CSV, KeepColumns(("id",))))
    found = engine.diff_datasets(first, third)
    assert not found.same and [part for part, _, _ in found.definition] == ["operations"] and found.schema[0].column == "v"


# -- expectations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expectation", "holds", "said"),
    [
        (ExpectColumns((("id", "long"), ("s", ""))), True, "they are there"),
        (ExpectColumns((("id", "string"),)), False, "'id' is BIGINT, not string"),
        (ExpectColumns((("id", ""),), exact=True), False, "'v', 's', 't' too"),
        (ExpectColumns((("zz", ""),)), False, "there is no column 'zz'"),
        (ExpectRows(3, 3), True, "found 3"),
        (ExpectRows(4), False, "at least 4 rows: found 3"),
        (ExpectRows(None, 2), False, "at most 2 rows: found 3"),
        (ExpectNulls("v", 0.4), True, "33.33% (1 of 3)"),
        (ExpectNulls("v", 0.3), False, "at most 30% null: found 33.33%"),
        (ExpectNulls("nope"), False, "there is no column 'nope'"),
        (ExpectUnique(("id",)), True, "no two rows agree"),
        (ExpectUnique(("s",)), False, "1 key comes more than once"),
        (ExpectUnique(("s", "id")), True, "no two rows agree"),
        (ExpectUnique(("v",)), False, "1 row holds null there"),
        (ExpectRange("id", 1, 3), True, "0 values outside"),
        (ExpectRange("id", 2), False, "1 value outside, found 1 to 3"),
        (ExpectRange("t", "2026-01-01", "2026-01-31"), False, "1 value outside"),
        (ExpectRange("s", "a", "b"), True, "0 values outside"),
        (ExpectMaxAge(3600), True, "the newest file at most 1 hour old"),
        (ExpectMaxAge(3600, "t"), False, "old (2026-02-01 00:00:00)"),
    ],
)
def test_expectations(engine: Engine, world: World, expectation: Expectation, holds: bool, said: str) -> None:
    world.write("e.csv", "id,v,s,t\n1,1,a,2026-01-01\n2,,a,2026-01-31\n3,3,b,2026-02-01\n")
    (verdict,) = engine.check_dataset(definition("e.csv", CSV), (expectation,))
    assert (verdict.holds, said in verdict.text) == (holds, True), verdict.text


def test_an_old_file(engine: Engine, world: World) -> None:
    old = time.time() - 7200
    os.utime(world.root / "a.csv", (old, old))
    (verdict,) = engine.check_dataset(definition("a.csv", CSV), (ExpectMaxAge(3600),))
    assert not verdict.holds and "it is 2 hours old" in verdict.text


def test_expectations_of_files(engine: Engine, world: World) -> None:
    files = DatasetDefinition(kind="file", paths=("*.csv",))
    rows, nulls = engine.check_dataset(files, (ExpectRows(1), ExpectNulls("x")))
    assert rows.holds and not nulls.holds and "a file dataset has no columns" in nulls.text
