"""os.stat of every file below a folder whose names are known."""

import os
import sys

folder = sys.argv[1]
listing = folder + ".list"
try:
    with open(listing) as file:
        paths = file.read().split("\n")
except FileNotFoundError:
    paths = [os.path.join(inner, name) for inner, _, names in os.walk(folder) for name in names]
    with open(listing, "w") as file:
        file.write("\n".join(paths))
for path in paths:
    os.stat(path)
print(len(paths))
