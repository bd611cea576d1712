"""The image of a step: what it is known by before there is one, and how an engine comes to have it.

An image of this machine's interpreter is known by the digests of what goes into it, so planning needs no engine; any other image by
its id, never by its name. Building and pulling happen once, under a lock of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpipe_engine.errors import EnvironmentProblem
from mlpipe_engine.executors.containers import host_image

if TYPE_CHECKING:
    from mlpipe_engine.executors.containers.engines import EngineAccess

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class StepImage:
    """What a step runs in."""

    identity: str
    """What of it is hashed into fingerprints."""
    reference: str
    """What the engine is asked for."""
    python: str
    """The interpreter of Python steps, inside."""
    how: str
    """For people: why this one."""
    engine: str = ""
    contents: host_image.Contents | None = None
    """Of an image that can be made here."""


def image_id(engine: EngineAccess, reference: str) -> str | None:
    """None: the engine has none of that name. Raises ExecutorUnavailableError."""
    found = inspected(engine, reference)
    return None if found is None else str(found["Id"])


def inspected(engine: EngineAccess, reference: str) -> dict[str, Any] | None:
    from docker.errors import APIError

    from mlpipe_engine.executors.containers.engines import unavailable

    try:
        found: dict[str, Any] = engine.client().inspect_image(reference)
        return found
    except APIError as error:
        if error.status_code == 404:
            return None
        raise unavailable(engine.url, error) from error
    except OSError as error:
        raise unavailable(engine.url, error) from error


def host_image_id(engine: EngineAccess, contents: host_image.Contents) -> str | None:
    """None where the engine has not got it, or what has its name is something else."""
    found = inspected(engine, contents.tag)
    labels = (found or {}).get("Config", {}).get("Labels") or {}
    return str(found["Id"]) if found is not None and labels.get(host_image.KEY_LABEL) == contents.key else None


def make_host_image(engine: EngineAccess, contents: host_image.Contents, scratch: str, say: Say) -> str:
    """Its id. Raises EnvironmentProblem, FilesystemError, ExecutorUnavailableError."""
    import time

    from mlpipe_engine.executors.containers.engines import unavailable

    began = time.monotonic()
    say(f"making an image of {contents.interpreter} and what is installed in it (once)")
    client = engine.stream_client()
    client.timeout = 600

    def load(data: Iterator[bytes]) -> None:
        for answer in client.load_image(data):
            if "error" in answer:
                raise EnvironmentProblem(f"the engine at {engine.url} refused the image: {answer['error']}")

    try:
        host_image.build(contents, engine.facts.architecture, scratch, load)
    except EnvironmentProblem:
        raise
    except Exception as error:
        if type(error).__module__.startswith("mlpipe_engine"):
            raise
        raise unavailable(engine.url, error) from error
    finally:
        client.close()
    found = host_image_id(engine, contents)
    if found is None:
        raise EnvironmentProblem(f"the engine at {engine.url} took the image but does not have it")
    say(f"the image is ready after {time.monotonic() - began:.1f} s: {contents.tag}")
    return found


def pull(engine: EngineAccess, reference: str, say: Say, where: str = "") -> str:
    """Its id. Layers are told as they come. Raises EnvironmentProblem when no registry gives it."""
    from docker.errors import APIError

    say(f"pulling {reference}")
    client = engine.stream_client()
    client.timeout = 120
    last = ""
    try:
        name, tag = split_reference(reference)
        for event in client.pull(name, tag=tag, stream=True, decode=True):
            if event.get("error"):
                raise _not_pulled(reference, str(event["error"]), where)
            line = f"{event.get('id', '')} {event.get('status', '')}".strip()
            if event.get("status") in ("Pull complete", "Downloading", "Extracting") and line != last:
                last = line
                say(f"  {line} {event.get('progress', '') if event['status'] == 'Downloading' else ''}".rstrip())
    except APIError as error:
        raise _not_pulled(reference, str(error.explanation or error), where) from error
    except OSError as error:
        raise _not_pulled(reference, str(error), where) from error
    finally:
        client.close()
    found = image_id(engine, reference)
    if found is None:
        raise _not_pulled(reference, "the engine pulled it but does not have it", where)
    return found


def split_reference(reference: str) -> tuple[str, str | None]:
    """("registry:5000/name", "tag"); a digest stays with the name."""
    if "@" in reference or reference.startswith("sha256:"):
        return reference, None
    head, colon, tag = reference.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (reference, "latest")


def _not_pulled(reference: str, text: str, where: str) -> EnvironmentProblem:
    text = " ".join(text.split())[:300]
    if "denied" in text or "unauthorized" in text.lower():
        hint = "Log in with `docker login`, or correct the name of the image."
    elif "not found" in text.lower() or "manifest unknown" in text:
        hint = "Correct the name or the tag of the image."
    else:
        hint = (
            "Bring it with `docker load` of a file that `docker save` wrote where there is a network, or name no image: "
            "then one is made from this machine's own Python."
        )
    return EnvironmentProblem(f"the image {reference} is not here and cannot be pulled: {text}", where=where, hint=hint)
