"""Reuse or execute: the decision for one step, from values that others looked up.

`decide` is what both `plan` and a run call. It never returns a result whose code, inputs, arguments or environment could
have differed in anything the execution used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.plan import Cause, Execute, Result, Reuse
from mlpipe_engine.model.records import Acceptance
from mlpipe_engine.model.spec import StepSpec
from mlpipe_engine.model.trees import Tree
from mlpipe_engine.planning.explain import LineCounts, code_causes, manifest_causes, no_line_counts, undeclared_cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """How things nobody declared are now; looked up by the caller, each time anew."""

    file: Callable[[str, str], str]
    """(path, signature of then) -> signature now."""
    providers: Callable[[str], str]
    """Name -> the distributions that provide it now."""


EMPTY_SURROUNDINGS = Surroundings(file=lambda path, then: "", providers=lambda name: "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The newest earlier execution of the same step of the same pipeline, for the explanation only."""

    result: Result | None
    manifest: Manifest | None
    code: Tree | None
    run_number: int
    outcome: str
    """"succeeded", or how it ended: "exited 1", "canceled" ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """What the store knows about a step's base key."""

    candidates: Sequence[Result] = ()
    """Newest first; only those whose outputs are still whole."""
    lost: Sequence[Result] = ()
    """Would have matched, but an output is gone or damaged."""
    accepted: tuple[Acceptance, Result] | None = None
    """A person said that this result stands for exactly this manifest; its outputs are whole."""
    collected: frozenset[int] = frozenset()
    """Ids of those in `lost` whose outputs were collected to save space."""
    previous: Previous | None = None


def decide(
    step: StepSpec,
    manifest: Manifest,
    code: Tree | None,
    lookup: Lookup,
    *,
    forced: bool = False,
    upstream: Mapping[str, tuple[str, str]] | None = None,
    trees: Mapping[str, Tree] | None = None,
    counts: LineCounts = no_line_counts,
    around: Surroundings = EMPTY_SURROUNDINGS,
) -> Reuse | Execute:
    """`trees`: code trees of earlier results by digest, as far as they are still known; only used to explain."""
    previous = lookup.previous.result if lookup.previous else None
    if forced:
        return Execute((Cause(kind="forced", subject="asked to run again"),), previous)
    if not step.allow_reuse:
        return Execute((Cause(kind="disabled", subject="allow_reuse is off for this step"),), previous)
    for result in lookup.candidates:
        if matches(result, code, step, around):
            return Reuse(result, _unread(result, code, trees if trees is not None else {}, counts, step))
    if lookup.accepted is not None:
        return Reuse(lookup.accepted[1], accepted_note(lookup.accepted[0]))
    for result in lookup.lost:
        if matches(result, code, step, around) and result.id in lookup.collected:
            subject = f"the result of run {result.run_number} was collected to save space"
            return Execute((Cause(kind="collected", subject=subject),), result)
        if matches(result, code, step, around):
            subject = f"the result of run {result.run_number} is gone or damaged"
            return Execute((Cause(kind="lost", subject=subject),), result)
    return Execute(
        _because(
            step,
            manifest,
            code,
            lookup,
            upstream if upstream is not None else {},
            trees if trees is not None else {},
            counts,
            around,
        ),
        previous,
    )


def matches(result: Result, code: Tree | None, step: StepSpec, around: Surroundings = EMPTY_SURROUNDINGS) -> bool:
    """Whether a result with the same base key was made from the same code and, beside it, used only what is still the same."""
    return _same_code(result, code, step) and not any(True for _ in undeclared_changes(result, around))


def undeclared_changes(result: Result, around: Surroundings) -> Iterator[tuple[str, str, str]]:
    """(name, then, now) of undeclared files, and of names whose distributions are others now."""
    for path, then in result.undeclared.files:
        if not then.startswith("ignored"):
            now = around.file(path, then)
            if now != then:
                yield path, then, now
    for name, then in result.undeclared.modules or ():
        now = around.providers(name)
        if now != then:
            yield name, then, now


def _same_code(result: Result, code: Tree | None, step: StepSpec) -> bool:
    """Whether a result with the same base key was made by code that is the same in all that it used.

    Names, kinds, exec bits and link targets of all files always count; bytes count where the step read them, or
    everywhere when its reads are not known, or where hash_paths names them.
    """
    if code is None:
        return result.snapshot == ""
    if result.snapshot == code.digest:
        return True
    if result.reads is None or step.code == "snapshot" or result.structure != code.structure:
        return False
    now = code.by_path
    return all(path in now and now[path].digest == digest for path, digest in result.reads)


def accepted_note(acceptance: Acceptance) -> tuple[Cause, ...]:
    """First who accepted it and why, then what was accepted."""
    subject = f"accepted by {acceptance.who}, {acceptance.created_at[:10]}: {acceptance.because}"
    return (Cause(kind="accepted", subject=subject), *acceptance.causes)


def _unread(
    result: Result, code: Tree | None, trees: Mapping[str, Tree], counts: LineCounts, step: StepSpec
) -> tuple[Cause, ...]:
    before = trees.get(result.snapshot)
    if code is None or before is None or before.digest == code.digest:
        return ()
    return code_causes(before, code, counts, prefix=_prefix(step))


def _because(
    step: StepSpec,
    manifest: Manifest,
    code: Tree | None,
    lookup: Lookup,
    upstream: Mapping[str, tuple[str, str]],
    trees: Mapping[str, Tree],
    counts: LineCounts,
    around: Surroundings,
) -> tuple[Cause, ...]:
    previous = lookup.previous
    if previous is None or previous.manifest is None:
        return (Cause(kind="new", subject="new step: it never ran here"),)
    causes = list(manifest_causes(previous.manifest, manifest, step, upstream))
    causes.extend(_code_because(step, code, previous, trees, counts))
    if previous.result is not None:
        causes = _without_unused(causes, previous.result, around)
        causes.extend(undeclared_cause(path, then, now) for path, then, now in _changed_files(previous.result, around))
    if previous.result is None:
        causes.insert(0, Cause(kind="failed", subject=f"no result yet: run {previous.run_number} {previous.outcome}"))
    if not causes:
        causes.append(_why_else(previous))
    return tuple(causes)


def _changed_files(result: Result, around: Surroundings) -> list[tuple[str, str, str]]:
    names = {path for path, _ in result.undeclared.files}
    return [change for change in undeclared_changes(result, around) if change[0] in names]


def _without_unused(causes: list[Cause], result: Result, around: Surroundings) -> list[Cause]:
    """Distributions the step never asked for did not make it run."""
    if result.undeclared.modules is None:
        return causes
    texts = [text for name, then in result.undeclared.modules for text in (then, around.providers(name))]
    used = {part.strip().partition(" ")[0] for text in texts for part in text.split(";")}
    return [cause for cause in causes if cause.kind != "distribution" or cause.subject in used]


def _code_because(
    step: StepSpec, code: Tree | None, previous: Previous, trees: Mapping[str, Tree], counts: LineCounts
) -> tuple[Cause, ...]:
    before = previous.code
    if code is None or (before is not None and before.digest == code.digest):
        return ()
    if before is None:
        return (Cause(kind="structure", subject="the source folder", detail="changed; the earlier copy is no longer kept"),)
    reads = previous.result.reads if previous.result is not None else None
    exact = reads is not None and step.code == "precise"
    only = [path for path, _ in reads] if exact and reads is not None else None
    return code_causes(before, code, counts, only=only, prefix=_prefix(step))


def _why_else(previous: Previous) -> Cause:
    if previous.result is not None:
        return Cause(kind="lost", subject=f"the result of run {previous.run_number} is gone or damaged")
    return Cause(kind="failed", subject=f"run {previous.run_number} {previous.outcome}")


def _prefix(step: StepSpec) -> str:
    folder = step.source_directory or ""
    return "" if folder in ("", ".") else folder.rstrip("/") + "/"
