"""What a watcher tells: which change was seen, which steps it touches, what came of it. Made to be shown and sent.

Called changes and looks here; the events of the runs themselves are those of `model.events`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_engine.model.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEdit:
    """One file that is not what it was."""

    path: str
    """Relative to the project where inside it."""
    kind: str
    """changed, added, removed, same (its content is what it was)."""
    added: int | None = None
    removed: int | None = None
    """Lines; None where the bytes are gone or are no text."""

    def __str__(self) -> str:
        if self.kind != "changed":
            return f"{self.path} ({self.kind})"
        return self.path if self.added is None else f"{self.path} +{self.added} -{self.removed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A change, and what it means for a pipeline."""

    edits: tuple[FileEdit, ...] = ()
    reloaded: str = ""
    """What made everything be looked at anew: the definition, mlpipe.toml, an environment."""
    steps: tuple[str, ...] = ()
    """That run, or take another result, because of it; in the order of the pipeline."""
    below: tuple[str, ...] = ()
    """That depend on what those make."""
    untouched: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    """Absolute paths that changed while they were read: to be looked at again."""

    @property
    def touches(self) -> bool:
        return bool(self.steps)

    def __str__(self) -> str:
        """train.py +3 -1 -> train, evaluate; prep untouched"""
        what = _some([str(edit) for edit in self.edits], "files") or self.reloaded or "nothing"
        if not self.steps:
            if self.edits and all(edit.kind == "same" for edit in self.edits):
                return f"{what}: nothing to run"
            return f"{what}: read by no step; nothing to run" if self.edits else f"{what}: nothing to run"
        text = f"{what} -> {_some([*self.steps, *self.below], 'steps')}"
        return f"{text}; {_some(list(self.untouched), 'steps')} untouched" if self.untouched else text


def _some(names: list[str], what: str) -> str:
    """Up to four names, else three and how many there are."""
    if len(names) <= 4:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {len(names) - 3:,} more {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBegan:
    """The watcher stands: from now on no change is missed."""

    pipeline: str
    steps: int
    files: int
    folders: int
    polling: str = ""
    """Why files are looked at again and again; "" while the system tells of changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpareReady:
    """Everything is decided and loaded: what is saved from now on runs without waiting for an interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A change was looked at."""

    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The policy of what changed is to ask: nothing runs before an answer."""

    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something has to be mended; the watcher goes on."""

    text: str
    hint: str = ""
    traceback: str = ""
    """Of the user's definition."""


Told = WatchBegan | SpareReady | Looked | Asked | Note | Trouble | Event
