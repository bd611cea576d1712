"""A graph of steps as a list: one row a step, and to its left the rails along which results run down to those that need them.

A rail belongs to the step at its top, and ends at the last step that needs it; so there are as many rails at a row as results that
are still needed below, not as many as there are edges. A step stands on the rail of one that it needs when that rail ends there. `├ ┤ ┼`
are places where a step takes from a rail; a rail that is only crossed stays unbroken. A sign right under a sign takes from it.

    ✓    raw
    ├─✓  clean
    ├─┼─✓  train
    ✓─╯ │  profile
    ✓───╯  report
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlpipe_engine.model.states import State

from mlpipe_tui.glyphs import Glyphs

LANES = 8
_FOLD_FROM = 4
_LEFT, _RIGHT, _UP, _DOWN = 1, 2, 4, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One step, and those whose results it needs. Names that are no node are ignored."""

    name: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the list. `cells` has the rails, with a blank where the sign of the step goes."""

    name: str
    members: tuple[str, ...]
    """The steps it stands for: more than one where steps are folded."""
    cells: str
    owners: tuple[str, ...]
    """For each cell the step whose rail it is; "" for blanks and for the sign."""
    column: int
    """Cell of the sign."""
    can_fold: str = ""
    """Fold it belongs to, whether it is folded now or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """What one step shows beside its rails. Replaced as a whole when something about it changes."""

    state: State | None = None
    """None: not a step but data, or a step that never ran."""
    sign: str = ""
    """In place of the state's."""
    cells: tuple[str, ...] = ()
    """One text a column, as data: whoever shows it cleans it."""
    dim: bool = False


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Every node below what it needs, else as they came. What is on a cycle comes last, as it came."""
    names = {node.name for node in nodes}
    placed: set[str] = set()
    waiting: dict[str, list[Node]] = {}
    order: list[Node] = []
    missing = {node.name: len({need for need in node.needs if need in names and need != node.name}) for node in nodes}
    for node in nodes:
        for need in set(node.needs) - {node.name}:
            waiting.setdefault(need, []).append(node)
    place = {node.name: index for index, node in enumerate(nodes)}
    ready = [index for index, node in enumerate(nodes) if not missing[node.name]]
    heapq.heapify(ready)
    while ready:
        node = nodes[heapq.heappop(ready)]
        placed.add(node.name)
        order.append(node)
        for below in waiting.get(node.name, ()):
            missing[below.name] -= 1
            if not missing[below.name]:
                heapq.heappush(ready, place[below.name])
    return order + [node for node in nodes if node.name not in placed]


def folds(nodes: Sequence[Node]) -> dict[str, tuple[str, ...]]:
    """Name of a fold -> steps that are alike: equal names but for numbers, equal needs but for such steps' numbers; four or more."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for node in nodes:
        stem = _stem(node.name)
        if stem != node.name:
            found.setdefault((stem, tuple(sorted({_stem(need) for need in node.needs}))), []).append(node.name)
    chosen: dict[str, tuple[str, ...]] = {}
    for (stem, _), members in found.items():
        if len(members) >= _FOLD_FROM and not _depend(nodes, set(members)):
            chosen.setdefault(stem.replace("#", "*"), tuple(members))
    return chosen


def _stem(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _depend(nodes: Sequence[Node], members: set[str]) -> bool:
    """One of them comes after another, directly or not: then one row for all would stand both above and below something."""
    below = set(members)
    for node in in_order(nodes):
        if node.name in members:
            if any(need in below and need not in members for need in node.needs) or members & set(node.needs):
                return True
        elif below & set(node.needs):
            below.add(node.name)
    return False


def folded(nodes: Sequence[Node], closed: Mapping[str, tuple[str, ...]]) -> tuple[list[Node], dict[str, tuple[str, ...]]]:
    """The graph with every closed fold as one node at the place of its first step; and what each node stands for."""
    stands = {member: fold for fold, members in closed.items() for member in members}
    made: dict[str, list[str]] = {}
    members: dict[str, list[str]] = {}
    for node in nodes:
        name = stands.get(node.name, node.name)
        needs = made.setdefault(name, [])
        needs += [need for need in (stands.get(need, need) for need in node.needs) if need not in needs and need != name]
        members.setdefault(name, []).append(node.name)
    return [Node(name=name, needs=tuple(needs)) for name, needs in made.items()], {
        name: tuple(found) for name, found in members.items()
    }


def lay_out(nodes: Sequence[Node], signs: Glyphs, *, lanes: int = LANES, open_folds: Iterable[str] = ()) -> tuple[Row, ...]:
    """Rows for a graph. At most `lanes` rails are drawn; what runs further right is shown as one sign for "more"."""
    foldable = folds(nodes)
    opened = set(open_folds)
    fold_of = {member: fold for fold, found in foldable.items() for member in found}
    drawn, members = folded(nodes, {fold: found for fold, found in foldable.items() if fold not in opened})
    ordered = in_order(drawn)
    last = _last_uses(ordered)
    live: list[str] = []
    """Whose rail runs in each lane; "" where none does."""
    rows = []
    ended_above = -1
    for index, node in enumerate(ordered):
        above = {need: live.index(need) for need in dict.fromkeys(node.needs) if need in live}
        ending = [lane for need, lane in above.items() if last[need] == index]
        lane = min(ending) if ending else _free(live, min(above.values(), default=-1) + 1, ended_above)
        while len(live) <= lane:
            live.append("")
        cells, owners = _draw(live, above, lane, index, last, signs, lanes)
        rows.append(
            Row(
                name=node.name, members=members[node.name], cells=cells, owners=owners, column=min(lane, lanes) * 2,
                can_fold=node.name if node.name in foldable and node.name not in opened else fold_of.get(node.name, ""),
            )
        )  # fmt: skip
        for ended in ending:
            live[ended] = ""
        live[lane] = node.name if last[node.name] > index else ""
        ended_above = -1 if live[lane] else lane
        while live and not live[-1]:
            live.pop()
    return tuple(rows)


def _last_uses(ordered: Sequence[Node]) -> dict[str, int]:
    """Index of the last row that needs each node, its own where none does."""
    last = {node.name: index for index, node in enumerate(ordered)}
    for index, node in enumerate(ordered):
        for need in node.needs:
            if need in last:
                last[need] = max(last[need], index)
    return last


def _free(live: list[str], start: int, but: int) -> int:
    """The first lane without a rail; not the one whose last sign stands right above, for it would look as if it led here."""
    return next(lane for lane in range(start, len(live) + start + 2) if lane != but and (lane >= len(live) or not live[lane]))


def _draw(
    live: list[str], above: Mapping[str, int], lane: int, index: int, last: Mapping[str, int], signs: Glyphs, lanes: int
) -> tuple[str, tuple[str, ...]]:
    taken = {found: need for need, found in above.items()}
    left, right = min([lane, *taken]), max([lane, *taken])
    width = min(max(len(live), lane + 1), lanes + 1)
    cells, owners = [" "] * (width * 2), [""] * (width * 2)
    for at in range(min(len(live), lanes)):
        owner = live[at]
        if owner and at != lane:
            cells[at * 2], owners[at * 2] = signs.vertical, owner
        if at in taken and at != lane:
            bits = _UP | (_DOWN if last[taken[at]] > index else 0) | (_LEFT if at > left else 0) | (_RIGHT if at < right else 0)
            cells[at * 2] = joint(bits, signs)
        elif left < at < right and at != lane and not owner:
            cells[at * 2] = signs.horizontal
    for at in range(left, min(right, lanes)):
        cells[at * 2 + 1] = signs.horizontal
        owners[at * 2 + 1] = min((taken[found] for found in taken if found != lane), key=lambda need: above[need], default="")
    if len(live) > lanes or lane >= lanes:
        cells[lanes * 2] = signs.more
    cells[min(lane, lanes) * 2], owners[min(lane, lanes) * 2] = " ", ""
    return "".join(cells), tuple(owners)


def joint(bits: int, signs: Glyphs) -> str:
    """The line that leaves a cell in these directions."""
    down_right, down_left, up_right, up_left, cross, tee_right, tee_left, tee_down, tee_up = list(signs.joins)
    table = {
        _DOWN | _RIGHT: down_right, _DOWN | _LEFT: down_left, _UP | _RIGHT: up_right, _UP | _LEFT: up_left,
        _LEFT | _RIGHT | _UP | _DOWN: cross, _UP | _DOWN | _RIGHT: tee_right, _UP | _DOWN | _LEFT: tee_left,
        _LEFT | _RIGHT | _DOWN: tee_down, _LEFT | _RIGHT | _UP: tee_up,
    }  # fmt: skip
    return table.get(bits, signs.horizontal if bits & (_LEFT | _RIGHT) and not bits & (_UP | _DOWN) else signs.vertical)


def tally(states: Iterable[State | None], signs: Glyphs) -> str:
    """How many of a fold are in which state, for example "✓9 ●2 ○1"."""
    counts: dict[State, int] = {}
    for state in states:
        if state is not None:
            counts[state] = counts.get(state, 0) + 1
    return " ".join(f"{signs.state(state)}{counts[state]}" for state in State if state in counts)


def gathered(states: Iterable[State | None]) -> State | None:
    """The one state that stands for several: what needs attention first."""
    found = set(states)
    order = (
        State.FAILED,
        State.RUNNING,
        State.PREPARING,
        State.CANCELED,
        State.QUEUED,
        State.SUCCEEDED,
        State.REUSED,
        State.SKIPPED,
    )
    return next((state for state in order if state in found), None)
