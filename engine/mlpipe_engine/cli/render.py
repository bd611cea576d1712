"""A run on the screen: finished steps scroll up as plain lines, running ones stay below them with their times.

Pure but for `Screen`: events and the clock go in, lines come out. No escape codes unless the terminal takes them.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from mlpipe_engine.cli.output import seconds
from mlpipe_engine.model.events import Event, RunFinished, RunStarted, StepChanged
from mlpipe_engine.model.states import FINAL, State
from mlpipe_engine.model.text import clean

_COLOURS = {State.SUCCEEDED: "32", State.REUSED: "36", State.FAILED: "31", State.CANCELED: "33", State.SKIPPED: "33"}


@dataclass
class RunView:
    """What is known of a run that is being followed."""

    number: int = 0
    pipeline: str = ""
    width: int = 8
    """Of the column of step names."""
    running: dict[str, tuple[float, float | None, int]] = field(default_factory=dict)
    """Step -> (since when by our clock, expected seconds, attempt)."""
    causes: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    finished: RunFinished | None = None

    def take(self, event: Event, now: float) -> list[str]:
        """Lines to print for this event."""
        match event:
            case RunStarted():
                self.number, self.pipeline = event.number, event.pipeline
                self.width = min(30, max((len(name) for name in event.steps), default=8))
                count = f"{len(event.steps)} step{'s' if len(event.steps) != 1 else ''}"
                return [f"run {event.number}: {clean(event.pipeline)} ({count}), experiment {clean(event.experiment)}"]
            case StepChanged():
                return self._step(event, now)
            case RunFinished():
                self.finished = event
                return summary(event)

    def _step(self, event: StepChanged, now: float) -> list[str]:
        name = event.step
        if event.causes and event.state in (State.PREPARING, State.RUNNING):
            self.causes[name] = _why(event)
        if event.state is State.RUNNING:
            self.running[name] = (now, event.expected_seconds, event.attempt)
            return []
        if event.state not in FINAL:
            return [f"  {clean(name):<{self.width}}  {clean(event.note)}"] if event.note else []
        self.running.pop(name, None)
        if event.state is State.FAILED:
            self.failed.append(name)
        return [f"  {clean(name):<{self.width}}  {self._final(event)}"]

    def _final(self, event: StepChanged) -> str:
        took = seconds(event.seconds)
        match event.state:
            case State.REUSED:
                first = event.causes[0] if event.causes else None
                label = "" if first is None or first.kind == "accepted" else "changed but never read: "
                note = f"; {label}{clean(str(first))}" if first is not None else ""
                return f"reused     from run {event.reused_from}, saves {took}{note}"
            case State.SUCCEEDED:
                note = f" (not reusable: {clean(event.note)})" if event.note else ""
                cause = self.causes.get(event.step) or (_why(event) if event.causes else "")
                return f"succeeded  {took:>8}  {'because ' + cause if cause else ''}{note}".rstrip()
            case State.FAILED:
                return f"failed     {took:>8}  {clean(event.error or event.exit)}"
            case State.SKIPPED:
                return f"skipped    {clean(str(event.causes[0])) if event.causes else ''}"
            case _:
                return event.state.value

    def live(self, now: float, columns: int, rows: int) -> list[str]:
        """One line for each running step; as many as the screen has room for."""
        lines = []
        for name, (since, expected, attempt) in self.running.items():
            text = f"  {clean(name):<{self.width}}  running    {seconds(now - since):>8}"
            if expected is not None:
                text += f" of about {seconds(expected)}"
            if attempt > 1:
                text += f", attempt {attempt}"
            lines.append(text[: columns - 1])
        room = max(1, rows - 2)
        return lines if len(lines) <= room else [*lines[: room - 1], f"  ... and {len(lines) - room + 1} more running"]


def _why(event: StepChanged) -> str:
    more = f" and {len(event.causes) - 1} more" if len(event.causes) > 1 else ""
    return clean(str(event.causes[0])) + more


def summary(event: RunFinished) -> list[str]:
    words = {State.SUCCEEDED: "succeeded", State.REUSED: "is up to date", State.FAILED: "failed", State.CANCELED: "was canceled"}
    counts = [
        (event.executed, "ran"),
        (event.reused, "reused"),
        (event.skipped, "skipped"),
        (event.failed, "failed"),
        (event.canceled, "canceled"),
    ]
    text = ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing to do"
    saved = f"; reuse saved {seconds(event.saved_seconds)}" if event.reused else ""
    error = [f"  {clean(event.error)}"] if event.error else []
    return [f"run {event.number} {words.get(event.state, event.state.value)} in {seconds(event.seconds)}: {text}{saved}", *error]


class Screen:
    """Prints lines; on a terminal keeps the live lines below them. Everything foreign in them is clean already."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.live = self._stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._colour = self.live and not os.environ.get("NO_COLOR")
        self._drawn = 0
        self._next = 0.0

    def event(self, view: RunView, event: Event) -> None:
        lines = view.take(event, time.monotonic())
        state = getattr(event, "state", None)
        if lines:
            self._erase()
            for line in lines:
                self._stream.write((self._coloured(line, state) if state in _COLOURS else line) + "\n")
            self._next = 0.0
        self.draw(view)
        self._stream.flush()

    def draw(self, view: RunView) -> None:
        """Live lines again, ten times a second at most."""
        now = time.monotonic()
        if not self.live or now < self._next:
            return
        self._next = now + 0.1
        columns, rows = self._size()
        lines = view.live(now, columns, rows)
        self._erase()
        if lines:
            self._stream.write("\n".join(lines) + "\n")
        self._drawn = len(lines)
        self._stream.flush()

    def say(self, text: str) -> None:
        self._erase()
        self._stream.write(text + "\n")
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _coloured(self, line: str, state: State) -> str:
        if not self._colour:
            return line
        word = {
            State.SUCCEEDED: "succeeded",
            State.REUSED: "reused",
            State.FAILED: "failed",
            State.CANCELED: "canceled",
            State.SKIPPED: "skipped",
        }[state]
        return line.replace(word, f"\x1b[{_COLOURS[state]}m{word}\x1b[0m", 1)

    def _size(self) -> tuple[int, int]:
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        return found.columns or 80, found.lines or 24
