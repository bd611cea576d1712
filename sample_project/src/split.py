"""Splits by time: learn from the first ten months, test on the last two. A random split would let the future leak in."""

import argparse

import polars as pl
from mlpipe_run import Run

import tables

parser = argparse.ArgumentParser()
parser.add_argument("--features", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

FIRST_TEST_DAY = 305  # 1 November

features = tables.read(arguments.features)
out = tables.folder(arguments.out)
parts = {
    "train": features.filter(pl.col("day_of_year") < FIRST_TEST_DAY),
    "test": features.filter(pl.col("day_of_year") >= FIRST_TEST_DAY),
}
for name, part in parts.items():
    tables.write(part, str(out / f"{name}.parquet"))
    Run.get_context().log(f"{name}_rows", part.height)
