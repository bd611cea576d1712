"""python traced.py FILE PROGRAM WORDS...: the program under cProfile. Ours leaves by os._exit, so what was seen is written before that."""

from __future__ import annotations

import cProfile
import os
import runpy
import sys

path, program = sys.argv[1:3]
sys.argv = sys.argv[2:]
profile = cProfile.Profile()
leave = os._exit


def write() -> None:
    profile.disable()
    profile.dump_stats(path)


def last(code: int) -> None:
    write()
    leave(code)


os._exit = last  # type: ignore[assignment]
profile.enable()
try:
    runpy.run_path(program, run_name="__main__")
finally:
    write()
