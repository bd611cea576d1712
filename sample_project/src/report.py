"""One HTML page with the scores and two plots; everything it needs is inside it."""

import argparse
import html
import io
import json

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "flights"  # equal plots get equal bytes
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from mlpipe_run import Run  # noqa: E402

import models  # noqa: E402
import tables  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--scores", required=True)
parser.add_argument("--chosen", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--linear", required=True)
parser.add_argument("--trees", required=True)
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

with open(arguments.scores) as file:
    scores = json.load(file)["test"]
with open(f"{arguments.chosen}/card.json") as file:
    card = json.load(file)
test = tables.read(f"{arguments.data}/test.parquet")
guessed = tables.read(f"{getattr(arguments, card['model'])}/test.parquet")["predicted"].to_numpy()
wanted = models.target(test)


def svg(figure: plt.Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue().partition("<svg")[1] + buffer.getvalue().partition("<svg")[2]


scatter, axes = plt.subplots(figsize=(6, 4))
axes.hexbin(guessed, wanted, gridsize=60, extent=(-60, 240, -60, 240), bins="log", cmap="viridis")
axes.axline((0, 0), slope=1, color="crimson", linewidth=1)
axes.set(xlabel="predicted minutes late", ylabel="minutes late", title=f"{card['model']}: November and December 2013")

hours, by_hour = plt.subplots(figsize=(6, 4))
hour = (test["sched_minute"].to_numpy() // 60).astype(int)
present = sorted(set(hour.tolist()))
by_hour.bar(present, [float(np.abs(wanted - guessed)[hour == value].mean()) for value in present], color="steelblue")
by_hour.set(xlabel="scheduled hour of departure", ylabel="mean error, minutes", title="when the model is wrong")

rows = "".join(
    f"<tr><td>{html.escape(name)}</td><td>{score['rmse']:.2f}</td><td>{score['mean_absolute_error']:.2f}</td>"
    f"<td>{score['within_10_minutes']:.1%}</td></tr>"
    for name, score in sorted(scores.items(), key=lambda item: item[1]["rmse"])
)
page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Will the flight be late?</title>
<style>body{{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}}td,th{{padding:.2em 1em;text-align:left}}</style>
<h1>Will the flight be late?</h1>
<p>Arrival delay of {test.height:,} flights out of New York in November and December 2013, predicted when the plane leaves the
gate from {", ".join(html.escape(name) for name in ("its delay", "its schedule", "the carrier", "the plane", "the weather"))}.
The models learnt from January to September; October chose between them.</p>
<table><tr><th>model</th><th>RMSE, minutes</th><th>mean error</th><th>within 10 minutes</th></tr>{rows}</table>
{svg(scatter)}{svg(hours)}</html>
"""
with open(arguments.out, "w", encoding="utf-8") as file:
    file.write(page)
Run.get_context().upload_file("report.html", arguments.out)
