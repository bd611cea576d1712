"""What lies outside of this machine, as files of it: listed, pinned by version and digest, fetched once, served without network.

One per plan or run, so that all steps of a run see one state. Fetches with several threads. Called by `places`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlpipe_engine.data.addresses import Address, fixed_prefix, shown, translated_glob
from mlpipe_engine.data.cache import RemoteCache
from mlpipe_engine.data.local import PathInput, files_of, read_paths
from mlpipe_engine.data.objects import ObjectStore, RemoteObject, retried, tag
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, InputError, InputMissingError
from mlpipe_engine.model.datasets import Found
from mlpipe_engine.model.trees import Entry, Tree

if TYPE_CHECKING:
    from mlpipe_engine.hashing.stat_cache import StatCache

THREADS = 8
OFFLINE = "MLPIPE_OFFLINE"
"""Set to anything but "" and "0": nothing outside is asked, the cache serves."""


@dataclass(frozen=True, slots=True)
class _Object:
    """`item` is None where the network could not be asked and the cache stands in."""

    place: str
    """Label of the place in the paths of a dataset that spans several."""
    path: str
    address: str
    store: ObjectStore | None
    item: RemoteObject | None


class Remote:
    def __init__(
        self, root: str, cache: RemoteCache, stats: StatCache, open_place: Callable[[str], ObjectStore],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        """`open_place`: the store for a place of an address: the name of a datastore, or scheme and host."""
        self._root = root
        self._cache = cache
        self._stats = stats
        self._open = open_place
        self._say = say
        self._stores: dict[str, ObjectStore] = {}
        self._answers: dict[str, tuple[list[_Object], bool]] = {}
        self._found: dict[tuple[str, ...], tuple[Found, ...]] = {}
        self._offline: set[str] = set()

    def find(self, addresses: tuple[Address, ...], *, validate: bool, need: str, where: str) -> tuple[Found, ...]:
        key = tuple(address.text for address in addresses)
        if key not in self._found:
            self._found[key] = self._look(addresses, validate, need, where)
        return self._found[key]

    def content(self, addresses: tuple[Address, ...], *, validate: bool, need: str, where: str) -> PathInput:
        """A view of the cache. Asked again, it tells whether the bytes that were lent are still whole. Raises InputError."""
        found = self.find(addresses, validate=validate, need=need, where=where)
        for item in found:
            if item.local.startswith(self._cache.folder) and not self._cache.holds(item.digest):
                self._found.clear()
                raise InputError(
                    f"the cached copy of {shown(item.address)} was changed",
                    hint="Run the same command again: it is fetched anew.",
                )
        single = len(addresses) == 1 and len(found) == 1 and self._is_one_file(addresses[0])
        tree = Tree.of([Entry("" if single else item.path, "f", item.digest, item.size) for item in found])
        for item in found:
            if not item.local.startswith(self._cache.folder):
                self._cache.take(item.local, item.digest)
        files = [(item.path, item.digest) for item in found]
        view = self._cache.view(tag(tree.digest, files[0][0] if single else ""), files)
        return PathInput(tree, f"{view}/{found[0].path}" if single else view, None)

    def _is_one_file(self, address: Address) -> bool:
        if address.is_pattern:
            return False
        return address.is_url or self._answers[address.text][1]

    def _look(self, addresses: tuple[Address, ...], validate: bool, need: str, where: str) -> tuple[Found, ...]:
        objects: list[_Object] = []
        single = False
        local: list[Found] = []
        for address in addresses:
            if address.is_local:
                given = read_paths(self._root, (address.path,), validate, self._stats, need, where)
                local += files_of(self._root, given)
                continue
            answer, single = self._answer(address)
            if not answer and validate:
                raise _missing(address, need, where)
            objects += answer
        unique = {item.address: item for item in objects}
        names = _names(list(unique.values()), local, addresses, single, self._root)
        digests = self._digests(list(unique.values()), need, where)
        found = [
            Found(names[address], address, size, digest, self._cache.blob(digest)) for address, (digest, size) in digests.items()
        ]
        found += [Found(names[item.address], item.address, item.size, item.digest, item.local) for item in local]
        return tuple(sorted(found, key=lambda item: item.path.encode("utf-8", "surrogateescape")))

    def _answer(self, address: Address) -> tuple[list[_Object], bool]:
        """(its objects, whether the address names exactly one file)."""
        if address.text not in self._answers:
            self._answers[address.text] = self._asked(address)
        return self._answers[address.text]

    def _asked(self, address: Address) -> tuple[list[_Object], bool]:
        if os.environ.get(OFFLINE, "") not in ("", "0"):
            return self._remembered(address, DatastoreUnreachableError(f"${OFFLINE} is set"))
        if address.place in self._offline:
            return self._remembered(address, DatastoreUnreachableError(f"{address.place} could not be reached a moment ago"))
        store = self._store(address.place)
        try:
            items, single = retried(lambda: listed(store, address))
        except DatastoreUnreachableError as error:
            self._offline.add(address.place)
            return self._remembered(address, error)
        found = [_Object(address.place, item.path, _address_of(address, item.path), store, item) for item in items]
        self._cache.note_listing(address.text, [(item.address, item.path) for item in found])
        return found, single

    def _remembered(self, address: Address, error: DatastoreUnreachableError) -> tuple[list[_Object], bool]:
        """What the cache has, said aloud; the trouble itself when that is not everything."""
        known = self._cache.listing(address.text)
        contents = self._cache.knows_all(item for item, _ in known[0]) if known else {}
        lacking = sum(1 for item in contents.values() if not self._cache.holds(item.digest)) + (
            len(known[0]) - len(contents) if known else 0
        )
        if known is None or lacking:
            have = f"; the cache lacks {lacking} of its {len(known[0])} files" if known else "; nothing of it is in the cache"
            raise DatastoreUnreachableError(error.what + have, where=error.where, hint=error.hint)
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(known[1]))
        self._say(f"{error.what}; {shown(address.text)} is served from the cache, as it was on {when}")
        found = [_Object(address.place, name, item, None, None) for item, name in known[0]]
        single = len(found) == 1 and not address.is_pattern and (address.is_url or found[0].path == address.path)
        return found, single

    def _digests(self, objects: list[_Object], need: str, where: str) -> dict[str, tuple[str, int]]:
        """Digest and size by address; what is not in the cache is fetched, several at a time."""
        known = self._cache.knows_all(item.address for item in objects)
        found: dict[str, tuple[str, int]] = {}
        missing: list[_Object] = []
        for each in objects:
            earlier = known.get(each.address)
            current = each.item is None or (earlier is not None and earlier.version and earlier.version == each.item.version)
            if earlier is not None and current and self._cache.holds(earlier.digest):
                found[each.address] = (earlier.digest, earlier.size)
            elif each.item is not None:
                missing.append(each)
            else:
                raise DatastoreUnreachableError(f"{shown(each.address)} is no longer in the cache", where=where)
        if missing:
            total = sum(max(item.item.size, 0) for item in missing if item.item)
            self._say(f"fetching {len(missing)} file{'s' if len(missing) > 1 else ''} ({total:,} bytes) from {missing[0].place}")
            found |= self._fetch_all(missing, where)
        return {each.address: found[each.address] for each in objects}

    def _fetch_all(self, missing: list[_Object], where: str) -> dict[str, tuple[str, int]]:
        found: dict[str, tuple[str, int]] = {}
        with ThreadPoolExecutor(min(THREADS, len(missing)), thread_name_prefix="fetch") as pool:
            futures = {each.address: pool.submit(self._fetch, each) for each in missing}
            try:
                for address, future in futures.items():
                    found[address] = future.result()
            except DatastoreError as error:
                for future in futures.values():
                    future.cancel()
                if where and not error.where:
                    error.where = where
                raise
        return found

    def _fetch(self, each: _Object) -> tuple[str, int]:
        assert each.store is not None and each.item is not None
        item, digest = self._cache.fetch(each.address, each.store, each.item)
        self._cache.note(each.address, item, digest)
        return digest, os.path.getsize(self._cache.blob(digest))

    def _store(self, place: str) -> ObjectStore:
        if place not in self._stores:
            self._stores[place] = self._open(place)
        return self._stores[place]


def listed(store: ObjectStore, address: Address) -> tuple[list[RemoteObject], bool]:
    """What an address names in its store, and whether that is exactly one file by its own name."""
    path = address.path
    if address.is_pattern:
        wanted = translated_glob(path)
        return [item for item in store.walk(fixed_prefix(path)) if wanted.fullmatch(item.path)], False
    if path and not path.endswith("/"):
        item = store.stat(path)
        if item is not None:
            return [item], True
        if address.is_url:
            return [], False
    folder = f"{path.rstrip('/')}/" if path.strip("/") else ""
    return list(store.walk(folder)), False


def _address_of(address: Address, path: str) -> str:
    return address.text if address.is_url else f"datastore://{address.place}/{path}"


def _names(
    objects: list[_Object], local: list[Found], addresses: tuple[Address, ...], single: bool, root: str
) -> dict[str, str]:  # fmt: skip
    """Path within the dataset by address: below the folder all files of a place share, and below the place where there are several."""
    places: dict[str, list[tuple[str, str]]] = {}
    for item in objects:
        path = item.path.partition("?")[0] if "://" in item.place else item.path
        places.setdefault(item.place, []).append((item.address, path))
    for here in local:
        places.setdefault("", []).append((here.address, os.path.relpath(here.local, root)))
    names: dict[str, str] = {}
    for place, items in places.items():
        shared = _shared(items, addresses[0] if len(addresses) == 1 and not single else None)
        label = "" if len(places) == 1 else f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', place) or 'local'}/"
        for address, path in items:
            names[address] = label + _plain(path[len(shared) :] or path)
    taken: dict[str, str] = {}
    for address, name in names.items():
        other = taken.setdefault(name, address)
        if other != address:
            raise InputError(
                f"{shown(other)} and {shown(address)} would have the same name {name!r} in one dataset",
                hint="Make a dataset of each, or rename one.",
            )
    return names


def _shared(items: list[tuple[str, str]], folder: Address | None) -> str:
    """The folder that is left out of names. A dataset that is one folder leaves out exactly that folder."""
    if folder is not None and not folder.is_pattern and not folder.is_url and not folder.is_local:
        return f"{folder.path.rstrip('/')}/" if folder.path.strip("/") else ""
    folders = [path.rpartition("/")[0] for _, path in items]
    if not folders or any(not one for one in folders):
        return ""
    common = os.path.commonpath(folders) if not any(one.startswith("..") for one in folders) else ""
    return f"{common}/" if common else ""


def _plain(path: str) -> str:
    """A path that stays inside a folder of ours, whatever the other side calls its objects."""
    parts = [part for part in path.replace("\0", "_").split("/") if part not in ("", ".")]
    return "/".join("_" if part == ".." else part for part in parts) or "data"


def _missing(address: Address, need: str, where: str) -> InputMissingError:
    kind = "nothing matches it" if address.is_pattern else "there is nothing of that name"
    return InputMissingError(
        f"{need} {shown(address.text)}, but {kind}", where=where, hint="Correct the address, or bring the file."
    )  # fmt: skip
