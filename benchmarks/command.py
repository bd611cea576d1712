"""python3 dev.py bench [NAMES] [--quick] [--json FILE]: the command line of the benchmarks."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace

from benchmarks import peers, session, storage, tables, watching, workloads
from benchmarks.contenders import Contender, Step
from benchmarks.errors import BenchError
from benchmarks.measure import Bench
from benchmarks.profiles import profile
from benchmarks.python_steps import python_steps
from benchmarks.screens import screens
from benchmarks.session import Session
from benchmarks.site import REPOSITORY, Site, versions
from benchmarks.soak import soak
from benchmarks.targets import Verdict, judge
from benchmarks.warm import warm

Workload = Callable[[Bench, Site, list[Contender], Step], None]
WORKLOADS: dict[str, Workload] = {
    "w1": workloads.up_to_date, "w2": workloads.cold, "w2p": python_steps, "w3": workloads.one_changed, "w4": workloads.start_up,
    "w6": tables.hashing, "w7": tables.tables, "w8": watching.watch, "w8w": warm, "w9": storage.store, "w10": screens,
}  # fmt: skip
"""Each has a name on the command line."""

_HELP = {
    "w1": "nothing to do", "w2": "first run", "w2p": "first run of Python steps", "w3": "one source changed, one touched",
    "w4": "start-up", "w6": "hashing, and 100,000 files that did not change", "w7": "statistics and first rows of 10 million rows",
    "w10": "the terminal app: first frame, idle, keys, long tables and logs",
    "w8": "watch mode: from a save to the first instruction", "w8w": "warm starts: 500 forked steps",
    "w9": "writes to the store, questions to it", "soak": "2,000 small runs: does anything grow? (only when named)",
}  # fmt: skip


def main(words: list[str]) -> int:
    """Exit code 1: something failed or, in a soak, grew; 2: usage. A missed target is told, and fails nothing."""
    options = _parse(words)
    site = Site.of(options.root)
    jobs = os.cpu_count() or 1
    bench = Bench(
        site.root,
        rounds=options.rounds or (1 if options.quick else 5),
        jobs=jobs,
        quick=options.quick,
        environment=site.environment,
    )
    try:
        if "soak" in options.names:
            return soak(bench, site, options.runs or (20 if options.quick else 2000))
        return _measure(bench, site, options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        bench.close()


def _parse(words: list[str]) -> argparse.Namespace:
    lines = "\n".join(f"  {name:<5} {text}" for name, text in _HELP.items())
    parser = argparse.ArgumentParser(
        prog="python3 dev.py bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Measure this tool against others and against floors, on this machine.\n\nnames (default: all but soak):\n{lines}",
        epilog="A full session (all names, not --quick, the machine not busy) writes docs/benchmarks.md.",
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAMES")
    parser.add_argument(
        "--quick", action="store_true", help="20 steps, one round: does it work at all? Proves nothing about speed"
    )
    parser.add_argument("--json", metavar="FILE", help="write everything measured as JSON, too")
    parser.add_argument("--peers", metavar="LIST", help=f"only these, or none; default all: {','.join(peers.names())}")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples of each (default 5)")
    parser.add_argument("--runs", type=int, metavar="N", help="how many runs a soak makes (default 2,000)")
    parser.add_argument("--root", default=REPOSITORY / ".cache" / "bench", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in _HELP]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; expected some of {', '.join(_HELP)}")
    if "soak" in options.names and len(options.names) > 1:
        parser.error("soak runs alone; name it without others")
    for name, value in (("--rounds", options.rounds), ("--runs", options.runs)):
        if value is not None and value < 1:
            parser.error(f"{name} is {value}; expected 1 or more")
    chosen = peers.names() if options.peers is None else () if options.peers == "none" else tuple(options.peers.split(","))
    strange = [name for name in chosen if name not in peers.names()]
    if strange:
        parser.error(f"there is no peer {strange[0]!r}; expected none, or some of {', '.join(peers.names())}")
    options.peers = () if options.quick and options.peers is None else chosen
    return options


def _measure(bench: Bench, site: Site, options: argparse.Namespace) -> int:
    date, load = session.now(), os.getloadavg()
    found = peers.find(site.root, site.bare_python, options.peers, print)
    for name, why in found.absent.items():
        print(f"without {name}: {why}")
    step = site.step()
    contenders = site.contenders(found.programs)
    names = options.names or list(WORKLOADS)
    for name in dict.fromkeys(names):
        print(f"{name}: {_HELP[name]}", flush=True)
        WORKLOADS[name](bench, site, contenders, step)
    verdicts = tuple(judge(bench.figures))
    full = not options.quick and set(names) == set(WORKLOADS)
    made = Session(
        date=date, machine=session.machine(), cores=bench.jobs, load_at_start=load, versions=versions(site, found.programs),
        absent=found.absent, figures=tuple(bench.figures), verdicts=verdicts, notes=tuple(bench.notes), load_at_end=os.getloadavg(),
        profiles=(),
    )  # fmt: skip
    print("\n".join(["", *session.as_lines(made)]), flush=True)
    if options.quick:
        print("  quick: it works; what it says about speed is worth nothing")
    text = session.as_json(made)
    for path in filter(None, (os.path.join(site.root, "latest.json"), options.json)):
        with open(path, "w") as file:
            file.write(text)
    if full:
        texts = _profiles(bench, site, contenders, step, verdicts)
        _publish(replace(made, profiles=tuple(texts)), texts)
    return 0


def _profiles(bench: Bench, site: Site, contenders: list[Contender], step: Step, verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    wanted = dict.fromkeys(one.target.profile for one in verdicts if one.word == "missed" and one.target.profile)
    texts = {}
    for name in wanted:
        print(f"profile of what was missed: {name}", flush=True)
        texts[name] = profile(bench, site, contenders, step, name)
    return texts


def _publish(made: Session, texts: dict[str, str]) -> None:
    """docs/benchmarks.md and its profiles, together; a machine that was busy publishes nothing."""
    if made.busy:
        print(
            f"\nnot published: the load average was {made.load_at_start[0]:.1f} at the start, more than 1.5 for each of {made.cores} cores;"
            " measure again when the machine is quieter"
        )
        return
    folder = REPOSITORY / "docs" / "benchmarks" / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.txt"):
        old.unlink()
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    (REPOSITORY / "docs" / "benchmarks.md").write_text(session.as_markdown(made))
    print("\nwritten: docs/benchmarks.md")
