"""The floor under a runner written in Python: SQLite, os.stat, posix_spawn, blake2b, one record a step in one transaction.

No command line, no definition, no logs, no crash safety: what is left is what no Python runner can do without. Started as
`python -I -S floor.py DATABASE JOBS`; the database holds the graph, in an order in which every step follows what it needs.
"""

import os
import sqlite3
import sys
from collections import deque
from hashlib import blake2b


def main(path, jobs):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    rows = db.execute(
        "SELECT s.id, s.argv, s.needs, s.files, r.stats, r.digests FROM steps s LEFT JOIN records r USING (id) ORDER BY s.id"
    )
    known, ready, waiting, users, stale, argvs, needs_of, files_of = {}, deque(), {}, {}, set(), {}, {}, {}
    stat = os.stat

    def look(file):
        found = known.get(file)
        if found is None:
            try:
                seen = stat(file)
                found = f"{seen.st_mtime_ns}.{seen.st_size}.{seen.st_ino}"
            except FileNotFoundError:
                found = "-"
            known[file] = found
        return found

    for number, argv, needs, files, stats, digests in rows:
        names = files.split("\t")
        needed = [int(n) for n in needs.split(",")] if needs else ()
        same = stats == " ".join([look(name) for name in names])
        if same and not any(n in stale for n in needed):
            continue
        # with other stats but equal bytes, and nothing above that runs, there is nothing to do either
        if digests and not any(n in stale for n in needed) and digests == " ".join(map(digest, names)):
            continue
        stale.add(number)
        argvs[number], needs_of[number], files_of[number] = argv.split("\t"), needed, names
        open_needs = [n for n in needed if n in stale]
        waiting[number] = len(open_needs)
        for n in open_needs:
            users.setdefault(n, []).append(number)
        if not open_needs:
            ready.append(number)
    if stale:
        execute(db, jobs, ready, waiting, users, argvs, files_of)
    print(f"{len(stale)} ran")


def execute(db, jobs, ready, waiting, users, argvs, files_of):
    running, records = {}, []
    while ready or running:
        while ready and len(running) < jobs:
            number = ready.popleft()
            argv = argvs[number]
            running[os.posix_spawn(argv[0], argv, os.environ)] = number
        pid, status = os.wait()
        if status:
            sys.exit(f"step {running[pid]} failed")
        number = running.pop(pid)
        names = files_of[number]
        stats = []
        for name in names:
            seen = os.stat(name)
            stats.append(f"{seen.st_mtime_ns}.{seen.st_size}.{seen.st_ino}")
        records.append((number, " ".join(stats), " ".join(map(digest, names))))
        for user in users.get(number, ()):
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    db.execute("BEGIN")
    db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", records)
    db.execute("COMMIT")


def digest(name):
    try:
        with open(name, "rb", 0) as file:
            return blake2b(file.read()).hexdigest()
    except FileNotFoundError:
        return "-"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
