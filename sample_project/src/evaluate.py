"""Compares both models on the two months they never saw, with the guess every traveller makes: as late as we left."""

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

test, train = (tables.read(f"{arguments.data}/{name}.parquet") for name in ("test", "train"))
wanted = models.target(test)
made_up = float(np.mean(models.target(train) - train["dep_delay"].to_numpy()))  # minutes usually made up in the air
guesses = {
    "as late as we left": test["dep_delay"].to_numpy() + made_up,
    "linear": tables.read(f"{arguments.linear}/predictions.parquet")["predicted"].to_numpy(),
    "trees": tables.read(f"{arguments.trees}/predictions.parquet")["predicted"].to_numpy(),
}

run = Run.get_context()
scores = {}
for name, guessed in guesses.items():
    error = np.abs(wanted - guessed)
    scores[name] = {
        "rmse": models.rmse(wanted, guessed),
        "mean_absolute_error": float(error.mean()),
        "within_10_minutes": float((error <= 10).mean()),
    }
    run.log_row("scores", model=name, **scores[name])
    run.log(f"rmse_{name.split()[0]}", scores[name]["rmse"])
run.parent.log("best_rmse", min(score["rmse"] for score in scores.values()))
with open(arguments.out, "w") as file:
    json.dump(scores, file, indent=2, sort_keys=True)
