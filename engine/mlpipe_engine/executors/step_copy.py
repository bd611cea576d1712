"""Copies the input of a DataTransferStep to its output: python step_copy.py SOURCE TARGET.

Copied into the project and started as a step's process; standard library only. Every file is read back and compared by hash: what
this step says it copied lies on the disk.
"""

import hashlib
import os
import sys

BLOCK_BYTES = 1 << 20


def main(words):
    source, target = words
    count = size = 0
    for path, inside in files(source):
        place = os.path.join(target, inside) if inside else target
        os.makedirs(os.path.dirname(place), exist_ok=True)
        wanted, written = copied(path, place)
        if digest_of(place) != wanted:
            sys.stderr.write("mlpipe-tui: %s does not read back as it was written; the disk may be damaged\n" % place)
            raise SystemExit(1)
        count, size = count + 1, size + written
    if not count:
        sys.stderr.write("mlpipe-tui: %s holds no file to transfer\n" % source)
        raise SystemExit(1)
    print("%d %s, %d bytes, verified" % (count, "file" if count == 1 else "files", size))


def files(source):
    """(path, path within the source) of everything; links are followed: inputs are links."""
    if not os.path.isdir(source):
        yield source, ""
        return
    for folder, folders, names in os.walk(source, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, source)


def copied(source, target):
    """(digest, bytes) of what was read; it is on the disk when this returns."""
    digest, size = hashlib.blake2b(), 0
    with open(source, "rb") as reading, open(target, "xb") as writing:
        while True:
            block = reading.read(BLOCK_BYTES)
            if not block:
                break
            digest.update(block)
            writing.write(block)
            size += len(block)
        writing.flush()
        os.fsync(writing.fileno())
    return digest.digest(), size


def digest_of(path):
    digest = hashlib.blake2b()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(BLOCK_BYTES), b""):
            digest.update(block)
    return digest.digest()


if __name__ == "__main__":
    main(sys.argv[1:])
