"""Puts departures and weather on one clock: what was known of the weather when a plane was to leave.

The row of an hour holds what was observed towards its end, so it is known from the next full hour on. The row of the departure's own
hour would tell the model things that most planes leave too early to know.
"""

import argparse

import polars as pl
from mlpipe_run import Run

import tables

parser = argparse.ArgumentParser()
parser.add_argument("--departures", required=True)
parser.add_argument("--hours", required=True)
arguments = parser.parse_args()

run = Run.get_context()
flights = run.input_datasets["flights"].to_polars()
weather = run.input_datasets["weather"].to_polars()
airports = run.input_datasets["airports"].to_polars()

departures = flights.with_columns(known_at=pl.datetime(2013, "month", "day", pl.col("sched_dep_time") // 100))
hours = (
    weather.with_columns(known_at=pl.datetime(2013, "month", "day", "hour") + pl.duration(hours=1))
    .select("origin", "known_at", "temp", "wind_speed", "precip", "visib", "pressure")
    .unique(["origin", "known_at"], keep="first", maintain_order=True)
)
tables.write(departures, arguments.departures)
tables.write(hours, arguments.hours)

run.log("flights_to_airports_abroad", departures.filter(~pl.col("dest").is_in(airports["faa"].implode())).height)
