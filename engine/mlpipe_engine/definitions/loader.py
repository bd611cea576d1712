"""From definition files to PipelineSpecs, in a short-lived child process: user code never runs in ours.

Discovery: `pipelines/*.py`, or one `pipeline.py` in the project folder. The result is cached under what the load really used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mlpipe_engine import __version__
from mlpipe_engine.definitions.witness import Item, still_valid
from mlpipe_engine.errors import DefinitionError, DuplicateNameError, FilesystemError, PipelineLoadError
from mlpipe_engine.model import wire
from mlpipe_engine.model.spec import PipelineSpec

TIME_LIMIT_SECONDS = 60.0


class DefinitionCache(Protocol):
    """Keeps texts by key. A cache that forgets is correct, only slower."""

    def get(self, key: str) -> str | None: ...

    def put(self, key: str, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Definitions:
    pipelines: tuple[PipelineSpec, ...]
    effects: tuple[str, ...] = ()
    """What the files tried to submit, publish, upload or create while they were only loaded."""
    errors: tuple[PipelineLoadError, ...] = ()
    """Files that could not be loaded; the others were."""
    witness: tuple[Item, ...] = ()
    cacheable: bool = False
    output: str = ""
    """What the files printed."""


def discover(root: str) -> tuple[str, ...]:
    """Project-relative paths of definition files. Raises DefinitionError when there is none."""
    folder = os.path.join(root, "pipelines")
    found = []
    if os.path.isdir(folder):
        found = [
            f"pipelines/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".py") and not name.startswith(("_", "."))
        ]
    if not found and os.path.isfile(os.path.join(root, "pipeline.py")):
        found = ["pipeline.py"]
    if not found:
        raise DefinitionError(
            f"no pipeline is defined in {root}", expected="pipelines/*.py or pipeline.py",
            hint="Start with `mlpipe-tui init --example`, or wrap a script with `mlpipe-tui init --wrap train.py`.",
        )  # fmt: skip
    return tuple(found)


def load_definitions(root: str, cache: DefinitionCache, meanwhile: Callable[[], None] | None = None) -> Definitions:
    """Raises DefinitionError (nothing to load, names that clash); a broken file is in `errors`.

    `meanwhile` is called while a child process loads: whatever the caller has to do anyway.
    """
    files = discover(root)
    key = f"definitions {__version__} {root}\0" + "\0".join(files)  # a copied project must not look at the files of the original
    kept = cache.get(key)
    if kept is not None:
        document = json.loads(kept)
        witness = tuple((str(kind), str(name), str(mark)) for kind, name, mark in document["witness"])
        if document["python"] == sys.version and still_valid(witness, os.environ):
            return _definitions(document, root)
    document = _load_in_child(root, files, meanwhile)
    definitions = _definitions(document, root)
    if definitions.cacheable and not definitions.errors:
        cache.put(key, json.dumps(document))
    return definitions


def _definitions(document: dict[str, object], root: str) -> Definitions:
    pipelines = tuple(wire.load(PipelineSpec, text) for text in document["pipelines"])  # type: ignore[attr-defined]
    _refuse_equal_names(pipelines)
    errors = tuple(
        PipelineLoadError(
            error["file"],
            error["traceback"],
            error["summary"],
            where=error["where"],
            hint=error["hint"],
            field=error["field"],
            expected=error["expected"],
        )
        for error in document["errors"]  # type: ignore[attr-defined]
    )
    return Definitions(
        pipelines=pipelines,
        effects=tuple(document["effects"]),  # type: ignore[arg-type]
        errors=errors,
        witness=tuple((k, n, s) for k, n, s in document["witness"]),  # type: ignore[attr-defined]
        cacheable=bool(document["cacheable"]),
        output=str(document.get("output", "")),
    )


def _refuse_equal_names(pipelines: tuple[PipelineSpec, ...]) -> None:
    seen: dict[str, PipelineSpec] = {}
    for pipeline in pipelines:
        other = seen.setdefault(pipeline.name.casefold(), pipeline)
        if other is not pipeline:
            raise DuplicateNameError(
                f"two pipelines are called {pipeline.name!r}: one at {other.where}, one at {pipeline.where}",
                hint="Give one of them another name=.",
            )


def _load_in_child(root: str, files: tuple[str, ...], meanwhile: Callable[[], None] | None) -> dict[str, object]:
    engine_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    reading, writing = os.pipe()
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [engine_root, os.environ.get("PYTHONPATH", "")]))
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "mlpipe_engine.sdk.load", str(writing), root, *files]
    try:
        child = subprocess.Popen(
            command,
            cwd=root,
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    except OSError as error:
        os.close(reading)
        raise FilesystemError.of(error, "start", sys.executable) from error  # the machine's trouble, not the definition's
    finally:
        os.close(writing)
    if meanwhile is not None:
        meanwhile()
    answer, printed, timed_out = _listen(child, reading)
    if timed_out:
        raise PipelineLoadError(
            files[0], "", f"loading the definition took longer than {TIME_LIMIT_SECONDS:.0f} s and was stopped",
            hint='Move slow work into a step, or below `if __name__ == "__main__":`.',
        )  # fmt: skip
    if not answer:
        how = f"was killed by signal {-child.returncode}" if child.returncode < 0 else f"exited with code {child.returncode}"
        raise PipelineLoadError(
            files[0], printed, f"the process that loads {', '.join(files)} {how} before it was done",
            hint='Remove calls of exit, or move them below `if __name__ == "__main__":`.',
        )  # fmt: skip
    document: dict[str, object] = json.loads(answer)
    document["output"] = printed
    document["python"] = sys.version
    return document


def _listen(child: subprocess.Popen[bytes], reading: int) -> tuple[bytes, str, bool]:
    import select
    import time

    assert child.stdout is not None
    deadline = time.monotonic() + TIME_LIMIT_SECONDS
    parts: dict[int, bytearray] = {reading: bytearray(), child.stdout.fileno(): bytearray()}
    open_fds = set(parts)
    try:
        while open_fds:
            ready, _, _ = select.select(list(open_fds), [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                child.kill()
                child.wait()
                return b"", "", True
            for fd in ready:
                data = os.read(fd, 1 << 16)
                if data:
                    parts[fd] += data[: max(0, (64 << 20) - len(parts[fd]))]
                else:
                    open_fds.discard(fd)
            if reading not in open_fds and child.poll() is not None:
                break
        child.wait()
    finally:
        os.close(reading)
    printed = bytes(parts[child.stdout.fileno()]).decode("utf-8", "replace")
    child.stdout.close()
    return bytes(parts[reading]), printed, False
