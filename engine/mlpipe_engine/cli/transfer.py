"""`data stores`, `data upload`, `data download`. A place in a datastore is written NAME or NAME/path."""

from __future__ import annotations

import glob
import os
import sys
from typing import TYPE_CHECKING

from mlpipe_engine.cli.output import print_json, size, table
from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import InputError, InputMissingError, MlpipeError, UsageError
from mlpipe_engine.model.text import clean

if TYPE_CHECKING:
    from mlpipe_engine.data.transfer import OnConflict, Transferred
    from mlpipe_engine.model.datastores import DatastoreSpec


def data_stores(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    specs, default = engine.datastores(), engine.default_datastore()
    troubles = {spec.name: _trouble(engine, spec) for spec in specs} if arguments.flag("check") else {}
    if arguments.flag("json"):
        items = [
            {
                "name": spec.name, "kind": spec.kind, "url": spec.url, "origin": spec.origin, "default": spec.name == default,
                "credentials": dict(spec.credentials), **({"error": str(troubles[spec.name] or "") or None} if troubles else {}),
            }
            for spec in specs
        ]  # fmt: skip
        print_json("data-stores", items=items)
    else:
        rows = [
            (
                spec.name + (" *" if spec.name == default else ""), spec.kind, spec.origin,
                *((("answers" if troubles[spec.name] is None else "no"),) if troubles else ()), spec.url,
            )
            for spec in specs
        ]  # fmt: skip
        table(["datastore (* default)", "kind", "from", *(["check"] if troubles else []), "url"], rows)
    for error in troubles.values():
        if error is not None:
            print(f"error: {clean(str(error))}" + (f"\nhint: {clean(error.hint)}" if error.hint else ""), file=sys.stderr)
    return 4 if any(troubles.values()) else 0


def _trouble(engine: Engine, spec: DatastoreSpec) -> MlpipeError | None:
    """None when the store answers."""
    try:
        engine.check_datastore(spec.name)
    except MlpipeError as error:
        return error
    return None


def data_upload(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    name, folder = _place(arguments.positionals["STORE"])
    engine.datastore(name)
    conflict = arguments.text("on-conflict") or "keep"
    if conflict not in ("keep", "error"):
        raise UsageError(f"--on-conflict got {conflict!r}", expected="keep or error")
    on_conflict: OnConflict = "error" if conflict == "error" else "keep"
    files = _named(engine, (arguments.positionals["FILE"], *arguments.rest))
    pairs = [(path, "/".join(filter(None, [folder, relative]))) for path, relative in files]
    progress = _Progress(len(pairs), arguments.flag("json"))
    done = engine.upload(name, pairs, overwrite=arguments.flag("overwrite"), on_conflict=on_conflict, seen=progress.seen)
    for item in done:
        if item.what == "kept":
            print(f"warning: {clean(_kept(f'datastore://{name}/{item.path}', item, item.local))}", file=sys.stderr)
    return _report(arguments, "data-upload", done, "uploaded", f"datastore://{name}/{folder}")


def data_download(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    name, path = _place(arguments.positionals["STORE"])
    target = arguments.positionals.get("FOLDER") or "."
    found = engine.list_datastore(name, path)
    progress = _Progress(len(found), arguments.flag("json"))
    done = engine.download(name, path, target, overwrite=arguments.flag("overwrite"), seen=progress.seen)
    for item in done:
        if item.what == "kept":
            print(f"warning: {clean(_kept(item.local, item, f'datastore://{name}/{item.path}'))}", file=sys.stderr)
    return _report(arguments, "data-download", done, "downloaded", target)


def _kept(place: str, item: Transferred, other: str) -> str:
    return f"kept {place}: it has other bytes ({item.other}) than {other} ({item.digest}); --overwrite replaces it"


def _report(arguments: Arguments, verb: str, done: list[Transferred], word: str, where: str) -> int:
    counts = {what: sum(1 for item in done if item.what == what) for what in (word, "unchanged", "kept")}
    moved = sum(item.size for item in done if item.what == word)
    if arguments.flag("json"):
        items = [
            {"path": item.path, "local": item.local, "what": item.what, "size_bytes": item.size, "digest": item.digest, "other": item.other or None}
            for item in done
        ]  # fmt: skip
        print_json(verb, items=items, **counts, transferred_bytes=moved)
        return 0
    rest = "".join(f", {counts[what]} {what}" for what in ("unchanged", "kept") if counts[what])
    count = counts[word]
    print(f"{count} file{'s' if count != 1 else ''} {word} ({size(moved)}){rest}: {clean(where)}")
    return 0


class _Progress:
    """A line on a terminal that is written over; nothing elsewhere."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._count, self._bytes = total, 0, 0
        self._shown = not quiet and sys.stderr.isatty()

    def seen(self, item: Transferred) -> None:
        self._count += 1
        self._bytes += item.size
        if self._shown:
            end = "\n" if self._count == self._total else ""
            sys.stderr.write(f"\r\x1b[K{self._count}/{self._total} files, {size(self._bytes)}  {clean(item.path)[-40:]}{end}")
            sys.stderr.flush()


def _place(text: str) -> tuple[str, str]:
    """(datastore, path in it)."""
    name, _, path = text.removeprefix("datastore://").partition("/")
    if not name:
        raise UsageError(f"{text!r} names no datastore", expected="NAME or NAME/path")
    return name, path.strip("/")


def _named(engine: Engine, given: tuple[str, ...]) -> list[tuple[str, str]]:
    """(file, its path below the target): a file by its name, a folder with all that is in it, below the folder's own name."""
    from mlpipe_engine.data.transfer import local_files

    found: dict[str, str] = {}
    for text in given:
        matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) and not os.path.lexists(text) else [text]
        if not matches or not os.path.exists(matches[0]):
            raise InputMissingError(f"there is no file or folder {text!r}", hint="Correct the path.")
        for match in matches:
            base = os.path.dirname(os.path.abspath(match))
            for file in local_files(match) if os.path.isdir(match) else [match]:
                relative = os.path.relpath(os.path.abspath(file), base).replace(os.sep, "/")
                other = found.setdefault(relative, os.path.abspath(file))
                if other != os.path.abspath(file):
                    raise InputError(
                        f"{other} and {file} would both become {relative!r}", hint="Upload them one after the other."
                    )
    return [(path, relative) for relative, path in found.items()]
