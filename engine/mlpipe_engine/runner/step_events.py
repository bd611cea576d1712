"""Complete lines of an events file from an offset; what a crashed or hostile step left in it does no harm."""

from __future__ import annotations

import json
import os

MAX_LINE_BYTES = 1 << 20
_BLOCK_BYTES = 4 << 20


def read_events(path: str, offset: int) -> tuple[list[dict[str, object]], int]:
    """Events and the offset behind the last complete line. Lines that are no JSON object, or too long, are passed over."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        data = os.pread(fd, _BLOCK_BYTES, offset)
    finally:
        os.close(fd)
    end = data.rfind(b"\n") + 1
    if end == 0:
        too_long = len(data) >= MAX_LINE_BYTES
        return [], offset + (len(data) if too_long else 0)
    events = []
    for line in data[:end].split(b"\n"):
        if not line or len(line) > MAX_LINE_BYTES:
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events, offset + end
