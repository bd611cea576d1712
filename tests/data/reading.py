"""Tables of a project in a test."""

from __future__ import annotations

from typing import Any

from mlpipe_engine.data.tabular import Table
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.datasets import DatasetDefinition, Operation, Reader
from worlds import World


def definition(paths: str | tuple[str, ...], reader: Reader, *operations: Operation, **more: Any) -> DatasetDefinition:
    return DatasetDefinition(
        kind="tabular", paths=(paths,) if isinstance(paths, str) else paths, reader=reader, operations=operations, **more
    )


def opened(world: World, paths: str | tuple[str, ...], reader: Reader, *operations: Operation, **more: Any) -> Table:
    return Engine.open(str(world.root)).table(definition(paths, reader, *operations, **more))


def rows(
    world: World, paths: str | tuple[str, ...], reader: Reader, *operations: Operation, **more: Any
) -> list[tuple[Any, ...]]:
    with opened(world, paths, reader, *operations, **more) as table:
        return table.rows()


def names(world: World, paths: str | tuple[str, ...], reader: Reader, *operations: Operation, **more: Any) -> list[str]:
    with opened(world, paths, reader, *operations, **more) as table:
        return [column.name for column in table.columns]
