"""Eight processes run the same pipeline at the same moment, 25 times; then again with one of them killed each time.

Promises: every result is made exactly once, nobody meets a locked database, nobody starves, and a killed one holds nobody up.
"""

from __future__ import annotations

import time

from faults.campaign import Campaign
from faults.subject import STEPS, Ended, Started, Subject, kill, left_after, tree_of

_PROCESSES = 8


def campaign(campaign: Campaign) -> None:
    whole = Subject(campaign.folder / "whole").make()
    fresh = len(list(campaign.rounds(25, 2)))
    for number in range(fresh):
        if not campaign.out_of_time:
            round_of(campaign, whole, number, victim=False)
    attacked = Subject(campaign.folder / "attacked").make()
    for number in campaign.rounds(25, 2):
        round_of(campaign, attacked, number, victim=True)
    campaign.notes.append(f"slowest process {max(_slowest, default=0.0):.1f} s")


_slowest: list[float] = []


def round_of(campaign: Campaign, subject: Subject, n: int, *, victim: bool, processes: int = _PROCESSES) -> None:
    """The first round also finds no store yet: eight first runs at once."""
    where = f"{'one killed' if victim else 'all'}, round {n}"
    began = time.monotonic()
    started = [subject.start(subject.run_words(n)) for _ in range(processes)]
    spread = time.monotonic() - began
    killed = _kill_one(campaign, subject, started, n) if victim else None
    ends: list[Ended] = []
    for one in started:
        ends.append(subject.finish(one, 120))
        _slowest.append(time.monotonic() - began)
    campaign.counts["processes"] += processes
    problems: list[str] = []
    for one, ended in zip(started, ends, strict=True):
        if "locked" in ended.err:
            problems.append(f"somebody met a locked database: {ended.err[-300:]}")
        if one is not killed:
            problems += ended.bad_manners()
            if ended.code != 0:
                problems.append(f"a process that nobody killed ended with {ended.code}: {ended.err[-300:]}")
    made = subject.starts(n)
    campaign.counts["results"] += sum(made.values())
    for step in STEPS:
        if (not victim and made[step] != 1) or not 1 <= made[step] <= 2:
            problems.append(f"step {step} was made {made[step]} times")
    for one, ended in zip(started, ends, strict=True):
        again = [step for step in STEPS if step in ended.printed and made[step] > 1]
        if one is killed and again:  # what it had not told yet was not kept yet: ends are recorded in groups
            problems.append(f"{', '.join(again)} had been told as done by the one that was killed, and was made again: {made}")
    problems += subject.damage() + subject.wrong_outputs(n)
    if spread > 1:
        campaign.notes.append(f"round {n} took {spread:.1f} s to start")
    campaign.check(where, problems, *ends, subject=subject)


def _kill_one(campaign: Campaign, subject: Subject, started: list[Started], n: int) -> Started:
    """At a moment of the run; preferably of the one that makes something just then."""
    subject.await_moment(started[0], n, campaign.random)
    busy = [one for one in started if len(tree_of(one.pid)) > 2]
    victim = campaign.random.choice(busy or started)
    tree = tree_of(victim.pid)
    kill([victim.pid])
    campaign.counts["killed"] += 1
    if left := left_after(subject.root / "nothing", tree[1:], 2.0):
        campaign.found(f"one killed, round {n}", f"{len(left)} processes of the killed one alive after 2 s")
    return victim
