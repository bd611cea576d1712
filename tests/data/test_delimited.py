"""Delimited text against the csv module and pandas, and what is said where it does not fit."""

from __future__ import annotations

import io
import math
from datetime import datetime
from typing import Any

import pytest
from corpus import sample
from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import ColumnType, DelimitedReader
from reading import names, opened, rows
from worlds import World


def _texts(found: list[tuple[Any, ...]]) -> list[list[str]]:
    return [["" if value is None else value for value in row] for row in found]


@pytest.mark.parametrize("seed", range(40))
def test_every_value_is_what_the_csv_module_reads(world: World, seed: int) -> None:
    made = sample(seed)
    world.write("a.csv", made.text)
    reader = DelimitedReader(separator=made.separator, infer_column_types=False)
    assert names(world, "a.csv", reader) == made.names
    assert _texts(rows(world, "a.csv", reader)) == made.rows


@pytest.mark.parametrize("seed", range(40))
def test_types_and_values_are_those_of_pandas(world: World, seed: int) -> None:
    pandas = pytest.importorskip("pandas")
    made = sample(seed)
    world.write("a.csv", made.text)
    days = [name for name in ("day", "moment") if name in made.names]
    frame = pandas.read_csv(io.StringIO(made.text), sep=made.separator, keep_default_na=False, na_values=[""], parse_dates=days)
    found = rows(world, "a.csv", DelimitedReader(separator=made.separator))
    assert len(found) == len(frame)
    for at, name in enumerate(made.names):
        for ours, theirs in zip((row[at] for row in found), frame[name], strict=True):
            assert _same(ours, theirs), (name, ours, theirs)


def _same(ours: Any, theirs: Any) -> bool:
    import pandas

    if ours is None or theirs is None or theirs is pandas.NaT or (isinstance(theirs, float) and math.isnan(theirs)):
        return ours is None and bool(pandas.isna(theirs))
    if isinstance(ours, datetime):
        return ours == pandas.Timestamp(theirs).to_pydatetime()
    if isinstance(ours, bool) or isinstance(theirs, str):
        return str(ours).lower() == str(theirs).lower() if isinstance(ours, bool) else str(ours) == theirs
    return math.isclose(float(ours), float(theirs), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("utf8", "utf-8"), ("utf8", "utf-8-sig"), ("utf8bom", "utf-8-sig"), ("latin1", "latin-1"), ("iso88591", "latin-1"),
     ("windows1252", "cp1252"), ("utf16", "utf-16"), ("utf32", "utf-32"), ("shift_jis", "shift_jis"), ("cp437", "cp437")],
)  # fmt: skip
def test_encodings(world: World, encoding: str, codec: str) -> None:
    text = "日本" if codec in ("shift_jis", "utf-16", "utf-32", "utf-8") else "zwölf"
    world.write("a.csv", f'näme,v\n"{text}\nx",1\n'.replace("ä", "ä" if codec != "shift_jis" else "a").encode(codec))
    assert rows(world, "a.csv", DelimitedReader(encoding=encoding)) == [(f"{text}\nx", 1)]


@pytest.mark.parametrize(
    ("encoding", "data", "line"),
    [("utf8", b"a,b\n1,2\n3,\xff\n", 3), ("ascii", b"a,b\n1,\xe4\n", 2), ("utf16", "a,b\n1,2\n".encode("utf-16") + b"\x00", None),
     ("windows1252", b"a,b\nx,y\nz,\x81\n", 3)],
)  # fmt: skip
def test_bytes_that_are_no_text_are_named_by_line(world: World, encoding: str, data: bytes, line: int | None) -> None:
    world.write("a.csv", data)
    with pytest.raises(InputError, match=f"a.csv:{line}: .* is no {encoding}" if line else "a.csv") as caught:
        rows(world, "a.csv", DelimitedReader(encoding=encoding))
    assert "encoding=" in caught.value.hint


LONG = (("v", ColumnType("long")),)


@pytest.mark.parametrize(
    ("body", "reader", "said"),
    [
        ("id,v\n1,2\n2,1.5\n", DelimitedReader(column_types=LONG), r"a.csv:3: column 'v': '1.5' is no whole number"),
        ("id,v\n1,2\n2,1e3\n", DelimitedReader(column_types=LONG), r"a.csv:3: column 'v': '1e3' is no whole number"),
        ('id,v\n"x\ny",2\n2,z\n', DelimitedReader(column_types=LONG), r"a.csv:4: column 'v': 'z' is no whole number"),
        ("\n\nid,v\n\n1,2\n\n2,z\n", DelimitedReader(column_types=LONG), r"a.csv:7: column 'v': 'z' is no whole number"),
        ("id,v\n1,99999999999999999999\n", DelimitedReader(column_types=LONG), r"a.csv:2: column 'v'"),
        ("id,v\n1,maybe\n", DelimitedReader(column_types=(("v", ColumnType("bool")),)), r"a.csv:2: column 'v': 'maybe' is no true or false"),
        ("id,v\n1,1,5\n", DelimitedReader(), r"a.csv:2: too many values, 2 columns were expected"),
        ("id,v\n1,2\n3\n", DelimitedReader(), r"a.csv:3: too few values, 2 columns were expected"),
        ("id,v\n1,2\n3,\"x\n", DelimitedReader(), r"a.csv:3: a quoted value does not end"),
        ("id,v\n1,2\r\n", DelimitedReader(), r"a.csv:2: the line ends with \\r\\n, those before it with \\n"),
        ("id,v\n1,31/12/2020\n1,30/02/2020\n", DelimitedReader(column_types=(("v", ColumnType("datetime", formats=("%d/%m/%Y",))),)),
         r"a.csv:3: column 'v': '30/02/2020' is no date or time in the formats %d/%m/%Y"),
        ("id,v\n1,2020-13-01\n", DelimitedReader(column_types=(("v", ColumnType("datetime")),)), r"a.csv:2: column 'v'"),
        ("id;v\n1;1.5\n", DelimitedReader(separator=";", column_types=(("v", ColumnType("float", decimal_mark=",")),)), r"a.csv:2: column 'v'"),
        ("id,v\n1,2\n", DelimitedReader(column_types=(("w", ColumnType("long")),)), r"there is no column 'w'"),
        ("", DelimitedReader(), r"a.csv is empty"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_by_file_line_and_column(world: World, body: str, reader: DelimitedReader, said: str) -> None:
    world.write("a.csv", body)
    with pytest.raises(InputError, match=said):
        rows(world, "a.csv", reader)


def test_a_misfit_in_the_second_file_behind_a_large_first_one(world: World) -> None:
    world.write("d/a.csv", "id,v\n" + "".join(f'"{n}\n",{n}\n' for n in range(3000)))
    world.write("d/b.csv", "id,v\n" + "".join(f"{n},{n}\n" for n in range(5)) + "7,seven\n")
    with pytest.raises(InputError, match=r"^d/b.csv:7: column 'v': 'seven' is no whole number"):
        rows(world, "d/*.csv", DelimitedReader(column_types=LONG))


def test_a_value_that_first_misfits_behind_the_rows_that_types_were_inferred_from(world: World) -> None:
    world.write("a.csv", "id,v\n" + "".join(f"{n},{n}\n" for n in range(100)) + "100,1.5\n")
    with pytest.raises(InputError, match=r"a.csv:102: column 'v': '1.5' is no whole number.*as inferred") as caught:
        rows(world, "a.csv", DelimitedReader(infer_rows=50))
    assert "set_column_types" in caught.value.hint


def test_misfits_become_null_only_where_asked_and_are_counted(world: World) -> None:
    world.write("a.csv", "id,v,w\n1,2,x\n2,z,y\n3\n4,1.5,\n")
    reader = DelimitedReader(column_types=LONG, on_error="null")
    with opened(world, "a.csv", reader) as table:
        assert table.rows() == [(1, 2, "x"), (2, None, "y"), (3, None, None), (4, None, None)]
        assert table.problems() == (("v", 2),)


def test_times_keep_their_zone_by_becoming_utc(world: World) -> None:
    world.write("a.csv", "t\n2020-01-01T00:00:00+02:00\n2020-01-01 00:00:00.25-01\n2020-01-01T12:00:00Z\n2020-01-02\n")
    found = [row[0] for row in rows(world, "a.csv", DelimitedReader())]
    assert found == [
        datetime(2019, 12, 31, 22), datetime(2020, 1, 1, 1, 0, 0, 250000), datetime(2020, 1, 1, 12), datetime(2020, 1, 2)
    ]  # fmt: skip


def test_ambiguous_days_stay_text_and_large_numbers_keep_their_digits(world: World) -> None:
    world.write("a.csv", "d,n\n01/02/2020,12345678901234567890\n03/04/2020,1\n")
    assert rows(world, "a.csv", DelimitedReader()) == [("01/02/2020", "12345678901234567890"), ("03/04/2020", "1")]


def test_decimal_marks(world: World) -> None:
    world.write("b.csv", "id;v\n1;1,5\n2;-2\n3;\n")
    reader = DelimitedReader(separator=";", column_types=(("v", ColumnType("float", decimal_mark=",")),))
    assert rows(world, "b.csv", reader) == [(1, 1.5), (2, -2.0), (3, None)]


def test_empty_values(world: World) -> None:
    world.write("a.csv", 'a,b,n\n,"",1\nx,y,\n')
    assert rows(world, "a.csv", DelimitedReader()) == [(None, None, 1), ("x", "y", None)]
    assert rows(world, "a.csv", DelimitedReader(empty_as_string=True)) == [("", "", 1), ("x", "y", None)]


def test_headers(world: World) -> None:
    world.write("d/1.csv", "a,b\n1,2\n")
    world.write("d/2.csv", "a,b\n3,4\n")
    world.write("e/1.csv", "a,b\n1,2\n")
    world.write("e/2.csv", "b,c\n3,4\n")
    world.write("f/1.csv", "a,b\n1,2\n")
    world.write("f/2.csv", "3,4\n")
    assert rows(world, "d", DelimitedReader()) == [(1, 2), (3, 4)]
    assert rows(world, "d", DelimitedReader(header="none"))[0] == ("a", "b")
    assert names(world, "d", DelimitedReader(header="none")) == ["Column1", "Column2"]
    assert rows(world, "f", DelimitedReader(header="first_file")) == [(1, 2), (3, 4)]
    assert rows(world, "e", DelimitedReader(header="combine")) == [(1, 2, None), (None, 3, 4)]
    with pytest.raises(InputError, match=r"e/2.csv:1: the header lacks 'a' and has 'c', unlike e/1.csv"):
        rows(world, "e", DelimitedReader())


def test_names_that_are_empty_or_repeated(world: World) -> None:
    world.write("a.csv", "a,,A,a\n1,2,3,4\n")
    assert names(world, "a.csv", DelimitedReader()) == ["a", "Column2", "A_2", "a_3"]


def test_names_and_paths_with_quotes(world: World) -> None:
    world.write('it\'s "odd".csv', 'a\'b,"c""d",x y\n1,2,3\n')
    reader = DelimitedReader(column_types=(('c"d', ColumnType("string")),), include_path=True)
    assert rows(world, 'it\'s "odd".csv', reader) == [('it\'s "odd".csv', 1, "2", 3)]


def test_lines_within_quotes_stay_whole_in_a_large_file_read_by_many_threads(world: World) -> None:
    count = 60_000
    body = "".join(f'{n},"line one of {n}\nline ""two"", with comma",{n * 2}\n' for n in range(count))
    world.write("a.csv", "id,text,double\n" + body)
    with opened(world, "a.csv", DelimitedReader()) as table:
        answer = table.query(f"SELECT count(*), sum(id), sum(double), min(length(text)) FROM ({table.sql})")[0]
        assert answer == (count, count * (count - 1) // 2, count * (count - 1), len('line one of 0\nline "two", with comma'))
        assert [row[0] for row in table.query(f"SELECT id FROM ({table.sql})")] == list(range(count))


def test_a_separator_of_two_characters(world: World) -> None:
    world.write("a.csv", "a||b\n1||x|y\n")
    assert rows(world, "a.csv", DelimitedReader(separator="||")) == [(1, "x|y")]
