"""Gradient-boosted trees: slower, and they see how delay, hour and carrier work together."""

import argparse

import joblib
import numpy as np
import polars as pl
from mlpipe_run import Run

import models
import tables

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--learning-rate", type=float, required=True)
parser.add_argument("--iterations", type=int, default=60)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

train = tables.read(f"{arguments.data}/train.parquet")
known = models.vocabulary(train)


def inputs(frame: pl.DataFrame) -> np.ndarray:
    return np.hstack([models.numbers(frame), models.codes(frame, known)])


run = Run.get_context()
run.tag("model", "trees")
x_train, y_train = inputs(train), models.target(train)
model = models.trees(arguments.learning_rate, arguments.iterations).fit(x_train, y_train)
sample = slice(None, None, 10)  # every tenth flight is enough to draw the curve
for iteration, guessed in enumerate(model.staged_predict(x_train[sample])):
    if iteration % 5 == 4:
        run.log("train_rmse", models.rmse(y_train[sample], guessed), step=iteration + 1)

out = tables.folder(arguments.out)
joblib.dump(model, out / "model.joblib")
for name in ("validation", "test"):
    guessed = model.predict(inputs(tables.read(f"{arguments.data}/{name}.parquet"))).astype(np.float32)
    tables.write(pl.DataFrame({"predicted": guessed}), str(out / f"{name}.parquet"))
