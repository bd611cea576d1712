"""Keeps the store small: what is there, what of it could go, taking it away, removing runs, keeping the quota.

`planning.retention` decides; this module looks at rows and folders, and carries the verdict out through the trash. Called by `engine`.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlpipe_engine.model.trees import Entry
from mlpipe_engine.planning.retention import Doomed, Holding, Verdict, Wish, choose, quota_bytes
from mlpipe_engine.snapshots.source import SourceSnapshots
from mlpipe_engine.store.database import Database
from mlpipe_engine.store.documents import unpairs
from mlpipe_engine.store.journal import Journal
from mlpipe_engine.store.locks import is_held
from mlpipe_engine.store.roots import Pipelines, find_roots
from mlpipe_engine.store.trash import Move, Trash, artifact_path, tree_size

_CODE_STAYS = frozenset({"outputs", "logs"})
"""What a step left in its working folder for people: it belongs to its logs, not to its code."""
QUARANTINE_SECONDS = 7 * 86400.0
ENVIRONMENT_SECONDS = 30 * 86400.0
BENCH_SECONDS = 86400.0
REMOTE_SECONDS = 86400.0
_USAGE_KEY = "store usage besides artifacts"


@dataclass(frozen=True, slots=True)
class Survey:
    holdings: tuple[Holding, ...]
    usage: dict[str, int]
    """Bytes by kind: outputs, runs, snapshots, trash, quarantine, environments, other, database."""
    moves: dict[tuple[str, str], tuple[Move, ...]]

    @property
    def used_bytes(self) -> int:
        return sum(self.usage.values())


@dataclass(frozen=True, slots=True)
class Collected:
    name: str
    count: int
    bytes: int
    verdict: Verdict
    emptied_bytes: int = 0


@dataclass
class _Artifact:
    size_bytes: int
    created: float
    cost: float = 0.0
    label: str = ""
    used: float = 0.0
    rank: int = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    state_dir: str
    database: Database
    snapshots: SourceSnapshots
    quota: str
    """As in mlpipe.toml, "" for the default."""
    pipelines: Callable[[], Pipelines]
    """What is defined now; asked only when something may go."""
    now: Callable[[], float] = time.time
    _defined: list[Pipelines] = field(default_factory=list)

    @property
    def trash(self) -> Trash:
        return Trash(self.state_dir, self.database)

    def defined(self) -> Pipelines:
        if not self._defined:
            self._defined.append(self.pipelines())
        return self._defined[0]

    def limit_bytes(self, used_bytes: int) -> int | None:
        """The quota in bytes, or None for none."""
        return quota_bytes(self.quota, shutil.disk_usage(self.state_dir).free, used_bytes)

    def survey(self) -> Survey:
        """Everything in the store, measured on disk. Takes as long as a walk over .mlpipe."""
        usage, moves = self._usage(), {}
        holdings: list[Holding] = []
        for holding, moving in self._everything():
            holdings.append(holding)
            moves[holding.kind, holding.key] = moving
        return Survey(tuple(holdings), usage, moves)

    def plan(
        self, survey: Survey, *, to_bytes: int | None = None, keep_runs: int | None = None, older_than: float | None = None
    ) -> Verdict:
        """Without a wish: down to the quota."""
        used = survey.used_bytes - survey.usage["trash"]
        excess: int | None = None
        if to_bytes is not None:
            excess = used - to_bytes
        elif keep_runs is None and older_than is None:
            limit = self.limit_bytes(used)
            excess = 0 if limit is None else used - limit
        wish = Wish(excess_bytes=None if excess is None else max(0, excess), keep_runs=keep_runs, older_than_seconds=older_than)
        return choose(survey.holdings, wish)

    def carry_out(self, survey: Survey, verdict: Verdict, *, deadline: float | None = None) -> Collected:
        """Into the trash. What came into use since the verdict stays."""
        trash = self.trash
        trash.sweep()
        emptied = trash.empty()
        if not verdict.going:
            return Collected("", 0, 0, verdict, emptied)
        name = trash.new_collection()
        owners: dict[str, Doomed] = {}
        moves: list[Move] = []
        for doomed in verdict.going:
            for move in survey.moves[doomed.holding.kind, doomed.holding.key]:
                owners[move.path] = doomed
                moves.append(move)
        taken = trash.take(name, moves, _Test(self, owners).inside, deadline)
        gone = {(d.holding.kind, d.holding.key): d.holding.size_bytes for d in (owners[move.path] for move in taken)}
        if not taken:
            trash.sweep()
        for key in (key for kind, key in gone if kind == "logs"):
            for path in (f"{key}/code", f"{key}/in", f"{key}/tmp", key, os.path.dirname(key)):
                with suppress(OSError):
                    os.rmdir(os.path.join(self.state_dir, "runs", path))
        return Collected(name, len(gone), sum(gone.values()), verdict, emptied)

    def undo(self) -> tuple[str, int, int]:
        """Bring back what the last collection (or `rm`) took: (its name, how much came back, how much had been made again)."""
        last = self.trash.collections()[-1:]
        runs = [int(str(row[0])) for row in self.database.query("SELECT number FROM runs WHERE removed = ?", tuple(last or [""]))]
        done = self.trash.undo()
        journal = Journal(self.state_dir)
        journal.append({"e": "restored", "runs": runs})
        journal.close()
        return done

    def keep_quota(self, seconds: float) -> Collected | None:
        """After a run: nothing but one query while there is room; else collect for at most about `seconds`."""
        deadline = time.monotonic() + seconds
        if self.quota == "off" or not self._may_be_full():
            return None
        usage = self._usage()
        self._remember_usage(usage)
        used = sum(usage.values())
        limit = self.limit_bytes(used)
        if limit is None or used <= limit:
            return None
        survey = self.survey()
        done = self.carry_out(survey, self.plan(survey), deadline=deadline)
        emptied = self.trash.empty(older_than_seconds=3600.0)
        self._forget_usage()
        return done if done.count or emptied else None

    def _may_be_full(self) -> bool:
        outputs = int(str(self.database.query("SELECT coalesce(sum(size_bytes), 0) FROM artifacts WHERE collected = ''")[0][0]))
        rows = self.database.query("SELECT value FROM project WHERE key = ?", (_USAGE_KEY,))
        if not rows:
            return True
        when, besides = str(rows[0][0]).split(" ")
        used = outputs + int(besides)
        limit = self.limit_bytes(used)
        return limit is not None and (used > 0.8 * limit or self.now() - float(when) > 86400.0)

    def _remember_usage(self, usage: dict[str, int]) -> None:
        besides = sum(usage.values()) - usage["outputs"]
        with self.database.write() as db:
            db.execute("INSERT OR REPLACE INTO project (key, value) VALUES (?, ?)", (_USAGE_KEY, f"{self.now():.0f} {besides}"))

    def _forget_usage(self) -> None:
        with self.database.write() as db:
            db.execute("DELETE FROM project WHERE key = ?", (_USAGE_KEY,))

    def _usage(self) -> dict[str, int]:
        kinds = {"artifacts": "outputs", "runs": "runs", "snapshots": "snapshots", "trash": "trash", "quarantine": "quarantine",
                 "environments": "environments", "cache": "remote files", "previews": "previews"}  # fmt: skip
        usage = dict.fromkeys((*kinds.values(), "database", "other"), 0)
        for name in os.listdir(self.state_dir):
            kind = "database" if name.startswith("state.db") else kinds.get(name, "other")
            usage[kind] += tree_size(os.path.join(self.state_dir, name))[0]
        return usage

    def _everything(self) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        roots = find_roots(self.database, self.defined())
        ranks, ended = self._runs()
        yield from self._outputs(roots.why, ranks, ended)
        yield from self._step_folders(roots.why, ranks, ended)
        yield from self._snapshots(roots.why)
        yield from self._quarantine()
        yield from self._environments()
        yield from self._benches()
        yield from self._previews()
        yield from self._remote_files()

    def _runs(self) -> tuple[dict[int, int], dict[int, float]]:
        """Rank in its pipeline and end of every run that is still in the list."""
        rows = self.database.query(
            "SELECT number, pipeline, coalesce(finished_at, created_at), mirrors FROM runs WHERE parent IS NULL AND removed = '' ORDER BY number DESC"
        )
        ranks: dict[int, int] = {}
        ended: dict[int, float] = {}
        seen: dict[str, int] = {}
        for number, pipeline, when, mirrors in rows:
            run, name = int(str(number)), str(pipeline)
            rank = seen[name] = seen.get(name, -1) + 1
            for shown in {run, int(str(mirrors or run))}:
                ranks[shown] = min(rank, ranks.get(shown, rank))
                ended[shown] = max(_moment(when), ended.get(shown, 0.0))
        return ranks, ended

    def _outputs(
        self, why: Callable[..., str], ranks: dict[int, int], ended: dict[int, float]
    ) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        known = {
            str(digest): _Artifact(int(str(size)), _moment(created))
            for digest, size, created in self.database.query(
                "SELECT digest, size_bytes, created_at FROM artifacts WHERE collected = ''"
            )
        }
        for run, step, outputs, seconds in self.database.query("SELECT run, step, outputs, seconds FROM results ORDER BY id"):
            for name, digest in unpairs(outputs):
                if digest in known:
                    artifact, cost = known[digest], float(str(seconds))
                    artifact.cost = cost if not artifact.label else min(cost, artifact.cost)
                    artifact.label = f"run {run} {step}: {name}"
        for run, outputs in self.database.query("SELECT run, outputs FROM step_runs WHERE outputs <> ''"):
            number = int(str(run))
            for _, digest in unpairs(outputs):
                if digest in known and number in ranks:
                    known[digest].rank = min(known[digest].rank, ranks[number])
                    known[digest].used = max(known[digest].used, ended[number])
        root, now = os.path.join(self.state_dir, "artifacts"), self.now()
        for digest, artifact in known.items():
            yield Holding(
                kind="output" if artifact.label else "leftover", name=artifact.label or f"output {digest[3:15]}", key=digest,
                size_bytes=artifact.size_bytes, idle_seconds=max(0.0, now - (artifact.used or artifact.created)),
                age_seconds=now - artifact.created, cost_seconds=artifact.cost, rank=artifact.rank, kept_by=why(digest),
            ), (Move(os.path.relpath(artifact_path(root, digest), self.state_dir), digest),)  # fmt: skip
        named = {digest.partition(":")[2] for digest in known}
        yield from self._leftovers(root, lambda name: name in named)

    def _leftovers(self, root: str, known: Callable[[str], bool]) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        """Outputs on disk without a row: a run was killed between the bytes and the row."""
        for inner in _names(root):
            for name in _names(f"{root}/{inner}"):
                if not known(name):
                    path = f"{root}/{inner}/{name}"
                    age = self._age(path)
                    yield Holding(
                        kind="leftover", name=f"output {name[:12]} without a record", key=f"k1:{name}", size_bytes=tree_size(path)[0],
                        idle_seconds=age, age_seconds=age,
                    ), (Move(os.path.relpath(path, self.state_dir), f"k1:{name}"),)  # fmt: skip

    def _age(self, path: str) -> float:
        try:
            return self.now() - os.lstat(path).st_ctime
        except OSError:
            return 0.0

    def _step_folders(
        self, why: Callable[..., str], ranks: dict[int, int], ended: dict[int, float]
    ) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        names = {int(str(row[0])) for row in self.database.query("SELECT number FROM runs")}
        for experiment, number, step, folder in _step_dirs(os.path.join(self.state_dir, "runs")):
            run = int(number) if number.isdigit() else -1
            key, base = f"{experiment}/{number}/{step}", step.partition(".attempt-")[0]
            age = self._age(folder)
            kept = why(f"{run}/{step}", f"{run}/{base}")
            idle = self.now() - ended[run] if run in ended else age
            common = {"idle_seconds": idle, "age_seconds": min(age, idle), "rank": ranks.get(run, 1 << 30), "kept_by": kept}
            if run not in names:
                yield Holding(
                    kind="leftover", name=f"folder runs/{key} of no run", key=key, size_bytes=tree_size(folder)[0], idle_seconds=age, age_seconds=age,
                ), (Move(f"runs/{key}"),)  # fmt: skip
                continue
            code = _code_paths(folder)
            size = sum(tree_size(path)[0] for path in code)
            if code:
                yield (
                    Holding(kind="code", name=f"run {run} {step}: code", key=key, size_bytes=size, **common),  # type: ignore[arg-type]
                    tuple(Move(os.path.relpath(path, self.state_dir)) for path in code),
                )
            yield (
                Holding(kind="logs", name=f"run {run} {step}: logs", key=key, size_bytes=tree_size(folder)[0] - size, **common),  # type: ignore[arg-type]
                tuple(Move(os.path.relpath(path, self.state_dir)) for path in _other_paths(folder)),
            )

    def _snapshots(self, why: Callable[..., str]) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        """Source trees that no result uses which could still be reused; a tree goes before the files that only it has."""
        folder = os.path.join(self.state_dir, "snapshots", "trees")
        trees = _names(folder)
        collected = {str(row[0]) for row in self.database.query("SELECT digest FROM artifacts WHERE collected <> ''")}
        useful = {
            str(snapshot)
            for snapshot, outputs in self.database.query("SELECT snapshot, outputs FROM results WHERE withdrawn = ''")
            if not any(digest in collected for _, digest in unpairs(outputs))
        }
        going = [name for name in trees if f"k1:{name}" not in useful and not why(f"k1:{name}") and not name.endswith(".tmp")]
        if not going:
            return
        used = {entry.digest for name in trees if name not in going for entry in _entries(self.snapshots, name)}
        for name in going:
            blobs = sorted({entry.digest for entry in _entries(self.snapshots, name) if entry.kind in "fx"} - used)
            used.update(blobs)  # each file goes with the first tree that has it
            paths = [f"snapshots/trees/{name}", *(f"snapshots/blobs/{blob[3:5]}/{blob[3:]}" for blob in blobs)]
            size = sum(tree_size(os.path.join(self.state_dir, path))[0] for path in paths)
            age = self._age(f"{folder}/{name}")
            yield Holding(
                kind="snapshot", name=f"source tree {name[:12]}", key=name, size_bytes=size, idle_seconds=age, age_seconds=age,
            ), tuple(map(Move, paths))  # fmt: skip

    def _quarantine(self) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        folder = os.path.join(self.state_dir, "quarantine")
        for name in _names(folder):
            age = self._age(f"{folder}/{name}")
            kept = "damaged; kept for inspection for 7 days" if age < QUARANTINE_SECONDS else ""
            yield Holding(
                kind="quarantine", name=f"damaged output {name[:12]}", key=name, size_bytes=tree_size(f"{folder}/{name}")[0],
                idle_seconds=age, age_seconds=age, kept_by=kept,
            ), (Move(f"quarantine/{name}"),)  # fmt: skip

    def _environments(self) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        """Each is built again where a run needs it; the log beside it was touched when a run last asked for it."""
        folder = os.path.join(self.state_dir, "environments")
        for name in _folders(folder):
            log = f"{folder}/{name}.log"
            try:
                idle = self.now() - os.lstat(log).st_mtime
            except OSError:
                idle = self._age(f"{folder}/{name}")
            yield Holding(
                kind="environment", name=f"environment {name[:12]}", key=name, size_bytes=tree_size(f"{folder}/{name}")[0],
                idle_seconds=idle, age_seconds=idle, kept_by="" if idle >= ENVIRONMENT_SECONDS else "a run used it within 30 days",
            ), tuple(Move(f"environments/{path}") for path in (name, f"{name}.log") if os.path.lexists(f"{folder}/{path}"))  # fmt: skip

    def _benches(self) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        """Step directories that `debug` laid out."""
        folder = os.path.join(self.state_dir, "debug")
        for name in _folders(folder):
            age = self._age(f"{folder}/{name}")
            yield Holding(
                kind="leftover", name=f"debug/{name}", key=f"debug/{name}", size_bytes=tree_size(f"{folder}/{name}")[0], idle_seconds=age,
                age_seconds=age, kept_by="" if age >= BENCH_SECONDS else "laid out by hand less than a day ago",
            ), (Move(f"debug/{name}"),)  # fmt: skip

    def _previews(self) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        """Tables that the app converted to look into them: made again when somebody looks again."""
        folder = os.path.join(self.state_dir, "previews")
        for name in _names(folder):
            path = f"{folder}/{name}"
            try:
                used = max((info := os.lstat(path)).st_atime, info.st_mtime)
            except OSError:
                continue
            idle = max(0.0, self.now() - used)
            yield Holding(
                kind="leftover", name=f"previews/{name}", key=f"previews/{name}", size_bytes=tree_size(path)[0], idle_seconds=idle,
                age_seconds=self._age(path), kept_by="" if idle >= BENCH_SECONDS else "looked into less than a day ago",
            ), (Move(f"previews/{name}"),)  # fmt: skip

    def _remote_files(self) -> Iterator[tuple[Holding, tuple[Move, ...]]]:
        """Copies of what lies elsewhere. A view goes with the blobs that only it has; they share their bytes."""
        root = os.path.join(self.state_dir, "cache", "remote")
        blobs = {info.st_ino: (path, info) for path, info in _files(f"{root}/blobs")}
        views = []
        for name in _folders(f"{root}/views"):
            inodes = {info.st_ino for _, info in _files(f"{root}/views/{name}")}
            views.append((f"{root}/views/{name}", inodes & blobs.keys(), tree_size(f"{root}/views/{name}")[0]))
        views.sort(key=lambda view: self._idle(view[0]), reverse=True)
        left = dict.fromkeys(blobs, 0)
        for _, inodes, _ in views:
            for inode in inodes:
                left[inode] += 1
        for inode in [inode for inode, count in left.items() if not count]:
            path, info = blobs[inode]
            yield self._remote([path], info.st_size, f"remote file {os.path.basename(path)[:12]}")
        for place, inodes, size in views:
            alone = [blobs[inode][0] for inode in inodes if left[inode] == 1]
            for inode in inodes:
                left[inode] -= 1
            yield self._remote([place, *alone], size, f"remote files {os.path.basename(place)[:12]}")
        for folder in (f"{root}/incoming", os.path.join(self.state_dir, "cache", "queries")):
            for path, info in _files(folder):
                yield self._remote([path], info.st_size, f"{os.path.basename(folder)}/{os.path.basename(path)[:12]}")

    def _remote(self, paths: list[str], size: int, name: str) -> tuple[Holding, tuple[Move, ...]]:
        idle = self._idle(paths[0])
        return Holding(
            kind="remote", name=name, key=os.path.relpath(paths[0], self.state_dir), size_bytes=size, idle_seconds=idle,
            age_seconds=self._age(paths[0]), kept_by="" if idle >= REMOTE_SECONDS else "used less than a day ago",
        ), tuple(Move(os.path.relpath(path, self.state_dir)) for path in paths)  # fmt: skip

    def _idle(self, path: str) -> float:
        """By the file's own times: reading moves them once a day at least, and a view is touched when it is lent."""
        try:
            info = os.lstat(path)
        except OSError:
            return 0.0
        return max(0.0, self.now() - max(info.st_atime, info.st_mtime, info.st_ctime))


class _Test:
    """Asked inside the exclusive lock: may this still go? Rows are read again when somebody wrote since."""

    def __init__(self, upkeep: Upkeep, owners: dict[str, Doomed]) -> None:
        self._upkeep = upkeep
        self._owners = owners
        self._seen = -1
        self._why: Callable[..., str] = lambda *names: ""
        self._rows: set[str] = set()

    def inside(self, used: frozenset[str]) -> Callable[[Move], bool]:
        database = self._upkeep.database
        seen = database.changes_seen()
        if seen != self._seen:
            self._seen = seen
            self._why = find_roots(database, self._upkeep.defined()).why
            self._rows = {str(row[0]) for row in database.query("SELECT digest FROM artifacts")}
        living = _living(self._upkeep.state_dir)

        def may_go(move: Move) -> bool:
            holding = self._owners[move.path].holding
            match holding.kind:
                case "output":
                    return move.digest not in used and not self._why(move.digest)
                case "leftover" if move.digest:
                    was_row = not holding.name.endswith("without a record")
                    return move.digest not in used and not self._why(move.digest) and (was_row or move.digest not in self._rows)
                case "environment" | "remote":
                    return not living
                case "snapshot":
                    return not living and not self._why(f"k1:{holding.key}")
                case "code" | "logs":
                    _, number, step = holding.key.split("/", 2)
                    return not self._why(f"{number}/{step}", f"{number}/{step.partition('.attempt-')[0]}")
                case _:
                    return True

        return may_go


def _living(state_dir: str) -> bool:
    folder = os.path.join(state_dir, "locks", "runs")
    return os.path.isdir(folder) and any(is_held(os.path.join(folder, name)) for name in os.listdir(folder))


def _step_dirs(root: str) -> Iterator[tuple[str, str, str, str]]:
    """(experiment, number, step, absolute path) of every folder that is no link."""
    for experiment in _names(root):
        for number in _folders(f"{root}/{experiment}"):
            for step in _folders(f"{root}/{experiment}/{number}"):
                yield experiment, number, step, f"{root}/{experiment}/{number}/{step}"


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as listing:
            return sorted(item.name for item in listing if item.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _files(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Plain files below a folder, with what the system says of them."""
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):
                info = os.lstat(f"{folder}/{name}")
                if stat.S_ISREG(info.st_mode):
                    yield f"{folder}/{name}", info


def _code_paths(folder: str) -> list[str]:
    """The private copy of the code, downloaded inputs and temporary files: what a step needed only while it ran."""
    found = [f"{folder}/{name}" for name in ("in", "tmp") if _names(f"{folder}/{name}")]
    code = f"{folder}/code"
    if os.path.isdir(code):
        found += [f"{code}/{name}" for name in _names(code) if name not in _CODE_STAYS]
    return found


def _names(folder: str) -> list[str]:
    """What is in a folder, sorted; nothing where it is none, or went away at this moment: runs go on beside a collection."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _other_paths(folder: str) -> list[str]:
    """The rest of a step folder, one by one, so that it can follow its code into the same collection."""
    found = [f"{folder}/{name}" for name in _names(folder) if name not in ("in", "tmp", "code")]
    return found + [f"{folder}/code/{name}" for name in sorted(_CODE_STAYS) if os.path.lexists(f"{folder}/code/{name}")]


def _entries(snapshots: SourceSnapshots, name: str) -> tuple[Entry, ...]:
    tree = snapshots.load(f"k1:{name}")
    return tree.entries if tree else ()


def _moment(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return datetime.now(UTC).timestamp()
