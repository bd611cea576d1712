"""Adds the weather at the hour of the scheduled departure, and what is known of the plane."""

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
keys = ["origin", "month", "day", "hour"]
weather = (
    tables.read(f"{arguments.raw}/weather.parquet")
    .select(*keys, "temp", "wind_speed", "precip", "visib", "pressure")
    .with_columns(pl.col("month", "day", "hour").cast(pl.Int32))
    .unique(keys, keep="first", maintain_order=True)
)
planes = tables.read(f"{arguments.raw}/planes.parquet").select("tailnum", "seats", plane_year="year")

joined = (
    flights.with_columns(pl.col("month", "day").cast(pl.Int32), hour=(pl.col("sched_dep_time") // 100).cast(pl.Int32))
    .join(weather, on=keys, how="left", maintain_order="left")
    .join(planes, on="tailnum", how="left", maintain_order="left")
)
tables.write(joined, arguments.out)

run = Run.get_context()
run.log("rows", joined.height)
run.log("without_weather", joined["temp"].null_count())
run.log("without_plane", joined["seats"].null_count())
