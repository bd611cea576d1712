"""Who put what into the site folders of an interpreter: top-level names and files by distribution, from RECORD.

Lets a result depend on the distributions its step imported, or tried to import, instead of on all that are installed. Reads files;
what it finds is kept beside the description of the interpreter and made anew when a site folder changes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OWN_DISTRIBUTION = "mlpipe-tui"
ALWAYS = "*"
"""Stands for distributions that no name can be asked for: their files are not told, or they hide a module of the standard library."""


_FIRST = re.compile(r'^"?([^/,"\n]+)', re.MULTILINE)
"""The first part of every path in a RECORD. One pass in C: a large environment has 20,000 lines."""
_CACHED = re.compile(r"^__pycache__/([^./\n]+)\.", re.MULTILINE)


@dataclass(frozen=True)
class Packages:
    sites: tuple[str, ...]
    owners: Mapping[str, tuple[str, ...]]
    """Component of a site folder, or name of a module -> distributions that brought it; "?" for a file nobody brought."""
    loose: tuple[str, ...]
    """Folders of editable installs and .pth files that are not staged as code: their trees count as part of the environment."""
    prefixes: tuple[str, ...]
    ours: tuple[str, ...] = ()
    """Folders that an editable install of our own puts on sys.path: every import looks into them, which is no use of theirs."""

    def providers(self, name: str) -> tuple[str, ...]:
        return self.owners.get(name, ())


NO_PACKAGES = Packages((), {}, (), ())


def read(document: Mapping[str, Any], loose: tuple[str, ...]) -> Packages:
    """`loose`: folders of code that cannot be staged."""
    found = document.get("packages") or {}
    return Packages(
        sites=tuple(document["answer"]["sites"]), owners={name: tuple(dists) for name, dists in found.get("owners", {}).items()},
        loose=tuple(sorted({*loose, *map(os.path.realpath, loose)})), prefixes=tuple(found.get("prefixes", ())),
        ours=tuple(found.get("ours", ())),
    )  # fmt: skip


def describe(answer: Mapping[str, Any]) -> dict[str, Any]:
    """JSON that `read` takes."""
    owners: dict[str, set[str]] = {}
    listed: set[str] = set()
    ours: set[str] = set()
    for site in answer["sites"]:
        try:
            names = os.listdir(site)
        except OSError:
            continue
        listed.update(names)
        for name in names:
            if name.endswith((".dist-info", ".egg-info", ".egg-link")):
                _claim(owners, site, name)
            elif name.endswith(".pth") and "mlpipe" in name:
                ours.update(
                    os.path.realpath(line) for line in (_text(f"{site}/{name}") or "").split("\n") if line.startswith("/")
                )
    for name in listed - {"__pycache__"}:
        if name not in owners and not name.endswith(".pth"):
            for key in _keys(name):
                owners.setdefault(key, {"?"})
    _hide_standard(owners)
    prefixes = {answer["prefix"], *answer.get("prefixes", ())}
    prefixes |= set(map(os.path.realpath, prefixes))
    return {
        "owners": {name: sorted(dists) for name, dists in sorted(owners.items())},
        "ours": sorted(ours),
        "prefixes": sorted(prefix for prefix in prefixes if prefix.strip("/")),
    }


def _claim(owners: dict[str, set[str]], site: str, folder: str) -> None:
    """Everything the RECORD of one distribution names; without one, what top_level.txt says; else it always counts."""
    distribution = normalised(folder.rsplit(".", 1)[0].partition("-")[0])
    components = {folder}
    record = _text(f"{site}/{folder}/RECORD")
    if record is not None:
        components.update(_FIRST.findall(record))
        components.update(f"{name}.py" for name in _CACHED.findall(record))
        components -= {"..", "__pycache__"}
    else:
        tops = _text(f"{site}/{folder}/top_level.txt")
        components.update(tops.split() if tops is not None else [ALWAYS])
    for component in (component for component in components if not component.endswith(".pth")):
        for key in _keys(component):
            owners.setdefault(key, set()).add(distribution)
    owners.setdefault(f"{distribution} (distribution)", set()).add(distribution)


def _keys(component: str) -> set[str]:
    """A component, and the module it is imported as."""
    if component.endswith((".py", ".pyc", ".so", ".pyd")):
        return {component, component.partition(".")[0]}
    return {component}


def _hide_standard(owners: dict[str, set[str]]) -> None:
    """A distribution with a module named like one of the standard library may stand in for it unasked."""
    for name in sys.stdlib_module_names:
        for distribution in owners.get(name, set()) - {"?"}:
            owners.setdefault(ALWAYS, set()).add(distribution)


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def owner_text(packages: Packages, versions: Mapping[str, tuple[str, str]], name: str) -> str:
    """What a result remembers of a name: its distributions with version and digest; "" when nothing brings it."""
    found = []
    for distribution in packages.providers(name):
        if distribution == OWN_DISTRIBUTION:
            continue
        version, digest = versions.get(distribution, ("?", ""))
        found.append(f"{distribution} {version} {digest}")
    return "; ".join(found)
