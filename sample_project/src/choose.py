"""Keeps the better model, but only if it beats the traveller's guess."""

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
best = min(("linear", "trees"), key=lambda name: scores[name]["rmse"])
if scores[best]["rmse"] >= scores["as late as we left"]["rmse"]:
    raise SystemExit(f"no model is better than guessing: {scores[best]['rmse']:.2f} minutes")

out = tables.folder(arguments.out)
shutil.copyfile(f"{getattr(arguments, best)}/model.joblib", out / "model.joblib")
with open(out / "card.json", "w") as file:
    json.dump({"model": best, **scores[best]}, file, indent=2, sort_keys=True)

run = Run.get_context()
run.tag("chosen", best)
run.log("rmse", scores[best]["rmse"])
