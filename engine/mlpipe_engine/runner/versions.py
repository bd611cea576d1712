"""Registered datasets of a pipeline: which version each input means now, and new versions of what a run reads and makes.

An input that names a dataset becomes the addresses and the definition of the version it means, before anything is decided; bytes that
are no longer those of the version stop the run. Called by `engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mlpipe_engine.errors import InputError
from mlpipe_engine.model.datasets import DatasetDefinition, DatasetVersionRecord
from mlpipe_engine.model.spec import DatasetUse, InputSpec, PathSource, PipelineSpec, Registration, StepSpec, VersionSource
from mlpipe_engine.model.states import GOOD
from mlpipe_engine.store.datasets import DatasetQueries

if TYPE_CHECKING:
    from mlpipe_engine.model.records import StepRecord
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.store.database import Database

Register = Callable[[Registration, DatasetUse], DatasetVersionRecord]


def looked_up(spec: PipelineSpec, database: Database | None) -> PipelineSpec:
    """The pipeline with addresses in the place of names. Raises DatasetNotFoundError that says which step asks."""
    if not any(isinstance(item.source, VersionSource) for step in spec.steps for item in step.inputs):
        return spec
    return replace(
        spec,
        steps=tuple(replace(step, inputs=tuple(_input(item, step, database) for item in step.inputs)) for step in spec.steps),
    )


def _input(item: InputSpec, step: StepSpec, database: Database | None) -> InputSpec:
    from mlpipe_engine.errors import DatasetNotFoundError
    from mlpipe_engine.runner import registry

    if not isinstance(item.source, VersionSource):
        return item
    try:
        record = registry.lookup(database, item.source.name, item.source.version)
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(
            f"input {item.name!r} of step {step.name!r}: {error.what}", where=step.where, expected=error.expected, hint=error.hint
        ) from None
    own = item.use or DatasetUse()
    more = own.definition.operations if own.definition is not None else ()
    definition = record.definition.then(*more)
    use = replace(
        own, definition=replace(definition, paths=()), expectations=(*record.expectations, *own.expectations),
        version=f"{record.name} v{record.version}", pinned=record.content, pinned_operations=len(record.definition.operations),
    )  # fmt: skip
    return replace(item, source=PathSource(record.definition.paths, record.definition.validate), use=use)


def without_names(spec: PipelineSpec, database: Database | None) -> PipelineSpec:
    """The pipeline for where nothing is registered: addresses for names, and nothing that is kept, pinned or checked."""
    from mlpipe_engine.errors import DatasetNotFoundError

    try:
        spec = looked_up(spec, database)
    except DatasetNotFoundError:
        return spec  # its input cannot be taken along, and is named as left out
    plain = {"expectations": (), "register": None, "version": "", "pinned": "", "pinned_operations": 0}
    return replace(spec, steps=tuple(
        replace(
            step,
            inputs=tuple(replace(item, use=replace(item.use, **plain)) if item.use is not None else item for item in step.inputs),  # type: ignore[arg-type]
            outputs=tuple(replace(output, register=None, register_as=None) for output in step.outputs),
        )
        for step in spec.steps
    ))  # fmt: skip


def check_pinned(item: InputSpec, step: StepSpec, decisions: Decisions) -> None:
    """Raises InputError when the files of a version are not those it was registered with."""
    from mlpipe_engine.model.datasets import manifest_digest

    use = item.use
    if use is None or not use.pinned or use.definition is None:
        return
    own = replace(use.definition, operations=use.definition.operations[: use.pinned_operations])
    found = decisions.datasets.all_found(item, step, "", decisions.artifacts)
    if manifest_digest(decisions.datasets.registered_part(own, found)) != use.pinned:
        name = use.version.rpartition(" v")[0]
        raise InputError(
            f"input {item.name!r} of step {step.name!r}: the files of dataset {use.version} are not those it was registered with",
            where=step.where,
            hint=f"See what moved with `mlpipe-tui data diff {name}`; bring the files back, or register what is there as a new version.",
        )


def register_inputs(decisions: Decisions, selection: frozenset[str], database: Database | None, register: Register) -> None:
    """Every dataset that the definition registers has a version of what lies there now. Raises InputError."""
    if not decisions.spec.registers_inputs:
        return
    from mlpipe_engine.model.datasets import manifest_digest

    done: set[object] = set()
    for step in [step for step in decisions.spec.steps if step.name in selection]:
        for item in step.inputs:
            use = item.use
            if use is None or use.register is None or use.definition is None or not isinstance(item.source, PathSource):
                continue
            definition = replace(use.definition, paths=item.source.paths, validate=item.source.validate)
            if (use.register, definition.digest) in done:
                continue
            done.add((use.register, definition.digest))
            found = decisions.datasets.registered_part(
                definition, decisions.datasets.all_found(item, step, "", decisions.artifacts)
            )
            newest = DatasetQueries(database).version(use.register.name, None) if database is not None else None
            if newest is None or not _is(newest, definition, manifest_digest(found), use):
                try:
                    register(use.register, replace(use, definition=definition))
                except InputError as error:
                    raise InputError(
                        f"input {item.name!r} of step {step.name!r}: {error.what}",
                        where=step.where,
                        hint=error.hint,
                        expected=error.expected,
                    ) from None


def _is(newest: DatasetVersionRecord, definition: DatasetDefinition, content: str, use: DatasetUse) -> bool:
    known = (newest.definition.digest, newest.content, newest.expectations)
    return known == (definition.digest, content, use.expectations)


def register_outputs(
    spec: PipelineSpec, steps: tuple[StepRecord, ...], address: Callable[[str], str], database: Database, register: Register
) -> None:
    """Outputs of steps that ended well and say so are versions of a dataset, where they lie in the store."""
    specs = {step.name: step for step in spec.steps}
    for record in steps:
        digests = dict(record.outputs)
        for output in specs[record.name].outputs if record.name in specs and record.state in GOOD else ():
            if output.register is None or not digests.get(output.name):
                continue
            base = output.register_as or DatasetDefinition(kind="file", paths=())
            definition = replace(base, paths=(address(digests[output.name]),))
            newest = DatasetQueries(database).version(output.register.name, None)
            if newest is None or newest.definition.digest != definition.digest:
                register(output.register, DatasetUse(definition=definition))
