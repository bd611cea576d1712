"""The project file: where it is, what may stand in it, and errors that point at the line."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlpipe_engine.config.pools import read_pools
from mlpipe_engine.errors import ConfigError, ProjectNotFoundError, nearest
from mlpipe_engine.model.datastores import BUILT_IN, SETTINGS, DatastoreSpec

FILE_NAME = "mlpipe.toml"
MAX_BYTES = 1 << 20
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeConfig:
    """A compute target: where steps run. `local` and `docker` always exist."""

    name: str
    kind: str = "process"
    cpus: float | None = None
    memory_bytes: int | None = None
    python: str | None = None
    audit: str = "python"
    """What is noticed of undeclared reads: "python", "full" (strace) or "off"."""
    isolation: str = "none"
    """ "strict": undeclared reads are refused (Landlock)."""
    image: str | None = None
    """Of kind "docker": what its steps run in. None: an image is made from the interpreter they would have as processes."""
    engine: str = ""
    """URL of the container engine; "" is the one the docker command would use."""
    network: str = "none"
    """Of containers: "none", "bridge", "host", or the name of a network of the engine."""
    shm_bytes: int = 512_000_000
    pids: int = 1024
    gpus: tuple[str, ...] = ()
    """Ids of the GPUs its steps may lease; (): all that the driver knows."""
    gpus_per_node: int = 0
    """What a step gets that asks for none, where this machine has so many."""
    min_nodes: int = 0
    max_nodes: int = 0
    """A pool: so many of its steps run at once. 0: no pool, and no such limit."""
    idle_seconds: float = 1800.0
    """How long a node counts as there after its last step."""
    priority: str = "dedicated"
    """ "lowpriority": its steps start after those of other targets."""
    made: bool = False
    """By a script, not in the project file."""
    preload: tuple[str, ...] = ()
    """Modules that a warm interpreter imports once, to fork Python steps from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """The table [store]: how much room the project's store takes, and where it may lie."""

    quota: str = ""
    """"off", "20%", a number of bytes; "" is the default (20 % of the disk's free space and the store's own, at least 2 GB)."""
    network: bool = False
    max_log_bytes: int = 1_000_000_000
    """Of each stream of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuiConfig:
    """The tables [tui] and [keys]: how the terminal app looks, and keys of its own."""

    theme: str = ""
    glyphs: str = "auto"
    mouse: bool = True
    keys: tuple[tuple[str, str], ...] = ()
    """(id of a binding, its key). The app knows the ids."""


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """The table [watch]: what a change of a path calls for. Patterns are those of .gitignore, relative to the project."""

    run: tuple[str, ...] = ()
    """Where given, only these run anything."""
    ask: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    restart_below_seconds: float = 30.0
    """A running step whose sources change is stopped and started anew while it is younger; an older one is let finish first."""
    poll: bool = False
    """Look at the files again and again instead of waiting for events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    name: str
    default_pipeline: str | None = None
    default_compute: str = "local"
    computes: tuple[ComputeConfig, ...] = ()
    python: str | None = None
    """The interpreter of steps that name none and whose compute target names none."""
    python_from_default: bool = True
    """Whether it stands in [default], else in [project]."""
    find_links: tuple[str, ...] = ()
    """Folders (relative to the project) and addresses where packages of environments are looked for as well."""
    no_index: bool = False
    """True: packages of environments come from `find_links` alone; nothing is fetched."""
    store: StoreConfig = StoreConfig()
    tui: TuiConfig = TuiConfig()
    watch: WatchConfig = WatchConfig()
    datastores: tuple[DatastoreSpec, ...] = ()
    """Those of the tables [datastore.NAME]."""
    default_datastore: str | None = None
    path: str = ""

    def line(self, table: str, key: str) -> str:
        """`file:line` of a key, for messages about its value."""
        return f"{self.path}:{_line(_text(self.path), table, key)}"

    def compute(self, name: str) -> ComputeConfig:
        """Raises ConfigError with the nearest name."""
        for compute in self.computes:
            if compute.name == name:
                return compute
        close = nearest(name, [compute.name for compute in self.computes])
        known = ", ".join(compute.name for compute in self.computes)
        raise ConfigError(
            f"there is no compute target {name!r}" + (f"; did you mean {close!r}?" if close else ""),
            where=self.path, expected=f"one of {known}", hint=f"Add a table [compute.{name}] to {FILE_NAME}.",
        )  # fmt: skip


_SCHEMA: dict[str, dict[str, str]] = {
    "project": {"name": "text", "default_pipeline": "text", "python": "text"},
    "default": {"compute": "text", "python": "text", "datastore": "text"},
    "datastore.*": {"url": "text", **dict.fromkeys(SETTINGS, "setting")},
    "environments": {"find_links": "texts", "no_index": "flag"},
    "store": {"quota": "quota", "network": "switch", "max_log": "size"},
    "tui": {"theme": "text", "glyphs": "choice", "mouse": "switch"},
    "watch": {"run": "texts", "ask": "texts", "ignore": "texts", "restart_below": "duration", "poll": "switch"},
    "compute.*": {
        "kind": "text", "cpus": "number", "memory": "size", "python": "text", "audit": "choice", "isolation": "choice",
        "preload": "modules", "image": "text", "engine": "text", "network": "text", "shm": "size", "pids": "count", "gpus": "texts",
        "max_nodes": "count", "min_nodes": "count", "idle_seconds": "number", "priority": "choice",
    },
}  # fmt: skip
"""Table -> key -> what is expected."""
_CHOICES = {
    "priority": ["dedicated", "lowpriority"],
    "audit": ["python", "full", "off"],
    "isolation": ["none", "strict"],
    "glyphs": ["auto", "unicode", "ascii"],
}
_TABLES = ("project", "default", "store", "compute", "environments", "datastore", "tui", "keys", "watch")


def find_root(start: str | None = None) -> str:
    """The nearest folder upward with an mlpipe.toml. Raises ProjectNotFoundError."""
    try:
        folder = os.path.realpath(start or os.getcwd())
    except FileNotFoundError:
        raise ProjectNotFoundError("the current folder no longer exists", hint="Change to a folder that does.") from None
    if not os.path.isdir(folder):
        raise ProjectNotFoundError(f"{start} is not a folder", hint="Name the folder of a project with -C.")
    here = folder
    while True:
        if os.path.lexists(os.path.join(here, FILE_NAME)):
            return here
        parent = os.path.dirname(here)
        if parent == here:
            raise ProjectNotFoundError(f"no {FILE_NAME} in {folder} or in any folder above it")
        here = parent


def load_config(root: str) -> ProjectConfig:
    """Raises ConfigError. An empty file is a project with all defaults."""
    path = os.path.join(root, FILE_NAME)
    text = _text(path)
    document = _parsed(text, path)
    _check(document, text, path)
    project, default = document.get("project", {}), document.get("default", {})
    environments = document.get("environments", {})
    links = environments.get("find_links", ())
    computes = [
        ComputeConfig(
            name=name, kind=table.get("kind", "process"), cpus=table.get("cpus"),
            memory_bytes=size_bytes(table["memory"]) if "memory" in table else None, python=table.get("python"),
            audit=table.get("audit", "python"), isolation=table.get("isolation", "none"), image=table.get("image"),
            engine=table.get("engine", ""), network=table.get("network", "none"), pids=table.get("pids", 1024), gpus=_texts(table.get("gpus", ())),
            min_nodes=table.get("min_nodes", 0), max_nodes=table.get("max_nodes", 0), idle_seconds=float(table.get("idle_seconds", 1800)),
            priority=table.get("priority", "dedicated"),
            shm_bytes=size_bytes(table["shm"]) if "shm" in table else 512_000_000,
            preload=(table["preload"],) if isinstance(table.get("preload"), str) else tuple(table.get("preload", ())),
        )
        for name, table in document.get("compute", {}).items()
    ]  # fmt: skip
    if "local" not in {compute.name for compute in computes}:
        computes.insert(0, ComputeConfig(name="local"))
    computes += [
        ComputeConfig(
            name=pool.name, kind=pool.kind, min_nodes=pool.min_nodes, max_nodes=pool.max_nodes, idle_seconds=pool.idle_seconds,
            priority=pool.priority, gpus_per_node=pool.gpus_per_node, made=True,
        )
        for pool in read_pools(root)
        if pool.name not in {compute.name for compute in computes}
    ]  # fmt: skip
    if "docker" not in {compute.name for compute in computes}:
        computes.append(ComputeConfig(name="docker", kind="docker"))
    config = ProjectConfig(
        name=project.get("name") or os.path.basename(root) or "project",
        default_pipeline=project.get("default_pipeline"),
        default_compute=default.get("compute", "local"),
        computes=tuple(computes),
        python=default.get("python") or project.get("python"),
        python_from_default="python" in default,
        find_links=(links,) if isinstance(links, str) else tuple(links),
        no_index=environments.get("no_index", False),
        store=_store(document.get("store", {})),
        tui=_tui(document.get("tui", {}), document.get("keys", {})),
        watch=_watch(document.get("watch", {})),
        datastores=_datastores(document.get("datastore", {}), text, path),
        default_datastore=default.get("datastore"),
        path=path,
    )
    if "compute" in default:
        try:
            config.compute(config.default_compute)
        except ConfigError as error:
            raise ConfigError(
                error.what, where=f"{path}:{_line(text, 'default', 'compute')}", field="default.compute", expected=error.expected
            ) from None
    return config


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _tui(table: Mapping[str, Any], keys: Mapping[str, Any]) -> TuiConfig:
    return TuiConfig(
        theme=table.get("theme", ""),
        glyphs=table.get("glyphs", "auto"),
        mouse=table.get("mouse", True),
        keys=tuple(sorted(keys.items())),
    )


def _datastores(tables: Mapping[str, Mapping[str, Any]], text: str, path: str) -> tuple[DatastoreSpec, ...]:
    found: list[DatastoreSpec] = []
    for name, table in tables.items():
        where = f"{path}:{_line(text, '', f'datastore.{name}')}"
        if name in BUILT_IN:
            raise ConfigError(
                f"the datastore {name!r} is built in", where=where, field=f"datastore.{name}", hint="Choose another name."
            )
        if "url" not in table:
            raise ConfigError("a datastore without a URL", where=where, field=f"datastore.{name}.url", expected='url = "..."')
        settings = {key: str(value).lower() if isinstance(value, bool) else value for key, value in table.items() if key != "url"}
        try:
            found.append(DatastoreSpec.of(name, table["url"], settings, origin="mlpipe.toml", where=where))
        except ConfigError as error:
            key = error.field.rpartition(".")[2]
            if key in table:
                error.where = f"{path}:{_line(text, f'datastore.{name}', key)}"
            raise
    return tuple(found)


def _store(table: Mapping[str, Any]) -> StoreConfig:
    return StoreConfig(
        quota=_quota(table["quota"]) if "quota" in table else "", network=table.get("network", False),
        max_log_bytes=size_bytes(table["max_log"]) if "max_log" in table else StoreConfig().max_log_bytes,
    )  # fmt: skip


def _watch(table: Mapping[str, Any]) -> WatchConfig:
    def texts(key: str) -> tuple[str, ...]:
        found = table.get(key, ())
        return (found,) if isinstance(found, str) else tuple(found)

    below = duration_seconds(table["restart_below"]) if "restart_below" in table else WatchConfig().restart_below_seconds
    return WatchConfig(
        run=texts("run"), ask=texts("ask"), ignore=texts("ignore"), restart_below_seconds=below, poll=table.get("poll", False)
    )


def duration_seconds(value: object) -> float:
    """Seconds meant by 30, "30s", "500ms", "2min", "1h"; 0 is allowed. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return float(value)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h)?\s*", value) if isinstance(value, str) else None
    if not found or float(found[1]) > 1e9:
        raise ValueError(f"{value!r} is no duration")
    return float(found[1]) * {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}[found[2]]


def _quota(value: object) -> str:
    """Raises ValueError."""
    text = str(value).strip().lower() if isinstance(value, str) else value
    if text == "off":
        return "off"
    share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text) if isinstance(text, str) else None
    if share and 0 < float(share[1]) <= 100:
        return f"{share[1]}%"
    return str(size_bytes(value))


def _text(path: str) -> str:
    try:
        if os.path.isdir(path):
            raise ConfigError(f"{path} is a folder", expected="a text file")
        size = os.stat(path).st_size
        if size > MAX_BYTES:
            raise ConfigError(f"{path} has {size:,} bytes", expected=f"at most {MAX_BYTES:,}")
        with open(path, "rb") as file:
            body = file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="Change its owner or its mode.") from error
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"\0" in body and body[:200].count(b"\0") > 20):
        raise ConfigError(f"{path} is UTF-16 text", expected="UTF-8", hint="Save it as UTF-8.")
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    if b"\0" in body:
        line = body[: body.index(b"\0")].count(b"\n") + 1
        raise ConfigError("a NUL character", where=f"{path}:{line}", expected="text")
    try:
        return body.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"byte 0x{body[error.start]:02x}, which is not UTF-8", where=f"{path}:{line}", expected="UTF-8 text"
        ) from None


def _parsed(text: str, path: str) -> dict[str, Any]:
    import tomllib

    for number, line in enumerate(text.split("\n"), 1):
        if max(line.count("["), line.count("{")) > MAX_DEPTH or line.count(".") > 10 * MAX_DEPTH:
            raise ConfigError(f"nested more than {MAX_DEPTH} deep", where=f"{path}:{number}", expected="simple tables")
        if re.search(r"\d{400}", line):
            raise ConfigError(
                "a number of more than 400 digits", where=f"{path}:{number}", expected="a number one can compute with"
            )
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        reason = re.sub(r" \(at .*\)$", "", str(error))
        number, column = (int(found[1]), int(found[2])) if found else (text.count("\n") + 1, 1)
        lines = text.split("\n")
        shown = lines[number - 1] if number <= len(lines) else ""
        if "overwrite" in reason or "twice" in reason:
            name = shown.split("=")[0].strip().strip("[]")
            reason = f"{name or 'a key'} stands here for the second time ({reason})"
        caret = f"\n    {shown[:100]}\n    {' ' * min(column - 1, 99)}^" if shown.strip() else ""
        raise ConfigError(f"{reason}{caret}", where=f"{path}:{number}:{column}", hint="Write it as TOML (toml.io).") from None


def _check(document: Mapping[str, Any], text: str, path: str) -> None:
    for table, value in document.items():
        if table not in _TABLES:
            raise _unknown(table, list(_TABLES), f"{path}:{_line(text, '', table)}", table)
        if not isinstance(value, dict):
            raise ConfigError(
                f"found {_kind(value)}", where=f"{path}:{_line(text, '', table)}", field=table, expected=f"a table [{table}]"
            )
        if table == "keys":
            _check_table(value, dict.fromkeys(value, "text"), table, text, path)
            continue
        if table == "datastore":
            _check_datastores(value, text, path)
            continue
        if table != "compute":
            _check_table(value, _SCHEMA[table], table, text, path)
            continue
        for name, inner in value.items():
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"found {_kind(inner)}",
                    where=f"{path}:{_line(text, 'compute', name)}",
                    field=f"compute.{name}",
                    expected=f"a table [compute.{name}]",
                )
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", name):
                raise ConfigError(
                    f"compute target name {name!r}", where=path, field="compute", expected="letters, digits, '_', '.', '-'"
                )
            _check_table(inner, _SCHEMA["compute.*"], f"compute.{name}", text, path)
            if inner.get("kind", "process") not in ("process", "docker"):
                raise _unknown(
                    inner["kind"],
                    ["process", "docker"],
                    f"{path}:{_line(text, f'compute.{name}', 'kind')}",
                    f"compute.{name}.kind",
                )


def _check_datastores(tables: Mapping[str, Any], text: str, path: str) -> None:
    for name, table in tables.items():
        where = f"{path}:{_line(text, 'datastore', name)}"
        if not isinstance(table, dict):
            raise ConfigError(
                f"found {_kind(table)}", where=where, field=f"datastore.{name}", expected=f"a table [datastore.{name}]"
            )
        _check_table(table, _SCHEMA["datastore.*"], f"datastore.{name}", text, path)


def _check_table(table: Mapping[str, Any], schema: Mapping[str, str], name: str, text: str, path: str) -> None:
    for key, value in table.items():
        where, field = f"{path}:{_line(text, name, key)}", f"{name}.{key}"
        if key not in schema:
            raise _unknown(key, list(schema), where, field)
        wanted = schema[key]
        if wanted == "text" and (not isinstance(value, str) or not value.strip()):
            raise ConfigError(f"found {_kind(value)}", where=where, field=field, expected="a text that is not empty, in quotes")
        if wanted == "setting" and (not isinstance(value, str | bool) or value == ""):
            kind = "a list" if isinstance(value, list) else "a value that is no text"  # not shown: it may be a secret
            raise ConfigError(f"found {kind}", where=where, field=field, expected="a text that is not empty, in quotes")
        if wanted == "number" and (
            isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0
        ):
            raise ConfigError(f"found {_kind(value)}", where=where, field=field, expected="a number greater than 0")
        if wanted == "count" and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
            raise ConfigError(f"found {_kind(value)}", where=where, field=field, expected="a whole number greater than 0")
        if wanted == "flag" and not isinstance(value, bool):
            raise ConfigError(f"found {_kind(value)}", where=where, field=field, expected="true or false")
        texts = value if isinstance(value, list) else [value]
        if wanted == "texts" and not all(isinstance(item, str) and item.strip() for item in texts):
            raise ConfigError(f"found {_kind(value)}", where=where, field=field, expected="a text, or a list of texts")
        if wanted == "modules" and not all(
            isinstance(item, str) and all(part.isidentifier() for part in item.split(".")) for item in texts
        ):
            raise ConfigError(f"found {_kind(value)}", where=where, field=field, expected='names of modules, such as ["numpy"]')
        if wanted == "switch" and not isinstance(value, bool):
            raise ConfigError(f"found {_kind(value)}", where=where, field=field, expected="true or false")
        if wanted == "quota":
            try:
                _quota(value)
            except ValueError:
                raise ConfigError(
                    f"found {_kind(value)}",
                    where=where,
                    field=field,
                    expected='a size such as "20 GB", a share such as "20%", or "off"',
                ) from None
        if wanted == "choice" and value not in _CHOICES[key]:
            raise _unknown(value, _CHOICES[key], where, field)
        if wanted == "duration":
            try:
                duration_seconds(value)
            except ValueError:
                raise ConfigError(
                    f"found {_kind(value)}", where=where, field=field, expected='a time such as "30s" or "2min", or 0'
                ) from None
        if wanted == "size":
            try:
                size_bytes(value)
            except ValueError:
                raise ConfigError(
                    f"found {_kind(value)}", where=where, field=field, expected='a size such as "2GB" or "512MB"'
                ) from None


def size_bytes(value: object) -> int:
    """Bytes meant by 1024, "512MB", "2GB", "1.5GiB". Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(value), re.IGNORECASE) if isinstance(value, str) else None
    )
    if not found or float(found[1]) <= 0:
        raise ValueError(f"{value!r} is no size")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))


def _unknown(name: object, choices: list[str], where: str, field: str) -> ConfigError:
    close = nearest(str(name), choices)
    return ConfigError(
        f"unknown name {name!r}" + (f"; did you mean {close!r}?" if close else ""), where=where, field=field,
        expected="one of " + ", ".join(choices), hint="Correct or remove it.",
    )  # fmt: skip


def _kind(value: object) -> str:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    name = names.get(type(value), f"a {type(value).__name__}")
    text = repr(value)
    return f"{name} ({text if len(text) <= 40 else text[:37] + '...'})"


def _line(text: str, table: str, key: str) -> int:
    """The line of a key: tomllib tells positions of syntax errors only."""
    current = ""
    for number, line in enumerate(text.split("\n"), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if header:
            current = header[1].replace('"', "").replace("'", "")
            if not table and (current == key or current.startswith(key + ".")):
                return number
            if table and current == f"{table}.{key}":
                return number
            continue
        name = line.split("=")[0].strip().strip("\"'")
        if current == table and (name == key or name.startswith(key + ".")):
            return number
        if not current and table and name == f"{table}.{key}":
            return number
    return 1


def render_default_config(name: str) -> str:
    """What `init` writes."""
    safe = name.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'[project]\nname = "{safe}"\n\n[default]\ncompute = "local"\n\n'
        "# A compute target: where steps run. Every key has a default.\n# [compute.big]\n# cpus = 4\n"
        '# memory = "8GB"\n# python = "../other/.venv"\n'
        '# [compute.isolated]\n# kind = "docker"\n# image = "python:3.12-slim"\n'
    )
