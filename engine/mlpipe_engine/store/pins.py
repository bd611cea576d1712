"""Pins: results that are kept until somebody unpins them."""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_engine.store.database import Database


@dataclass(frozen=True, slots=True)
class Pin:
    """`step` and `output` are "" where all of them are meant."""

    run: int
    step: str
    output: str
    created_at: str

    def __str__(self) -> str:
        return "/".join(str(part) for part in (self.run, self.step, self.output) if part != "")


def pins(database: Database) -> tuple[Pin, ...]:
    rows = database.query("SELECT run, step, output, created_at FROM pins ORDER BY run, step, output")
    return tuple(Pin(int(str(run)), str(step), str(output), str(when)) for run, step, output, when in rows)


def add_pin(database: Database, pin: Pin) -> bool:
    """False when it is there already."""
    with database.write() as db:
        row = (pin.run, pin.step, pin.output, pin.created_at)
        return bool(db.execute("INSERT OR IGNORE INTO pins (run, step, output, created_at) VALUES (?, ?, ?, ?)", row).rowcount)


def remove_pin(database: Database, pin: Pin) -> bool:
    """False when there is none."""
    with database.write() as db:
        row = (pin.run, pin.step, pin.output)
        return bool(db.execute("DELETE FROM pins WHERE run = ? AND step = ? AND output = ?", row).rowcount)
