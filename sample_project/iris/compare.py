"""How often the model is right, and how often always naming the same species would be."""

import json
import math
import sys
from collections import Counter

from mlpipe_run import Run

prepared, trained, target = sys.argv[1:4]
with open(prepared) as file:
    test = json.load(file)["test"]
with open(trained) as file:
    model = json.load(file)


def species(flower: list[float]) -> str:
    nearest = sorted(model["flowers"], key=lambda known: math.dist(known[0], flower))[: model["neighbours"]]
    return Counter(name for _, name in nearest).most_common(1)[0][0]


right = sum(species(flower) == name for flower, name in test) / len(test)
guess = Counter(name for _, name in test).most_common(1)[0][1] / len(test)
run = Run.get_context()
run.log("accuracy", right)
run.log("accuracy_of_guessing", guess)
with open(target, "w") as file:
    json.dump({"accuracy": right, "guessing": guess}, file)
