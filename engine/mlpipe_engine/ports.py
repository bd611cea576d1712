"""What the runner needs from the outside world, as Protocols of at most four methods.

Adapters implement them without importing each other; `engine` wires them. Tests run every adapter and its in-memory
twin through one contract class.
"""

from __future__ import annotations

from typing import Protocol

from mlpipe_engine.model.execution import Finished, StepTask
from mlpipe_engine.model.trees import Tree


class Executor(Protocol):
    """Runs laid-out steps. Knows nothing of pipelines, reuse or the scheduler. Called from the runner thread only."""

    def start(self, task: StepTask) -> None:
        """Start the attempt; returns once it is on its way. Raises ExecutorUnavailableError, StagingError."""

    def wait(self, timeout_seconds: float) -> list[Finished]:
        """Attempts that ended, each reported exactly once and only when nothing of its process tree is left alive.

        Blocks until there is one, `wake` was called from a signal, or the time is over.
        """

    def cancel(self, attempt_id: str) -> None:
        """SIGTERM, grace, SIGKILL for the whole tree; its end arrives through `wait`. Unknown ids are ignored."""

    def close(self) -> None:
        """Kill what still runs and release everything. Idempotent; never raises."""


class Snapshots(Protocol):
    """Freezes source directories."""

    def scan(self, directory: str) -> Tree:
        """The tree as it is now, honouring ignore files; nothing is written. Raises SnapshotError."""

    def save(self, tree: Tree, directory: str) -> None:
        """Copy the bytes of `tree` into the store. Raises SnapshotError when the files changed since `scan`."""

    def lay_out(self, tree: Tree, destination: str) -> None:
        """A private, writable copy whose reads can be told afterwards by `reads`. Raises StagingError."""

    def reads(self, tree: Tree, destination: str) -> tuple[tuple[str, str], ...] | None:
        """(path, digest) of every file of `tree` that was used in `destination`; None when that cannot be known."""


class Artifacts(Protocol):
    """Outputs, stored once under their digest, read-only."""

    def publish(self, path: str) -> Tree:
        """Hash and move (one rename) what a step wrote. Raises StagingError for special files or links out."""

    def path(self, digest: str) -> str:
        """Absolute path of a stored artifact: a file or a folder."""

    def intact(self, digest: str) -> bool:
        """Quick check (existence, kinds, sizes, inode times) that the stored bytes are still those of the digest."""

    def quarantine(self, digest: str) -> None:
        """Move a damaged artifact out of the way, keeping its bytes for inspection."""
