"""Datasets as inputs of steps: which source an input has, and what is done to it before the step gets it.

A dataset that was looked up by name stays a name: which version it means is asked when a pipeline is planned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlpipe_engine.model.datasets import DatasetDefinition, DatasetVersionRecord
from mlpipe_engine.model.spec import DatasetUse, PathSource, TableFormat, VersionSource

if TYPE_CHECKING:
    from mlpipe_engine.sdk.versions import Registered


@dataclass(frozen=True)
class Reference:
    """What a dataset that was looked up by name started from."""

    source: VersionSource
    base: DatasetVersionRecord


def source_of(dataset: Registered) -> PathSource | VersionSource:
    reference = dataset.reference
    if reference is not None and _follows(dataset.definition, reference.base.definition):
        return reference.source
    return PathSource(dataset.definition.paths, dataset.definition.validate)


def use_of(dataset: Registered, format: TableFormat) -> DatasetUse | None:
    """None: the step gets the files as they are."""
    definition, reference = dataset.definition, dataset.reference
    plain = replace(definition, paths=(), validate=True)
    if reference is not None and _follows(definition, reference.base.definition):
        own = definition.operations[len(reference.base.definition.operations) :]
        more = replace(plain, reader=None, operations=own) if own else None
        return DatasetUse(definition=more, format=format, expectations=dataset.expectations[len(reference.base.expectations) :])
    if definition.kind == "file" and not (definition.operations or dataset.expectations or dataset.registration):
        return None
    return DatasetUse(definition=plain, format=format, expectations=dataset.expectations, register=dataset.registration)


def _follows(definition: DatasetDefinition, base: DatasetDefinition) -> bool:
    """Whether it is `base` with nothing but operations added to it."""
    count = len(base.operations)
    return replace(definition, operations=()) == replace(base, operations=()) and definition.operations[:count] == base.operations
