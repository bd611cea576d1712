"""W1 to W4: nothing to do, everything to do, one source changed, one touched, and start-up."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial

from benchmarks.contenders import Contender, Ours, Step, edit, make_project
from benchmarks.errors import BenchError
from benchmarks.graphs import Graph, chain, fan, layered, source_bytes
from benchmarks.measure import Bench, Entry
from benchmarks.site import Site

_editions = iter(range(1, 1 << 60))


class Arena:
    """Projects of one graph, one for each contender, brought to the state in which everything is up to date."""

    def __init__(self, bench: Bench, site: Site, contenders: Iterable[Contender], graph: Graph, step: Step) -> None:
        self.bench, self.graph, self.step = bench, graph, step
        self.contenders = list(contenders)
        self.folders = {one.name: site.folder(f"{graph.shape}-{graph.size}", one.name) for one in self.contenders}
        self.sources = [source_bytes(index) for index in range(graph.size)]
        for one in self.contenders:
            make_project(one, self.folders[one.name], graph, step, bench.jobs)

    def settle(self) -> None:
        """Everything is built and nothing is left to do. Who cannot do that is left out."""
        for one in list(self.contenders):
            try:
                one.forget(self.folders[one.name], self.graph)
                self.run(one)
                self.check(one)
                self.run(one)
            except BenchError as error:
                self.leave_out(one, f"{self.graph.name}: {one.name}: {error}")

    def leave_out(self, one: Contender, note: str) -> None:
        self.bench.drop(note)
        self.contenders.remove(one)

    def run(self, one: Contender) -> None:
        self.bench.time(one.command(self.folders[one.name]), self.folders[one.name])

    def forget(self, one: Contender, _: int) -> None:
        one.forget(self.folders[one.name], self.graph)

    def check(self, one: Contender) -> None:
        """Every output holds what it has to. Raises BenchError."""
        wanted = self.graph.results(self.sources, self.step.digest)
        found = one.outputs(self.folders[one.name], self.graph)
        wrong = [index for index, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
        if wrong:
            raise BenchError(f"{len(wrong)} outputs are wrong, the first is that of step {wrong[0]}")

    def count(self, one: Contender, before: list[object]) -> int:
        after = one.marks(self.folders[one.name], self.graph)
        return sum(a != b for a, b in zip(before or [None] * len(after), after, strict=True))

    def entries(
        self, prepare: Callable[[Contender, int], None], expected: int | None = None, *, checked: bool = False
    ) -> list[Entry]:
        """One a contender. `expected`: how many steps have to run; `checked`: every output is looked at."""
        return [self._entry(one, prepare, expected, checked) for one in self.contenders]

    def _entry(self, one: Contender, prepare: Callable[[Contender, int], None], expected: int | None, checked: bool) -> Entry:
        marks: list[object] = []

        def before(number: int) -> None:
            prepare(one, number)
            marks[:] = one.marks(self.folders[one.name], self.graph)

        def check() -> int:
            ran = self.count(one, marks)
            if expected is not None and ran != expected:
                raise BenchError(f"{ran} steps ran, {expected} had to")
            if checked:
                self.check(one)
            return ran

        folder = self.folders[one.name]
        return Entry(one.name, lambda: one.command(folder), folder, before, check)


def nothing(_: Contender, __: int) -> None:
    pass


def up_to_date(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W1."""
    graphs = (
        [layered(20), chain(20), fan(20)] if bench.quick else [layered(100), layered(1000), layered(5000), chain(5000), fan(1000)]
    )
    for graph in graphs:
        arena = Arena(bench, site, [one for one in contenders if graph.size <= one.most_null], graph, step)
        arena.settle()
        bench.compare("W1", graph.name, arena.entries(nothing, 0), steps=graph.size, warm=False)


def cold(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W2."""
    for graph in [layered(20)] if bench.quick else [layered(100), layered(1000)]:
        arena = Arena(bench, site, [one for one in contenders if graph.size <= one.most_cold], graph, step)
        entries = arena.entries(arena.forget, graph.size, checked=True)
        bench.compare("W2", graph.name, entries, steps=graph.size, rounds=max(1, bench.rounds - 2), warm=False)


def one_changed(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W3 and W3t."""
    graph = layered(20 if bench.quick else 1000)
    index = graph.step_with_below(3 if bench.quick else 98)
    arena = Arena(bench, site, [one for one in contenders if one.name != "floor_c" and graph.size <= one.most_null], graph, step)
    arena.settle()

    def change(one: Contender, number: int) -> None:
        edition = next(_editions)
        arena.sources[index] = source_bytes(index, edition)
        edit(arena.folders[one.name], index, edition)

    below = len(graph.below(index))
    bench.compare("W3", f"{graph.name}, {below} below", arena.entries(change, checked=True), steps=below, warm=False)

    def touch(one: Contender, _: int) -> None:
        os.utime(os.path.join(arena.folders[one.name], "src", f"{index}.txt"))

    bench.compare("W3t", f"{graph.name}, touched", arena.entries(touch), steps=graph.size, warm=False)


def start_up(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W4: on a project of ten steps that has run twice."""
    graph = layered(10)
    arena = Arena(bench, site, [one for one in contenders if isinstance(one, Ours) or one.name == "doit"], graph, step)
    arena.settle()
    entries = [Entry("python -c pass", lambda: [sys.executable, "-c", "pass"], site.root)]
    verbs = [["--version"], ["--help"], ["status"], ["runs"], ["plan"], ["show"], ["why", "latest", "s0"], ["run"]]
    for one in arena.contenders:
        folder, program = arena.folders[one.name], one.command(arena.folders[one.name])[0]
        for words in verbs if isinstance(one, Ours) else [["help"], ["list"], ["run"]]:
            entries.append(Entry(f"{one.name} {' '.join(words)}", partial(list, [program, *words]), folder))
    bench.compare("W4", graph.name, entries, rounds=bench.rounds * 3)
