"""A run made again elsewhere: same definition, code, inputs and parameters, in an empty project; then its outputs are compared.

The working tree is not looked at. What may differ is the machine and its environment, and that is named.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlpipe_engine.errors import InputError, UsageError, nearest
from mlpipe_engine.model.bundle import Bundle, Replay, ReplayedOutput, ReplayedStep
from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.records import StepRecord
from mlpipe_engine.model.spec import InputSpec, PathSource, PipelineSpec, StepSpec, SubmitOptions
from mlpipe_engine.model.trees import Tree
from mlpipe_engine.planning.explain import manifest_causes
from mlpipe_engine.planning.graph import upstream
from mlpipe_engine.runner.bundling import input_digests
from mlpipe_engine.store.bundles import lay_out

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ProjectConfig


@dataclass(frozen=True, kw_only=True)
class Stage:
    """An empty project with everything in place."""

    spec: PipelineSpec
    options: SubmitOptions


def steps_to_replay(bundle: Bundle, step: str | None) -> tuple[str, ...]:
    """All steps of the run, or that one and what it needs. Raises UsageError with the nearest name."""
    recorded = [found.name for found in bundle.steps]
    if step is None:
        return tuple(recorded)
    if step not in recorded:
        close = nearest(step, recorded)
        raise UsageError(
            f"run {bundle.run.number} has no step {step!r}" + (f"; did you mean {close!r}?" if close else ""),
            expected="one of " + ", ".join(recorded),
        )
    parents, wanted, pending = upstream(bundle.spec), {step}, [step]
    while pending:
        for parent in parents[pending.pop()]:
            if parent not in wanted:
                wanted.add(parent)
                pending.append(parent)
    return tuple(name for name in (found.name for found in bundle.spec.steps) if name in wanted)


def set_up(bundle: Bundle, blobs: Mapping[str, str], names: tuple[str, ...], place: str) -> Stage:
    """Code and inputs below `place`, and a definition that points at them. Raises InputError for what the bundle lacks."""
    recorded = {step.name for step in bundle.steps}
    missing = [name for name in names if name not in recorded]
    if missing:
        raise InputError(
            f"step {missing[0]!r} was left out of run {bundle.run.number}, so nothing is known of how it was made",
            hint="Replay a run that had all steps.",
        )
    with open(os.path.join(place, "mlpipe.toml"), "x", encoding="ascii"):
        pass
    steps = tuple(_step(bundle, blobs, step, place) if step.name in names else step for step in bundle.spec.steps)
    known = {parameter.name for parameter in bundle.spec.parameters}
    options = SubmitOptions(
        experiment=bundle.run.experiment, parameters=tuple(item for item in bundle.run.parameters if item[0] in known), until_steps=names,
        continue_on_step_failure=True, source="replay", tags=bundle.run.tags,
    )  # fmt: skip
    return Stage(spec=replace(bundle.spec, steps=steps), options=options)


def _step(bundle: Bundle, blobs: Mapping[str, str], step: StepSpec, place: str) -> StepSpec:
    fingerprint, snapshot = bundle.made_from(step.name)
    folder = step.source_directory
    if folder is not None:
        tree = bundle.code.get(snapshot)
        if tree is None:
            raise InputError(f"the code of step {step.name!r} is not there: {_left_out(bundle, 'code', step.name)}")
        folder = f"code/{snapshot.partition(':')[2][:16]}"
        if not os.path.isdir(os.path.join(place, folder)):
            lay_out(tree, blobs.__getitem__, os.path.join(place, folder))
    digests = input_digests(bundle.manifests.get(fingerprint))
    inputs = tuple(_input(bundle, blobs, step, item, digests, place) for item in step.inputs)
    return replace(step, source_directory=folder, inputs=inputs)


def _input(
    bundle: Bundle, blobs: Mapping[str, str], step: StepSpec, item: InputSpec, digests: Mapping[str, str], place: str
) -> InputSpec:
    if not isinstance(item.source, PathSource):
        return item
    digest = digests.get(item.name, "")
    tree = bundle.inputs.get(digest)
    if tree is None:
        raise InputError(
            f"input {item.name!r} of step {step.name!r} is not there: {_left_out(bundle, 'input', step.name)}",
            hint="Bring back the files as they were, or export the run with its inputs.",
        )
    relative = f"inputs/{digest.partition(':')[2][:16]}"
    if not os.path.lexists(os.path.join(place, relative)):
        lay_out(tree, blobs.__getitem__, os.path.join(place, relative))
    return replace(item, source=_same_content(item.source, tree, relative))


def _same_content(source: PathSource, tree: Tree, relative: str) -> PathSource:
    """A source below `relative` whose content has the digest the old one had: one path, or the files a pattern had found."""
    if len(source.paths) == 1 and not glob.has_magic(source.paths[0]):
        return PathSource((relative,))
    files = [f"{relative}/{entry.path}" for entry in tree.entries if entry.kind in "fx"]
    if len(files) == 1:
        return PathSource((re.sub(r"([^/])$", r"[\1]", glob.escape(files[0])),))
    return PathSource(tuple(files))


def _left_out(bundle: Bundle, kind: str, step: str) -> str:
    """What the bundle says about it."""
    return next(
        (line for line in bundle.left_out if line.startswith(f"{kind} ") and f"step {step}:" in line),
        f"it came without its {kind}",
    )


def config_for(config: ProjectConfig, python_of: Callable[[str | None], str]) -> ProjectConfig:
    """The same compute targets; interpreters by absolute path, because the project that named them is elsewhere."""
    computes = tuple(
        compute if compute.image else replace(compute, python=python_of(compute.python)) for compute in config.computes
    )  # in an image named by somebody the interpreter is the image's
    return replace(config, computes=computes)


def judge(
    bundle: Bundle, steps: tuple[StepRecord, ...], manifest_of: Callable[[StepRecord], Manifest | None],
    tree_before: Callable[[str], Tree | None], tree_after: Callable[[str], Tree | None],
) -> Replay:  # fmt: skip
    """Compare what was made with what had been made. `tree_*`: the files of an output by its digest, where they are known."""
    before = {step.name: step for step in bundle.steps}
    specs = {step.name: step for step in bundle.spec.steps}
    judged = []
    for step in steps:
        old_manifest, new_manifest = bundle.manifests.get(bundle.made_from(step.name)[0]), manifest_of(step)
        causes = manifest_causes(old_manifest, new_manifest, specs[step.name], {}) if old_manifest and new_manifest else ()
        made = dict(step.outputs)
        outputs = [
            _output(name, digest, made.get(name), tree_before, tree_after) for name, digest in before[step.name].outputs
        ]  # fmt: skip
        judged.append(ReplayedStep(
            name=step.name, state=step.state, before=before[step.name].state, outputs=tuple(outputs), causes=causes,
            error=step.error or (step.exit if step.exit != "exited 0" else ""),
        ))  # fmt: skip
    return Replay(run=bundle.run, steps=tuple(judged))


def _output(
    name: str, before: str, after: str | None, tree_before: Callable[[str], Tree | None], tree_after: Callable[[str], Tree | None]
) -> ReplayedOutput:
    if before == after:
        return ReplayedOutput(name=name, verdict="equal")
    if not after:
        return ReplayedOutput(name=name, verdict="missing")
    left, right = tree_before(before), tree_after(after)
    if left is None or right is None:
        return ReplayedOutput(name=name, verdict="differs")
    old, new = left.by_path, right.by_path
    paths = tuple(path for path in sorted(old.keys() | new.keys()) if path and old.get(path) != new.get(path))
    return ReplayedOutput(name=name, verdict="differs", paths=paths)
