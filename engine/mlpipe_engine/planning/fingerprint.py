"""The manifest of a step: everything that decides its result, and nothing else.

In: kind, script, argv with effective values, declared variables, input content, output declarations, environment, platform,
user version, code. Out: names, descriptions, defaults, allow_reuse, compute target, resources, paths, times (DESIGN 4).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from mlpipe_engine.model.encoding import Value
from mlpipe_engine.model.manifest import Manifest, ManifestEntry, Section
from mlpipe_engine.model.spec import InputRef, LiteralRef, OutputRef, ParameterRef, Part, StepSpec, Text, Word
from mlpipe_engine.model.trees import Entry, Tree


def step_manifest(
    step: StepSpec,
    *,
    parameters: Mapping[str, Value],
    inputs: Mapping[str, str],
    uses: Mapping[str, Sequence[Value]] = MappingProxyType({}),
    environment: Iterable[ManifestEntry],
    code: Tree | None,
    platform: str,
) -> Manifest:
    """The identity of one execution of `step`.

    `parameters`: effective typed values by name. `inputs`: content digest by input name, one for every input of the step. `uses`: what is
    made of that content before the step gets it.
    `environment`: entries of Section.ENVIRONMENT. `code`: the snapshot, None for a step without source directory.
    """
    entries = [
        ManifestEntry(Section.STEP, "kind", step.kind),
        ManifestEntry(Section.STEP, "platform", platform),
    ]
    if step.script is not None:
        entries.append(ManifestEntry(Section.STEP, "script", step.script))
    if step.version is not None:
        entries.append(ManifestEntry(Section.STEP, "version", step.version))
    words = (*step.command, *step.arguments)
    entries.extend(
        ManifestEntry(Section.ARGUMENT, f"{number:04d}", _word(word, parameters)) for number, word in enumerate(words, 1)
    )
    entries.extend(ManifestEntry(Section.PARAMETER, name, _part(part, parameters)) for name, part in step.params)
    entries.extend(ManifestEntry(Section.VARIABLE, name, value) for name, value in step.environment_variables)
    entries.extend(
        ManifestEntry(Section.INPUT, item.name, [item.mode, item.path_on_compute, inputs[item.name], *uses.get(item.name, ())])
        for item in step.inputs
    )
    entries.extend(
        ManifestEntry(
            Section.OUTPUT,
            item.name,
            [item.mode, item.is_directory, item.allow_missing, item.path_on_compute, item.source_globs],
        )
        for item in step.outputs
    )
    entries.extend(environment)
    if code is not None:
        entries.extend(ManifestEntry(Section.STEP, f"file {entry.path}", entry.digest) for entry in named_files(step, code))
        entries.append(ManifestEntry(Section.CODE, "snapshot", code.digest))
    return Manifest.of(entries)


def named_files(step: StepSpec, code: Tree) -> tuple[Entry, ...]:
    """Files that hash_paths names (a path, a folder or a glob): they count whether the step reads them or not.

    The list speaks of the source directory, not of other code roots.
    """
    if not step.hash_paths:
        return ()
    own = (entry for entry in code.entries if entry.kind in "fx" and not entry.path.startswith("/"))
    return tuple(entry for entry in own if _is_named(entry.path, step.hash_paths))


def _is_named(path: str, patterns: tuple[str, ...]) -> bool:
    plain = [pattern.rstrip("/") for pattern in patterns]
    return any(path == p or path.startswith(p + "/") or p == "." or fnmatch.fnmatchcase(path, p) for p in plain)


def _word(word: Word, parameters: Mapping[str, Value]) -> Value:
    return [_part(part, parameters) for part in word]


def _part(part: Part, parameters: Mapping[str, Value]) -> Value:
    """A parameter counts by its value, so that renaming it, or writing the value in its place, changes nothing."""
    match part:
        case Text(text):
            return ["value", text]
        case LiteralRef(value):
            return ["value", value]
        case ParameterRef(name):
            return ["value", parameters[name]]
        case InputRef(name):
            return ["input", name]
        case OutputRef(name):
            return ["output", name]
