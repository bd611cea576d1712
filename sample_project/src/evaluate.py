"""Compares both models with the guess every traveller makes, as late as we left: on October, and on two months nobody looked at."""

import argparse
import json

import numpy as np
from mlpipe_run import Run

import models
import tables

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--linear", required=True)
parser.add_argument("--trees", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

train = tables.read(f"{arguments.data}/train.parquet")
made_up = float(np.mean(models.target(train) - train["dep_delay"].to_numpy()))  # minutes usually made up in the air


def scores_of(part: str) -> dict[str, dict[str, float]]:
    """Model -> its scores on one part of the data."""
    flights = tables.read(f"{arguments.data}/{part}.parquet")
    wanted = models.target(flights)
    guesses = {
        "as late as we left": flights["dep_delay"].to_numpy() + made_up,
        "linear": tables.read(f"{arguments.linear}/{part}.parquet")["predicted"].to_numpy(),
        "trees": tables.read(f"{arguments.trees}/{part}.parquet")["predicted"].to_numpy(),
    }
    found = {}
    for name, guessed in guesses.items():
        error = np.abs(wanted - guessed)
        found[name] = {
            "rmse": models.rmse(wanted, guessed),
            "mean_absolute_error": float(error.mean()),
            "within_10_minutes": float((error <= 10).mean()),
        }
    return found


run = Run.get_context()
scores = {part: scores_of(part) for part in ("validation", "test")}
for name, score in scores["test"].items():
    run.log_row("scores", model=name, **score)
    run.log(f"rmse_{name.split()[0]}", score["rmse"])
run.parent.log("best_rmse", min(score["rmse"] for score in scores["test"].values()))
with open(arguments.out, "w") as file:
    json.dump(scores, file, indent=2, sort_keys=True)
