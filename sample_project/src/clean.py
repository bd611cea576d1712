"""Leaves out flights that never arrived and delays that are no delays any more."""

import argparse

import polars as pl
from mlpipe_run import Run

import tables

parser = argparse.ArgumentParser()
parser.add_argument("--departures", required=True)
parser.add_argument("--max-delay", type=int, required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

flights = tables.read(arguments.departures)
arrived = flights.drop_nulls(["dep_delay", "arr_delay"])
kept = arrived.filter(pl.col("dep_delay") <= arguments.max_delay)
tables.write(kept, arguments.out)

run = Run.get_context()
run.log("flights", flights.height)
run.log("canceled_or_diverted", flights.height - arrived.height)
run.log("later_than_max_delay", arrived.height - kept.height)
run.log("kept", kept.height)
