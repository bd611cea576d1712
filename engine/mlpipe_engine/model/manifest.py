"""What a step's identity is made of, kept as a value.

`fingerprint` hashes a manifest and `explain` compares two: the hash and its explanation read the same entries and so
cannot disagree. The manifest without its code entries gives the base key (DESIGN "Two-level lookup").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from mlpipe_engine.model.encoding import Value, encode, fingerprint, fingerprint_of


class Section(StrEnum):
    """Kinds of things that decide a result."""

    STEP = "step"  # kind, script, user version, platform
    ARGUMENT = "argument"  # argv, word by word
    PARAMETER = "parameter"  # effective values of the parameters the step uses
    VARIABLE = "variable"  # declared environment variables
    INPUT = "input"  # name, mode -> content digest
    OUTPUT = "output"  # declarations
    ENVIRONMENT = "environment"  # interpreter, distributions, executables, image id
    CODE = "code"  # snapshot digest; the only section outside the base key


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    section: Section
    name: str
    value: Value
    """Exactly what is hashed; small enough to be stored and shown."""


@dataclass(frozen=True)
class Manifest:
    """Sorted by section and name; no two entries share both."""

    entries: tuple[ManifestEntry, ...]

    @classmethod
    def of(cls, entries: list[ManifestEntry]) -> Manifest:
        environment = [entry for entry in entries if entry.section is Section.ENVIRONMENT]
        rest = sorted((entry for entry in entries if entry.section is not Section.ENVIRONMENT), key=_order)
        before = sum(1 for entry in rest if entry.section.value < Section.ENVIRONMENT.value)
        return cls((*rest[:before], *_known(tuple(environment)).entries, *rest[before:]))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of("step", [encode(self._environment.digest), *(body for _, body in self._rest)])

    @cached_property
    def base_key(self) -> str:
        return fingerprint_of("base", [encode(self._environment.digest), *self._without_code()])

    @cached_property
    def loose_key(self) -> str:
        """The base key of a Python step without the distributions: of results that know which ones they used. "" for other steps."""
        if not any(entry.name == "kind" and entry.value == "python" for entry in self.entries if entry.section is Section.STEP):
            return ""
        return fingerprint_of("loose", [encode(self._environment.loose_digest), *self._without_code()])

    @property
    def environment_digest(self) -> str:
        """Of the entries of what runs the step; equal for most steps of a project."""
        return self._environment.digest

    @cached_property
    def _environment(self) -> _Environment:
        """It goes in as its own digest: it is the bulk of a manifest, and the same for most steps."""
        return _known(tuple(entry for entry in self.entries if entry.section is Section.ENVIRONMENT))

    @cached_property
    def _rest(self) -> tuple[tuple[Section, bytes], ...]:
        """Encoded once for all keys."""
        return tuple(
            (entry.section, encode([entry.section.value, entry.name, entry.value]))
            for entry in self.entries if entry.section is not Section.ENVIRONMENT
        )  # fmt: skip

    def _without_code(self) -> list[bytes]:
        return [body for section, body in self._rest if section is not Section.CODE]


def _order(entry: ManifestEntry) -> tuple[str, str]:
    return entry.section.value, entry.name


def is_distribution(entry: ManifestEntry) -> bool:
    return entry.section is Section.ENVIRONMENT and entry.name.startswith("distribution ")


class _Environment:
    """The entries of one environment, sorted, with their digests."""

    def __init__(self, entries: tuple[ManifestEntry, ...]) -> None:
        self.entries = tuple(sorted(entries, key=_order))

    @cached_property
    def digest(self) -> str:
        return fingerprint("environment", [[entry.name, entry.value] for entry in self.entries])

    @cached_property
    def loose_digest(self) -> str:
        return fingerprint("environment", [[entry.name, entry.value] for entry in self.entries if not is_distribution(entry)])


_ENVIRONMENTS: dict[tuple[int, ...], tuple[tuple[ManifestEntry, ...], _Environment]] = {}


def _known(entries: tuple[ManifestEntry, ...]) -> _Environment:
    """By the identity of the entries, which are kept alive here: to hash a hundred values for each of a thousand steps takes longer."""
    key = tuple(map(id, entries))
    found = _ENVIRONMENTS.get(key)
    if found is None:
        if len(_ENVIRONMENTS) > 128:
            _ENVIRONMENTS.clear()
        found = _ENVIRONMENTS[key] = (entries, _Environment(entries))
        if found[1].entries != entries or any(a is not b for a, b in zip(found[1].entries, entries)):
            _ENVIRONMENTS[tuple(map(id, found[1].entries))] = (found[1].entries, found[1])
    return found[1]
