"""Runs in every Python of a step that has code roots, as its `sitecustomize`: private copies take the place of the originals.

A copy stands on sys.path exactly where the original stood, so a root shadows no more and no less than it does without us. The finders
of editable installs are turned to the copies too. Standard library only, Python 3.8 syntax; never breaks the step it runs in.
"""

import json
import os
import sys


def put_copies_in_place(folder):
    with open(os.path.join(folder, "moved.json"), encoding="ascii") as file:
        moved = json.load(file)
    originals = sorted(moved, key=len, reverse=True)

    def copy_of(path):
        if not isinstance(path, str):
            return path
        for original in originals:
            if path == original or path.startswith(original + os.sep):
                copy = moved[original] + path[len(original) :]
                stem = copy if os.path.exists(copy) else copy + ".py"
                return copy if os.path.exists(stem) else path
        return path

    for position, path in enumerate(sys.path):
        known = moved.get(os.path.normpath(path)) if path else None
        if known:
            sys.path[position] = known
            sys.path_importer_cache.pop(path, None)
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            turn(getattr(module, "MAPPING", None), copy_of)
            turn(getattr(module, "NAMESPACES", None), copy_of)
        elif name.startswith("_editable_impl_"):
            turn(getattr(getattr(module, "F", None), "_redirections", None), copy_of)


def turn(mapping, copy_of):
    if isinstance(mapping, dict):
        for key, value in list(mapping.items()):
            mapping[key] = [copy_of(path) for path in value] if isinstance(value, list) else copy_of(value)


def run_the_next(folder):
    """The sitecustomize that this one hides, which a distribution or a person may have put there."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = [os.path.abspath(path) for path in sys.path].index(folder)
    spec = PathFinder.find_spec("sitecustomize", sys.path[here + 1 :])
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


FOLDER = os.path.dirname(os.path.abspath(__file__))
if os.path.exists(os.path.join(FOLDER, "moved.json")):
    try:
        put_copies_in_place(FOLDER)
    except Exception as error:
        sys.stderr.write(
            "mlpipe-tui: copies of code outside of the source directory were not put in place: " + repr(error) + "\n"
        )
    try:
        run_the_next(FOLDER)
    except ValueError:
        pass
