"""Makes one table of a dataset and checks what is expected of it: python -m mlpipe_engine.data.making, a request on standard input.

A process of its own, so that a file that crashes a reader or takes all memory does not take a run with it. The request and the
answer are JSON; the table is written to `table` in the place that the request names. Started by `runner.tables`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model import wire
from mlpipe_engine.model.datasets import DatasetDefinition, DelimitedReader, Found, ParquetReader


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
    from mlpipe_engine.data.tabular import Table

    definition = wire.load(DatasetDefinition, request["definition"])
    found = wire.load(tuple, request["found"])
    place, count = request["place"], -1
    if request["known"] is None:
        with Table.open(definition, found, scratch=place) as table:
            target = os.path.join(place, "table")
            count = table.write_csv(target) if request["format"] == "csv" else table.write_parquet(target)
    verdicts = checked(request, definition, found, place) if request["expectations"] else []
    return {"rows": count, "verdicts": verdicts}


def checked(request: dict[str, Any], definition: DatasetDefinition, found: tuple[Found, ...], place: str) -> list[str]:
    raise NotImplementedError


if __name__ == "__main__":
    main()
