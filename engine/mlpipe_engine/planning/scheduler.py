"""Decides what may start next; starts nothing itself. The runner asks `ready` and reports with `finished`.

"Ready" means ready to be *checked*: every step before it is final. Whether it runs or is reused is the planner's word, so an
upstream step that ran again but made equal bytes leaves everything below it reused. Iterative; O(edges) for a whole run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from mlpipe_engine.model.states import GOOD, State


class Scheduler:
    """`parents`: direct upstream steps by step. `always`: steps that run last, whatever happened.

    A step whose parent did not end well is skipped. Once something failed and `continue_on_failure` is off, nothing new
    becomes ready except the `always` steps, which wait until every other step is final.
    """

    def __init__(
        self,
        order: Sequence[str],
        parents: Mapping[str, Sequence[str]],
        *,
        data_parents: Mapping[str, frozenset[str]] | None = None,
        always: frozenset[str] = frozenset(),
        continue_on_failure: bool = False,
    ) -> None:
        """`data_parents`: parents whose outputs a step reads; the others only come first. None: all of them."""
        self._data_parents = data_parents
        self._order = {name: number for number, name in enumerate(order)}
        self._parents = {name: tuple(parents.get(name, ())) for name in order}
        self._children: dict[str, list[str]] = {name: [] for name in order}
        for name in order:
            for parent in self._parents[name]:
                self._children[parent].append(name)
        self._pending = {name: len(set(self._parents[name])) for name in order}
        self._children = {name: sorted(set(children), key=self._order.__getitem__) for name, children in self._children.items()}
        self._always = always
        self._continue = continue_on_failure
        self._state: dict[str, State] = {}
        self._queue: deque[str] = deque(name for name in order if not self._pending[name] and name not in always)
        self._last_queue: deque[str] = deque(name for name in order if not self._pending[name] and name in always)
        self._open_normal = sum(1 for name in order if name not in always)
        self._given: set[str] = set()
        self.stopped_by: str | None = None
        """The step whose failure (or the cancellation) stopped the rest; "" after `stop`."""

    def ready(self) -> list[str]:
        """Steps that may be checked now; each is given out once."""
        found = []
        while self._queue and self.stopped_by is None:
            name = self._queue.popleft()
            if name not in self._state:
                found.append(name)
        if self._open_normal == 0:
            while self._last_queue:
                name = self._last_queue.popleft()
                if name not in self._state:
                    found.append(name)
        self._given.update(found)
        return found

    def finished(self, name: str, state: State, *, by_condition: bool = False) -> list[tuple[str, str]]:
        """Report a final state. Returns (step, because of step) for every step that is skipped by it, in order.

        `by_condition`: skipped because its `when` is not true; then only steps that read its outputs are skipped with it.
        """
        skipped: list[tuple[str, str]] = []
        settle: deque[tuple[str, State, str]] = deque([(name, state, name)])
        while settle:
            step, outcome, root = settle.popleft()
            if step in self._state:
                continue
            self._state[step] = outcome
            if step not in self._always:
                self._open_normal -= 1
            if step != name:
                skipped.append((step, root))
            settle.extend(self._release(step, outcome, root, by_condition))
        if state is State.FAILED and not self._continue and self.stopped_by is None and name not in self._always:
            self.stopped_by = name
            skipped.extend(self._skip_not_given(name))
        return skipped

    def stop(self) -> list[str]:
        """Nothing new starts, not even the steps that always run; returns the steps that will never run."""
        self.stopped_by = self.stopped_by or ""
        left = [name for name in self._order if name not in self._state and name not in self._given]
        for name in left:
            self._state[name] = State.CANCELED
        self._queue.clear()
        self._last_queue.clear()
        self._open_normal = sum(1 for name in self._order if name not in self._state and name not in self._always)
        return left

    @property
    def done(self) -> bool:
        return len(self._state) == len(self._order)

    def _release(self, step: str, outcome: State, root: str, by_condition: bool) -> list[tuple[str, State, str]]:
        settled: list[tuple[str, State, str]] = []
        for child in self._children[step]:
            if child in self._always:
                self._pending[child] -= 1
                if self._pending[child] == 0:
                    self._last_queue.append(child)
                continue
            if outcome not in GOOD and not (by_condition and not self._reads(child, step)):
                settled.append((child, State.SKIPPED, root))
                continue
            self._pending[child] -= 1
            if self._pending[child] == 0:
                self._queue.append(child)
        return settled

    def _reads(self, child: str, parent: str) -> bool:
        return self._data_parents is None or parent in self._data_parents.get(child, frozenset())

    def _skip_not_given(self, root: str) -> list[tuple[str, str]]:
        skipped: list[tuple[str, str]] = []
        for name in self._order:
            if name in self._state or name in self._given or name in self._always:
                continue
            self._state[name] = State.SKIPPED
            self._open_normal -= 1
            skipped.append((name, root))
            for child in self._children[name]:
                if child in self._always:
                    self._pending[child] -= 1
                    if self._pending[child] == 0:
                        self._last_queue.append(child)
        return skipped
