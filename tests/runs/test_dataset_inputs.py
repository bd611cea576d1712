"""Datasets as inputs of steps, in real runs: what a step finds, when it runs again, and what stops it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worlds import Done, World

READ = """
import json, os
from mlpipe_run import Run
run = Run.get_context()
found = {name: [os.path.basename(table), [list(row.values()) for row in table.rows()]] for name, table in run.input_datasets.items()}
open(os.environ["out"], "w").write(json.dumps(found, default=str))
"""


def define(world: World, inputs: str, before: str = "", more: str = "") -> None:
    """A step `s` that writes down what it finds in its inputs."""
    world.write("src/s.py", READ)
    world.define(f"""
{before}
s = PythonScriptStep("s.py", name="s", source_directory="src", inputs=[{inputs}], outputs=[PipelineData("out")]{more})
p = Pipeline(ws, [s], name="p")
""")


def found(done: Done) -> dict[str, list[object]]:
    assert done.states["s"] in ("succeeded", "reused"), done.step("s").error + done.log("s")
    document: dict[str, list[object]] = json.loads(done.output("s", "out"))
    return document


CSV = 't = Dataset.Tabular.from_delimited_files("t.csv")'


def test_a_table_arrives_as_one_parquet_file_and_as_csv_where_asked(world: World) -> None:
    world.write("t.csv", 'i;t\n1;a\n2;"b\nc"\n')
    define(
        world, 't.as_named_input("a"), t.filter(t["i"] > 1).as_named_input("b").as_mount(), t.as_named_input("c").as_download(format="csv")',
        't = Dataset.Tabular.from_delimited_files("t.csv", separator=";")',
    )  # fmt: skip
    done = world.run()
    assert found(done) == {
        "a": ["a.parquet", [[1, "a"], [2, "b\nc"]]],
        "b": ["b.parquet", [[2, "b\nc"]]],
        "c": ["c.csv", [["1", "a"], ["2", "b\nc"]]],
    }
    rows = {(port.kind, port.name): port.rows for port in done.engine.port_rows(done.record.id)}
    assert rows == {("input", "a"): 2, ("input", "b"): 1, ("input", "c"): 2}


def test_content_and_what_is_done_to_it_count_and_nothing_else_does(world: World) -> None:
    world.write("t.csv", "i,t\n1,a\n2,b\n")
    define(world, 't.as_named_input("a")', CSV)
    assert world.run().states == {"s": "succeeded"}
    os.utime(world.root / "t.csv")
    assert world.run().states == {"s": "reused"}
    (world.root / "data").mkdir()
    (world.root / "t.csv").rename(world.root / "data/other.csv")
    moved = CSV.replace("t.csv", "data/other.csv")
    define(world, 't.as_named_input("a")', moved)
    assert world.run().states == {"s": "reused"}
    define(world, 't.keep_columns(["i"]).as_named_input("a")', moved)
    done = world.run()
    assert found(done) == {"a": ["a.parquet", [[1], [2]]]}
    assert done.why("s") == "input a is read differently"
    world.write("data/other.csv", "i,t\n1,a\n3,b\n")
    done = world.run()
    assert found(done) == {"a": ["a.parquet", [[1], [3]]]} and done.why("s").startswith("input a ")


def test_the_name_of_a_file_counts_where_a_column_is_made_of_it(world: World) -> None:
    world.write("2024/t.csv", "i\n1\n")
    define(world, 't.as_named_input("a")', 't = Dataset.Tabular.from_delimited_files("*/t.csv", partition_format="{year}/t.csv")')
    assert found(world.run()) == {"a": ["a.parquet", [[1, "2024"]]]}
    (world.root / "2024").rename(world.root / "2025")
    assert found(world.run()) == {"a": ["a.parquet", [[1, "2025"]]]}


def test_the_table_is_made_once_for_all_steps_and_runs(world: World) -> None:
    world.write("t.csv", "i\n1\n")
    define(world, 't.as_named_input("a")', CSV)
    assert world.run().states == {"s": "succeeded"}
    kept = {path: path.stat().st_ctime_ns for path in (world.root / ".mlpipe/artifacts").rglob("*") if path.is_file()}
    world.write("src/s.py", READ + "\n# changed\n")
    assert world.run().states == {"s": "succeeded"}
    assert all(path.stat().st_ctime_ns == when for path, when in kept.items())
    assert not list((world.root / ".mlpipe/cache/making").iterdir())


def test_the_command_line_is_up_to_date_by_stats_alone(world: World) -> None:
    world.write("t.csv", "i\n1\n")
    define(world, 't.as_named_input("a")', CSV)
    for name in ("t.csv", "pipeline.py", "src/s.py"):
        os.utime(world.root / name, (time.time() - 100,) * 2)
    time.sleep(2.1)
    assert "1 ran" in world.cli("run").stdout
    assert "1 reused" in world.cli("run").stdout
    again = world.cli("run")
    assert "up to date" in again.stdout
    world.write("t.csv", "i\n2\n")
    assert "1 ran" in world.cli("run").stdout


def test_a_file_that_cannot_be_read_fails_the_step_with_its_place(world: World) -> None:
    world.write("t.csv", "i,t\n" + "".join(f"{i},a\n" for i in range(300)) + "x,a\n")
    define(
        world,
        't.as_named_input("a")',
        't = Dataset.Tabular.from_delimited_files("t.csv", set_column_types={"i": DataType.to_long()})',
    )
    done = world.run()
    assert done.states == {"s": "failed"}
    error = done.step("s").error
    assert error.startswith("input 'a': ") and "t.csv" in error and "302" in error and "'i'" in error, error
    world.write("t.csv", "i,t\n1,a\n")
    assert world.run().states == {"s": "succeeded"}


def test_expectations_are_checked_before_a_step_gets_the_data(world: World) -> None:
    world.write("t.csv", "i,t\n1,a\n1,b\n")
    define(world, 't.with_expectations(unique="i").with_expectations(min_rows=5, on_failure="warn").as_named_input("a")', CSV)
    done = world.run()
    assert done.states == {"s": "failed"}
    assert "input 'a': unique 'i': 1 key comes more than once" in done.step("s").error
    assert not (Path(done.engine.run_dir(done.record.id)) / "s/logs").exists()
    checks = {check.severity: (check.input, check.holds) for check in done.engine.checks(done.record.id)}
    assert checks == {"fail": ("a", False), "warn": ("a", False)}
    world.write("t.csv", "i,t\n1,a\n2,b\n")
    done = world.run()
    assert done.states == {"s": "succeeded"}
    shown = world.cli("show")
    assert "warning: input a of s: at least 5 rows: found 2" in shown.stdout, shown.stdout


def test_a_registered_dataset_is_looked_up_at_plan_time(world: World) -> None:
    world.write("t.csv", "i\n1\n")
    define(world, "Dataset.get_by_name(ws, 'numbers').as_named_input('a')")
    refused = world.cli("plan")
    assert refused.returncode == 3 and "Cannot find dataset registered with name 'numbers'" in refused.stderr
    script = "from mlpipe_engine import *\nws = Workspace.from_config()\n"
    register = script + CSV + '\nt.register(ws, "numbers", create_new_version=True)\n'
    run_script(world, register)
    assert found(world.run()) == {"a": ["a.parquet", [[1]]]}
    assert world.run().states == {"s": "reused"}
    world.write("t.csv", "i\n2\n")
    moved = world.cli("run")
    assert moved.returncode == 4 and "files of dataset numbers v1 are not those it was registered with" in moved.stderr
    assert "data diff numbers" in moved.stderr
    run_script(world, register)
    assert found(world.run()) == {"a": ["a.parquet", [[2]]]}
    define(world, "Dataset.get_by_name(ws, 'numbers', 1).as_named_input('a')")
    assert world.cli("run").returncode == 4
    world.write("t.csv", "i\n1\n")
    assert world.run().states == {"s": "reused"}


def run_script(world: World, text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=world.root, env=world.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_new_latest_version_ends_what_was_up_to_date(world: World) -> None:
    world.write("t.csv", "i\n1\n")
    world.write("u.csv", "i\n9\n")
    script = "from mlpipe_engine import *\nws = Workspace.from_config()\n"
    run_script(world, script + CSV + '\nt.register(ws, "numbers")\n')
    define(world, "Dataset.get_by_name(ws, 'numbers').keep_columns('i').as_named_input('a')")
    for _ in range(3):
        assert world.cli("run").returncode == 0
    run_script(world, script + CSV.replace("t.csv", "u.csv") + '\nt.register(ws, "numbers", create_new_version=True)\n')
    again = world.cli("run")
    assert "1 ran" in again.stdout, again.stdout
    assert found(world.run()) == {"a": ["a.parquet", [[9]]]}


def test_a_definition_that_registers_is_carried_out_by_the_run(world: World) -> None:
    world.write("t.csv", "i\n1\n")
    define(
        world,
        't.as_named_input("a")',
        CSV + '.with_expectations(min_rows=1).register(ws, "numbers", tags={"k": "v"}, create_new_version=True)',
    )
    assert world.cli("plan").returncode == 0
    assert not (world.root / ".mlpipe/state.db").exists()
    done = world.run()
    record = done.engine.dataset("numbers")
    assert (record.version, record.tags, len(record.expectations)) == (1, (("k", "v"),), 1)
    world.run()
    assert done.engine.dataset("numbers").version == 1
    world.write("t.csv", "i\n1\n2\n")
    world.run()
    assert done.engine.dataset("numbers").version == 2


@pytest.mark.parametrize("script", ["open(path, 'a').write('x')", "os.chmod(path, 0o644); open(path, 'a').write('x')"])
def test_a_step_that_changes_what_it_was_lent_fails_and_the_table_is_made_again(world: World, script: str) -> None:
    world.write("t.csv", "i\n1\n")
    define(world, 't.as_named_input("a").as_mount()', CSV)
    world.write(
        "src/s.py", f"import os\npath = os.path.realpath(os.environ['a'])\n{script}\nopen(os.environ['out'], 'w').close()\n"
    )
    done = world.run()
    assert done.states == {"s": "failed"}
    world.write("src/s.py", READ)
    assert found(world.run()) == {"a": ["a.parquet", [[1]]]}


def test_file_datasets_choose_among_files_and_the_others_do_not_count(world: World) -> None:
    for name in ("a", "b", "c"):
        world.write(f"f/{name}.txt", name)
    world.write("src/s.py", "import os\nopen(os.environ['out'], 'w').write(' '.join(sorted(os.listdir(os.environ['f']))))\n")
    world.define("""
f = Dataset.File.from_files("f/*.txt").take(2)
s = PythonScriptStep("s.py", name="s", source_directory="src", inputs=[f.as_named_input("f")], outputs=[PipelineData("out")])
d = PythonScriptStep("s.py", name="d", source_directory="src", inputs=[f.as_named_input("f").as_download()], outputs=[PipelineData("out")])
p = Pipeline(ws, [s, d], name="p")
""")
    done = world.run()
    assert done.output("s", "out") == done.output("d", "out") == b"a.txt b.txt"
    world.write("f/c.txt", "changed")
    assert set(world.run().states.values()) == {"reused"}
    world.write("f/b.txt", "changed")
    assert set(world.run().states.values()) == {"succeeded"}


WRITE = """
import os
folder = os.environ["AZUREML_DATAREFERENCE_made"]
os.makedirs(folder)
open(folder + "/x.csv", "w").write("i,t\\n1,a\\n2,b\\n")
open(folder + "/y.csv", "w").write("i,t\\n3,c\\n")
"""


@pytest.mark.parametrize(
    ("output", "promoted"),
    [
        ('PipelineData("made")', "made.as_dataset().parse_delimited_files()"),
        ('PipelineData("made")', "made.parse_delimited_files()"),
        ('OutputFileDatasetConfig(name="made").as_upload()', "made.read_delimited_files()"),
    ],
)
def test_an_output_is_read_as_a_table_by_the_next_step(world: World, output: str, promoted: str) -> None:
    world.write("src/w.py", WRITE)
    define(
        world, 'table.as_named_input("a"), table.filter(table["i"] > 1).keep_columns("i").as_input("b"), made.as_input("c")',
        f"""
made = {output}
table = {promoted}
w = PythonScriptStep("w.py", name="w", source_directory="src", outputs=[table])
""",
    )  # fmt: skip
    world.write("src/s.py", READ.replace("in run.input_datasets.items()}", 'in run.input_datasets.items() if name != "c"}'))
    done = world.run()
    assert found(done) == {"a": ["a.parquet", [[1, "a"], [2, "b"], [3, "c"]]], "b": ["b.parquet", [[2], [3]]]}
    rows = {(port.step, port.kind, port.name): port.rows for port in done.engine.port_rows(done.record.id)}
    assert rows[("w", "output", "made")] == 3 and rows[("s", "input", "b")] == 2
    world.write("src/w.py", WRITE + "\n# changed\n")
    assert world.run().states == {"s": "reused", "w": "succeeded"}


def test_an_output_is_registered_when_its_step_ended_well_and_kept(world: World) -> None:
    world.write("src/w.py", WRITE)
    world.define("""
made = OutputFileDatasetConfig(name="made").read_delimited_files().register_on_complete("made", "by w", {"k": "v"})
w = PythonScriptStep("w.py", name="w", source_directory="src", outputs=[made])
p = Pipeline(ws, [w], name="p")
""")
    done = world.run()
    record = done.engine.dataset("made")
    assert (record.version, record.description, record.tags) == (1, "by w", (("k", "v"),))
    assert [column.name for column in record.schema] == ["i", "t"]
    assert world.run().states == {"w": "reused"} and done.engine.dataset("made").version == 1
    world.write("src/w.py", WRITE.replace("3,c", "4,d"))
    assert world.run().states == {"w": "succeeded"}
    assert done.engine.dataset("made").version == 2
    from mlpipe_engine.store.database import Database
    from mlpipe_engine.store.roots import find_roots

    database = Database.open(str(world.root / ".mlpipe"), create=False)
    assert database is not None
    kept = [
        why for why in find_roots(database, frozenset()).reasons.values() if why.startswith("registered as dataset made version")
    ]
    assert len(kept) == 2
    define(world, "Dataset.get_by_name(ws, 'made', 1).as_named_input('a')")
    assert found(world.run()) == {"a": ["a.parquet", [[1, "a"], [2, "b"], [3, "c"]]]}


def test_a_pipeline_output_dataset_registers_files(world: World) -> None:
    world.write("src/w.py", WRITE)
    world.define("""
made = PipelineData("made")
w = PythonScriptStep("w.py", name="w", source_directory="src", outputs=[made.as_dataset().register("files")])
p = Pipeline(ws, [w], name="p")
""")
    done = world.run()
    record = done.engine.dataset("files")
    assert record.definition.kind == "file" and record.file_count == 2


def test_what_cannot_be_asked_of_an_output_is_told(world: World) -> None:
    for line, said in [
        ('PipelineData("m").as_dataset().parse_delimited_files(file_extension=".csv")', "every file of the output is read"),
        ('OutputFileDatasetConfig(name="m").read_parquet_files(path_glob="*.x")', "every file of the output is read"),
        ('PipelineData("m").as_input().as_download(format="csv")', "'m' is read as files"),
        ('Dataset.Tabular.from_parquet_files("x").as_download(format="xls")', "expected 'parquet' or 'csv'"),
    ]:
        world.define(f"x = {line}")
        done = world.cli("plan")
        assert done.returncode == 3 and said in done.stderr, done.stderr


def test_sql_reads_a_tabular_dataset_and_a_query_over_a_database_is_an_input(world: World) -> None:
    import duckdb

    with duckdb.connect(str(world.root / "shop.duckdb")) as shop:
        shop.execute("CREATE TABLE sales AS SELECT i, i * 2 AS price FROM range(4) r(i)")
    world.write("t.csv", "i;n\n1;one\n3;three\n")
    world.define("""
names = Dataset.Tabular.from_delimited_files("t.csv", separator=";")
sales = Dataset.Tabular.from_sql_query(("shop.duckdb", "SELECT * FROM sales"))
out, copied = PipelineData("out"), PipelineData("copied")
s = SqlStep("SELECT n, price FROM names JOIN sales USING (i) ORDER BY i", name="s", inputs=[names.as_named_input("names"), sales.as_named_input("sales")], output=out)
t = DataTransferStep("t", sales.as_named_input("sales"), copied)
p = Pipeline(ws, [s, t], name="p")
""")
    done = world.run()
    assert done.states == {"s": "succeeded", "t": "succeeded"}, done.step("s").error + done.step("t").error
    connection = duckdb.connect()
    assert connection.read_parquet(done.engine.artifact(done.record.id, "s", "out")).fetchall() == [("one", 2), ("three", 6)]
    assert len(connection.read_parquet(done.engine.artifact(done.record.id, "t", "copied")).fetchall()) == 4
    rows = {(port.step, port.kind, port.name): port.rows for port in done.engine.port_rows(done.record.id)}
    assert rows[("s", "output", "out")] == 2 and rows[("t", "input", "sales")] == 4


def test_debug_lays_out_the_table_too(world: World) -> None:
    world.write("t.csv", "i\n1\n")
    define(world, 't.as_named_input("a")', CSV)
    world.run()
    tried = world.cli("debug", "s", "--", "/bin/sh", "-c", "ls -l ../in")
    assert "a.parquet" in tried.stdout + tried.stderr, tried.stdout + tried.stderr


def test_what_is_expected_of_files_is_checked_too(world: World) -> None:
    world.write("f/a.txt", "a")
    world.write("src/s.py", "import os\nopen(os.environ['out'], 'w').close()\n")
    world.define("""
f = Dataset.File.from_files("f/*.txt").with_expectations(min_rows=2)
s = PythonScriptStep("s.py", name="s", source_directory="src", inputs=[f.as_named_input("f")], outputs=[PipelineData("out")])
p = Pipeline(ws, [s], name="p")
""")
    done = world.run()
    assert done.states == {"s": "failed"} and "input 'f': at least 2 rows: found 1" in done.step("s").error
    world.write("f/b.txt", "b")
    assert world.run().states == {"s": "succeeded"}


def test_values_that_became_null_on_request_are_counted_and_shown(world: World) -> None:
    world.write("t.csv", "i,t\n1,a\nx,b\n")
    define(
        world, 't.as_named_input("a")',
        't = Dataset.Tabular.from_delimited_files("t.csv", set_column_types={"i": DataType.to_long()}, on_error="null")',
    )  # fmt: skip
    assert found(world.run()) == {"a": ["a.parquet", [[1, "a"], [None, "b"]]]}
    assert "warning: input a of s: column 'i': 1 values did not fit and became null" in world.cli("show").stdout


def test_steps_that_take_the_same_rows_wait_for_one_table(world: World) -> None:
    world.write("t.csv", "i\n1\n")
    world.write("duckdb.py", "raise SystemExit('a module of the project was imported')\n")
    world.write("src/s.py", READ)
    world.define("""
t = Dataset.Tabular.from_delimited_files("t.csv")
steps = [PythonScriptStep("s.py", name=f"s{n}", source_directory="src", inputs=[t.as_named_input("a")], outputs=[PipelineData("out")],
                          arguments=[n]) for n in range(3)]
p = Pipeline(ws, steps, name="p")
""")
    done = world.run()
    assert set(done.states.values()) == {"succeeded"}, [step.error for step in done.engine.steps(done.record.id)]
    assert len({port.rows for port in done.engine.port_rows(done.record.id)}) == 1


def test_a_transfer_from_a_database_to_a_datastore_is_delivered_and_delivered_again(world: World) -> None:
    import sqlite3

    with sqlite3.connect(world.root / "shop.db") as shop:
        shop.execute("CREATE TABLE sales (i INTEGER, price REAL)")
        shop.executemany("INSERT INTO sales VALUES (?, ?)", [(1, 2.5), (2, 4.0)])
    world.write("mlpipe.toml", '[datastore.shop]\nurl = "sqlite:shop.db"\n[datastore.out]\nurl = "delivered"\n')
    world.define("""
sales = Dataset.Tabular.from_sql_query((Datastore(ws, "shop"), "SELECT * FROM sales WHERE price > 3"))
t = DataTransferStep("t", sales.as_named_input("sales"), Datastore(ws, "out").path("today.parquet"))
p = Pipeline(ws, [t], name="p")
""")
    assert world.run().states == {"t": "succeeded"}
    delivered = world.root / "delivered/today.parquet"
    content = delivered.read_bytes()
    assert content[:4] == b"PAR1"
    delivered.unlink()
    assert world.run().states == {"t": "reused"} and delivered.read_bytes() == content


def test_a_run_that_took_a_registered_dataset_is_replayed_elsewhere(world: World, tmp_path: Path) -> None:
    world.write("t.csv", "i\n1\n2\n")
    run_script(world, "from mlpipe_engine import *\nws = Workspace.from_config()\n" + CSV + '\nt.register(ws, "numbers")\n')
    define(
        world,
        "Dataset.get_by_name(ws, 'numbers').filter(col('i') > 1).as_named_input('a')",
        "from mlpipe_engine.sdk.expressions import col",
    )
    assert found(world.run()) == {"a": ["a.parquet", [[2]]]}
    bundle = tmp_path / "run.zip"
    assert world.cli("export", "1", "-o", str(bundle)).returncode == 0
    (world.root / "t.csv").unlink()
    replayed = world.cli("replay", str(bundle))
    assert replayed.returncode == 0 and "equal" in replayed.stdout, replayed.stdout + replayed.stderr
