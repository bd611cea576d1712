"""The graphs all contenders build: seeded, so that a figure can be measured again. Pure values; nothing is written here.

Step i reads its own source `src/i.txt` and the outputs of what it needs, and writes `out/i.txt`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Digest = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Graph:
    """`needs[i]` are the steps whose outputs step i reads; all of them come before it."""

    shape: str
    needs: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return len(self.needs)

    @property
    def name(self) -> str:
        return f"{self.shape} {self.size:,}"

    def below(self, index: int) -> frozenset[int]:
        """The step and everything that depends on it."""
        found = {index}
        for step, needs in enumerate(self.needs):
            if not found.isdisjoint(needs):
                found.add(step)
        return frozenset(found)

    def step_with_below(self, wanted: int) -> int:
        """The step whose change makes about `wanted` steps run."""
        return min(range(self.size), key=lambda index: (abs(len(self.below(index)) - wanted), index))

    def results(self, sources: Mapping[int, bytes] | Sequence[bytes], digest: Digest) -> list[bytes]:
        """What every output must contain."""
        made: list[bytes] = []
        for index, needs in enumerate(self.needs):
            made.append(digest(b"".join([sources[index], *(made[need] for need in needs)])))
        return made


def layered(size: int, seed: int = 1) -> Graph:
    """Ten layers; a step needs two of the layer before."""
    rng = random.Random(seed)
    width = max(1, -(-size // 10))
    needs: list[tuple[int, ...]] = []
    for index in range(size):
        layer = index // width
        before = range((layer - 1) * width, layer * width) if layer else range(0)
        needs.append(tuple(sorted(rng.sample(before, min(2, len(before))))))
    return Graph("layered", tuple(needs))


def chain(size: int) -> Graph:
    return Graph("chain", tuple((index - 1,) if index else () for index in range(size)))


def fan(size: int) -> Graph:
    """One step that all others read, and a last one that reads them all."""
    middle: list[tuple[int, ...]] = [(0,)] * (size - 2)
    return Graph("fan", ((), *middle, tuple(range(1, size - 1))))


SHAPES: dict[str, Callable[[int], Graph]] = {"layered": layered, "chain": chain, "fan": fan}


def source_bytes(index: int, edition: int = 0) -> bytes:
    return b"source %d, edition %d\n" % (index, edition)


def fnv(data: bytes) -> bytes:
    """What programs/step.c writes."""
    value = 14695981039346656037
    for byte in data:
        value = (value ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return b"%016x\n" % value


def cksum(data: bytes) -> bytes:
    """What programs/step.sh writes: the checksum of POSIX cksum, which ends with the length."""
    length, tail = len(data), b""
    while length:
        tail += bytes([length & 0xFF])
        length >>= 8
    value = 0
    for byte in data + tail:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
            value &= 0xFFFFFFFF
    return b"%d %d\n" % (value ^ 0xFFFFFFFF, len(data))
