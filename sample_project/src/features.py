"""Turns flights into the columns the models learn from. Only what is known at departure goes in (see columns.py)."""

import argparse

import polars as pl
from mlpipe_run import Run

import columns
import tables

parser = argparse.ArgumentParser()
parser.add_argument("--joined", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()


def minutes(clock: str) -> pl.Expr:
    """1430 is 14:30, the 870th minute of the day."""
    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100


flights = tables.read(arguments.joined)
day = pl.date(2013, pl.col("month"), pl.col("day"))
made = flights.with_columns(
    sched_minute=minutes("sched_dep_time"),
    scheduled_minutes=(minutes("sched_arr_time") - minutes("sched_dep_time")) % 1440,
    weekday=day.dt.weekday(),
    day_of_year=day.dt.ordinal_day(),
    plane_age=2013 - pl.col("plane_year"),
).select("day_of_year", *columns.NUMBERS, *columns.CATEGORIES, columns.TARGET)
made = made.with_columns(pl.col(columns.NUMBERS).cast(pl.Float32), pl.col(columns.TARGET).cast(pl.Float32))
tables.write(made, arguments.out)

Run.get_context().log_table("missing", {name: [made[name].null_count()] for name in columns.NUMBERS})
