"""A generated corpus of delimited files: every file with what the csv module says is in it."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass

_TEXTS = ("", "plain", "with, comma", 'say "hi"', "two\nlines", "carriage\r\nreturn", "ümläut", "日本", "  spaces  ", "'single'", "#hash", "a;b\tc|d",
          "NA", "null", "None", "-", "1.2.3", "0x1F", "12e", "e", "true-ish", "\\backslash\\", "{brace}", "=1+1", "very " * 50)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    names: list[str]
    rows: list[list[str]]
    separator: str
    text: str


def sample(seed: int, *, separators: str = ",;\t|", texts: tuple[str, ...] = _TEXTS) -> Sample:
    """Rows of ids, whole numbers, floats, flags, days and texts, some of them empty, written by the csv module."""
    rng = random.Random(seed)
    separator = rng.choice(separators)
    makers = {
        "id": lambda n: str(n),
        "count": lambda n: _or_empty(rng, str(rng.randint(-(10**6), 10**6))),
        "price": lambda n: _or_empty(rng, rng.choice([f"{rng.uniform(-1e3, 1e3):.3f}", f"{rng.uniform(-1, 1):.5e}", str(rng.randint(0, 9))])),
        "flag": lambda n: _or_empty(rng, rng.choice(["true", "false", "True", "FALSE"])),
        "day": lambda n: _or_empty(rng, f"{rng.randint(1970, 2030)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"),
        "moment": lambda n: _or_empty(rng, f"2024-0{rng.randint(1, 9)}-11 {rng.randint(0, 23):02}:{rng.randint(0, 59):02}:07"),
        "text": lambda n: rng.choice(texts),
        "other text": lambda n: rng.choice(texts) + rng.choice(texts),
    }  # fmt: skip
    names = rng.sample(list(makers), k=rng.randint(2, len(makers)))
    rows = [[makers[name](number) for name in names] for number in range(rng.randint(1, 60))]
    out = io.StringIO()
    quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=rng.choice(["\n", "\r\n"]))
    writer.writerow(names)
    writer.writerows(rows)
    return Sample(names, rows, separator, out.getvalue())


def _or_empty(rng: random.Random, text: str) -> str:
    return "" if rng.random() < 0.15 else text
