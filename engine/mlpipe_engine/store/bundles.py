"""Bundles on disk: one zip, manifest.json first, every file once under its digest. Writing is deterministic, reading trusts nothing.

An archive may come from anywhere: names are compared with what the manifest lists, never joined to a path; sizes are bounded
before a byte is written; every byte is hashed; nothing is written through a link, because links are made last or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import IO, Any
from uuid import uuid4

from blake3 import blake3

from mlpipe_engine.errors import FilesystemError, InputError, MlpipeError
from mlpipe_engine.model import wire
from mlpipe_engine.model.bundle import Bundle
from mlpipe_engine.model.manifest import Manifest
from mlpipe_engine.model.plan import Result
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import PipelineSpec, SubmitOptions
from mlpipe_engine.model.states import FINAL
from mlpipe_engine.model.trees import Tree
from mlpipe_engine.model.typecheck import check_types
from mlpipe_engine.planning import graph

SCHEMA = "mlpipe.bundle/1"
MAX_MANIFEST_BYTES = 256 << 20
MAX_ENTRIES = 1_000_000
MAX_RATIO = 200
_RATIO_COUNTS_FROM = 1 << 30
"""Below a gigabyte nobody is hurt; above it, more than MAX_RATIO bytes out of one are taken for a bomb."""
_NAME = re.compile(r"blobs/[0-9a-f]{64}")
_CHUNK = 1 << 20


def document_of(bundle: Bundle) -> dict[str, Any]:
    """Plain JSON; frozen values as `model.wire` writes them."""
    return {
        "schema": SCHEMA, "project": bundle.project, "run": _low(bundle.run), "options": _low(bundle.options), "spec": _low(bundle.spec),
        "steps": [_low(step) for step in bundle.steps], "results": {name: _low(result) for name, result in bundle.results.items()},
        "manifests": {name: _low(manifest) for name, manifest in bundle.manifests.items()},
        "metrics": [_low(metric) for metric in bundle.metrics],
        "artifacts": {digest: _low(tree) for digest, tree in bundle.artifacts.items()},
        "code": {digest: _low(tree) for digest, tree in bundle.code.items()},
        "inputs": {digest: _low(tree) for digest, tree in bundle.inputs.items()},
        "logs": [list(log) for log in bundle.logs], "left_out": list(bundle.left_out),
    }  # fmt: skip


def write(path: str, bundle: Bundle, sources: Mapping[str, str]) -> int:
    """`sources`: where the bytes of each digest lie. Equal bundles give equal bytes. Returns the size of the file.

    Raises InputError when a file changed meanwhile, FilesystemError; no file is left then.
    """
    sizes = {digest: os.stat(source).st_size for digest, source in sources.items()}
    document = document_of(bundle)
    document["files"] = [[_blob(digest), digest, sizes[digest]] for digest in sorted(sources)]
    temporary = f"{path}.{uuid4().hex[:8]}.part"
    try:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")
            with archive.open(_info("manifest.json"), "w") as out:
                out.write(body)
            for digest in sorted(sources):
                _add(archive, digest, sources[digest], sizes[digest])
        fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError as error:
        raise FilesystemError.of(error, "write the bundle", path) from error
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    return os.stat(path).st_size


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o100444 << 16
    return info


def _add(archive: zipfile.ZipFile, digest: str, source: str, size: int) -> None:
    hasher = blake3()
    with open(source, "rb") as reading, archive.open(_info(_blob(digest)), "w", force_zip64=size > 1 << 30) as out:
        while data := reading.read(_CHUNK):
            hasher.update(data)
            out.write(data)
    if "b3:" + hasher.hexdigest() != digest:
        raise InputError(f"changed while being exported: {source}", hint="Export the run again.")


def _blob(digest: str) -> str:
    return "blobs/" + digest.partition(":")[2]


@dataclass(frozen=True)
class _File:
    digest: str
    size: int


class Archive:
    """A bundle that was opened and whose manifest makes sense; its bytes are not read yet. A context manager."""

    def __init__(self, path: str, *, max_bytes: int | None = None) -> None:
        """Raises InputError, one line, for everything that is wrong with the file."""
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise InputError(f"there is no file {path}") from None
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, IndexError) as error:
            raise self._bad(f"it is no zip file, or it was cut short ({_reason(error)})") from None
        except OSError as error:
            raise FilesystemError.of(error, "read the bundle", path) from error
        try:
            self._files = self._checked_entries(max_bytes)
            self.bundle = self._read()
            self._check_trees()
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            self._zip.close()
            raise self._bad(f"its manifest makes no sense ({_reason(error)})") from None
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def files(self) -> int:
        return len(self._files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self._files.values())

    def _bad(self, why: str) -> InputError:
        return InputError(
            f"{self.path} is no bundle that can be used: {why}", hint="Export it again, or copy it again and compare sizes."
        )

    def _checked_entries(self, max_bytes: int | None) -> dict[str, _File]:
        entries = self._zip.infolist()
        if len(entries) > MAX_ENTRIES:
            raise self._bad(f"{len(entries):,} entries; at most {MAX_ENTRIES:,} are read")
        if not entries or entries[0].filename != "manifest.json":
            raise self._bad("its first entry is not manifest.json")
        seen: set[str] = set()
        for info in entries:
            self._check_entry(info, seen)
        total = sum(info.file_size for info in entries)
        packed = sum(info.compress_size for info in entries)
        if max_bytes is not None and total > max_bytes:
            raise self._bad(f"it would unpack to {total:,} bytes, and there is room for {max_bytes:,}")
        if total > _RATIO_COUNTS_FROM and total > MAX_RATIO * max(packed, 1):
            raise self._bad(f"{packed:,} bytes would unpack to {total:,}")
        if entries[0].file_size > MAX_MANIFEST_BYTES:
            raise self._bad(f"its manifest has {entries[0].file_size:,} bytes")
        self._document = self._json(entries[0])
        listed = self._listed()
        names = {info.filename: info.file_size for info in entries[1:]}
        if names.keys() != listed.keys():
            odd = sorted(names.keys() ^ listed.keys())[0]
            raise self._bad(
                f"{odd!r} is {'not listed in its manifest' if odd in names else 'listed in its manifest, but not there'}"
            )
        for name, file in listed.items():
            if names[name] != file.size:
                raise self._bad(f"{name} has {names[name]:,} bytes; its manifest says {file.size:,}")
        return {file.digest: file for file in listed.values()}

    def _check_entry(self, info: zipfile.ZipInfo, seen: set[str]) -> None:
        name = info.filename
        if name.casefold() in seen:
            raise self._bad(f"{name!r} stands in it twice")
        seen.add(name.casefold())
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name:
            raise self._bad(f"the entry {name!r} leads out of it")
        if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000) or info.is_dir():
            raise self._bad(f"{name!r} is no plain file")
        if name != "manifest.json" and not _NAME.fullmatch(name):
            raise self._bad(f"{name!r} is not a name it may have")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._bad(f"{name!r} is encrypted or packed in an unknown way")

    def _json(self, info: zipfile.ZipInfo) -> dict[str, Any]:
        try:
            with self._zip.open(info) as file:
                document = json.loads(file.read(MAX_MANIFEST_BYTES + 1))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise self._bad(f"its manifest is damaged ({_reason(error)})") from None
        except (ValueError, RecursionError):
            raise self._bad("its manifest is not JSON") from None
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema != SCHEMA:
            raise self._bad(f"it says it is {str(schema)[:60]!r}; this version reads {SCHEMA!r}")
        assert isinstance(document, dict)
        return document

    def _listed(self) -> dict[str, _File]:
        listed: dict[str, _File] = {}
        try:
            for name, digest, size in self._document["files"]:
                if name in listed or name != _blob(digest) or not digest.startswith("b3:") or type(size) is not int or size < 0:
                    raise ValueError(name)
                listed[name] = _File(digest, size)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._bad("its list of files makes no sense") from None
        return listed

    def _read(self) -> Bundle:
        """Every value by `model.wire`, which knows no class but ours; every digest is computed anew."""
        doc = self._document
        try:
            return Bundle(
                project=_text(doc["project"]), run=_up(RunRecord, doc["run"]), options=_up(SubmitOptions, doc["options"]),
                spec=_up(PipelineSpec, doc["spec"]), steps=tuple(_up(StepRecord, step) for step in doc["steps"]),
                results={_text(name): _up(Result, result) for name, result in doc["results"].items()},
                manifests={_text(name): _up(Manifest, manifest) for name, manifest in doc["manifests"].items()},
                metrics=tuple(_up(MetricRecord, metric) for metric in doc["metrics"]),
                artifacts={_text(name): _up(Tree, tree) for name, tree in doc["artifacts"].items()},
                code={_text(name): _up(Tree, tree) for name, tree in doc["code"].items()},
                inputs={_text(name): _up(Tree, tree) for name, tree in doc["inputs"].items()},
                logs=tuple((_text(step), _text(stream), _text(digest)) for step, stream, digest in doc["logs"]),
                left_out=tuple(_text(line) for line in doc["left_out"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._bad(f"its manifest makes no sense ({_reason(error)})") from None

    def _check_trees(self) -> None:
        bundle = self.bundle
        self._check_records()
        for digest, manifest in bundle.manifests.items():
            if manifest.fingerprint != digest:
                raise self._bad("a fingerprint is not that of its manifest")
        for kind, trees in (("output", bundle.artifacts), ("code", bundle.code), ("input", bundle.inputs)):
            for digest, tree in trees.items():
                if Tree.of(list(tree.entries)).digest != digest:
                    raise self._bad(f"a digest is not that of its {kind}")
                self._check_tree(tree, links_may_leave=kind == "code")
        names = [step.name for step in bundle.spec.steps]
        odd = [step.name for step in bundle.steps if step.name not in names]
        odd += [name for name in (*names, bundle.run.experiment) if name in ("", ".", "..") or "/" in name or "\0" in name]
        odd += [step for step, stream, digest in bundle.logs if stream not in ("stdout", "stderr") or digest not in self._files]
        if odd or len({step.name for step in bundle.steps}) != len(bundle.steps):
            raise self._bad(f"{odd[0] if odd else 'a step'!r} is no step it could have")
        for step in bundle.steps:
            result = bundle.results.get(step.name)
            if result is not None and (result.outputs != step.outputs or result.fingerprint not in bundle.manifests):
                raise self._bad(f"the result of step {step.name!r} is not the one the step names")
            if result is not None and result.base_key not in _keys_of(bundle.manifests[result.fingerprint]):
                raise self._bad(f"the base key of step {step.name!r} is not that of its manifest")

    def _check_records(self) -> None:
        """What becomes a row or part of a path here."""
        bundle = self.bundle
        indexes = {step.index for step in bundle.steps}
        if not re.fullmatch(r"[0-9a-f]{32}", bundle.run.id) or bundle.run.kind != "run":
            raise self._bad("its run has no proper id")
        if (
            bundle.run.state not in FINAL
            or any(step.state not in FINAL for step in bundle.steps)
            or len(indexes) != len(bundle.steps)
        ):
            raise self._bad("its run has not ended, or its steps are not in order")
        try:
            graph.check(bundle.spec)
            for metric in bundle.metrics:
                json.loads(metric.value)
            records: list[Any] = [bundle.run, *bundle.steps, *bundle.results.values(), *bundle.metrics]
            for record in records:
                for item in fields(record):
                    text = getattr(record, item.name)
                    if isinstance(text, str):
                        text.encode()
        except (MlpipeError, ValueError, RecursionError, OverflowError) as error:
            raise self._bad(f"its definition or its records make no sense ({_reason(error)})") from None

    def _check_tree(self, tree: Tree, *, links_may_leave: bool) -> None:
        known = {entry.path: entry for entry in tree.entries}
        for entry in tree.entries:
            parts = entry.path.split("/")
            parent = "/".join(parts[:-1])
            single = entry.path == "" and len(tree.entries) == 1
            if not single and ("" in parts or "." in parts or ".." in parts or "\0" in entry.path):
                raise self._bad(f"the path {entry.path[:80]!r} leads out of it")
            if len(known) != len(tree.entries):
                raise self._bad(f"a path stands twice in one folder, near {entry.path[:80]!r}")
            if parent and parent in known and known[parent].kind != "d":
                raise self._bad(f"{entry.path[:80]!r} lies below something that is no folder")
            if entry.kind in "fx" and (entry.digest not in self._files or self._files[entry.digest].size != entry.size_bytes):
                raise self._bad(f"the bytes of {entry.path[:80]!r} are not in it")
            if entry.kind == "l" and not links_may_leave:
                target = os.path.normpath(os.path.join(parent, entry.digest))
                if os.path.isabs(entry.digest) or target == ".." or target.startswith("../"):
                    raise self._bad(f"the link {entry.path[:80]!r} leads out of it")
            if entry.kind not in ("f", "x", "d", "l"):
                raise self._bad(f"{entry.path[:80]!r} is of an unknown kind")

    def verify(self) -> None:
        """Hash every byte. Raises InputError."""
        for digest in sorted(self._files):
            self._copy(digest, None)

    def unpack(self, folder: str) -> dict[str, str]:
        """Every file, verified, into a new folder under plain names. Returns digest -> path. Raises InputError, FilesystemError."""
        try:
            os.makedirs(folder)
            places = {}
            for digest in sorted(self._files):
                places[digest] = os.path.join(folder, digest.partition(":")[2])
                with open(places[digest], "xb") as out:
                    self._copy(digest, out)
        except OSError as error:
            raise FilesystemError.of(error, "unpack the bundle to", folder) from error
        return places

    def _copy(self, digest: str, out: IO[bytes] | None) -> None:
        hasher, left = blake3(), self._files[digest].size
        try:
            with self._zip.open(_blob(digest)) as reading:
                while data := reading.read(_CHUNK):
                    left -= len(data)
                    if left < 0:
                        break
                    hasher.update(data)
                    if out is not None:
                        out.write(data)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise self._bad(f"{_blob(digest)[:22]}... is damaged ({_reason(error)})") from None
        if left != 0 or "b3:" + hasher.hexdigest() != digest:
            raise self._bad(f"{_blob(digest)[:22]}... has other bytes than its digest says")


def lay_out(tree: Tree, blobs: Callable[[str], str], destination: str, *, links: bool = True) -> None:
    """The files of a checked tree below `destination`, which must not exist. Links come last, so nothing is written through one."""
    try:
        if len(tree.entries) == 1 and tree.entries[0].path == "":
            os.makedirs(os.path.dirname(destination), exist_ok=True)
            _file(blobs(tree.entries[0].digest), destination, tree.entries[0].kind)
            return
        os.makedirs(destination)
        for entry in tree.entries:
            place = f"{destination}/{entry.path}"
            if entry.kind == "d":
                os.makedirs(place, exist_ok=True)
            elif entry.kind in "fx":
                os.makedirs(os.path.dirname(place), exist_ok=True)
                _file(blobs(entry.digest), place, entry.kind)
        for entry in tree.entries if links else ():
            if entry.kind == "l":
                os.symlink(entry.digest, f"{destination}/{entry.path}")
    except OSError as error:
        raise FilesystemError.of(error, "unpack to", destination) from error


def _file(source: str, place: str, kind: str) -> None:
    with open(source, "rb") as reading, open(place, "xb") as out:
        shutil.copyfileobj(reading, out, _CHUNK)
    os.chmod(place, 0o755 if kind == "x" else 0o644)


def _keys_of(manifest: Manifest) -> tuple[str, str]:
    """Results that know what they imported lie under the second."""
    return manifest.base_key, manifest.loose_key


def _low(value: object) -> Any:
    return json.loads(wire.dump(value))


def _up(kind: type[Any], value: object) -> Any:
    found = wire.load(kind, json.dumps(value))
    check_types(found)
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a text, found a {type(value).__name__}")
    return value


def _reason(error: BaseException) -> str:
    return str(error).split("\n")[0][:80] or type(error).__name__
