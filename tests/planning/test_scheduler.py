"""What may start next, without starting anything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mlpipe_engine.model.states import State
from mlpipe_engine.planning.scheduler import Scheduler


def test_a_chain_of_five_thousand_steps() -> None:
    names = [f"s{n}" for n in range(5000)]
    scheduler = Scheduler(names, {name: [before] for before, name in zip(names, names[1:], strict=False)})
    for name in names:
        assert scheduler.ready() == [name]
        scheduler.finished(name, State.SUCCEEDED)
    assert scheduler.done


def test_a_failure_in_a_chain_of_five_thousand_skips_the_rest() -> None:
    names = [f"s{n}" for n in range(5000)]
    parents = {name: [before] for before, name in zip(names, names[1:], strict=False)}
    scheduler = Scheduler(names, parents, continue_on_failure=True)
    scheduler.ready()
    assert [name for name, _ in scheduler.finished("s0", State.FAILED)] == names[1:]
    assert scheduler.done


def test_nothing_new_starts_after_a_failure() -> None:
    scheduler = Scheduler(["a", "b", "c"], {"c": ["b"]})
    assert scheduler.ready() == ["a", "b"]
    assert scheduler.finished("a", State.FAILED) == [("c", "a")]
    assert scheduler.ready() == []
    assert not scheduler.done
    scheduler.finished("b", State.SUCCEEDED)
    assert scheduler.done


def test_always_steps_wait_for_all_others() -> None:
    scheduler = Scheduler(["last", "a", "b"], {"last": ["a"], "b": ["a"]}, always=frozenset({"last"}))
    assert scheduler.ready() == ["a"]
    scheduler.finished("a", State.SUCCEEDED)
    assert scheduler.ready() == ["b"]
    scheduler.finished("b", State.FAILED)
    assert scheduler.ready() == ["last"]


def test_a_step_skipped_by_its_condition_skips_only_what_reads_it() -> None:
    scheduler = Scheduler(["a", "b", "c"], {"b": ["a"], "c": ["a"]}, data_parents={"b": frozenset({"a"}), "c": frozenset()})
    scheduler.ready()
    assert scheduler.finished("a", State.SKIPPED, by_condition=True) == [("b", "a")]
    assert scheduler.ready() == ["c"]


@given(st.data())
def test_every_step_ends_exactly_once(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    names = [f"s{n}" for n in range(count)]
    parents = {
        name: [names[p] for p in sorted(data.draw(st.sets(st.integers(0, n - 1), max_size=3)))] if n else []
        for n, name in enumerate(names)
    }
    always = frozenset(data.draw(st.sets(st.sampled_from(names), max_size=2)))
    parents = {name: [p for p in direct if p not in always or name in always] for name, direct in parents.items()}
    scheduler = Scheduler(names, parents, always=always, continue_on_failure=data.draw(st.booleans()))
    ended: dict[str, State] = {}
    running: list[str] = []
    for _ in range(10 * count):
        for name in scheduler.ready():
            assert name not in ended and all(parent in ended for parent in parents[name])
            running.append(name)
        if not running:
            break
        name = running.pop(data.draw(st.integers(0, len(running) - 1)))
        state = data.draw(st.sampled_from([State.SUCCEEDED, State.REUSED, State.FAILED, State.SKIPPED]))
        ended[name] = state
        for skipped, _ in scheduler.finished(name, state):
            assert skipped not in ended
            ended[skipped] = State.SKIPPED
    assert scheduler.done and set(ended) == set(names)
