"""The Compute screen: where steps run, what of the machine is taken, what waits, and whether all of it is fit."""

from __future__ import annotations

from typing import Any, ClassVar

from mlpipe_engine.model.views import Finding
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from mlpipe_tui import questions
from mlpipe_tui.screens.base import View
from mlpipe_tui.viewmodels import details, words
from mlpipe_tui.viewmodels.rich_lines import Line, Tone
from mlpipe_tui.viewmodels.shots import MachineShot, Trouble
from mlpipe_tui.widgets.document import Document
from mlpipe_tui.widgets.frame import Pane

_TONES: dict[str, Tone] = {"ok": "good", "warn": "warning", "error": "bad"}


class ComputeView(View):
    NAME = "Compute"
    HELP = "Compute targets of this project, load and memory of this machine, what runs and what waits for it. t examines everything."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "t",
            "doctor",
            "Test",
            id="compute.test",
            tooltip="Examine the machine, the project and its store, as `mlpipe-tui doctor`",
        ),
    ]

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.machine: MachineShot | None = None
        self.findings: tuple[Finding, ...] = ()
        self._asked = False

    def compose(self) -> ComposeResult:
        self.left, self.right = Document(), Document()
        yield Pane(self.left, title="Compute", id="machine")
        yield Pane(self.right, title="Doctor", id="doctor")

    def wake(self) -> None:
        self.pulse()
        if not self.findings:
            self.right.show([Line.of(("t examines the machine, the project and its store.", "muted"))])

    def pulse(self) -> None:
        """Only while it is shown."""
        self.tui.bridge.look("machine", questions.machine, self._got)

    def _got(self, found: MachineShot | Trouble) -> None:
        if isinstance(found, Trouble):
            self.left.show(details.trouble_lines(found))
            return
        self.machine = found
        self.left.show(self._lines(found))

    def _lines(self, found: MachineShot) -> list[Line]:
        width = 24
        memory = f"{words.size(found.memory_used)} of {words.size(found.memory_bytes)}"
        bars = [
            ("load", found.cpus_used, found.cpus, f"{found.cpus_used:.1f} of {found.cpus:.0f} cpus"),
            ("memory", found.memory_used, found.memory_bytes, memory),
        ]
        rows = [Line.of(("This machine", "strong"))]
        for name, used, total, text in bars:
            filled = min(width, round(width * used / total)) if total else 0
            full, rest = (self.tui.glyphs.bar[-1], self.tui.glyphs.bar[0]) if not self.tui.ascii_only else ("#", ".")
            rows.append(Line.of(f"  {name:<8} ", (full * filled, "primary"), (rest * (width - filled), "muted"), f"  {text}"))
        rows += [Line(), Line.of(("Compute targets", "strong"))]
        for name, kind, limits in found.computes:
            rows.append(
                Line.of(
                    f"  {name:<12} ", (f"{kind:<8} ", "muted"), limits, ("  default" if name == found.default else "", "accent")
                )
            )
        rows += [Line(), Line.of(("Running", "strong"))]
        now = self.tui.now()
        for run, step, state, since in found.holders:
            rows.append(
                Line.of(f"  run {run:<5} {step:<20} ", (state, "warning"), f"  {words.clock(words.since(since, now) or 0.0)}")
            )
        rows += [] if found.holders else [Line.of(("  nothing", "muted"))]
        if found.waiting:
            rows += [Line(), Line.of(("Waiting", "strong"))]
            rows += [Line.of(f"  run {run:<5} {step:<20} ", (why, "muted")) for run, step, why in found.waiting[:200]]
        return rows

    def action_doctor(self) -> None:
        self.tui.log_command(("doctor",))
        self.right.show([Line.of(("examining ...", "muted"))])
        self.tui.bridge.work("doctor", lambda engine: engine.doctor(), self._examined)

    def _examined(self, found: tuple[Finding, ...] | Trouble) -> None:
        if isinstance(found, Trouble):
            self.right.show(details.trouble_lines(found))
            return
        self.findings = found
        rows: list[Line] = []
        for finding in found:
            rows.append(Line.of((f"{finding.level:<6}", _TONES[finding.level]), finding.what))
            rows += [Line.of("      ", (finding.hint, "muted"))] if finding.hint else []
        self.right.show(rows)
