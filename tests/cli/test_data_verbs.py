"""data ls, show, head, profile, diff, register, sql as a person types them."""

from __future__ import annotations

import json

import pytest
from worlds import World


@pytest.fixture
def sales(world: World) -> World:
    world.write("data/a.csv", 'id,name,price,day\n1,ann,1.5,2026-01-01\n2,"b, ob",2.5,2026-01-02\n3,,,\n')
    return world


def test_from_a_file_to_a_version_and_its_difference(sales: World) -> None:
    assert "no dataset is registered" in sales.cli("data", "ls").stdout
    made = sales.json("data", "register", "sales", "data/a.csv", "--unique", "id", "--min-rows", "2", "-t", "team=x")
    assert made["new"] is True and made["dataset"]["version"] == 1 and made["dataset"]["tags"] == {"team": "x"}
    assert sales.json("data", "register", "sales", "data/a.csv", "--unique", "id", "--min-rows", "2")["new"] is False
    assert [item["name"] for item in sales.json("data", "ls")["items"]] == ["sales"]
    shown = sales.cli("data", "show", "sales", "--check").stdout
    assert "state    as registered" in shown and "ok   unique 'id'" in shown
    sales.write("data/a.csv", "id,name,price,day\n1,ann,9,2026-01-01\n1,dup,3,2026-02-01\n")
    done = sales.cli("data", "show", "sales", "--check")
    assert (
        done.returncode == 1 and "the data moved under v1: files 1 changed" in done.stdout and "FAIL unique 'id'" in done.stdout
    )
    refused = sales.cli("data", "register", "sales", "data/a.csv")
    assert refused.returncode == 4 and "--new-version" in refused.stderr
    assert sales.json("data", "register", "sales", "data/a.csv", "--new-version")["dataset"]["version"] == 2
    assert [item["version"] for item in sales.json("data", "ls", "sales")["items"]] == [2, 1]
    assert sales.cli("data", "diff", "sales:1", "sales:2", "--exit-code").returncode == 1
    assert sales.json("data", "diff", "sales:2")["same"] is True


def test_rows_of_two_datasets_are_compared_by_key(sales: World) -> None:
    sales.write("data/b.csv", "id,name,price,day\n1,ann,7,2026-01-01\n4,eve,1,2026-01-05\n")
    sales.cli("data", "register", "a", "data/a.csv")
    sales.cli("data", "register", "b", "data/b.csv")
    text = sales.cli("data", "diff", "a", "b", "--key", "id").stdout
    assert "rows by id: 3 -> 2: 1 added, 2 removed, 1 changed" in text and "~ 1: price 1.5 -> 7" in text
    rows = sales.json("data", "diff", "a", "b", "--key", "id")["rows"]
    assert (rows["added"], rows["removed"], rows["changed"]) == (1, 2, 1)


def test_the_first_rows(sales: World) -> None:
    document = sales.json("data", "head", "data/a.csv", "-n", "2")
    assert document["rows"] == [["1", "ann", "1.5", "2026-01-01"], ["2", "b, ob", "2.5", "2026-01-02"]] and document["more"]
    sales.cli("data", "register", "sales", "data/a.csv")
    assert sales.cli("data", "head", "sales").stdout.splitlines()[-1] == "3 rows"
    sales.write("t.tsv", "a\tb\n1\t2\n")
    assert sales.json("data", "head", "t.tsv")["rows"] == [["1", "2"]]
    sales.write("x.jsonl", '{"a": 1, "b": {"c": "2026-01-01"}}\n')
    assert sales.json("data", "head", "x.jsonl")["rows"] == [[1, {"c": "2026-01-01"}]]
    sales.cli("data", "register", "files", "data", "--files")
    assert sales.json("data", "head", "files")["files"][0]["path"] == "a.csv"


def test_statistics(sales: World) -> None:
    document = sales.json("data", "profile", "data/a.csv")
    price = next(item for item in document["items"] if item["name"] == "price")
    assert (document["rows"], price["missing"], price["minimum"], price["maximum"], price["mean"]) == (3, 1, 1.5, 2.5, 2.0)
    assert list(price["quantiles"]) == ["0.001", "0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99", "0.999"]
    assert "3 rows, 4 columns" in sales.cli("data", "profile", "data/a.csv", "--core").stdout


def test_sql(sales: World) -> None:
    sales.cli("data", "register", "sales", "data/a.csv")
    document = sales.json("data", "sql", "SELECT name, price * 2 AS double FROM sales ORDER BY id")
    assert document["rows"] == [["ann", 3.0], ["b, ob", 5.0], [None, None]] and document["columns"][1]["type"] == "DOUBLE"
    assert sales.json("data", "sql", "SELECT count(*) FROM t", "-d", "t=data/*.csv")["rows"] == [[3]]
    assert sales.json("data", "sql", "SELECT * FROM range(10)", "-n", "3")["more"] is True


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("data", "hed", "x"), 2, "unknown command 'data hed'; did you mean 'data head'?"),
        (("data", "--x"), 2, "found '--x' behind `data`"),
        (("data", "head"), 2, "data head needs DATASET"),
        (("data", "head", "nope"), 4, "Cannot find dataset registered with name 'nope'"),
        (("data", "head", "data/nope.csv"), 4, "data/nope.csv, but no file or folder of that name exists"),
        (("data", "head", "data/a.xyz"), 4, "does not say how to read it"),
        (("data", "head", "data/a.csv", "--encoding", "utf-9"), 2, "unknown encoding 'utf-9'"),
        (("data", "show", "nope:x"), 4, "the version 'x' of 'nope'"),
        (("data", "ls", "nope"), 4, "there is no dataset or datastore 'nope'"),
        (("data", "register", "a/b", "data/a.csv"), 4, "the dataset name 'a/b'"),
        (("data", "sql", "COPY x TO 'y'"), 4, "the query is COPY; expected one SELECT"),
        (("data", "sql", "SELECT 1", "-d", "x"), 2, "--dataset got 'x'; expected NAME=PATH"),
        (("data", "profile", "bad.csv"), 4, "bad.csv:3: too few values"),
        (("data", "diff", "nope"), 4, "Cannot find dataset"),
    ],
)
def test_what_is_said_of_mistakes(sales: World, words: tuple[str, ...], code: int, said: str) -> None:
    sales.write("bad.csv", "a,b\n1,2\n3\n")
    sales.write("data/a.xyz", "x")
    done = sales.cli(*words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    document = json.loads(sales.cli(*words, "--json").stderr)["error"]
    assert document["exit"] == code


def test_help_of_verbs_of_two_words(world: World) -> None:
    assert "data profile" in world.cli("data").stdout and "usage: mlpipe-tui data VERB" in world.cli("data", "--help").stdout
    assert "usage: mlpipe-tui data head DATASET" in world.cli("data", "head", "--help").stdout
    assert "usage: mlpipe-tui data head DATASET" in world.cli("help", "data", "head").stdout


def test_a_hostile_table_cannot_move_the_cursor(world: World) -> None:
    world.write("a.csv", "a\x1b[31m,b\n\x1b]0;title\x07,x\u202ey\n")
    for words in (("head", "a.csv"), ("profile", "a.csv"), ("sql", "SELECT * FROM t", "-d", "t=a.csv")):
        text = world.cli("data", *words).stdout
        assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text


def test_the_first_rows_of_text_need_no_engine(sales: World) -> None:
    import subprocess
    import sys

    program = (
        "import sys; from mlpipe_engine.cli.main import main; main(['data', 'head', 'data/a.csv']); print(sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=sales.root, env=sales.environment(), capture_output=True, text=True, check=True
    )
    assert "'duckdb'" not in done.stdout and "'polars'" not in done.stdout and "'blake3'" not in done.stdout
