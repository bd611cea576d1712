"""Fault campaigns: python3 dev.py faults [NAMES] [--seed N] [--minutes M] [--quick]. Exit 1 when something was found.

Without names all are run. The same seed makes the same choices; moments still depend on the machine.
"""

from __future__ import annotations

import argparse
import random
import sys
from importlib import import_module
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0] = str(TESTS)
sys.path[1:1] = [str(TESTS.parent / "engine"), str(TESTS.parent)]

NAMES = ("killloop", "crashpoints", "errors", "powercut", "together", "clock", "fulldisk")


def main() -> int:
    from faults.campaign import Campaign

    parser = argparse.ArgumentParser(prog="dev.py faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them without one")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--minutes", type=float, help="at most so long for each campaign")
    parser.add_argument("--quick", action="store_true", help="a small part of each")
    parser.add_argument("--folder", type=Path, help="where to work and to leave evidence, instead of the temporary folder")
    words = parser.parse_args()
    if unknown := set(words.names) - set(NAMES):
        parser.error(f"no campaign is called {', '.join(sorted(unknown))}; expected {', '.join(NAMES)}")
    good = True
    for name in words.names or NAMES:
        seconds = words.minutes * 60 if words.minutes else None
        made = Campaign(name, seed=words.seed, seconds=seconds, quick=words.quick, folder=words.folder)
        print(f"{name}: seed {words.seed}, working in {made.folder}", flush=True)
        import_module(f"faults.{name}").campaign(made)
        good = made.verdict() and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
