"""A linear model, by stochastic gradient descent: quick, explainable, the one to beat."""

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
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

train = tables.read(f"{arguments.data}/train.parquet")
known = models.vocabulary(train)
middle = np.nanmean(models.numbers(train), axis=0)
spread = np.nanstd(models.numbers(train), axis=0) + 1e-6


def inputs(frame: pl.DataFrame) -> np.ndarray:
    """Standardised numbers (missing ones are the mean) and one column for each category value."""
    numbers = np.nan_to_num((models.numbers(frame) - middle) / spread)
    codes = models.codes(frame, known)
    hot = [codes[:, [column]] == np.arange(len(values)) for column, values in enumerate(known.values())]
    return np.hstack([numbers, *hot]).astype(np.float32)


run = Run.get_context()
run.tag("model", "linear")
x_train, y_train = inputs(train), models.target(train)
model = models.linear(arguments.learning_rate)
for epoch in range(arguments.epochs):
    model.partial_fit(x_train, y_train)
    run.log("train_rmse", models.rmse(y_train, model.predict(x_train)), step=epoch)

out = tables.folder(arguments.out)
joblib.dump(model, out / "model.joblib")
for name in ("validation", "test"):
    guessed = model.predict(inputs(tables.read(f"{arguments.data}/{name}.parquet"))).astype(np.float32)
    tables.write(pl.DataFrame({"predicted": guessed}), str(out / f"{name}.parquet"))
