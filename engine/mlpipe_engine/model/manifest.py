"""What a step's identity is made of, kept as a value.

`fingerprint` hashes a manifest and `explain` compares two: the hash and its explanation read the same entries and so
cannot disagree. The manifest without its code entries gives the base key (DESIGN "Two-level lookup").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache

from mlpipe_engine.model.encoding import Value, fingerprint


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
        return cls(tuple(sorted(entries, key=lambda e: (e.section.value, e.name))))

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint("step", self._identity(self.entries))

    @cached_property
    def base_key(self) -> str:
        return fingerprint("base", self._identity(tuple(entry for entry in self.entries if entry.section is not Section.CODE)))

    @cached_property
    def loose_key(self) -> str:
        """The base key of a Python step without the distributions: of results that know which ones they used. "" for other steps."""
        if not any(entry.name == "kind" and entry.value == "python" for entry in self.entries if entry.section is Section.STEP):
            return ""
        kept = [e for e in self.entries if e.section is not Section.CODE]
        return fingerprint("loose", self._identity(tuple(e for e in kept if not is_distribution(e))))

    @staticmethod
    def _identity(entries: tuple[ManifestEntry, ...]) -> Value:
        """The environment goes in as its own digest: it is the bulk of a manifest, and the same for most steps."""
        environment = tuple(entry for entry in entries if entry.section is Section.ENVIRONMENT)
        rest = [[entry.section.value, entry.name, entry.value] for entry in entries if entry.section is not Section.ENVIRONMENT]
        return [_environment_digest(environment), *rest]


def is_distribution(entry: ManifestEntry) -> bool:
    return entry.section is Section.ENVIRONMENT and entry.name.startswith("distribution ")


@lru_cache(maxsize=64)
def _environment_digest(entries: tuple[ManifestEntry, ...]) -> str:
    """Prereq: values of environment entries are hashable (texts and tuples)."""
    return fingerprint("environment", [[entry.name, entry.value] for entry in entries])
