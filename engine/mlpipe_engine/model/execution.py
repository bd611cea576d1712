"""What an executor is given and what it gives back.

The step side of the protocol (step.json, events.jsonl) is documented in `mlpipe_run.py`, which reads and writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_engine.model.spec import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What an attempt that runs in a container needs besides: everything else of the machine is hidden from it."""

    image: str
    """An id or a reference the engine knows; nothing is pulled."""
    engine: str = ""
    """URL of the engine; "" is the one this machine has."""
    user: str = ""
    """"uid:gid"; "" is the image's own."""
    network: str = "none"
    cpus: float | None = None
    memory_bytes: int | None = None
    """A limit that is enforced: more ends the step."""
    shm_bytes: int = 512_000_000
    pids: int = 1024
    scratch: tuple[str, ...] = ("/tmp",)
    """Folders in memory that the step may write to, besides its own."""
    gpus: tuple[str, ...] = ()
    """Ids of the devices that were leased for it."""
    labels: tuple[tuple[str, str], ...] = ()
    mark: str = ""
    """A file that is removed once the container is gone."""
    adopted: str = ""
    """Id of a container that an earlier runner started for this attempt: it is gone on with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What an interpreter has imported that a step may be forked from; equal values, the same interpreter."""

    modules: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    """What the modules can see of it while they are imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTask:
    """One attempt of one step, fully laid out on disk: everything an executor needs and nothing of the scheduler."""

    attempt_id: str
    """Unique for ever: UUID hex. Also the name of the step directory and of containers."""
    step_dir: str
    """Absolute. Holds code/ in/ out/ sdk/ logs/ step.json."""
    argv: tuple[str, ...]
    """Absolute program first."""
    cwd: str
    environment: tuple[tuple[str, str], ...]
    """The whole environment of the process; nothing is inherited."""
    stdout_path: str
    stderr_path: str
    timeout_seconds: float | None = None
    """Counted while the machine is awake."""
    grace_seconds: float = 5.0
    """Between SIGTERM and SIGKILL."""
    resources: Resources
    mounts: tuple[tuple[str, str], ...] = ()
    """(host path, path in the step): lent read-only."""
    container: Container | None = None
    """None: a process of this machine."""
    warm: WarmStart | None = None
    """None: it starts cold."""


@dataclass(frozen=True, slots=True)
class Exited:
    code: int

    def __str__(self) -> str:
        return f"exited {self.code}"


@dataclass(frozen=True, slots=True)
class Killed:
    signal: int
    because: str = ""
    """"out of memory (limit 64 MB)", "canceled", "timed out after 5 s", or "" when somebody else did it."""

    def __str__(self) -> str:
        return f"killed by signal {self.signal}" + (f": {self.because}" if self.because else "")


@dataclass(frozen=True, slots=True)
class Lost:
    """Gone before anyone read its exit code; never counts as success."""

    reason: str

    def __str__(self) -> str:
        return f"lost: {self.reason}"


Exit = Exited | Killed | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of one attempt."""

    attempt_id: str
    exit: Exit
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    timed_out: bool = False
    canceled: bool = False


def succeeded(exit: Exit) -> bool:
    return exit == Exited(0)
