"""What a change of a path calls for: run, ask first, or nothing. Patterns are those of ignore files, relative to the project."""

from __future__ import annotations

import os
from typing import Literal

from mlpipe_engine.snapshots.ignore import Pattern, parse

Action = Literal["run", "ask", "ignore"]


class Policy:
    """Patterns of mlpipe.toml: `ignore` beats `ask` beats `run`. A path that no list names runs, unless `run` names others."""

    def __init__(self, root: str, *, run: tuple[str, ...] = (), ask: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> None:
        self._root = root
        self._levels: tuple[tuple[Action, list[Pattern]], ...] = (
            ("run", _patterns(run)),
            ("ask", _patterns(ask)),
            ("ignore", _patterns(ignore)),
        )

    def of(self, path: str) -> Action:
        """`path` is absolute."""
        relative = os.path.relpath(path, self._root)
        parts = [os.fsencode(part) for part in relative.split(os.sep)]
        found: Action = "run" if not self._levels[0][1] or self._matches(self._levels[0][1], parts) else "ignore"
        for action, patterns in self._levels[1:]:
            if self._matches(patterns, parts):
                found = action
        return found

    @staticmethod
    def _matches(patterns: list[Pattern], parts: list[bytes]) -> bool:
        """The last pattern that matches the path or a folder above it wins, as in an ignore file."""
        for depth in range(1, len(parts) + 1):
            hit = next((p for p in reversed(patterns) if p.matches(parts[:depth], depth < len(parts))), None)
            if hit is not None:
                return not hit.negated
        return False


def _patterns(lines: tuple[str, ...]) -> list[Pattern]:
    return parse("\n".join(lines).encode("utf-8", "surrogateescape"), "mlpipe.toml")[0]
