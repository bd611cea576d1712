"""Keeps the model that was better in October, if it beats the traveller's guess; the test months have no say in the choice."""

import argparse
import json
import shutil

from mlpipe_run import Run

import tables

parser = argparse.ArgumentParser()
parser.add_argument("--scores", required=True)
parser.add_argument("--linear", required=True)
parser.add_argument("--trees", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

with open(arguments.scores) as file:
    scores = json.load(file)
validation, test = scores["validation"], scores["test"]
best = min(("linear", "trees"), key=lambda name: validation[name]["rmse"])
if validation[best]["rmse"] >= validation["as late as we left"]["rmse"]:
    raise SystemExit(f"no model is better than guessing: {validation[best]['rmse']:.2f} minutes")

out = tables.folder(arguments.out)
shutil.copyfile(f"{getattr(arguments, best)}/model.joblib", out / "model.joblib")
with open(out / "card.json", "w") as file:
    json.dump({"model": best, **test[best]}, file, indent=2, sort_keys=True)

run = Run.get_context()
run.tag("chosen", best)
run.log("rmse", test[best]["rmse"])
