"""Makes one table of a dataset and checks what is expected of it: python -m mlpipe_engine.data.making, a request on standard input.

A process of its own, so that a file that crashes a reader or takes all memory does not take a run with it. The request and the
answer are JSON; the table is written to `table` in the place that the request names. Started by `runner.tables`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import datetime
from typing import Any

from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model import wire
from mlpipe_engine.model.datasets import DatasetDefinition, Found, ParquetReader, Verdict

_PARQUET = DatasetDefinition(kind="tabular", paths=("table",), reader=ParquetReader())


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run that asked decides when this ends
    request = json.load(sys.stdin)
    try:
        answer = make(request)
    except MlpipeError as error:
        answer = {"error": {"what": error.what, "hint": error.hint, "expected": error.expected}}
    sys.stdout.write(json.dumps(answer))


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Raises InputError that names the file and the line, FilesystemError."""
    from mlpipe_engine.data import expect
    from mlpipe_engine.data.tabular import Table, now_utc

    definition = wire.load(DatasetDefinition, request["definition"])
    found = wire.load(tuple, request["found"])
    now = datetime.fromisoformat(now_utc())
    if definition.kind == "file":
        verdicts = expect.check(wire.load(tuple, request["expectations"]), None, found, now)
        return {"rows": -1, "verdicts": _texts(verdicts), "notes": []}
    place, target, count = request["place"], os.path.join(request["place"], "table"), -1
    notes: list[str] = []
    known = request["known"] if request["format"] == "parquet" else None
    if request["known"] is None:
        with Table.open(definition, found, scratch=place) as table:
            count = table.write_csv(target) if request["format"] == "csv" else table.write_parquet(target)
            known = target if request["format"] == "parquet" else None
            notes += table.notes
            notes += [f"column {name!r}: {misfits:,} values did not fit and became null" for name, misfits in table.problems()]
    if not request["expectations"]:
        return {"rows": count, "verdicts": [], "notes": notes}
    made = (definition, found) if known is None else (_PARQUET, (Found("table", "table", os.path.getsize(known), "", known),))
    with Table.open(*made, scratch=place) as table:  # what was made is quicker to read than what it was made of
        verdicts = expect.check(wire.load(tuple, request["expectations"]), table, found, now)
    return {"rows": count, "verdicts": _texts(verdicts), "notes": notes}


def _texts(verdicts: tuple[Verdict, ...]) -> list[str]:
    return [wire.dump(verdict) for verdict in verdicts]


if __name__ == "__main__":
    main()
