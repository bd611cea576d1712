"""Splits by time: learn from nine months, choose between models on October, test on the last two months.

A random split would let the future leak in; choosing on the test months would make the score look better than it is.
"""

import argparse

import polars as pl
from mlpipe_run import Run

import tables

parser = argparse.ArgumentParser()
parser.add_argument("--features", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

FIRST_VALIDATION_DAY = 274  # 1 October
FIRST_TEST_DAY = 305  # 1 November

features = tables.read(arguments.features)
out = tables.folder(arguments.out)
parts = {
    "train": features.filter(pl.col("day_of_year") < FIRST_VALIDATION_DAY),
    "validation": features.filter(pl.col("day_of_year").is_between(FIRST_VALIDATION_DAY, FIRST_TEST_DAY - 1)),
    "test": features.filter(pl.col("day_of_year") >= FIRST_TEST_DAY),
}
for name, part in parts.items():
    tables.write(part, str(out / f"{name}.parquet"))
    Run.get_context().log(f"{name}_rows", part.height)
