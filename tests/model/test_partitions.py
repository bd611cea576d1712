"""partition_format: what the Azure SDK accepts, refuses and makes of paths; Hive's folders."""

from __future__ import annotations

import pytest
from mlpipe_engine.model.partitions import PartitionFormat, hive_values


@pytest.mark.parametrize(
    ("text", "address", "columns", "values"),
    [
        ("/{Department}/{Day:yyyy/MM/dd}/data.csv", "../Accounts/2019/01/31/data.csv", ("Department", "Day"), ("Accounts", "2019-01-31 00:00:00")),
        ("{a}/{b}.csv", "x/y.csv", ("a", "b"), ("x", "y")),
        ("{version}/data.csv", "v1.2/data.csv", ("version",), ("2",)),
        ("/{version}/data.csv", "/v1.2/data.csv", ("version",), (None,)),
        ("{t:yyyy-MM-dd HH_mm_ss}.log", "logs/2024-02-29 23_59_01.log", ("t",), ("2024-02-29 23:59:01",)),
        ("{t:yyyy/MM/dd}/x", "2023/02/29/x", ("t",), (None,)),
        ("{t:yyyy}/*/{c}.csv", "2024/anything/at/all/c.csv", ("c", "t"), ("c", "2024-01-01 00:00:00")),
        ("{{x}}{c}.csv", "{x}y.csv", ("c",), ("y",)),
        ("{c}/{c}.csv", "a/a.csv", ("c",), ("a",)),
        ("{c}/{c}.csv", "a/b.csv", ("c",), (None,)),
        ("{d:yyyy/MM}/{d2}.csv", "2024/5/a.csv", ("d2", "d"), (None, None)),
        ("{c}.csv", "a.csv.gz", ("c",), (None,)),
        ("{c}.c+v", "a.c+v", ("c",), ("a",)),
    ],
)  # fmt: skip
def test_what_it_makes_of_an_address(text: str, address: str, columns: tuple[str, ...], values: tuple[str | None, ...]) -> None:
    parsed = PartitionFormat.parse(text)
    assert parsed.columns == columns
    assert parsed.values(address) == values


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("data.csv", "There must be at least one"),
        ("{{a}}", "There must be at least one"),
        ("{}/x", "Column name is not specified"),
        ("{:yyyy}", "Column name is not specified"),
        ("{a:}/x", "Date format is not specified"),
        ("{a:MM/dd}", "'yyyy' must be defined"),
        ("{a:yyyy}/{b:yyyy}", "more than one date part"),
        ("{a}/{b", "Brackets"),
        ("{a}}/x}", "Brackets"),
        ("{_sys_yyyy}/x", "reserved"),
        ("{Path}/x", "reserved"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"Invalid part.*{why}"):
        PartitionFormat.parse(text)


@pytest.mark.parametrize(("text", "seconds"), [("{t:yyyy}", 366 * 86400), ("{t:yyyy/MM/dd}", 86400), ("{t:yyyy/MM/dd/HH}", 3600)])
def test_how_long_one_partition_is(text: str, seconds: float) -> None:
    assert PartitionFormat.parse(text).seconds == seconds


def test_hive_folders() -> None:
    assert hive_values("a/year=2024/name=x%20y/part=__HIVE_DEFAULT_PARTITION__/f=1.parquet") == (
        ("year", "2024"), ("name", "x y"), ("part", None)
    )  # fmt: skip
