"""SQL of a person sees datasets and nothing else, and changes nothing."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import DelimitedReader, KeepColumns
from reading import definition
from worlds import World

SECRET = "canary-4711"


@pytest.fixture
def engine(world: World) -> Engine:
    world.write("a.csv", "id,v\n1,x\n2,y\n")
    world.write("secret.csv", f"s\n{SECRET}\n")
    engine = Engine.open(str(world.root))
    engine.register_dataset("a", definition("a.csv", DelimitedReader()))
    engine.register_dataset("other-one", definition("secret.csv", DelimitedReader()))
    return engine


def test_a_question(engine: Engine) -> None:
    answer = engine.ask("SELECT count(*) AS n, max(v) FROM a", {})
    assert answer.rows == ((2, "y"),) and [column.name for column in answer.columns] == ["n", "max(v)"]
    assert engine.ask('SELECT * FROM "other-one"', {}).rows == ((SECRET,),)
    extra = {"b": definition("a.csv", DelimitedReader(), KeepColumns(("id",)))}
    assert engine.ask("SELECT a.v, b.id FROM a JOIN b USING (id) ORDER BY 2", extra).rows == (("x", 1), ("y", 2))
    assert engine.ask("WITH t AS (FROM a) SELECT * FROM t -- a comment", {}).rows == ((1, "x"), (2, "y"))
    assert engine.ask("EXPLAIN SELECT * FROM a", {}).rows
    assert engine.ask("SELECT * FROM range(10)", {}, limit=3).more


class _Counting(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Counting)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()


ESCAPES = [
    "COPY a TO '{out}/x.csv'",
    "COPY (SELECT 1) TO '{root}/a.csv'",
    "COPY a FROM '{root}/secret.csv'",
    "EXPORT DATABASE '{out}/db'",
    "IMPORT DATABASE '{root}'",
    "ATTACH '{out}/x.db' AS x",
    "ATTACH '{root}/.mlpipe/state.db' AS x (TYPE sqlite)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{root}/a.csv'",
    "SET threads = 1",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "PRAGMA enable_object_cache",
    "PRAGMA database_list",
    "CALL enable_logging(storage = 'file')",
    "CHECKPOINT",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW a AS SELECT 1",
    "DROP VIEW a",
    "INSERT INTO a VALUES (1, 'z')",
    "WITH t AS (INSERT INTO a VALUES (9, 'z') RETURNING *) SELECT * FROM t",
    "CREATE SECRET s (TYPE s3)",
    "CREATE MACRO m() AS 1",
    "PREPARE p AS SELECT 1",
    "USE memory",
    "EXPLAIN ANALYZE COPY a TO '{out}/x.csv'",
    "EXPLAIN INSERT INTO a VALUES (1, 'z')",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY a TO '{out}/x.csv'",
    "SELECT * FROM '{root}/secret.csv'",
    "SELECT * FROM read_csv('{root}/secret.csv')",
    "SELECT * FROM read_csv('{root}/../project/secret.csv')",
    "SELECT * FROM read_csv('{root}/link.csv')",
    "SELECT * FROM read_text('{root}/secret.csv')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_parquet('{root}/*.csv')",
    "SELECT * FROM read_json('{root}/secret.csv')",
    "SELECT * FROM sniff_csv('{root}/secret.csv')",
    "SELECT * FROM parquet_metadata('{root}/secret.csv')",
    "SELECT * FROM glob('{root}/*')",
    "SELECT * FROM query('COPY a TO ''{out}/x.csv''')",
    "SELECT * FROM query_table('{root}/secret.csv')",
    "SELECT * FROM read_csv('{server}/x.csv')",
    "SELECT * FROM '{server}/x.parquet'",
    "SELECT * FROM read_csv('s3://bucket/x.csv')",
    "SELECT * FROM sqlite_scan('{root}/.mlpipe/state.db', 'runs')",
    "SELECT * FROM enable_logging('QueryLog', storage = 'file', storage_config = {{'path': '{out}/log'}})",
    "SELECT getenv('HOME')",
    "SELECT * FROM local_variable",
    "SELECT * FROM ESCAPES",
    "",
    "   ",
    "SELECT",
]


@pytest.mark.parametrize("query", ESCAPES)
def test_nothing_else_can_be_reached_or_changed(engine: Engine, world: World, tmp_path: Path, server: str, query: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    os.symlink(world.root / "secret.csv", world.root / "link.csv")
    before = {path: path.read_bytes() for path in world.root.glob("*.csv")}
    local_variable = [SECRET]
    with pytest.raises(InputError) as caught:
        engine.ask(query.format(out=out, root=world.root, server=server), {})
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value) and local_variable
    assert list(out.iterdir()) == [] and {path: path.read_bytes() for path in world.root.glob("*.csv")} == before
    assert _Counting.asked == 0
    assert not list((world.root / ".mlpipe" / "tmp").iterdir())


def test_stored_credentials_are_not_seen(engine: Engine) -> None:
    assert engine.ask("SELECT * FROM duckdb_secrets()", {}).rows == ()


def test_files_of_the_datasets_that_are_asked_for_can_be_read_and_no_others(engine: Engine, world: World) -> None:
    assert engine.ask(f"SELECT count(*) FROM read_csv('{world.root}/a.csv'), a", {}).rows == ((4,),)
    with pytest.raises(InputError, match="reaches for something outside of its datasets"):
        engine.ask(f"SELECT count(*) FROM read_csv('{world.root}/secret.csv'), a", {})


def test_a_question_that_takes_too_long(engine: Engine) -> None:
    with pytest.raises(InputError, match=r"took longer than 0.3 seconds"):
        engine.ask("SELECT max(x.range * y.range) FROM range(10000000) x, range(1000000) y", {}, timeout_seconds=0.3)


def test_a_question_that_needs_more_memory_than_there_is(world: World, engine: Engine) -> None:
    from mlpipe_engine.data import asking
    from mlpipe_engine.errors import MlpipeError

    with pytest.raises(MlpipeError, match="memory|space"):
        asking.ask("SELECT list(range) FROM range(50000000)", {}, memory_bytes=64 << 20, scratch=str(world.root / ".mlpipe/tmp"))


def test_a_large_sort_spills_and_leaves_nothing(world: World, engine: Engine) -> None:
    from mlpipe_engine.data import asking

    scratch = world.root / ".mlpipe" / "tmp"
    query = "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY md5(range::VARCHAR)) AS n, range FROM range(1500000))"
    answer = asking.ask(query, {}, memory_bytes=96 << 20, scratch=str(scratch))
    assert answer.rows == ((1_500_000,),) and not list(scratch.iterdir())


def test_a_misspelt_name(engine: Engine) -> None:
    with pytest.raises(InputError, match="there is no dataset 'aa'; did you mean 'a'|there is no dataset 'aa'"):
        engine.ask("SELECT * FROM aa", {})
    with pytest.raises(InputError, match="column"):
        engine.ask("SELECT nope FROM a", {})
