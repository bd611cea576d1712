"""SqlStep, AdlaStep and DataTransferStep in real runs: what they compute, what they refuse, when they run again."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from mlpipe_engine.errors import MlpipeError
from worlds import World

TABLE = "i,t\n1,a\n2,b\n3,it's\n"


def sql(world: World, query: str, **more: object) -> None:
    """A step over t.csv, whose one output is `out`."""
    world.write("t.csv", TABLE)
    words = "".join(f", {name}={value}" for name, value in more.items())
    world.define(f"""
t = Dataset.File.from_files("t.csv").as_named_input("t")
out = PipelineData("out")
s = SqlStep({query!r}, name="s", inputs=[t], output=out{words})
p = Pipeline(ws, [s], name="p")
""")


def rows(path: str) -> list[tuple[object, ...]]:
    return duckdb.connect().read_parquet(path).fetchall()


def result(world: World) -> list[tuple[object, ...]]:
    done = world.run()
    assert done.states["s"] in ("succeeded", "reused"), done.log("s")
    return rows(done.engine.artifact(done.record.id, "s", "out"))


def refused(world: World) -> str:
    done = world.run()
    assert done.states == {"s": "failed"}
    text = done.log("s")
    assert "Traceback" not in text
    return text


def test_parameters_are_bound_by_type_and_never_read_as_sql(world: World) -> None:
    sql(world, "SELECT i, $text AS text FROM t WHERE i > $least ORDER BY i", params={"least": 1, "text": "'; DROP TABLE t; --"})
    assert result(world) == [(2, "'; DROP TABLE t; --"), (3, "'; DROP TABLE t; --")]


def test_a_pipeline_parameter_is_typed_and_changing_it_runs_the_step_again(world: World) -> None:
    world.write("t.csv", TABLE)
    world.define("""
t = Dataset.File.from_files("t.csv").as_named_input("t")
out = PipelineData("out")
s = SqlStep("SELECT count(*) FROM t WHERE i IN (SELECT unnest($wanted))", name="s", inputs=[t], output=out,
            params={"wanted": PipelineParameter("wanted", [1, 3])})
p = Pipeline(ws, [s], name="p")
""")
    assert result(world) == [(2,)]
    assert world.run().states == {"s": "reused"}
    done = world.run(parameters={"wanted": (2,)})
    assert rows(done.engine.artifact(done.record.id, "s", "out")) == [(1,)]


def test_placeholders_are_views_and_texts_and_comments_may_follow_the_query(world: World) -> None:
    sql(
        world,
        "SELECT max(i), '@@word@@;--' FROM @@t@@ WHERE i < @@most@@; -- that is all ;\n/* é */ ;",
        params={"word": "x", "most": 3},
    )
    assert result(world) == [(2, "x;--")]


def test_an_input_formatted_into_the_text_is_its_view(world: World) -> None:
    world.write("t.csv", TABLE)
    world.define("""
t = Dataset.File.from_files("t.csv").as_named_input("t")
out, s_out = PipelineData("first"), PipelineData("out")
first = SqlStep(f"SELECT i * 2 AS i FROM {t}", name="first", inputs=[t], output=out, output_format="parquet")
s = SqlStep(f"SELECT sum(i) FROM {out}", name="s", inputs=[out], output=s_out)
p = Pipeline(ws, [s], name="p")
""")
    assert result(world) == [(12,)]


def test_a_query_in_a_file_runs_again_when_the_file_changes_and_only_then(world: World) -> None:
    world.write("t.csv", TABLE)
    world.write("q/s.sql", "\ufeffSELECT count(*) FROM t")
    world.define("""
t = Dataset.File.from_files("t.csv").as_named_input("t")
s = SqlStep(script_name="s.sql", source_directory="q", name="s", inputs=[t], output=PipelineData("out"))
p = Pipeline(ws, [s], name="p")
""")
    assert result(world) == [(3,)]
    world.write("q/other.sql", "SELECT")
    (world.root / "q/other.sql").unlink()
    assert world.run().states == {"s": "reused"}
    world.write("q/s.sql", "SELECT count(*) + 1 FROM t")
    assert result(world) == [(4,)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT * FROM glob('/etc/*')", "file system operations are disabled"),
        ("SELECT * FROM read_parquet('https://localhost/x.parquet')", "Error"),
        ("SELECT 1; SELECT 2", "found SELECT, SELECT; expected one SELECT"),
        ("COPY t TO '/tmp/never.csv'", "found COPY; expected one SELECT"),
        ("ATTACH '/tmp/never.db'", "found ATTACH; expected one SELECT"),
        ("INSTALL httpfs", "expected one SELECT"),
        ("SET threads = 4", "expected one SELECT"),
        ("DROP VIEW t", "found DROP; expected one SELECT"),
        ("-- nothing", "found nothing; expected one SELECT"),
        ("SELECT 1) TO '/tmp/never.csv' (FORMAT csv); --", "Parser Error"),
        ("SELECT i FROM t WHERE i = ?", "? is no parameter of the step"),
    ],
)
def test_a_query_reads_its_inputs_writes_its_output_and_nothing_else(world: World, query: str, said: str) -> None:
    sql(world, query)
    assert said in refused(world)
    assert not Path("/tmp/never.csv").exists() and not Path("/tmp/never.db").exists()


def test_names_that_do_not_exist_are_found_before_anything_runs(world: World) -> None:
    for query, said in [
        ("SELECT $leest FROM t", "$leest is no parameter of the step; did you mean 'least'?"),
        ("SELECT * FROM @@tt@@", "@@tt@@ is neither an input nor a parameter of the step; did you mean 't'?"),
    ]:
        sql(world, query, params={"least": 1})
        done = world.cli("plan")
        assert done.returncode == 3 and said in done.stderr, done.stderr
    sql(world, "SELECT '$none' AS \"$none\" -- $none\n, $$ $none $$ FROM t")
    assert world.run().states == {"s": "succeeded"}


def test_outputs_and_query_are_asked_for(world: World) -> None:
    for words, said in [
        ('SqlStep(name="s", output=PipelineData("o"))', "either sql or script_name"),
        ('SqlStep("SELECT 1", name="s")', "it has 0 outputs"),
        ('SqlStep("SELECT 1", name="s", output=PipelineData("o"), output_format="xls")', "expected 'parquet' or 'csv'"),
        ('DataTransferStep("s", Path("t.csv"))', "expected datastore.path('folder'), PipelineData"),
    ]:
        world.define(f"from pathlib import Path\ns = {words}\np = Pipeline(ws, [s], name='p')")
        done = world.cli("plan")
        assert done.returncode == 3 and said in done.stderr, done.stderr


def test_what_is_no_table_says_so(world: World) -> None:
    world.write("a.png", "png")
    world.define("""
s = SqlStep("SELECT 1", name="s", inputs=[Dataset.File.from_files("a.png").as_named_input("a")], output=PipelineData("out"))
p = Pipeline(ws, [s], name="p")
""")
    assert "a is no table: a; expected Parquet, CSV or JSON lines" in refused(world)


def test_paths_full_of_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtime").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    world = World(tmp_path / "it's [a] *place*? $x")
    sql(world, "SELECT sum(i) FROM t")
    assert result(world) == [(6,)]


def test_the_article_s_u_sql_step_is_a_select_over_views(world: World) -> None:
    world.write("t.csv", TABLE)
    world.write("s.sql", "SELECT t FROM @@t@@ ORDER BY i DESC LIMIT @@k@@")
    world.define("""
t = Dataset.File.from_files("t.csv").as_named_input("t")
s = AdlaStep("s.sql", name="s", inputs=[t], outputs=[PipelineData("out")], params={"k": 1}, degree_of_parallelism=1, priority=3)
p = Pipeline(ws, [s], name="p")
""")
    assert result(world) == [("it's",)]
    world.write(
        "s.sql", '@rows = EXTRACT i int FROM "@@t@@" USING Extractors.Csv(); OUTPUT @rows TO "@@out@@" USING Outputters.Csv();'
    )
    assert "U-SQL" in refused(world)


def test_a_transfer_copies_files_and_folders_whole_and_is_reused(world: World) -> None:
    world.write("data/a.bin", b"\0" * 3_000_000)
    world.write("data/sub/b.txt", "b")
    world.define("""
copied, again = PipelineData("copied"), PipelineData("again")
first = DataTransferStep("first", Dataset.File.from_files("data").as_named_input("data"), copied)
second = DataTransferStep("second", copied, again)
p = Pipeline(ws, [second], name="p")
""")
    done = world.run()
    assert done.states == {"second": "succeeded", "first": "succeeded"}
    assert done.log("first", "stdout") == "2 files, 3000001 bytes, verified\n"
    folder = Path(done.engine.artifact(done.record.id, "second", "again"))
    assert (folder / "a.bin").stat().st_size == 3_000_000 and (folder / "sub/b.txt").read_text() == "b"
    assert set(world.run().states.values()) == {"reused"}
    world.write("data/sub/b.txt", "c")
    assert set(world.run().states.values()) == {"succeeded"}


def test_the_memory_of_a_step_bounds_its_query_which_goes_on_on_disk(world: World) -> None:
    sql(world, "SELECT count(*) FROM (SELECT x FROM range(5000000) r(x) ORDER BY hash(x))", memory=repr("200MB"), cpus=1)
    assert result(world) == [(5_000_000,)]


def test_other_programs_and_distributions_do_not_count(world: World) -> None:
    sql(world, "SELECT 1 AS one")
    done = world.run()
    manifest = done.engine.explain(done.record.id, "s").manifest
    assert manifest is not None
    environment = {entry.name for entry in manifest.entries if entry.section.value == "environment"}
    assert environment == {"program step_sql.py", "distribution duckdb"}


def test_the_query_is_run_by_hand_with_command_sh(world: World) -> None:
    import subprocess

    sql(world, "SELECT 7 AS seven")
    done = world.run()
    folder = Path(done.engine.step_dir(done.record.id, "s"))
    (folder / "out/out").unlink()
    assert subprocess.run(["sh", str(folder / "command.sh")], check=True, capture_output=True, text=True).stdout == "1 rows\n"
    assert rows(str(folder / "out/out")) == [(7,)]


def test_constructors_alone_raise(world: World) -> None:
    from mlpipe_engine import PipelineData, SqlStep

    with pytest.raises(MlpipeError, match="expected the text of a SELECT"):
        SqlStep(" ", name="s", output=PipelineData("o"))
