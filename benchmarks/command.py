"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from benchmarks import workloads
from benchmarks.contenders import Contender, Step
from benchmarks.measure import Bench
from benchmarks.site import REPOSITORY, Site

Workload = Callable[[Bench, Site, list[Contender], Step], None]
WORKLOADS: dict[str, Workload] = {
    "w1": workloads.up_to_date, "w2": workloads.cold, "w3": workloads.one_changed, "w4": workloads.start_up,
}  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 dev.py bench")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(words)
    site = Site.of(REPOSITORY / ".cache" / "bench")
    bench = Bench(site.root, rounds=1 if options.quick else 5, jobs=os.cpu_count() or 1, quick=options.quick, environment=site.environment)
    step = site.step()
    contenders = site.contenders({"doit": os.path.join(site.root, "peers/doit/bin/doit"), "ninja": "/usr/bin/ninja", "make": "/usr/bin/make"})
    for name in options.names or WORKLOADS:
        print(f"{name}  load {os.getloadavg()[0]:.2f}")
        WORKLOADS[name](bench, site, contenders, step)
    return 0
