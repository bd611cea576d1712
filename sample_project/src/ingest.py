"""Checks the raw tables and puts them into one folder."""

import argparse

import polars as pl
from mlpipe_run import Run

import tables

WANTED = {
    "flights": {"month", "day", "sched_dep_time", "dep_delay", "arr_delay", "carrier", "tailnum", "origin", "dest", "distance"},
    "weather": {"origin", "month", "day", "hour", "temp", "wind_speed", "precip", "visib", "pressure"},
    "planes": {"tailnum", "year", "seats"},
    "airports": {"faa", "name"},
}

parser = argparse.ArgumentParser()
for name in WANTED:
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--out", required=True)
arguments = vars(parser.parse_args())

run = Run.get_context()
out = tables.folder(arguments["out"])
for name, wanted in WANTED.items():
    frame: pl.DataFrame = tables.read(arguments[name])
    missing = wanted - set(frame.columns)
    if missing:
        raise SystemExit(f"{arguments[name]} lacks the columns {', '.join(sorted(missing))}")
    tables.write(frame, str(out / f"{name}.parquet"))
    run.log_row("tables", table=name, rows=frame.height, columns=frame.width)
