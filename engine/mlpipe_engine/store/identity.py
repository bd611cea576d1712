"""Which project a store belongs to. A copied project is a project of its own: it gets a new id the first time it is written to.

A copy is told by the inode of state.db, which moving, renaming and bind-mounting keep. What the original had going on is not
going on here: such runs are closed in the copy, and their processes, which carry the same run id, are left alone.
"""

from __future__ import annotations

import os
from uuid import uuid4

from mlpipe_engine.store.database import Database
from mlpipe_engine.store.locks import is_held
from mlpipe_engine.store.trash import drop_up_to_date


def settle(database: Database, state_dir: str, now: str) -> str:
    """The id of the project. Prereq: the caller is about to write."""
    info = os.stat(os.path.join(state_dir, "state.db"))
    place = f"{info.st_dev}:{info.st_ino}"
    known = {str(key): str(value) for key, value in database.query("SELECT key, value FROM project WHERE key IN ('id', 'place')")}
    if known.get("place") == place:
        return known["id"]
    project = uuid4().hex
    with database.write() as db:
        db.executemany("INSERT OR REPLACE INTO project (key, value) VALUES (?, ?)", [("id", project), ("place", place)])
        if "place" in known:
            drop_up_to_date(db)
            open_runs = db.execute(
                "SELECT id, number FROM runs WHERE state IN ('queued', 'running') AND parent IS NULL"
            ).fetchall()
            for run_id, number in open_runs:
                if is_held(os.path.join(state_dir, "locks", "runs", run_id)):
                    continue
                db.execute(
                    "UPDATE runs SET state = 'canceled', finished_at = ?, error = 'was going on in the project this one was copied from'"
                    " WHERE number = ?", (now, number),
                )  # fmt: skip
                db.execute(
                    "UPDATE step_runs SET state = 'canceled', finished_at = ? WHERE run = ? AND state IN ('queued', 'preparing', 'running')",
                    (now, number),
                )
    return project
