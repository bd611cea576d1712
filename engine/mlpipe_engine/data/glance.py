"""The first rows of a dataset, fast: no file is hashed, and text that nothing is done to is read without an engine.

Nothing that is found here may decide about reuse: digests are "". Other addresses than those of this machine go the long way.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass

from mlpipe_engine.data.addresses import parse_address
from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.model.datasets import DatasetDefinition, DelimitedReader, Found


@dataclass(frozen=True)
class Glance:
    """Texts as they stand in the file."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    more: bool


def local_files(root: str, definition: DatasetDefinition) -> tuple[Found, ...] | None:
    """What `Places.find` would give, without digests; None where an address leads elsewhere or nothing is there."""
    addresses = [parse_address(path) for path in definition.paths]
    if not all(address.is_local for address in addresses):
        return None
    paths: list[str] = []
    try:
        for address in addresses:
            full = os.path.join(root, address.path)
            if address.is_pattern:
                paths += [path for path in glob.glob(full, recursive=True) if not os.path.isdir(path)]
            elif os.path.isdir(full):
                paths += [os.path.join(folder, name) for folder, _, names in os.walk(full) for name in names]
            elif os.path.exists(full):
                paths.append(full)
        unique = sorted({os.path.normpath(path) for path in paths}, key=os.fsencode)
        base = os.path.commonpath([os.path.dirname(path) for path in unique]) if unique else root
        found = tuple(
            Found(os.path.relpath(path, base), _address(path, root), os.path.getsize(path), "", os.path.realpath(path))
            for path in unique
        )
    except OSError as error:
        raise FilesystemError.of(error, "look for the dataset in", root) from error
    return found or None


def _address(path: str, root: str) -> str:
    return os.path.relpath(path, root) if path.startswith(root.rstrip("/") + "/") else path


def glance(definition: DatasetDefinition, found: tuple[Found, ...], count: int) -> Glance | None:
    """The first rows of plain text in UTF-8; None where an engine is needed to tell them."""
    reader = definition.reader
    if not isinstance(reader, DelimitedReader) or definition.operations or any(definition.path_options):
        return None
    from mlpipe_engine.data import delimited

    if delimited.codec_of(reader.encoding) != "utf-8-sig" or len(reader.separator) > 1 or reader.header == "combine":
        return None
    source = delimited.prepare(reader, found[:1], "")[0]
    if source.names is None:
        return None
    names, rows = delimited.first_texts(reader, source, count + 1)
    if any(len(row) != len(names) for row in rows) or (len(rows) <= count and len(found) > 1):
        return None
    empty = None if not reader.empty_as_string else ""
    shown = tuple(tuple(value if value else empty for value in row) for row in rows[:count])
    return Glance(names, shown, len(rows) > count)
