"""Writes metrics the way a runner does, or by one executemany: python store_writes.py ours|raw FOLDER ROWS. Prints the seconds it took.

Both write the same rows into the same table with the same indexes; ours goes through the recorder (a shared transaction at most
50 ms after the first row it holds, synchronous=FULL), raw is one transaction of a bare connection with synchronous=NORMAL.
"""

import os
import sqlite3
import sys
import time

from mlpipe_engine.model.records import MetricRecord
from mlpipe_engine.store import results
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.recorder import Recorder


def ours(folder: str, rows: list[MetricRecord]) -> float:
    begun = time.perf_counter()
    recorder = Recorder(folder, lambda: None)
    for row in rows:
        recorder.put(lambda db, row=row: results.insert_metrics(db, 1, (row,)))  # type: ignore[misc]
    recorder.flush()
    seconds = time.perf_counter() - begun
    recorder.close()
    return seconds


def raw(folder: str, rows: list[MetricRecord]) -> float:
    db = sqlite3.connect(os.path.join(folder, "state.db"), isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    values = [(1, row.step, row.name, row.kind, row.value, row.step_number, row.time, row.origin) for row in rows]
    begun = time.perf_counter()
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO metrics (run, step, name, kind, value, step_number, time, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values
    )
    db.execute("COMMIT")
    seconds = time.perf_counter() - begun
    db.close()
    return seconds


def main(way: str, folder: str, count: int) -> None:
    database = Database.open(folder, create=True)
    assert database is not None
    database.close()
    rows = [
        MetricRecord(
            run_id="r", step="train", name="loss", kind="scalar", value=str(1 / (index + 1)), step_number=index,
            time="2026-01-01T00:00:00.000000Z",
        )
        for index in range(count)
    ]  # fmt: skip
    seconds = (ours if way == "ours" else raw)(folder, rows)
    with sqlite3.connect(os.path.join(folder, "state.db")) as db:
        assert db.execute("SELECT count(*) FROM metrics").fetchone() == (count,)
    print(seconds)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
