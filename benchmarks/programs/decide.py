"""decide.py FOLDER FILE COUNT: seconds of COUNT decisions after a change of FILE, in a process that stands ready, one a line."""

from __future__ import annotations

import os
import sys
import time

from mlpipe_engine.engine.standby import StandBy


class Silent:
    """In place of the line to a watcher."""

    def say(self, **message: object) -> None:
        return


def main(folder: str, name: str, count: int) -> None:
    spare = StandBy(folder, Silent())
    spare.stand(None, {})
    path = os.path.join(folder, name)
    for number in range(count):
        with open(path, "wb") as file:
            file.write(b"edition %d of %d\n" % (number, time.time_ns()))
        began = time.perf_counter()
        spare.look([path], number)
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
