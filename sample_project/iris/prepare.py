"""Every third flower is kept for testing, so that each species is in both parts."""

import csv
import json
import sys

source, target = sys.argv[1:3]
with open(source, newline="") as file:
    flowers = [([float(value) for value in row[:4]], row[4]) for row in list(csv.reader(file))[1:]]
parts = {"train": [f for n, f in enumerate(flowers) if n % 3], "test": [f for n, f in enumerate(flowers) if n % 3 == 0]}
with open(target, "w") as file:
    json.dump(parts, file)
