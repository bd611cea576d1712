"""Finds the folders that an interpreter imports code from besides its installed packages: editable installs and .pth files.

Reads site-packages only; what lies in the folders is scanned by `snapshots.roots`.
"""

from __future__ import annotations

import ast
import os

FINDERS = ("__editable__", "_editable_impl_")
"""How the files begin that editable installs of setuptools and of hatch bring along."""


def mapped(path: str) -> list[str] | None:
    """Packages and modules that a finder of an editable install leads to; None when the file is not understood.

    Only what is imported under the name it has on disk: else the name would have to count as well.
    """
    try:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    pairs: list[tuple[object, object]] = []
    for node in ast.walk(tree):
        names = [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(name, ast.Name) and name.id in ("MAPPING", "NAMESPACES") for name in names):
            value = _literal(node.value)  # type: ignore[attr-defined]
            if not isinstance(value, dict):
                return None
            pairs += [(key, item) for key, item in value.items() if not isinstance(item, list)]
            pairs += [(key, inner) for key, item in value.items() if isinstance(item, list) for inner in item]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "map_module":
            pairs.append(tuple(map(_literal, node.args)) if len(node.args) == 2 else (None, None))  # type: ignore[arg-type]
    found = [_named(key, value) for key, value in pairs]
    return [item for item in found if item is not None] if found and None not in found else None


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _named(name: object, path: object) -> str | None:
    if not isinstance(name, str) or not isinstance(path, str) or not os.path.isabs(path):
        return None
    path = os.path.dirname(path) if os.path.basename(path) == "__init__.py" else path
    if not os.path.exists(path) and os.path.exists(path + ".py"):
        path += ".py"
    last = name.rpartition(".")[2]
    return os.path.normpath(path) if os.path.basename(path) in (last, f"{last}.py") else None
