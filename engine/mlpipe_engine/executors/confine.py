"""Starts a program that can read and write only what a file of rules names: python -I -S confine.py RULES PROGRAM WORDS...

Landlock, by system calls: no privileges needed, inherited by all children, cannot be undone. A path that is not there is left
out. Standard library only; becomes the program, so that pid and exit are the program's own.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any

_CREATE, _ADD, _RESTRICT = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
_ALL_OF_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_IOCTL_DEV = 1 << 15
_READ = EXECUTE | READ_FILE | READ_DIR
_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | (1 << 14) | _IOCTL_DEV
"""Rights that may stand in a rule for a single file."""


def _library() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> tuple[int, str]:
    """(version of the kernel's Landlock, 0 where there is none; why there is none)."""
    if not sys.platform.startswith("linux"):
        return 0, "only Linux has it"
    import ctypes

    version = _library().syscall(_CREATE, None, ctypes.c_size_t(0), 1)
    return (int(version), "") if version >= 1 else (0, os.strerror(ctypes.get_errno()))


def confine(rules: dict[str, list[str]]) -> None:
    """From here on this process and its children are refused everything but `rules`. Raises OSError."""
    import ctypes
    import struct

    library = _library()
    abi, problem = landlock_abi()
    if abi < 1:
        raise OSError(errno.ENOSYS, "Landlock: " + problem)
    handled = _ALL_OF_ABI[min(abi, 4)] | (_IOCTL_DEV if abi >= 5 else 0)
    attributes = struct.pack("=Q", handled)
    ruleset = library.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        _fail("create a ruleset")
    for paths, rights in ((rules["read"], _READ), (rules["write"], handled)):
        for path in paths:
            _allow(library, ruleset, path, rights & handled)
    if library.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS, which restricting asks for
        _fail("give up new privileges")
    if library.syscall(_RESTRICT, ruleset, 0) != 0:
        _fail("restrict this process")
    os.close(ruleset)


def _allow(library: Any, ruleset: int, path: str, rights: int) -> None:
    import ctypes
    import stat
    import struct

    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _ON_FILES
        rule = struct.pack("=Qi", rights, fd)
        if library.syscall(_ADD, ruleset, 1, rule, 0) != 0:
            number = ctypes.get_errno()
            if number != errno.EBADFD:  # a file system without files one can name, such as a pipe
                raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)


def _fail(doing: str) -> None:
    import ctypes

    number = ctypes.get_errno()
    raise OSError(number, "Landlock cannot " + doing + ": " + os.strerror(number))


def main(words: list[str]) -> int:
    rules, argv = words[0], words[1:]
    try:
        with open(rules, encoding="ascii") as file:
            document = json.load(file)
        confine(document)
    except (OSError, ValueError, KeyError) as error:
        print(f"mlpipe-tui: cannot confine the step: {error}", file=sys.stderr)
        return 126
    try:
        os.execve(argv[0], argv, os.environ)
    except OSError as error:
        text = "not found (or the interpreter in its #! line is not)" if error.errno == errno.ENOENT else error.strerror
        print(f"mlpipe-tui: cannot start {argv[0]}: {text}", file=sys.stderr)
        return 127 if error.errno == errno.ENOENT else 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
