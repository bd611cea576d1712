"""Adds the last full hour of weather before the scheduled departure, and what is known of the plane.

The row of an hour holds what was observed towards its end, so the row of the departure's own hour would tell the model things
that most planes leave too early to know.
"""

import argparse

import polars as pl
from mlpipe_run import Run

import tables

parser = argparse.ArgumentParser()
parser.add_argument("--flights", required=True)
parser.add_argument("--raw", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

flights = tables.read(arguments.flights)
keys = ["origin", "known_at"]
weather = (
    tables.read(f"{arguments.raw}/weather.parquet")
    .with_columns(known_at=pl.datetime(2013, "month", "day", "hour") + pl.duration(hours=1))
    .select(*keys, "temp", "wind_speed", "precip", "visib", "pressure")
    .unique(keys, keep="first", maintain_order=True)
)
planes = tables.read(f"{arguments.raw}/planes.parquet").select("tailnum", "seats", plane_year="year")

joined = (
    flights.with_columns(known_at=pl.datetime(2013, "month", "day", pl.col("sched_dep_time") // 100))
    .join(weather, on=keys, how="left", maintain_order="left")
    .join(planes, on="tailnum", how="left", maintain_order="left")
)
tables.write(joined, arguments.out)

run = Run.get_context()
run.log("rows", joined.height)
run.log("without_weather", joined["temp"].null_count())
run.log("without_plane", joined["seats"].null_count())
