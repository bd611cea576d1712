"""Definitions: identities that must differ and must not, the way across process borders, the stopped clock."""

from __future__ import annotations

from dataclasses import replace

from mlpipe_engine.model import wire
from mlpipe_engine.model.datasets import (
    Call,
    ColumnRef,
    ColumnType,
    Constant,
    DatasetDefinition,
    DelimitedReader,
    FilterRows,
    Found,
    KeepColumns,
    ParquetReader,
    RecentRows,
    SplitRows,
    TakeRows,
    consumed_digest,
    manifest_digest,
)

BASE = DatasetDefinition(kind="tabular", paths=("a.csv",), reader=DelimitedReader())
FILTER = FilterRows(Call("==", (ColumnRef("a"), Constant(1))))


def test_definitions_that_must_not_be_the_same() -> None:
    others = [
        BASE,
        replace(BASE, paths=("b.csv",)),
        replace(BASE, paths=("a.csv", "b.csv")),
        replace(BASE, reader=ParquetReader()),
        replace(BASE, reader=DelimitedReader(separator=";")),
        replace(BASE, reader=DelimitedReader(column_types=(("a", ColumnType("long")),))),
        replace(BASE, reader=DelimitedReader(column_types=(("a", ColumnType("float")),))),
        BASE.then(TakeRows(1)),
        BASE.then(TakeRows(1), TakeRows(1)),
        BASE.then(KeepColumns(("a", "b"))),
        BASE.then(KeepColumns(("a,b",))),
        BASE.then(FILTER),
        BASE.then(FilterRows(Call("==", (ColumnRef("a"), Constant(True))))),
        BASE.then(FilterRows(Call("==", (ColumnRef("a"), Constant(1.0))))),
        BASE.then(FilterRows(Call("==", (ColumnRef("a"), Constant("1"))))),
        BASE.then(FilterRows(Call("==", (Constant(1), ColumnRef("a"))))),
        BASE.then(SplitRows(0.0, 0.5, 1)),
        BASE.then(SplitRows(0.0, 0.5, 2)),
        replace(BASE, timestamp="t"),
    ]
    assert len({definition.digest for definition in others}) == len(others)
    assert {wire.load(DatasetDefinition, wire.dump(definition)).digest for definition in others} == {
        item.digest for item in others
    }


def test_the_identity_of_a_definition_is_written_down() -> None:
    """It is stored with versions and in fingerprints of steps: a change would re-run everything that reads a dataset."""
    assert BASE.digest == "k1:6647ea026048b6e406ac53727953c4663d9e4ffb47b12d3cf8b93fe8fdc2a641"
    assert BASE.then(FILTER).recipe == "k1:d29b7a34601cf2d025d3e68e0cc8d2a030af82678c75a1ba69fe94dbc6a13663"


def test_where_the_data_lies_counts_only_where_a_column_is_made_of_it() -> None:
    here, there = (Found("f.csv", f"{place}/f.csv", 3, "b3:1", "/x") for place in ("a", "b"))
    assert BASE.recipe == replace(BASE, paths=("elsewhere",)).recipe
    assert consumed_digest(BASE, [here]) == consumed_digest(BASE, [there])
    for reader in (
        DelimitedReader(include_path=True),
        DelimitedReader(partition_format="{p}/f.csv"),
    ):
        definition = replace(BASE, reader=reader)
        assert consumed_digest(definition, [here]) != consumed_digest(definition, [there])
    assert manifest_digest([here]) != manifest_digest([replace(here, digest="b3:2")])
    assert manifest_digest([here]) != manifest_digest([replace(here, path="g.csv")])


def test_a_clock_that_is_stopped() -> None:
    definition = BASE.then(RecentRows("t", 3600.0))
    assert definition.depends_on_clock and not BASE.depends_on_clock
    stopped = definition.at("2026-01-02T03:04:05")
    assert not stopped.depends_on_clock
    assert stopped.digest == definition.at("2026-01-02T03:04:05").digest != definition.at("2026-01-02T03:04:06").digest


def test_a_deep_filter_crosses_process_borders() -> None:
    expression: object = Call("==", (ColumnRef("a"), Constant(0)))
    for number in range(100):
        expression = Call("or", (expression, Call("==", (ColumnRef("a"), Constant(number)))))  # type: ignore[arg-type]
    definition = BASE.then(FilterRows(expression))  # type: ignore[arg-type]
    assert wire.load(DatasetDefinition, wire.dump(definition)) == definition
