"""The part of `doctor` that looks at interpreters: which one steps run with and why, and what they import from outside of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlpipe_engine.errors import MlpipeError
from mlpipe_engine.model.spec import StepSpec
from mlpipe_engine.model.views import Finding
from mlpipe_engine.snapshots.roots import LARGE_FILES, CodeRoot, ScannedRoot

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ProjectConfig


def check_interpreters(root: str, config: ProjectConfig) -> list[Finding]:
    """One finding for each interpreter that a compute target leads to, then what it imports code from. Reads only."""
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.runner.resolve import Resolver
    from mlpipe_engine.snapshots.source import SourceSnapshots

    stats = StatCache(root=root)
    resolver = Resolver(
        root, config, SourceSnapshots(os.path.join(root, ".mlpipe", "snapshots"), root, stats), stats, lambda _: None
    )
    found: dict[str, list[Finding]] = {}
    step = StepSpec(name="", kind="python")
    for compute in sorted(config.computes, key=lambda target: target.name != config.default_compute):
        if compute.kind != "process":
            continue
        try:
            interpreter, description = resolver.interpreter(step, compute.name)
        except MlpipeError as error:
            found.setdefault(str(error), [Finding("error", str(error), error.hint)])
            continue
        if interpreter.path not in found:
            version = description.version.split()[0]
            found[interpreter.path] = [
                Finding("ok", f"Python steps run with {interpreter.path}, {version} ({interpreter.how})"),
                *map(_staged, description.roots), *map(_whole, description.whole),
            ]  # fmt: skip
    return [finding for findings in found.values() for finding in findings]


def _staged(scanned: ScannedRoot) -> Finding:
    count = scanned.tree.file_count
    files = f"{count:,} file{'s' if count != 1 else ''}"
    return Finding(
        "ok", f"code from {scanned.root.path} ({files}, {scanned.root.origin}) is copied for every step; what a step reads counts"
    )


def _whole(root: CodeRoot) -> Finding:
    return Finding(
        "warn", f"code from {root.path} ({root.origin}) is imported in place: any change in it runs every step again",
        f"A folder outside of the project is copied only up to {LARGE_FILES:,} files, and only if its .pth file or finder is understood.",
    )  # fmt: skip
