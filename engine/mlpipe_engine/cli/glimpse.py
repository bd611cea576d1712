"""`data head FILE.csv` without an engine: the csv module alone. What is not plain goes the way that can say what is wrong."""

from __future__ import annotations

import os

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_MOST = 100_000


def head(words: list[str], directory: str | None) -> int | None:
    """The exit code; None where the words, the file or its first rows are not of the plainest kind."""
    asked = _asked(words)
    if asked is None:
        return None
    file, count = asked
    separator = _SEPARATORS.get(os.path.splitext(file)[1].lower())
    path = os.path.join(directory or "", file)
    if separator is None or not os.path.isfile(path):
        return None
    found = _rows(path, separator, count + 2)
    if not found or any(len(row) != len(found[0]) for row in found):
        return None
    names, rows = found[0], found[1 : count + 1]
    if not all(name.strip() for name in names) or len({name.casefold() for name in names}) < len(names):
        return None
    from mlpipe_engine.cli import columns

    columns.table(names, [[columns.cell(value or None) for value in row] for row in rows])
    print(columns.row_count(len(rows), more=len(found) > count + 1))
    return 0


def _asked(words: list[str]) -> tuple[str, int] | None:
    """FILE, FILE -n N or -n N FILE."""
    rest, count = list(words), 10
    for at, word in enumerate(rest[:-1]):
        if word in ("-n", "--rows"):
            if not (rest[at + 1].isascii() and rest[at + 1].isdigit()) or int(rest[at + 1]) > _MOST:
                return None
            count = int(rest[at + 1])
            del rest[at : at + 2]
            break
    return (rest[0], count) if len(rest) == 1 and not rest[0].startswith("-") else None


def _rows(path: str, separator: str, count: int) -> list[list[str]] | None:
    import csv

    found: list[list[str]] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row in csv.reader(file, delimiter=separator, strict=True):
                if not row:
                    return None
                found.append(row)
                if len(found) == count:
                    break
    except (OSError, ValueError, csv.Error):
        return None
    return found
