"""Hashes with the engine's own functions: `large` one file, `tree` a folder as inputs are read; `single`: the folder in one thread."""

import os
import sys

way, path = sys.argv[1:]
if way == "large":
    from mlpipe_engine.hashing.files import hash_file

    print(hash_file(path))
elif way == "tree":
    from mlpipe_engine.hashing.scan import scan_tree
    from mlpipe_engine.hashing.stat_cache import StatCache

    print(scan_tree(path, ignore=None, cache=StatCache(root=path)).digest)
else:
    from blake3 import blake3

    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                found.append(blake3(file.read()).hexdigest())
    print(len(found))
