"""Steps on an engine that does not see this machine's files: what they are given travels as archives into volumes, what they made comes
back the same way.

Three volumes an attempt: the step directory, its inputs (read-only), and what else is lent. Inputs are sent by content where the links
of in/ lead, so arguments and variables are those of a local container. Nothing of an archive that comes back is trusted.
"""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from mlpipe_engine.errors import StagingError
from mlpipe_engine.executors.containers.creation import container_name, labels_of

if TYPE_CHECKING:
    from mlpipe_engine.executors.containers.engines import EngineAccess
    from mlpipe_engine.model.execution import StepTask

_NOBODY = 65534
_CHUNK = 1 << 20
_RETURNED = ("out", "code/outputs", "code/logs", "events.jsonl")
"""What of a step directory comes back: outputs, the files the SDK uploads, and what the step reported."""


def volumes(task: StepTask) -> list[tuple[str, str, bool]]:
    """(volume, where it is mounted, read-only)."""
    name = container_name(task.attempt_id)
    found = [(f"{name}-step", task.step_dir, False), (f"{name}-in", f"{task.step_dir}/in", True)]
    return found + [(f"{name}-lent-{number}", target, True) for number, (_, target) in enumerate(_beside(task))]


def _beside(task: StepTask) -> list[tuple[str, str]]:
    """Folders that are lent and are no inputs."""
    linked = {os.readlink(path) for path in _links(f"{task.step_dir}/in")}
    return [(source, target) for source, target in task.mounts if target not in linked]


def _links(folder: str) -> Iterator[str]:
    for path, folders, names in os.walk(folder):
        for name in (*folders, *names):
            full = os.path.join(path, name)
            if os.path.islink(full):
                yield full


def send(engine: EngineAccess, task: StepTask) -> None:
    """Make the volumes and fill them, by a container that is never started. May be done again. Raises what the library raises."""
    from docker.types import Mount

    assert task.container is not None
    client, placed = engine.client(), volumes(task)
    if _is_there(engine, helper_name(task)):  # of a try that was cut off
        client.remove_container(helper_name(task), force=True)
    for name, _, _ in placed:
        client.create_volume(name, labels=labels_of(task))
    host = client.create_host_config(
        mounts=[Mount(f"/v{at}", name, type="volume") for at, (name, _, _) in enumerate(placed)], network_mode="none"
    )
    helper = client.create_container(
        task.container.image, ["true"], entrypoint=[], host_config=host, labels=labels_of(task), name=helper_name(task)
    )["Id"]  # fmt: skip
    packers = [_pack_step(task), _pack_inputs(task), *(_pack_folder(source) for source, _ in _beside(task))]
    for at, pack in enumerate(packers):
        sending = engine.stream_client()  # of its own: an engine may close a connection on which it did not read to the end
        sending.timeout = 3600
        try:
            sending.put_archive(helper, f"/v{at}", _streamed(pack))
        finally:
            sending.close()
    client.remove_container(helper, force=True)


def helper_name(task: StepTask) -> str:
    return f"{container_name(task.attempt_id)}-files"


def _is_there(engine: EngineAccess, name: str) -> bool:
    from docker.errors import NotFound

    try:
        engine.client().inspect_container(name)
    except NotFound:
        return False
    return True


def fetch(engine: EngineAccess, task: StepTask, container: str) -> None:
    """Bring back what the step made. Raises StagingError for what may not stand in an output, and what the library raises."""
    from docker.errors import NotFound

    client = engine.stream_client()
    client.timeout = 3600
    try:
        for name in _RETURNED:
            try:
                chunks, _ = client.get_archive(container, f"{task.step_dir}/{name}", chunk_size=_CHUNK)
            except NotFound:
                continue
            _unpack(chunks, os.path.dirname(f"{task.step_dir}/{name}"), name)
    finally:
        client.close()


def drop(engine: EngineAccess, task: StepTask) -> None:
    """The volumes of an attempt whose container is gone."""
    with suppress(Exception):
        if _is_there(engine, helper_name(task)):
            engine.client().remove_container(helper_name(task), force=True)
    for name, _, _ in volumes(task):
        with suppress(Exception):
            engine.client().remove_volume(name, force=True)


Pack = Callable[[tarfile.TarFile], None]


def _pack_step(task: StepTask) -> Pack:
    assert task.container is not None
    owner = [int(part) for part in task.container.user.split(":")] if task.container.user.replace(":", "").isdigit() else [0, 0]

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        info.uid, info.gid, info.uname, info.gname = owner[0], owner[-1], "", ""
        return None if info.name.startswith(("./in/", "in/")) else info

    return lambda tar: tar.add(task.step_dir, ".", filter=owned)


def _pack_inputs(task: StepTask) -> Pack:
    def pack(tar: tarfile.TarFile) -> None:
        tar.dereference = True  # links lead to what is lent, which is not there
        tar.add(f"{task.step_dir}/in", ".", filter=_lent)

    return pack


def _pack_folder(source: str) -> Pack:
    return lambda tar: tar.add(source, ".", filter=_lent)


def _lent(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = _NOBODY
    info.uname = info.gname = ""
    info.mode = 0o555 if info.isdir() or info.mode & 0o100 else 0o444
    if info.islnk():
        info.type = tarfile.REGTYPE
    return info


def _streamed(pack: Pack) -> Iterator[bytes]:
    """An archive while it is made; what goes wrong in the making is raised here."""
    reading, writing = os.pipe()
    trouble: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writing, "wb") as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                pack(tar)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=write, name="pack", daemon=True)
    thread.start()
    with os.fdopen(reading, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            yield data
    thread.join()
    if trouble:
        raise trouble[0]


class _Chunks:
    """Chunks as a file that is read from front to back."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            more = next(self._chunks, b"")
            if not more:
                break
            self._rest += more
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _unpack(chunks: Iterator[bytes], folder: str, name: str) -> None:
    """Below `folder`, owned by us. Only plain files, folders and links that stay inside."""
    file: Any = _Chunks(iter(chunks))
    stream: IO[bytes] = file
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                tar.extract(member, folder, set_attrs=True, filter="data")
    except tarfile.FilterError as error:
        raise StagingError(f"what the step left in {name} cannot be taken: {error}") from error
    except tarfile.TarError as error:
        raise StagingError(f"what the step left in {name} came back damaged: {error}") from error
