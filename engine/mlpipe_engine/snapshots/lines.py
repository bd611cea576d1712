"""How many lines were added and removed between two texts."""

from __future__ import annotations

_LIMIT_BYTES = 1 << 20


def line_counts(before: bytes, after: bytes) -> tuple[int, int] | None:
    """(added, removed); None for binary files and files over 1 MiB."""
    if max(len(before), len(after)) > _LIMIT_BYTES or b"\0" in before or b"\0" in after:
        return None
    from difflib import SequenceMatcher

    old, new = before.splitlines(), after.splitlines()
    added = removed = 0
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            removed += i2 - i1
            added += j2 - j1
    return added, removed
