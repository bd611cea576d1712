"""W6 and W7: hashing files, looking whether many changed, statistics and first rows of large tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from benchmarks.contenders import Contender, Step
from benchmarks.errors import BenchError
from benchmarks.measure import Bench, Entry
from benchmarks.site import PROGRAMS, Site

OURS = "mlpipe-tui"
STAT_LOOP, SUMMARIZE, FIRST_ROWS = "os.stat loop", "SUMMARIZE", "DuckDB"


def hashing(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W6: one large file, many small cold ones, and the question whether any of many has changed."""
    count, size = (1_000, 64 << 20) if bench.quick else (100_000, 2 << 30)
    _large_file(bench, site, size)
    folder = site.folder(f"files-{count}", "data")
    _small_files(folder, count)
    _cold_files(bench, site, folder, count)
    _unchanged_files(bench, site, folder, count)


def _large_file(bench: Bench, site: Site, size: int) -> None:
    path = site.folder("large.bin")
    if not os.path.exists(path) or os.path.getsize(path) != size:
        block = os.urandom(1 << 20)
        with open(path, "wb") as file:
            for number in range(size >> 20):
                file.write(number.to_bytes(8, "big") + block[8:])
        os.sync()
    entries = [Entry("engine", lambda: [sys.executable, str(PROGRAMS / "hash_files.py"), "large", path], site.root)]
    program = shutil.which("b3sum")
    if program is None:
        bench.drop("W6: without b3sum: apt-get install b3sum")
    else:
        entries.append(Entry("b3sum", lambda: [program, path], site.root))
    bench.compare("W6", f"hash {size >> 20:,} MiB", entries)


def _small_files(folder: str, count: int) -> None:
    """Of 1 KiB, a thousand a folder."""
    if os.path.isdir(folder) and sum(len(names) for _, _, names in os.walk(folder)) == count:
        return
    shutil.rmtree(folder, ignore_errors=True)
    for number in range(count):
        inner = os.path.join(folder, f"{number // 1000:03}")
        if number % 1000 == 0:
            os.makedirs(inner)
        with open(os.path.join(inner, f"{number:06}.bin"), "wb") as file:
            file.write(number.to_bytes(8, "big") * 128)
    os.sync()


def _cold_files(bench: Bench, site: Site, folder: str, count: int) -> None:
    if not _drop_caches():
        bench.drop("W6: cold files need the right to drop the kernel's caches (root)")
        return

    def entry(name: str, way: str) -> Entry:
        words = [sys.executable, str(PROGRAMS / "hash_files.py"), way, folder]
        return Entry(name, lambda: words, site.root, before=lambda _: _must_drop())

    bench.compare(
        "W6", f"hash {count:,} cold files", [entry("engine", "tree"), entry("one thread", "single")], rounds=3, warm=False
    )


def _drop_caches() -> bool:
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    except OSError:
        return False
    return True


def _must_drop() -> None:
    if not _drop_caches():
        raise BenchError("the kernel's caches cannot be dropped")


def _unchanged_files(bench: Bench, site: Site, folder: str, count: int) -> None:
    """A run that has nothing to do, of one step that reads all of them."""
    project = os.path.dirname(folder)
    with open(os.path.join(project, "mlpipe.toml"), "w") as file:
        file.write("")
    with open(os.path.join(project, "pipeline.py"), "w") as file:
        file.write(
            "from mlpipe_engine import CommandStep, Dataset, Pipeline, Workspace\n"
            "data = Dataset.File.from_files('data').as_named_input('data').as_mount()\n"
            "step = CommandStep(name='count', command=['/bin/ls', data], inputs=[data])\n"
            "pipeline = Pipeline(Workspace.from_config(), steps=[step], name='count')\n"
        )
    for _ in range(2):
        bench.time([site.ours, "run"], project)
    entries = [
        Entry(OURS, lambda: [site.ours, "run"], project),
        Entry(STAT_LOOP, lambda: [site.bare_python, "-I", "-S", str(PROGRAMS / "stat_loop.py"), folder], project),
    ]
    bench.compare("W6", f"{count:,} unchanged files", entries)


# -- W7 ------------------------------------------------------------------------------------------------------------------

_WIDE = """
SELECT i AS id, (hash(i) % 1000)::BIGINT AS code, (hash(i + 1) % 100000)::BIGINT - 50000 AS balance,
  round((hash(i + 2) % 1000000) / 1000.0, 3) AS price, (hash(i + 3) % 4294967296) / 4294967296.0 AS share,
  round(sqrt((hash(i + 4) % 1000000000)::DOUBLE), 2) AS weight, 'customer_' || (hash(i + 5) % 50000) AS customer,
  CASE WHEN hash(i + 6) % 20 = 0 THEN NULL ELSE ['red', 'green', 'blue', 'yellow'][1 + (hash(i + 7) % 4)::INT] END AS colour,
  TIMESTAMP '2020-01-01' + to_seconds(i * 7) AS moment, hash(i + 8) % 3 = 0 AS flag
FROM range({rows}) t(i)
"""


def tables(bench: Bench, site: Site, contenders: list[Contender], step: Step) -> None:
    """W7: ten columns, as text and as Parquet."""
    rows = 20_000 if bench.quick else 10_000_000
    folder = site.folder(f"table-{rows}")
    os.makedirs(folder, exist_ok=True)
    for name in ("mlpipe.toml", "pipeline.py"):
        with open(os.path.join(folder, name), "w") as file:
            file.write("")
    for ending, options in (("csv", "HEADER"), ("parquet", "FORMAT parquet, COMPRESSION zstd")):
        path = os.path.join(folder, f"wide.{ending}")
        if not os.path.exists(path):
            _make(path, rows, options)
        _register(site, folder, ending)
        _profiles(bench, site, folder, f"wide.{ending}", f"{ending}, {rows:,} rows")


def _make(path: str, rows: int, options: str) -> None:
    part = path + ".part"
    query = f"COPY ({_WIDE.format(rows=rows)}) TO '{part}' ({options})"
    program = f"import duckdb; duckdb.sql({query!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"cannot make {path}: {done.stderr.strip().splitlines()[-1]}")
    os.rename(part, path)


def _register(site: Site, folder: str, ending: str) -> None:
    """So that the project has a store that remembers digests, as a used one does."""
    words = [site.ours, "data", "register", f"wide-{ending}", f"wide.{ending}", "--new-version"]
    subprocess.run(words, cwd=folder, env=site.environment, capture_output=True, check=False)


def _profiles(bench: Bench, site: Site, folder: str, file: str, case: str) -> None:
    def ours(name: str, *words: str) -> Entry:
        return Entry(name, lambda: [site.ours, "data", *words], folder)

    def theirs(name: str, way: str) -> Entry:
        return Entry(name, lambda: [sys.executable, str(PROGRAMS / "duck_tables.py"), way, file], folder)

    profile = ("profile", file, "--full", "--fresh")
    bench.compare(
        "W7", f"profile, {case}", [ours(f"{OURS} core", *profile, "--core"), ours(f"{OURS} all", *profile), theirs(SUMMARIZE, "summarize")]
    )  # fmt: skip
    bench.compare("W7", f"first 100 rows, {case}", [ours(OURS, "head", file, "-n", "100"), theirs(FIRST_ROWS, "head")])
