"""Images for environments: packages installed into a container of a base image which is then committed, or a Dockerfile.

Installing in a container needs no builder, shows its output as it comes and lends wheels, certificates and settings by mounts, so
that none of them stay in the image. The caller holds a lock and knows the digest of what is asked for.
"""

from __future__ import annotations

import glob
import json
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError
from mlpipe_engine.executors.containers.creation import LABEL
from mlpipe_engine.executors.containers.images import inspected
from mlpipe_engine.executors.containers.streams import Connection, copy_frames
from mlpipe_engine.executors.environments import diagnosis

if TYPE_CHECKING:
    from mlpipe_engine.executors.containers.engines import EngineAccess
    from mlpipe_engine.executors.environments import Declared

REPOSITORY = "mlpipe-tui/environment"
DIGEST_LABEL = f"{LABEL}.environment"
BUILD_LABEL = f"{LABEL}.build"
_SHOWN_LINES = 8
_INSIDE = "/.mlpipe"
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_BOOT = (
    "import json,subprocess,sys\nfor words in json.loads(sys.argv[1]):\n code=subprocess.call(words)\n if code: sys.exit(code)\n"
)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an image is made from."""

    name: str
    """Of the environment, for people."""
    where: str
    digest: str
    log: str
    """Path of the file that keeps the whole output."""
    python: str = "python3"
    base: str = ""
    """Id of the image that packages are installed on."""
    declared: Declared | None = None
    dockerfile: str = ""

    @property
    def tag(self) -> str:
        return f"{REPOSITORY}:{self.digest}"


def built_id(engine: EngineAccess, order: Order) -> str | None:
    """The id of an image made of exactly this, if the engine has it."""
    found = inspected(engine, order.tag)
    labels = (found or {}).get("Config", {}).get("Labels") or {}
    return str(found["Id"]) if found is not None and labels.get(DIGEST_LABEL) == order.digest else None


def build(engine: EngineAccess, order: Order, say: Say) -> str:
    """Its id. Raises EnvironmentProblem with the end of the output, FilesystemError; half an image is never left."""
    from mlpipe_engine.executors.containers.engines import unavailable

    began = time.monotonic()
    say(f"building the image of environment {order.name}, log in {order.log}")
    try:
        os.makedirs(os.path.dirname(order.log), exist_ok=True)
        with open(order.log, "wb") as log:
            output = _Output(log, say)
            (_from_dockerfile if order.dockerfile else _by_installing)(engine, order, output)
    except (EnvironmentProblem, FilesystemError):
        raise
    except OSError as error:
        if error.filename is not None and type(error).__module__ == "builtins":
            raise FilesystemError.of(error, "build an image with", error.filename) from error
        raise unavailable(engine.url, error) from error
    except Exception as error:
        raise unavailable(engine.url, error) from error
    found = built_id(engine, order)
    if found is None:
        raise EnvironmentProblem(f"the engine at {engine.url} has lost the image {order.tag} it just made", where=order.where)
    say(f"the image of environment {order.name} is ready after {time.monotonic() - began:.1f} s")
    return found


class _Output:
    """Every byte into the log, every line to whoever watches."""

    def __init__(self, log: IO[bytes], say: Say) -> None:
        self._log, self._say, self._rest = log, say, b""

    def write(self, stream: int, data: bytes | memoryview) -> None:
        self._log.write(data)
        self._log.flush()
        lines = (self._rest + bytes(data)).split(b"\n")
        self._rest = lines.pop()[-65536:]
        for line in lines:
            self._say(f"  | {line.decode('utf-8', 'replace').rstrip()[:200]}")

    def text(self, line: str) -> None:
        self.write(1, line.encode("utf-8", "replace") + b"\n")


def _from_dockerfile(engine: EngineAccess, order: Order, output: _Output) -> None:
    from docker.errors import APIError

    client = engine.stream_client()
    client.timeout = 3600
    folder, name = os.path.split(order.dockerfile)
    problem = ""
    try:
        # a network is for fetching, and nothing of the caller's environment goes in: arguments of a build stay in its history
        for event in client.build(
            path=folder, dockerfile=name, tag=order.tag, labels={DIGEST_LABEL: order.digest}, decode=True, rm=True, forcerm=True,
        ):  # fmt: skip
            if event.get("stream"):
                output.write(1, re.sub(r"\x1b\[[0-9;]*m", "", event["stream"]).encode())
            elif event.get("status"):
                output.text(f"{event.get('id', '')} {event['status']}".strip())
            if event.get("error"):
                problem = str(event["error"])
    except (APIError, TypeError) as error:
        problem = str(getattr(error, "explanation", None) or error)
    finally:
        client.close()
    if problem:
        output.text(problem)
        raise _failed(order, " ".join(problem.split())[:300], "Mend the Dockerfile, then run again.")


def _by_installing(engine: EngineAccess, order: Order, output: _Output) -> None:
    client = engine.stream_client()
    client.timeout = 3600
    _end_earlier(client, order)
    base = inspected(engine, order.base) or {}
    words, mounts = _installation(order)
    host = client.create_host_config(
        mounts=mounts, network_mode=_network(order), init=True, cap_drop=["ALL"], cap_add=["CHOWN", "DAC_OVERRIDE", "FOWNER"],
        security_opt=["no-new-privileges"],
    )  # fmt: skip
    made = client.create_container(
        order.base, [order.python, "-c", _BOOT, json.dumps([words])], entrypoint=[], user="0:0", working_dir="/", host_config=host,
        labels={BUILD_LABEL: order.digest},
    )["Id"]  # fmt: skip
    try:
        connection = Connection(client.attach_socket(made, {"stdout": 1, "stderr": 1, "stream": 1}))
        client.start(made)
        copy_frames(connection.receive, output.write)
        connection.close()
        code = int(client.wait(made)["StatusCode"])
        if code:
            raise _install_failed(order, code)
        output.text("committing")
        repository, tag = order.tag.split(":")
        client.commit(made, repository, tag, changes=_changes(base.get("Config") or {}, order))
    finally:
        threading.Thread(target=_remove, args=(client, made), name="remove a build", daemon=False).start()


def _remove(client: Any, container: str) -> None:
    """A container with many files takes seconds to go: nobody waits for it."""
    with suppress(Exception):
        client.remove_container(container, force=True, v=True)
    client.close()


def _end_earlier(client: Any, order: Order) -> None:
    """Of a builder that was killed: the lock is ours, so nobody waits for it."""
    for row in client.containers(all=True, filters={"label": f"{BUILD_LABEL}={order.digest}"}):
        with suppress(Exception):
            client.remove_container(row["Id"], force=True, v=True)


def _changes(base: dict[str, Any], order: Order) -> list[str]:
    """The image starts like its base; the command and the labels of the building do not stay."""
    return [
        f"LABEL {DIGEST_LABEL}={order.digest}", f'LABEL {BUILD_LABEL}=""', "CMD " + json.dumps(base.get("Cmd") or [order.python]),
        "ENTRYPOINT " + json.dumps(base.get("Entrypoint") or []), "USER " + (base.get("User") or "0:0"),
        "WORKDIR " + (base.get("WorkingDir") or "/"),
    ]  # fmt: skip


def _network(order: Order) -> str:
    """A build from local wheels alone proves itself: it has none."""
    declared = order.declared
    return "none" if declared is None or declared.wheels.no_index else "bridge"


def _installation(order: Order) -> tuple[list[str], list[Any]]:
    """pip's words inside, and what is lent to it. Settings are words, not variables: variables would stay in the image."""
    from docker.types import Mount

    declared, mounts = order.declared, list[Any]()
    assert declared is not None

    def lend(path: str, inside: str) -> str:
        mounts.append(Mount(f"{_INSIDE}/{inside}", path, type="bind", read_only=True))
        return f"{_INSIDE}/{inside}"

    words = [order.python, "-m", "pip"]
    pip = _bundled_pip()
    if pip:  # bases without pip work too, and every base has the same one
        words = [order.python, f"{lend(pip, os.path.basename(pip))}/pip"]
    words += ["install", "--no-input", "--disable-pip-version-check", "--root-user-action=ignore", "--no-warn-script-location"]
    words += ["--break-system-packages", "--progress-bar=off", "--no-cache-dir"]
    for number, link in enumerate(declared.wheels.find_links):
        words += ["--find-links", link if "://" in link else lend(link, f"wheels-{number}")]
    if declared.wheels.no_index:
        words += ["--no-index"]
    else:
        bundle = os.environ.get("PIP_CERT") or next((path for path in _BUNDLES if os.path.exists(path)), "")
        words += ["--cert", lend(bundle, "ca.crt")] if bundle and os.path.exists(bundle) else []
        index = os.environ.get("PIP_INDEX_URL")
        words += ["--index-url", index] if index else []
    lists = (("-r", declared.requirements.lines), ("-c", declared.requirements.constraints))
    for option, lines in [(option, lines) for option, lines in lists if lines]:
        name = f"list{option}.txt"
        inside = [_lent_line(line, f"local{option}-{number}", lend) for number, line in enumerate(lines)]
        words += [option, lend(_written(f"{os.path.dirname(order.log)}/{order.digest}.{name}", inside), name)]
    return words, mounts


def _written(path: str, lines: list[str]) -> str:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join(lines) + "\n")
    return path


def _lent_line(line: str, name: str, lend: Callable[[str, str], str]) -> str:
    """A line of a requirements file in which packages of this machine stand where they are lent."""
    found = re.match(
        r"(?P<option>(?:-e|--editable|-f|--find-links)\s+|[\w.\-]+(?:\[[^\]]*\])?\s*@\s*file://)?(?P<path>/[^\s\[;]+)", line
    )
    if found is None:
        return line
    return (found["option"] or "") + lend(found["path"], f"{name}/{os.path.basename(found['path'])}") + line[found.end() :]


def _bundled_pip() -> str:
    import ensurepip

    found = glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), "_bundled", "pip-*.whl")) + glob.glob(
        "/usr/share/python-wheels/pip-*.whl"
    )
    return found[0] if found else ""


def _install_failed(order: Order, code: int) -> EnvironmentProblem:
    with open(order.log, encoding="utf-8", errors="replace") as file:
        text = file.read()[-20_000:]
    assert order.declared is not None
    why, hint = diagnosis(text, offline=order.declared.wheels.no_index)
    if code == 127 and "tini" in text:
        why, hint = (
            f"the base image has no {order.python}",
            "Use an image with Python, or name it with python = of the compute target.",
        )
    return _failed(order, why or f"pip exited {code}", hint)


def _failed(order: Order, why: str, hint: str) -> EnvironmentProblem:
    with open(order.log, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip() for line in file.read()[-20_000:].splitlines() if line.strip()]
    shown = "".join(f"\n  | {line[:300]}" for line in lines[-_SHOWN_LINES:])
    return EnvironmentProblem(
        f"the image of environment {order.name!r} could not be built: {why}{shown}\n  all of it: {order.log}", where=order.where, hint=hint
    )  # fmt: skip
