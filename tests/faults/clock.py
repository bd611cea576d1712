"""A wall clock that is wrong or jumps, and processes that are stopped for a while.

Promises: no negative duration, order by number and not by time, reuse unaffected; who sleeps is not taken for dead.
"""

from __future__ import annotations

import os
import signal
import time

from faults import shim
from faults.campaign import Campaign
from faults.subject import Subject, tree_of

DAY = 86_400
CLOCKS = {
    "a day back": -DAY, "a day on": DAY, "an hour back (summer time ends)": -3600, "in 1970": -int(time.time()) + 60,
    "in 2058": 32 * 365 * DAY,
}  # fmt: skip


def campaign(campaign: Campaign) -> None:
    for name, seconds in CLOCKS.items():
        if not campaign.out_of_time:
            wrong_clock(campaign, name, seconds)
            jumping_clock(campaign, name, seconds)
    for who in ("runner", "supervisor", "all"):
        if not campaign.out_of_time:
            stopped(campaign, who, 10 if campaign.quick else 60)


def wrong_clock(campaign: Campaign, name: str, seconds: int) -> None:
    """Two runs with the right clock around two with the wrong one."""
    subject = Subject(campaign.folder / f"clock{seconds}").make()
    moved = shim.variables(subject.state, clock=seconds)
    ends = [subject.run(1), subject.run(1, moved), subject.run(2, moved), subject.run(2), subject.run(1)]
    problems = [text for ended in ends for text in ended.bad_manners()]
    problems += [f"ended with {ended.code}" for ended in ends if ended.code != 0]
    if set(subject.starts(1).values()) != {1} or set(subject.starts(2).values()) != {1}:
        problems.append(f"done again: {subject.starts(1)} {subject.starts(2)}")
    problems += order_and_durations(subject) + subject.damage() + subject.wrong_outputs(1) + subject.wrong_outputs(2)
    campaign.counts["clocks"] += 1
    campaign.check(name, problems, *ends, subject=subject)


def jumping_clock(campaign: Campaign, name: str, seconds: int) -> None:
    """It jumps while the run goes on."""
    subject = Subject(campaign.folder / f"jump{seconds}").make()
    first = subject.run(1, shim.variables(subject.state, clock=seconds, jump=600))
    second = subject.run(1)
    problems = [text for ended in (first, second) for text in ended.bad_manners()] + order_and_durations(subject)
    if (first.code, second.code) != (0, 0) or set(subject.starts(1).values()) != {1}:
        problems.append(f"exits {first.code} and {second.code}; started {subject.starts(1)}")
    campaign.counts["jumps"] += 1
    campaign.check(f"a jump: {name}", problems, first, second, subject=subject)


def order_and_durations(subject: Subject) -> list[str]:
    found = []
    for table in ("runs", "step_runs"):
        for (seconds,) in subject.rows(f"SELECT seconds FROM {table} WHERE seconds < 0 OR seconds > 3600"):
            found.append(f"{table} tells {seconds} s")
    shown = subject.finish(subject.start(subject.command("runs", "--json")))
    import json

    numbers = [item["number"] for item in json.loads(shown.out)["items"]]
    if numbers != sorted(numbers, reverse=True):
        found.append(f"runs are shown in the order {numbers}")
    for words in (("runs",), ("show",)):
        ended = subject.finish(subject.start(subject.command(*words)))
        if ended.code != 0 or " -" in ended.out.replace(" - ", ""):
            found.append(f"{words[0]}: {ended}")
    return found


def stopped(campaign: Campaign, who: str, seconds: float) -> None:
    """SIGSTOP and, after a while, SIGCONT. Meanwhile others look on: nobody is declared dead, and nothing is made twice."""
    subject = Subject(campaign.folder / f"stop-{who}", pause=1.0).make()
    started = subject.start(subject.run_words(1))
    while sum(subject.starts(1).values()) < 2 and started.process.poll() is None:
        time.sleep(0.01)
    tree = tree_of(started.pid)
    pids = {"runner": tree[:1], "supervisor": tree[1:2], "all": tree}[who]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1)
    states = subject.rows("SELECT state FROM runs")
    looked = subject.finish(subject.start(subject.command("runs")))
    other = subject.start(subject.run_words(1))
    time.sleep(seconds)
    alone = subject.starts(1)
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    first, second = subject.finish(started, 120), subject.finish(other, 120)
    problems = [text for ended in (first, second, looked) for text in ended.bad_manners()]
    if (first.code, second.code) != (0, 0):
        problems.append(f"exits {first.code} and {second.code}")
    if "interrupted" in looked.out or "interrupted" in second.err:
        problems.append(f"declared dead while it was stopped ({states})")
    if set(subject.starts(1).values()) != {1}:
        problems.append(f"made more than once: {subject.starts(1)}, before it went on {alone}")
    problems += subject.damage() + subject.wrong_outputs(1)
    campaign.counts["stops"] += 1
    campaign.check(f"{who} stopped for {seconds:.0f} s", problems, first, second, looked, subject=subject)
