"""A pipeline that stands decided while somebody edits: a change of files is mapped to the steps it touches before anything starts.

All decisions are at hand with what they rest on, so one changed file costs one hash, a look into an index and the decisions of the
steps it touches, however many others there are. It decides with the very code a run decides with (`decisions`), on trees of
which only the changed entries are new. Used by `engine.watching` in the process that becomes the runner; one thread.
"""

from __future__ import annotations

import glob
import os
import stat as st
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlpipe_engine.definitions.witness import signature_of
from mlpipe_engine.errors import MlpipeError, SnapshotError
from mlpipe_engine.executors import audit
from mlpipe_engine.hashing.files import hash_bytes
from mlpipe_engine.hashing.scan import scan_tree
from mlpipe_engine.model import wire
from mlpipe_engine.model.plan import Execute, Result, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.spec import PathSource, PipelineSpec, SubmitOptions
from mlpipe_engine.model.trees import Entry, Tree
from mlpipe_engine.model.watch import FileEdit, Look
from mlpipe_engine.planning.graph import reachable, topological, upstream
from mlpipe_engine.runner.planning import decide_in_order
from mlpipe_engine.store.documents import manifest_documents

if TYPE_CHECKING:
    from mlpipe_engine.data.local import PathInput
    from mlpipe_engine.definitions.loader import Definitions
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.execution import WarmStart
    from mlpipe_engine.runner.decisions import Decisions
    from mlpipe_engine.runner.resolve import Resolver


_FRESH_NS = 300_000_000


class MustReload(Exception):
    """What changed reaches further than files of code and inputs: the definition, mlpipe.toml, an environment. `str()` names it."""


@dataclass(frozen=True)
class Ready:
    """What a run of the touched steps needs."""

    options: SubmitOptions
    decisions: Decisions
    selection: frozenset[str]
    plans: tuple[StepPlan, ...]

    def tagged(self, tags: Iterable[tuple[str, str]]) -> Ready:
        return replace(self, options=replace(self.options, tags=tuple(sorted((*self.options.tags, *tags)))))


@dataclass(frozen=True)
class Scope:
    """Where changes count."""

    folders: frozenset[str]
    """Everything that counts lies in one of these."""
    whole: frozenset[str]
    """Folders of which every name counts, also one that is new."""
    names: frozenset[str]
    """What counts in the others."""


@dataclass
class _Changed:
    """A batch of changed paths, by what they belong to."""

    contents: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Source directory (absolute) -> paths below it whose bytes may differ."""
    folders: set[str] = field(default_factory=set)
    """Source directories whose names may differ."""
    inputs: dict[PathSource, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Inputs that may differ -> the paths that say so."""
    steps: set[str] = field(default_factory=set)
    """Steps whose last execution used one of the paths undeclared."""
    edits: dict[str, FileEdit] = field(default_factory=dict)


class Standing:
    def __init__(
        self, root: str, spec: PipelineSpec, options: SubmitOptions, decisions: Decisions, selection: frozenset[str],
        definitions: Definitions, config: tuple[str, os.stat_result | None],
    ) -> None:  # fmt: skip
        """Decides every step. Raises what a plan would."""
        self.root, self.spec, self.options = root, spec, options
        self.selection = selection
        self.as_written = decisions.as_written
        self._config, self._config_seen = config
        decisions.resolver.stats.saw(*config)
        self._definitions = definitions
        self._decisions = decisions
        self._steps = {step.name: step for step in spec.steps}
        self._parents = upstream(spec)
        decisions.parents = self._parents
        self._children: dict[str, list[str]] = {name: [] for name in self._steps}
        for name, parents in self._parents.items():
            for parent in parents:
                self._children[parent].append(name)
        self._order = {name: at for at, name in enumerate(topological(spec))}
        self._read_sets: dict[int, frozenset[str]] = {}
        self.wanted: set[str] = set()
        """Steps that a change touched and that no run has taken up yet."""
        names = [name for name in self._order if name in selection]
        self._plans = decide_in_order(names, self._steps, decisions)
        self._results_seen = decisions.store_epoch()
        self._index()

    @property
    def plans(self) -> Mapping[str, StepPlan]:
        return self._plans

    @property
    def parents(self) -> Mapping[str, tuple[str, ...]]:
        return self._parents

    @property
    def _stats(self) -> StatCache:
        return self._decisions.resolver.stats

    def _index(self) -> None:
        """Where what belongs to which steps lies on disk."""
        resolver = self._decisions.resolver
        self._by_source: dict[str, list[str]] = defaultdict(list)
        self._inputs: dict[PathSource, list[str]] = defaultdict(list)
        self._input_bases: dict[str, list[PathSource]] = defaultdict(list)
        self._undeclared: dict[str, set[str]] = defaultdict(set)
        self._undeclared_trees: dict[str, set[str]] = defaultdict(set)
        for name in self._plans:
            step = self._steps[name]
            if step.source_directory is not None:
                self._by_source[resolver.directory(step)].append(name)
            for item in step.inputs:
                if isinstance(item.source, PathSource):
                    self._inputs[item.source].append(name)
            self._note_undeclared(name)
        for source in self._inputs:
            for path in source.paths:
                full = os.path.normpath(os.path.join(self.root, path))
                while glob.has_magic(full):
                    full = os.path.dirname(full)
                self._input_bases[full].append(source)
        own = {os.path.realpath(self._config): "mlpipe.toml"}
        self._definition_paths = own | {
            name: os.path.relpath(name, self.root) for kind, name, _ in self._definitions.witness if kind != "env"
        }

    def _note_undeclared(self, name: str) -> None:
        decision = self._plans[name].decision
        if not isinstance(decision, Reuse | Execute):
            return
        result = decision.result if isinstance(decision, Reuse) else decision.compared_with
        for path, then in result.undeclared.files if result is not None else ():
            if not then.startswith("ignored"):
                into = self._undeclared_trees if then.startswith("tree") else self._undeclared
                into[audit.absolute(self.root, path)].add(name)

    def scope(self) -> Scope:
        """Everything on disk that the decisions rest on, outside of the store."""
        whole: set[str] = set()
        named: set[str] = set(self._definition_paths)
        for key, info in (*self._stats.seen.items(), *self._stats.followed.items()):
            path = os.path.join(self.root, key)
            if info is not None and st.S_ISDIR(info.st_mode):
                whole.add(path)
            named.add(path)
        whole.update(name for kind, name, _ in self._definitions.witness if kind == "folder")
        store = os.path.join(self.root, ".mlpipe")
        folders = {
            path
            for path in whole | {os.path.dirname(path) for path in named}
            if path != store and not path.startswith(store + "/")
        }
        return Scope(
            frozenset(folders),
            frozenset(whole & folders),
            frozenset(path for path in named if os.path.dirname(path) not in whole),
        )

    def file_count(self) -> int:
        return sum(1 for info in self._stats.seen.values() if info is not None and st.S_ISREG(info.st_mode))

    def rehearse(self) -> Look | None:
        """Go the way of one changed file up to what a run is made from, with one that did not change.

        Returns a look where it did after all, at this moment.
        """
        names = (key for key, info in self._stats.seen.items() if info is not None and st.S_ISREG(info.st_mode))
        paths = (os.path.join(self.root, key) for key in names)
        path = next((path for path in paths if path not in self._definition_paths and self._belongs(path)), None)
        if path is None or self.wanted or not self._plans or _moved(path, self._seen(path)):
            return None
        look = None
        with suppress(MustReload, MlpipeError):
            look = self.look((path,))
            plans = self._replanned({self._names(self._plans)[-1]}, self._decisions.renewed(self._decisions.resolver))
            for plan in plans.values():
                if plan.manifest is not None:
                    manifest_documents(plan.manifest)
        if not self.wanted:
            self.wanted = {self._names(self._plans)[-1]}
            try:
                with suppress(MlpipeError):
                    self.ready(whole_below=0)
            finally:
                self.wanted = set()
        return look if look is not None and (look.steps or any(edit.kind != "same" for edit in look.edits)) else None

    # ---- looking

    def look(self, paths: Iterable[str] | None) -> Look:
        """Compare what was decided on with what is there: these paths, or (None) everything. Raises MustReload, MlpipeError.

        After MustReload or another error nothing has changed here.
        """
        suspects = self._suspects(paths)
        if paths is None and (fresh := [path for path in suspects if _is_being_written(path)]):
            return Look(again=tuple(fresh), untouched=self._names(self._plans))
        changed = self._sorted(suspects)
        try:
            trees = self._new_trees(changed)
        except SnapshotError as error:
            if "changed while being read" not in str(error):
                raise
            return Look(again=tuple(sorted(set(paths or ()))))
        resolver = self._decisions.resolver.renewed(
            {self._source_of(directory): tree for directory, tree in trees.items()}, changed.inputs
        )
        touched, edits = self._touched(changed, trees, resolver)
        decisions = self._decisions.renewed(resolver)
        if not touched:
            self._decisions = decisions
            return Look(edits=edits, untouched=self._names(self._plans))
        before = dict(self._plans)
        plans = self._replanned(touched, decisions)
        self._decisions = decisions
        self._plans.update(plans)
        for name in plans:
            self._note_undeclared(name)
        moved = {name for name, plan in plans.items() if _differs(before[name], plan) or (name in touched and _will_run(plan))}
        self.wanted |= moved
        direct = self._names(name for name in moved if not isinstance(self._plans[name].decision, Undecided))
        below = self._names(name for name in moved if isinstance(self._plans[name].decision, Undecided))
        return Look(
            edits=edits, steps=direct or below, below=below if direct else (),
            untouched=self._names(self._plans.keys() - moved) if moved else self._names(self._plans),
        )  # fmt: skip

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Parents first."""
        return self._names(names)

    def covered(self) -> tuple[str, ...]:
        """What a run of the wanted steps would cover: they, all below them, and what they need that has no result."""
        roots = {name for name in self.wanted if name in self._plans}
        return self._names(self._with_what_it_needs(reachable(roots, self._children) & self._plans.keys()))

    def _names(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=self._order.__getitem__))

    def _source_of(self, directory: str) -> str:
        return self._steps[self._by_source[directory][0]].source_directory or ""

    def _suspects(self, paths: Iterable[str] | None) -> list[str]:
        """Absolute paths whose stat is not what it was, or that an event named."""
        seen = self._stats.seen
        if paths is None:
            names = [os.path.join(self.root, key) for key, info in seen.items() if _moved(os.path.join(self.root, key), info)]
            names += [path for path, info in self._stats.followed.items() if _follows_elsewhere(path, info)]
            names += self._stale_definitions()
            return names
        found: dict[str, None] = {}
        for path in paths:
            if self._is_known(path):
                found.setdefault(path)
            parent = os.path.dirname(path)
            if self._is_known(parent) and not self._is_file(path) and _moved(parent, self._seen(parent)):
                found.setdefault(parent)
            if path in self._stats.followed or self._definition_paths.get(path):
                found.setdefault(path)
        if found and any(path in self._definition_paths or os.path.isdir(path) for path in found):
            found.update(dict.fromkeys(self._stale_definitions()))
        return list(found)

    def _key(self, path: str) -> str:
        return path[len(self.root) + 1 :] if path.startswith(self.root + "/") else path

    def _is_known(self, path: str) -> bool:
        return self._key(path) in self._stats.seen

    def _seen(self, path: str) -> os.stat_result | None:
        return self._stats.seen.get(self._key(path))

    def _is_file(self, path: str) -> bool:
        """Whether it was a file when it was last looked at, and is one."""
        info = self._seen(path)
        return info is not None and st.S_ISREG(info.st_mode) and not _moved_kind(path, info)

    def _stale_definitions(self) -> list[str]:
        witness = self._definitions.witness
        return [name for kind, name, mark in witness if kind != "env" and signature_of(kind, name, os.environ) != mark]

    def _sorted(self, suspects: list[str]) -> _Changed:
        """What the paths belong to. Raises MustReload."""
        changed = _Changed()
        stale = set(self._stale_definitions()) if any(path in self._definition_paths for path in suspects) else set()
        for path in suspects:
            if path in stale or (path == self._config and _moved(path, self._config_seen)):
                raise MustReload(self._definition_paths.get(path, path))
            if path in self._definition_paths and not self._belongs(path):
                if os.path.isfile(path):
                    changed.edits[self._shown(path)] = FileEdit(path=self._shown(path), kind="same")
                continue
            if not self._sort(path, changed) and self._really_moved(path):
                raise MustReload(self._shown(path))
        return changed

    def _really_moved(self, path: str) -> bool:
        if self._is_known(path):
            return _moved(path, self._seen(path))
        return path in self._stats.followed and _follows_elsewhere(path, self._stats.followed[path])

    def _belongs(self, path: str) -> bool:
        return self._sort(path, _Changed())

    def _sort(self, path: str, changed: _Changed) -> bool:
        found = False
        for folder in _with_parents(path):
            if folder in self._by_source:
                found = True
                relative = path[len(folder) + 1 :]
                if self._is_file(path) and relative in self._tree(folder).by_path:
                    changed.contents[folder].append(relative)
                else:
                    changed.folders.add(folder)
            for source in self._input_bases.get(folder, ()):
                found = True
                changed.inputs[source].append(path)
            if folder in self._undeclared_trees:
                found = True
                changed.steps |= self._undeclared_trees[folder]
        if path in self._undeclared:
            found = True
            changed.steps |= self._undeclared[path]
        return found

    def _tree(self, directory: str) -> Tree:
        step = self._steps[self._by_source[directory][0]]
        tree = self._decisions.resolver.source(step)
        assert tree is not None
        return tree

    def _new_trees(self, changed: _Changed) -> dict[str, Tree]:
        """Source directory -> its tree now, of those that differ. Raises SnapshotError."""
        found: dict[str, Tree] = {}
        snapshots, stats = self._decisions.snapshots, self._stats
        for directory in changed.folders:
            found[directory] = self._scanned_again(directory)
        for directory, relatives in changed.contents.items():
            if directory in found:
                continue
            tree, entries = self._tree(directory), dict[str, Entry]()
            for relative in relatives:
                path, before = f"{directory}/{relative}", tree.by_path[relative]
                stats.forget(path)
                (now,) = scan_tree(path, ignore=None, cache=stats).entries
                if now.kind != before.kind:  # an exec bit, or a link in its place
                    found[directory] = self._scanned_again(directory)
                    break
                entry = Entry(relative, now.kind, now.digest, now.size_bytes)
                snapshots.saw(entry, path)
                if entry.digest != before.digest:
                    entries[relative] = entry
                else:
                    shown = self._shown(path)
                    changed.edits[shown] = FileEdit(path=shown, kind="same")
            if entries and directory not in found:
                found[directory] = tree.with_entries(entries)
        for source in changed.inputs:
            self._forget_input(source)
        return found

    def _scanned_again(self, directory: str) -> Tree:
        self._forget_tree(directory, self._tree(directory))
        return self._decisions.snapshots.scan(directory)

    def _forget_tree(self, base: str, tree: Tree) -> None:
        """So that the next look at what was there is taken as the first one."""
        self._stats.forget(base)
        for entry in tree.entries:
            self._stats.forget(f"{base}/{entry.path}" if entry.path else base)

    def _forget_input(self, source: PathSource) -> None:
        known = self._decisions.resolver.path_input(source, self._steps[self._inputs[source][0]])
        for path in source.paths:
            full = os.path.normpath(os.path.join(self.root, path))
            while glob.has_magic(full):
                full = os.path.dirname(full)
            self._stats.forget(full)
        self._forget_tree(known.base, known.tree)

    def _touched(
        self, changed: _Changed, trees: Mapping[str, Tree], resolver: Resolver
    ) -> tuple[set[str], tuple[FileEdit, ...]]:  # fmt: skip
        """Steps that have to be decided anew, and the edits for people. `resolver`: of what is there now."""
        touched = set(changed.steps)
        for directory, tree in trees.items():
            before = self._tree(directory)
            if before.digest == tree.digest:
                continue
            prefix = self._shown(directory)
            self._note_edits(changed, before, tree, "" if prefix == "." else prefix + "/")
            same_names = before.structure == tree.structure
            names = {path for path, entry in tree.by_path.items() if before.by_path.get(path) != entry} if same_names else set()
            touched.update(name for name in self._by_source[directory] if not same_names or self._reads_any(name, names))
        for source, paths in changed.inputs.items():
            if self._note_input(changed, source, paths, resolver):
                touched.update(self._inputs[source])
        for name in changed.steps:
            decision = self._plans[name].decision
            result = decision.result if isinstance(decision, Reuse) else None
            for path, _ in result.undeclared.files if result else ():
                if audit.absolute(self.root, path) in self._undeclared:
                    changed.edits.setdefault(path, FileEdit(path=path, kind="changed"))
        return touched, tuple(changed.edits.values())

    def _note_input(self, changed: _Changed, source: PathSource, paths: list[str], resolver: Resolver) -> bool:
        """Whether an input is another than before, with its edits for people: lines of data are not counted."""
        step = self._steps[self._inputs[source][0]]
        before = self._decisions.resolver.path_input(source, step)
        try:
            after: PathInput | None = resolver.path_input(source, step)
        except MlpipeError:  # it is told when its steps are decided
            after = None
        if after is not None and after.tree.digest == before.tree.digest:
            for path in map(self._shown, filter(os.path.isfile, paths)):
                changed.edits.setdefault(path, FileEdit(path=path, kind="same"))
            return False
        old, new = before.tree.by_path, after.tree.by_path if after is not None else {}
        for name in [name for name in {**old, **new} if old.get(name) != new.get(name)]:
            if (new.get(name) or old[name]).kind == "d":
                continue
            base = before.base if name in old or after is None else after.base
            path = self._shown(os.path.join(base, name) if name else base)
            kind = "removed" if name not in new else "added" if name not in old else "changed"
            changed.edits.setdefault(path, FileEdit(path=path, kind=kind))
        return True

    def _reads_any(self, name: str, paths: set[str]) -> bool:
        """Whether a step may have used one of these files of its source directory, whose names are the same as before."""
        step, result = self._steps[name], self._result_behind(name)
        if result is None or step.code == "snapshot" or step.hash_paths or result.reads is None:
            return True
        known = self._read_sets.get(result.id)
        if known is None:
            known = self._read_sets[result.id] = frozenset(path for path, _ in result.reads)
        return not known.isdisjoint(paths)

    def edits_since(self, before: Standing) -> tuple[FileEdit, ...]:
        """Files of code that were others when `before` was decided."""
        changed = _Changed()
        for directory in self._by_source.keys() & before._by_source.keys():
            left, right = before._tree(directory), self._tree(directory)
            if left.digest != right.digest:
                prefix = self._shown(directory)
                self._note_edits(changed, left, right, "" if prefix == "." else prefix + "/")
        return tuple(changed.edits.values())

    def _result_behind(self, name: str) -> Result | None:
        """The result whose read set tells what the step reads; None for a step that did not get to its end."""
        match self._plans[name].decision:
            case Reuse(result):
                return result
            case Execute(because, compared_with=result) if because[0].kind == "disabled":
                return result
            case _:
                return None

    def _note_edits(self, changed: _Changed, before: Tree, after: Tree, prefix: str) -> None:
        old, new = before.by_path, after.by_path
        for path in [path for path in {**old, **new} if old.get(path) != new.get(path)]:
            shown = prefix + path
            if path not in new:
                changed.edits[shown] = FileEdit(path=shown, kind="removed")
            elif path not in old:
                changed.edits[shown] = FileEdit(path=shown, kind="added")
            else:
                counts = self._decisions.line_counts(old[path].digest, new[path].digest) if old[path].kind in "fx" else None
                added, removed = counts or (None, None)
                changed.edits[shown] = FileEdit(path=shown, kind="changed", added=added, removed=removed)

    def _shown(self, path: str) -> str:
        return os.path.relpath(path, self.root) if path == self.root or path.startswith(self.root + "/") else path

    # ---- deciding

    def _replanned(self, touched: set[str], decisions: Decisions) -> dict[str, StepPlan]:
        """New plans of the touched steps and of those below them that are touched in turn."""
        closure = reachable(touched, self._children) & self._plans.keys()
        beside = {parent for name in closure for parent in self._parents[name] if parent in self._plans} - closure
        anew: set[str] = set()

        def is_other(parent: str, planned: Mapping[str, StepPlan]) -> bool:
            return parent in anew and _differs(self._plans[parent], planned[parent])

        def kept(name: str, planned: Mapping[str, StepPlan]) -> StepPlan | None:
            if name in closure and (name in touched or any(is_other(parent, planned) for parent in self._parents[name])):
                anew.add(name)
                return None
            return self._plans[name]

        planned = decide_in_order(self._names(closure | beside), self._steps, decisions, kept)
        return {name: planned[name] for name in closure}

    def sync(self) -> bool:
        """Results that were made or withdrawn since are taken into account; nothing becomes wanted by it. Whether there were any."""
        newest = self._decisions.store_epoch()
        if newest == self._results_seen:
            return False
        self._results_seen = newest
        stale = {name for name, plan in self._plans.items() if not isinstance(plan.decision, Reuse)}
        if stale:
            decisions = self._decisions.renewed(self._decisions.resolver)
            self._plans.update(self._replanned(stale, decisions))
            self._decisions = decisions
            for name in stale:
                self._note_undeclared(name)
        return True

    def warm_starts(self, state_dir: str) -> set[tuple[str, WarmStart]]:
        """The warm interpreters that steps of this pipeline are forked from."""
        from mlpipe_engine.runner.parts import sdk_dir
        from mlpipe_engine.runner.warming import ahead

        decisions, found = self._decisions, set()
        for name in self._plans:
            step = self._steps[name]
            compute = decisions.resolver.compute(decisions.compute_of(step))
            if compute.preload and decisions.resolver.unbuilt(step, compute.name) is None:
                interpreter, description = decisions.resolver.interpreter(step, compute.name)
                wanted = ahead(step, compute, interpreter, description, sdk_dir(state_dir), state_dir)
                found |= {wanted} if wanted is not None else set()
        return found

    def to_run(self) -> tuple[str, ...]:
        """What `run` would run now."""
        return self._names(name for name, plan in self._plans.items() if isinstance(plan.decision, Execute | Undecided))

    def keys(self, names: Iterable[str]) -> dict[str, str]:
        """What the decision of each step rests on, beside what other steps make: equal keys, equal bytes."""
        resolver, found = self._decisions.resolver, {}
        for name in names:
            step = self._steps[name]
            parts = [wire.dump(replace(step, where="", description=""))]
            if step.source_directory is not None:
                tree = resolver.source(step)
                parts.append(tree.digest if tree else "")
            parts += [
                resolver.path_input(item.source, step).tree.digest for item in step.inputs if isinstance(item.source, PathSource)
            ]
            found[name] = hash_bytes("|".join(parts).encode("ascii", "backslashreplace"))
        return found

    def want_what_differs(self, keys: Mapping[str, str]) -> None:
        """`keys`: of steps that a run in progress is making. Where the files are others by now, they are wanted again."""
        now = self.keys(name for name in keys if name in self._plans)
        self.wanted |= {name for name, key in now.items() if key != keys[name]}

    def ready(self, *, whole_below: int) -> Ready | None:
        """What a run of the wanted steps is made of; None when nothing is wanted. Raises InputError.

        The run covers the wanted steps and all below them; in a pipeline of at most `whole_below` steps also those that are reused.
        """
        roots = {name for name in self.wanted if name in self._plans}
        if not roots:
            return None
        covered = frozenset(self.covered())
        plans = {name: self._plans[name] for name in covered}
        if len(self._steps) <= whole_below:
            plans |= {name: plan for name, plan in self._plans.items() if isinstance(plan.decision, Reuse | Skip)}
        decisions = self._decisions.renewed(self._decisions.resolver)
        for name in {parent for step in plans for parent in self._parents[step]} - plans.keys():
            plan = self._plans.get(name)
            if plan is not None and isinstance(plan.decision, Reuse):
                decisions.leave_out(name, plan.decision.result)
            else:
                decisions.assume(self._steps[name])
        for name in self._names(plans):
            decision = plans[name].decision
            if isinstance(decision, Execute):
                decisions.note_changed(name, decision.because)
        decisions.keep_plan(plans.values())
        first = self._names(name for name in covered if not any(parent in covered for parent in self._parents[name]))
        options = replace(self.options, from_steps=first, source="watch")
        return Ready(options, decisions, frozenset(plans), tuple(plans.values()))

    def _with_what_it_needs(self, covered: frozenset[str]) -> frozenset[str]:
        """Parents without a result to go on with run too."""
        found = set(covered)
        queue = list(covered)
        while queue:
            for parent in self._parents[queue.pop()]:
                plan = self._plans.get(parent)
                if parent not in found and plan is not None and not isinstance(plan.decision, Reuse | Skip):
                    found.add(parent)
                    queue.append(parent)
        return frozenset(found)


def _differs(before: StepPlan, after: StepPlan) -> bool:
    """Whether a step would do something else: run, or take another result."""
    left, right = before.decision, after.decision
    if isinstance(left, Reuse) and isinstance(right, Reuse):
        return left.result.id != right.result.id
    if isinstance(left, Execute) and isinstance(right, Execute):
        return _identity(before) != _identity(after)
    return type(left) is not type(right)


def _identity(plan: StepPlan) -> tuple[str, str]:
    return (plan.manifest.fingerprint if plan.manifest else "", plan.code.digest if plan.code else "")


def _will_run(plan: StepPlan) -> bool:
    return isinstance(plan.decision, Execute | Undecided)


def _moved(path: str, before: os.stat_result | None) -> bool:
    try:
        now = os.lstat(path)
    except OSError:
        return before is not None
    if before is None:
        return True
    return (
        now.st_mtime_ns != before.st_mtime_ns or now.st_ctime_ns != before.st_ctime_ns or now.st_ino != before.st_ino
        or now.st_size != before.st_size or now.st_mode != before.st_mode
    )  # fmt: skip


def _is_being_written(path: str) -> bool:
    """Whether it changed a moment ago: nobody told that its writer is done."""
    try:
        return 0 <= time.time_ns() - os.lstat(path).st_mtime_ns < _FRESH_NS
    except OSError:
        return False


def _moved_kind(path: str, before: os.stat_result) -> bool:
    try:
        return os.lstat(path).st_mode != before.st_mode
    except OSError:
        return True


def _follows_elsewhere(path: str, before: os.stat_result | None) -> bool:
    try:
        now = os.stat(path)
    except OSError:
        return before is not None
    return before is None or (now.st_ino, now.st_mtime_ns, now.st_size, now.st_mode) != (
        before.st_ino, before.st_mtime_ns, before.st_size, before.st_mode,
    )  # fmt: skip


def _with_parents(path: str) -> Iterable[str]:
    while True:
        yield path
        above = os.path.dirname(path)
        if above == path:
            return
        path = above
