"""Stored texts: compressed, written once under their digest; and the small encodings of columns."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterable
from functools import lru_cache

from mlpipe_engine.model import wire
from mlpipe_engine.model.manifest import Manifest, ManifestEntry, Section
from mlpipe_engine.store.database import Database


def pack(text: str) -> bytes:
    return zlib.compress(text.encode("ascii"), 1)


def unpack(body: object) -> str:
    if not isinstance(body, bytes):
        raise ValueError("a stored document must be bytes")
    return zlib.decompress(body).decode("ascii")


def document_digest(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_document(db: sqlite3.Connection, table: str, text: str) -> str:
    digest = document_digest(text)
    db.execute(f"INSERT OR IGNORE INTO {table} (digest, body) VALUES (?, ?)", (digest, pack(text)))
    return digest


def read_document(database: Database, digest: str) -> str | None:
    rows = database.query("SELECT body FROM documents WHERE digest = ?", (digest,))
    return unpack(rows[0][0]) if rows else None


_ENVIRONMENTS: dict[str, tuple[str, str]] = {}
"""Digest of an environment's entries -> (digest, text) of its document: the bulk of a manifest, and the same for most."""


def split_manifest(manifest: Manifest) -> tuple[str, str, str]:
    """(digest of the environment, its text, text of the rest). The environment is a document of its own that others name."""
    key = manifest.environment_digest
    known = _ENVIRONMENTS.get(key)
    if known is None:
        text = wire.dump(tuple(entry for entry in manifest.entries if entry.section is Section.ENVIRONMENT))
        if len(_ENVIRONMENTS) > 128:
            _ENVIRONMENTS.clear()
        known = _ENVIRONMENTS[key] = (hashlib.sha256(text.encode("ascii")).hexdigest(), text)
    rest = tuple(entry for entry in manifest.entries if entry.section is not Section.ENVIRONMENT)
    return known[0], known[1], _text(known[0], rest)


def manifest_documents(manifest: Manifest) -> tuple[tuple[str, str], tuple[str, str]]:
    """(digest, text) of the environment and of the rest."""
    environment, text, rest = split_manifest(manifest)
    return (environment, text), (manifest.fingerprint, rest)


_SECTIONS = {section: {"_": "Section", "value": section.value} for section in Section}
_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode


def _text(environment: str, entries: tuple[ManifestEntry, ...]) -> str:
    """What `wire.dump` gives, which goes through every word of every value."""
    if not all(_is_json(entry.value) for entry in entries):
        return wire.dump((environment, entries))
    lowered = [
        {"_": "ManifestEntry", "name": entry.name, "section": _SECTIONS[entry.section], "value": entry.value} for entry in entries
    ]
    return _encode([environment, lowered])


def _is_json(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    kind = type(value)
    return kind is str or value is None or kind is bool or kind is int


def write_manifest(db: sqlite3.Connection, fingerprint: str, parts: tuple[str, str, str]) -> None:
    environment, text, rest = parts
    db.execute("INSERT OR IGNORE INTO documents (digest, body) VALUES (?, ?)", (environment, pack(text)))
    db.execute("INSERT OR IGNORE INTO documents (digest, body) VALUES (?, ?)", (fingerprint, pack(rest)))


def read_manifest(database: Database, fingerprint: str) -> Manifest | None:
    body = read_document(database, fingerprint) if fingerprint else None
    if body is None:
        return None
    environment, rest = wire.load(tuple, body)
    known = _environments.get(environment)
    if known is None:
        text = read_document(database, environment)
        known = wire.load(tuple, text) if text else ()
        if text:  # named by its content: it cannot become another
            _environments.clear()
            _environments[environment] = known
    return Manifest.of([*rest, *known])


_environments: dict[str, tuple[ManifestEntry, ...]] = {}
"""The last one that was read: a hundred entries that most manifests share."""


def pairs(items: Iterable[tuple[str, object]]) -> str:
    return json.dumps([list(item) for item in items], separators=(",", ":"))


def unpairs(text: object) -> tuple[tuple[str, str], ...]:
    return _read_pairs(str(text)) if text else ()


@lru_cache(maxsize=256)
def _read_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Neighbouring runs have the same tags and properties, and outputs of reused steps are those of the run before."""
    return tuple((name, value) for name, value in json.loads(text))
