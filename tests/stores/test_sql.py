"""SELECTs in real databases, as Parquet files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from mlpipe_engine.data.credentials import Credentials
from mlpipe_engine.data.sql import read_sql
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError
from mlpipe_engine.model.datastores import DatastoreSpec
from servers import Served
from worlds import World

Ask = Callable[..., list[tuple[Any, ...]]]


def asking(spec: DatastoreSpec, folder: Path) -> Ask:
    def ask(query: str, *parameters: object, timeout_seconds: float = 30) -> list[tuple[Any, ...]]:
        target = folder / "answer.parquet"
        target.unlink(missing_ok=True)
        count = read_sql(spec, str(folder), Credentials(spec), query, str(target), parameters, timeout_seconds)
        rows = duckdb.sql(f"SELECT * FROM '{target}'").fetchall()
        assert len(rows) == count
        return rows

    return ask


class Contract:
    """`ask` runs a query in a database that has a table numbers (n, word) with three rows."""

    MISSING = "no_such_table"

    def test_rows_come_back_with_types(self, ask: Ask) -> None:
        assert ask("SELECT n, word FROM numbers ORDER BY n") == [(1, "one"), (2, None), (3, "thrée")]
        assert ask("SELECT n FROM numbers WHERE n > 5") == []

    def test_a_query_that_is_wrong_is_one_line_and_leaves_nothing(self, ask: Ask, tmp_path: Path) -> None:
        with pytest.raises(DatastoreError, match=self.MISSING) as wrong:
            ask(f"SELECT * FROM {self.MISSING}")
        assert "\n" not in str(wrong.value) and wrong.value.hint == "Correct the query."
        assert list(tmp_path.glob("answer*")) == []

    def test_columns_of_one_name_stay_apart(self, ask: Ask, tmp_path: Path) -> None:
        ask("SELECT n, n FROM numbers")
        names = [row[0] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{tmp_path}/answer.parquet'").fetchall()]
        assert names == ["n", "n_1"]

    @pytest.mark.parametrize("query", ["DELETE FROM numbers", "INSERT INTO numbers VALUES (9, 'x')", "DROP TABLE numbers"])
    def test_nothing_is_written(self, ask: Ask, query: str) -> None:
        with pytest.raises(DatastoreError):
            ask(query)
        assert len(ask("SELECT n FROM numbers")) == 3


@pytest.mark.needs("postgres")
class TestPostgres(Contract):
    @pytest.fixture
    def ask(self, postgres_server: Served, tmp_path: Path) -> Ask:
        spec = DatastoreSpec.of("pg", postgres_server.url, postgres_server.settings)
        self.execute(postgres_server, "DROP TABLE IF EXISTS numbers", "CREATE TABLE numbers (n int, word text)",
                     "INSERT INTO numbers VALUES (1, 'one'), (2, null), (3, 'thrée')")  # fmt: skip
        return asking(spec, tmp_path)

    @staticmethod
    def execute(served: Served, *statements: str) -> None:
        import adbc_driver_postgresql.dbapi as adbc
        from mlpipe_engine.data.sql import _postgres_address

        spec = DatastoreSpec.of("pg", served.url, served.settings)
        with adbc.connect(_postgres_address(spec, Credentials(spec))) as connection:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            connection.commit()

    def test_types(self, ask: Ask) -> None:
        row = ask(
            "SELECT 1::bigint, 2.5::float8, true, date '2024-02-29', timestamp '2024-02-29 12:00', '\\x00ff'::bytea, NULL::int,"
            " 12345678901234567890.125::numeric"
        )[0]
        assert row[:7] == (1, 2.5, True, date(2024, 2, 29), datetime(2024, 2, 29, 12), b"\x00\xff", None)
        assert Decimal(str(row[7])) == Decimal("12345678901234567890.125"), "no digit is lost"
        assert ask("SELECT $1::int + 1", 41) == [(42,)]

    def test_a_long_query_ends_at_its_limit(self, ask: Ask) -> None:
        with pytest.raises(DatastoreError, match="time limit"):
            ask("SELECT pg_sleep(20)", timeout_seconds=0.3)

    def test_a_wrong_password_and_a_dead_server(
        self, postgres_server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WRONG", "wr0ng:secret/")
        spec = DatastoreSpec.of("pg", postgres_server.url, {"password": "env:WRONG"})
        with pytest.raises(DatastoreError, match="password authentication failed") as refused:
            asking(spec, tmp_path)("SELECT 1")
        assert "wr0ng" not in str(refused.value) and 'password = "env:NAME"' in refused.value.hint
        with pytest.raises(DatastoreUnreachableError, match="Connection refused"):
            asking(DatastoreSpec.of("pg", "postgresql://u@127.0.0.1:9/x", {}), tmp_path)("SELECT 1")

    def test_a_query_is_a_file_of_the_cache_and_new_rows_are_another(
        self, ask: Ask, postgres_server: Served, world: World
    ) -> None:
        world.write("mlpipe.toml", postgres_server.toml("pg"))

        def found() -> tuple[str, str]:
            places = Engine.open(str(world.root)).places()
            item = places.query("datastore://pg", "SELECT * FROM numbers ORDER BY n")
            assert os.path.getsize(item.local) == item.size
            return item.digest, item.local

        assert found() == found()
        first = found()
        self.execute(postgres_server, "INSERT INTO numbers VALUES (4, 'four')")
        assert found()[0] != first[0]


@pytest.mark.needs("mariadb")
class TestMariaDb(Contract):
    @pytest.fixture
    def ask(self, mariadb_server: Served, tmp_path: Path) -> Ask:
        import pymysql

        port = int(mariadb_server.url.rpartition(":")[2].partition("/")[0])
        connection = pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True, charset="utf8mb4")
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS t CHARACTER SET utf8mb4")
            cursor.execute("CREATE OR REPLACE TABLE t.numbers (n int, word text)")
            cursor.execute("INSERT INTO t.numbers VALUES (1, 'one'), (2, null), (3, 'thrée')")
        connection.close()
        url = mariadb_server.url.rpartition("/")[0] + "/t"
        return asking(DatastoreSpec.of("my", url, {}), tmp_path)

    def test_types(self, ask: Ask) -> None:
        row = ask(
            "SELECT CAST(-1 AS SIGNED), CAST(18446744073709551615 AS UNSIGNED), 1e0, CAST(1.250 AS DECIMAL(10,3)), DATE '2024-02-29',"
            " TIMESTAMP '2024-02-29 12:00:00', x'00ff', TIME '01:02:03', NULL"
        )[0]
        assert row[:7] == (-1, 2**64 - 1, 1.0, Decimal("1.250"), date(2024, 2, 29), datetime(2024, 2, 29, 12), b"\x00\xff")
        assert row[7] in (timedelta(hours=1, minutes=2, seconds=3), 3_723_000_000) and row[8] is None

    def test_more_rows_than_one_part_holds(self, ask: Ask) -> None:
        rows = ask("SELECT seq FROM seq_1_to_120000 ORDER BY seq")
        assert [row[0] for row in rows] == list(range(1, 120_001))


class TestSqlite(Contract):
    @pytest.fixture
    def ask(self, tmp_path: Path) -> Ask:
        with sqlite3.connect(tmp_path / "a b.db") as database:
            database.execute("CREATE TABLE numbers (n int, word text)")
            database.executemany("INSERT INTO numbers VALUES (?, ?)", [(1, "one"), (2, None), (3, "thrée")])
        database.close()
        return asking(DatastoreSpec.of("lite", "sqlite:///a b.db", {}), tmp_path)


class TestDuckDb(Contract):
    @pytest.fixture
    def ask(self, tmp_path: Path) -> Ask:
        with duckdb.connect(str(tmp_path / "a.duckdb")) as database:
            database.execute("CREATE TABLE numbers (n int, word text)")
            database.execute("INSERT INTO numbers VALUES (1, 'one'), (2, NULL), (3, 'thrée')")
        return asking(DatastoreSpec.of("duck", "duckdb:a.duckdb", {}), tmp_path)

    def test_a_query_reads_no_files_of_the_machine(self, ask: Ask) -> None:
        with pytest.raises(DatastoreError):
            ask("SELECT * FROM read_text('/etc/passwd')")


def test_no_extension_is_fetched(tmp_path: Path) -> None:
    """What DuckDB downloads it keeps below its home; a query leaves none there."""
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sqlite3, sys\nfrom mlpipe_engine.data.credentials import Credentials\nfrom mlpipe_engine.data.sql import read_sql\n"
        "from mlpipe_engine.model.datastores import DatastoreSpec\nsqlite3.connect('x.db').execute('create table t as select 1 a')\n"
        "spec = DatastoreSpec.of('x', 'sqlite:x.db', {})\nread_sql(spec, '.', Credentials(spec), 'select * from t', 'out.parquet')\n"
    )
    subprocess.run(
        [__import__("sys").executable, "-c", code], check=True, cwd=tmp_path,
        env=os.environ | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(__import__("sys").path)},
    )  # fmt: skip
    assert (tmp_path / "out.parquet").exists() and list(home.rglob("*extension*")) == []


@pytest.mark.needs("postgres")
def test_a_query_is_the_input_of_a_step_that_is_run_reused_and_run_again_when_a_row_changes(
    postgres_server: Served, world: World
) -> None:
    TestPostgres.execute(
        postgres_server, "DROP TABLE IF EXISTS steps_of", "CREATE TABLE steps_of (n int)", "INSERT INTO steps_of VALUES (1), (2)"
    )
    world.write("mlpipe.toml", postgres_server.toml("pg"))
    world.write("src/count.py", (
        "import os, sys, duckdb\nfound = [os.path.join(f, n) for f, _, names in os.walk(sys.argv[1]) for n in names] or [sys.argv[1]]\n"
        "print(duckdb.sql(f\"SELECT sum(n) FROM read_parquet({found!r})\").fetchall()[0][0], file=open(sys.argv[2], 'w'), end='')\n"
    ))  # fmt: skip
    world.define(
        "out = PipelineData('out')\n"
        "rows = Dataset.Tabular.from_sql_query((Datastore(ws, 'pg'), 'SELECT n FROM steps_of ORDER BY n'))\n"
        "p = Pipeline(ws, [PythonScriptStep('count.py', name='count', source_directory='src', outputs=[out],"
        " arguments=[rows.as_named_input('rows').as_mount(), out])])"
    )
    assert world.run().output("count", "out") == b"3"
    assert world.run().states == {"count": "reused"}
    TestPostgres.execute(postgres_server, "UPDATE steps_of SET n = 40 WHERE n = 1")
    again = world.run()
    assert again.states == {"count": "succeeded"} and again.output("count", "out") == b"42"
