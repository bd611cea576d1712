"""kill -9 of the runner, a step, the supervisor or all of them at random moments, and of a quarter of the recoveries.

Promises: what was acknowledged is never done again, nothing is damaged, nobody is left behind, the next run needs no repair.
"""

from __future__ import annotations

from faults.campaign import Campaign
from faults.subject import Ended, Subject, kill, left_after, tree_of

TARGETS = ("runner", "step", "supervisor", "tree", "both")


def campaign(campaign: Campaign, rounds: int | None = None) -> None:
    subject = Subject(campaign.folder / "project").make()
    subject.run(0)
    for number in campaign.rounds(rounds or 1000, rounds or 40):
        attack(campaign, subject, number + 1)
        if number % 100 == 99:
            campaign.check(f"after {number + 1} rounds", subject.damage(), subject=subject)
    campaign.check("at the end", subject.damage(), subject=subject)


def attack(campaign: Campaign, subject: Subject, n: int) -> None:
    """One value of the parameter, so four steps to do: killed once or twice, then finished."""
    where, before = f"round {n}", _now(subject)
    kills, done, ends = 0, set(), []
    while True:
        attacked = kills == 0 or (kills < 4 and campaign.random.random() < 0.25)
        words = _words(campaign, subject, n) if kills else subject.run_words(n)
        ended, acknowledged, target = _go(campaign, subject, n, words, attacked)
        ends.append(ended)
        campaign.check(where, [f"{target}: {text}" for text in ended.bad_manners()], *ends, subject=subject)
        if lost := done - acknowledged:
            campaign.found(where, f"acknowledged and gone after the kill of {target}: {sorted(lost)}", *ends, subject=subject)
        done |= acknowledged
        kills += attacked
        if not attacked:
            break
    if ended.code != 0:
        campaign.found(where, f"the run after the kill ended with {ended.code}", *ends, subject=subject)
        ended = subject.run(n)
    campaign.check(where, subject.wrong_outputs(n), *ends, subject=subject)
    campaign.check(where, subject.damage(since=before), *ends, subject=subject)
    for step, count in subject.starts(n).items():
        if count > kills + 1:
            campaign.found(where, f"step {step} was started {count} times in {kills} kills", *ends, subject=subject)
    campaign.counts["rounds"] += 1


def _go(campaign: Campaign, subject: Subject, n: int, words: list[str], attacked: bool) -> tuple[Ended, set[str], str]:
    """Start it, kill somebody if wanted, wait for the end. Also: nothing that was acknowledged before is started again."""
    settled, starts = subject.acknowledged(n), subject.starts(n)
    process = subject.start(words)
    target = ""
    if attacked:
        target = campaign.random.choice(TARGETS)
        subject.await_moment(process, n, campaign.random)
        before = subject.acknowledged(n)
        victims = _victims(target, process.pid)
        tree = tree_of(process.pid)
        kill(victims)
        campaign.counts["kills"] += 1
        campaign.counts[f"of {target}"] += 1
        ended = subject.finish(process)
        if target in ("runner", "tree", "both"):
            left = left_after(subject.root, tree, 2.0)
            if left:
                campaign.found(f"round {n}", f"alive 2 s after the kill of {target}: {_describe(left)}", ended)
                kill(left)
        lost = before - subject.acknowledged(n)
        if lost:
            campaign.found(
                f"round {n}", f"{sorted(lost)} were acknowledged before the kill of {target} and are not after it", ended
            )
    else:
        ended = subject.finish(process)
    acknowledged = subject.acknowledged(n)
    if ended.printed - acknowledged:
        campaign.found(
            f"round {n}",
            f"printed as succeeded and not in the store: {sorted(ended.printed - acknowledged)}",
            ended,
            subject=subject,
        )
    for step in settled:
        if subject.starts(n)[step] > starts[step]:
            campaign.found(f"round {n}", f"step {step} was acknowledged and done again", ended, subject=subject)
    return ended, acknowledged, target


def _victims(target: str, runner: int) -> list[int]:
    """Whoever plays that part now; the runner where nobody does."""
    tree = tree_of(runner)
    supervisors = [pid for pid in tree if b"supervisor.py" in _command_line(pid)]
    steps = [pid for supervisor in supervisors for pid in tree_of(supervisor)[1:]]
    match target:
        case "tree":
            return tree
        case "both":
            return [runner, *supervisors[-1:]]
        case "supervisor":
            return supervisors[-1:] or [runner]
        case "step":
            return steps[:1] or [runner]
        case _:
            return [runner]


def _words(campaign: Campaign, subject: Subject, n: int) -> list[str]:
    """How people go on: mostly by the same command, sometimes by resume."""
    unfinished = subject.rows(
        "SELECT state FROM runs WHERE number = (SELECT max(number) FROM runs) AND parameters = ?", (f'[["n",{n}]]',)
    )
    if unfinished and unfinished[0][0] not in ("succeeded", "reused") and campaign.random.random() < 0.3:
        campaign.counts["resumed"] += 1
        return subject.command("resume")
    return subject.run_words(n)


def _now(subject: Subject) -> str:
    return str((subject.rows("SELECT max(created_at) FROM artifacts") or [("",)])[0][0] or "")


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _describe(pids: list[int]) -> str:
    return "; ".join(_command_line(pid).replace(b"\0", b" ").decode(errors="replace")[:80] for pid in pids)
