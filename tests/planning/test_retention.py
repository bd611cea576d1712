"""What goes and what stays: whatever the store holds, pins and young things stay, and cheap large things go first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlpipe_engine.planning.retention import ORDER, YOUNG_SECONDS, Holding, Wish, choose, quota_bytes, total, worth

holdings = st.lists(
    st.builds(
        Holding,
        kind=st.sampled_from(ORDER),
        name=st.just("x"),
        key=st.uuids().map(str),
        size_bytes=st.integers(0, 10**12),
        idle_seconds=st.floats(0, 1e8),
        age_seconds=st.floats(0, 1e8),
        cost_seconds=st.floats(0, 1e6),
        rank=st.integers(0, 50),
        kept_by=st.sampled_from(["", "", "", "pinned", "last result of a in p"]),
    ),
    max_size=30,
)
wishes = st.builds(
    Wish,
    excess_bytes=st.none() | st.integers(0, 10**12),
    keep_runs=st.none() | st.integers(0, 20),
    older_than_seconds=st.none() | st.floats(0, 1e8),
)


@given(holdings, wishes)
def test_nothing_goes_that_must_stay_and_nothing_is_forgotten(found: list[Holding], wish: Wish) -> None:
    verdict = choose(found, wish)
    assert sorted(k.holding.key for k in (*verdict.going, *verdict.staying)) == sorted(h.key for h in found)
    assert all(kept.because for kept in verdict.staying) and all(going.because for going in verdict.going)
    for going in verdict.going:
        holding = going.holding
        assert not holding.kept_by and holding.age_seconds >= YOUNG_SECONDS
        if holding.kind != "leftover":
            assert wish.reaches_results
            assert wish.keep_runs is None or holding.rank >= wish.keep_runs
            assert wish.older_than_seconds is None or holding.idle_seconds >= wish.older_than_seconds


@given(holdings, st.integers(1, 10**12))
def test_it_stops_when_enough_has_gone_and_says_what_is_missing(found: list[Holding], excess: int) -> None:
    verdict = choose(found, Wish(excess_bytes=excess))
    needed = [going for going in verdict.going if going.holding.kind != "leftover"]
    assert (
        total(verdict.going) - (needed[-1].holding.size_bytes if needed else 0) < excess
        or not needed
        or not needed[-1].holding.size_bytes
    )
    assert verdict.missing_bytes == max(0, excess - total(verdict.going))
    if verdict.missing_bytes:
        assert all(kept.because != "there is room for it" for kept in verdict.staying), "it gave up although something could go"


@given(holdings)
def test_kinds_go_in_order_and_what_is_worth_least_goes_first(found: list[Holding]) -> None:
    going = [doomed.holding for doomed in choose(found, Wish(excess_bytes=1 << 60)).going]
    assert [ORDER.index(h.kind) for h in going] == sorted(ORDER.index(h.kind) for h in going)
    for left, right in zip(going, going[1:]):
        assert left.kind != right.kind or worth(left) <= worth(right)


def test_cheap_and_large_goes_before_dear_and_small() -> None:
    def output(key: str, size: int, cost: float, idle: float = 86400.0) -> Holding:
        return Holding(kind="output", name=key, key=key, size_bytes=size, idle_seconds=idle, age_seconds=1e6, cost_seconds=cost)

    found = [output("dear", 10**6, 3600), output("cheap", 10**9, 5), output("old", 10**6, 3600, idle=1e7)]
    assert [doomed.holding.key for doomed in choose(found, Wish(excess_bytes=1 << 60)).going] == ["cheap", "old", "dear"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("off", None), ("5000", 5000), ("50%", 50 * 10**9), ("", 20 * 10**9)],
)
def test_a_quota_is_a_size_a_share_or_off(setting: str, expected: int | None) -> None:
    assert quota_bytes(setting, 70 * 10**9, 30 * 10**9) == expected


def test_the_default_quota_is_at_least_two_gigabytes() -> None:
    assert quota_bytes("", 10**9, 0) == 2_000_000_000
