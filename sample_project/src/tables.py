"""Reading and writing tables, the same way in every step."""

from pathlib import Path

import polars as pl


def read(path: str) -> pl.DataFrame:
    """A Parquet file."""
    return pl.read_parquet(path)


def write(frame: pl.DataFrame, path: str) -> None:
    """One file; equal rows give equal bytes."""
    frame.write_parquet(path, compression="zstd", statistics=False)


def folder(path: str) -> Path:
    """A new folder for an output that has several files."""
    made = Path(path)
    made.mkdir(parents=True, exist_ok=True)
    return made
