"""Loads definition files in a process of its own and tells what they define: python -m mlpipe_engine.sdk.load FD ROOT FILE...

Notes everything the files looked at (opened, listed, asked for, read from the environment), so that the result can be kept
until one of them changes. Started by `definitions.loader`; prints one JSON document on FD.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from types import ModuleType
from typing import Any

from mlpipe_engine.definitions.witness import signature_of

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_HERE = os.path.abspath(__file__)


class Watch:
    """What a load used. Only paths below the project and outside of installed packages are noted, and all variables."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.seen: dict[tuple[str, str], str] = {}
        self.cacheable = True
        self.active = False
        self._prefixes = tuple(
            {os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev")}
            | {_PACKAGE + os.sep}
        )

        state = os.path.join(root, ".mlpipe")
        self._store = tuple(os.path.join(state, name) for name in ("state.db", "meta.lock", "locks"))
        """Read when a dataset is looked up by name; what the name means is looked up again for every plan."""

    def note(self, kind: str, path: object) -> None:
        if not self.active or not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.path.abspath(os.fsdecode(path))
        if name.startswith(self._prefixes + self._store) or (kind, name) in self.seen:
            return
        self.active = False
        try:
            self.seen[kind, name] = signature_of(kind, name, os.environ)
        finally:
            self.active = True

    def note_variable(self, name: object, value: str | None) -> None:
        if self.active and isinstance(name, str):
            self.seen.setdefault(("env", name), "unset" if value is None else f"={value}")

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (isinstance(mode, str) and any(letter in mode for letter in "wax+")) and not (
                isinstance(flags, int) and flags & 3
            ):
                self.note("file", arguments[0])
        elif event in ("os.listdir", "os.scandir"):
            self.note("folder", arguments[0] if arguments[0] is not None else ".")
        elif event in (
            "socket.connect",
            "socket.getaddrinfo",
            "subprocess.Popen",
            "os.posix_spawn",
            "os.system",
            "os.exec",
            "os.fork",
        ):
            self.cacheable = False

    def install(self) -> None:
        sys.addaudithook(self.hook)
        for name in ("stat", "lstat", "access", "readlink"):
            setattr(os, name, self._asking(getattr(os, name)))
        watch = self

        class Environ(type(os.environ)):  # type: ignore[misc]
            """Notes which variables are asked for, missing ones too."""

            def __getitem__(self, key: str) -> str:
                try:
                    value: str = super().__getitem__(key)
                except KeyError:
                    watch.note_variable(key, None)
                    raise
                watch.note_variable(key, value)
                return value

            def __iter__(self) -> Any:
                if watch.active:
                    watch.cacheable = False
                return super().__iter__()

        os.environ.__class__ = Environ

    def _asking(self, function: Any) -> Any:
        def asked(path: Any, *args: Any, **kwargs: Any) -> Any:
            self.note("stat", path)
            return function(path, *args, **kwargs)

        return asked


def main(arguments: list[str]) -> None:
    descriptor, root, files = int(arguments[0]), arguments[1], arguments[2:]
    from mlpipe_engine.sdk import environment, loading, pipeline, steps, values, workspace  # noqa: F401  (before the watch begins)

    loading.active = True
    watch = Watch(root)
    watch.install()
    document: dict[str, Any] = {"pipelines": [], "errors": [], "effects": loading.effects}
    sys.path[0] = root
    for file in files:
        _load(os.path.join(root, file), file, root, watch, document)
    watch.note("folder", os.path.join(root, "pipelines"))
    watch.active = True
    watch.note("stat", os.path.join(root, "pipelines"))
    watch.note("stat", os.path.join(root, "pipeline.py"))
    watch.active = False
    document["cacheable"] = watch.cacheable
    document["witness"] = [(kind, name, signature) for (kind, name), signature in watch.seen.items()]
    with os.fdopen(descriptor, "w", encoding="ascii") as answer:
        json.dump(document, answer)
    sys.stdout.flush()
    os._exit(0)  # threads a definition left running must not keep the loader alive


def _load(path: str, shown: str, root: str, watch: Watch, document: dict[str, Any]) -> None:
    from mlpipe_engine.model import wire
    from mlpipe_engine.sdk.pipeline import Pipeline, default_name

    before = set(sys.modules)
    folder = os.path.dirname(path)
    added = folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    name = os.path.splitext(os.path.basename(path))[0]
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    watch.active = True
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec")
        exec(code, module.__dict__)  # noqa: S102  (this is what loading a definition means)
        watch.active = False
        found = {id(value): value for value in vars(module).values() if isinstance(value, Pipeline)}
        for pipeline in found.values():
            document["pipelines"].append(wire.dump(pipeline.to_spec(default_name(pipeline, vars(module), name))))
    except (Exception, SystemExit) as error:
        watch.active = False
        document["errors"].append(_described(error, path, shown))
    finally:
        watch.active = False
        if added:
            sys.path.remove(folder)
        for other in set(sys.modules) - before:
            origin = getattr(sys.modules[other], "__file__", None)
            if origin and os.path.abspath(origin).startswith(root + os.sep):
                del sys.modules[other]


def _described(error: BaseException, path: str, shown: str) -> dict[str, str]:
    """The user's own traceback: our frames and the import system's are cut away."""
    from mlpipe_engine.errors import MlpipeError

    summary = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in summary.stack if not _is_ours(frame.filename)]
    summary.stack = traceback.StackSummary.from_list(frames)
    summary.__cause__ = summary.__context__ = None
    where = f"{path}:{frames[-1].lineno}" if frames else path
    if frames and frames[-1].filename != path:
        where = f"{frames[-1].filename}:{frames[-1].lineno}"
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    text = (error.msg if isinstance(error, SyntaxError) else str(error)) or type(error).__name__
    where = getattr(error, "where", "") or where
    what = getattr(error, "what", "") or text
    ours = isinstance(error, MlpipeError)  # says file and line by itself
    calls_exit = isinstance(error, SystemExit)
    return {
        "file": shown, "traceback": "" if ours else "".join(summary.format()), "where": where, "hint": getattr(error, "hint", ""),
        "field": getattr(error, "field", "") if ours else "", "expected": getattr(error, "expected", "") if ours else "",
        "summary": f"{shown} calls exit({text})" if calls_exit else what if ours else f"{type(error).__name__}: {what}",
    }  # fmt: skip


def _is_ours(filename: str) -> bool:
    return os.path.abspath(filename).startswith(_PACKAGE + os.sep) or filename.startswith("<frozen") or filename == _HERE


if __name__ == "__main__":
    main(sys.argv[1:])
