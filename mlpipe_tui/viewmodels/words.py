"""Times, sizes and values as the screens write them: short, and always with the same width for the same kind."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from mlpipe_engine.model.spec import Json


def took(seconds: float | None) -> str:
    """12 ms, 1.4 s, 1:10, 1:02:10."""
    if seconds is None:
        return ""
    if seconds < 0.0995:
        return f"{max(seconds, 0.0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def clock(seconds: float) -> str:
    """Of something that goes on: 0:42, 1:02:10."""
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def size(value: float | None) -> str:
    if value is None:
        return ""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def parse_time(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None


def when(text: str | None, now: datetime) -> str:
    """A stored time as people say it: now, 14:02, yest 14:02, Mon 17:15, 3 Nov 09:10, 2024-11-03."""
    moment = parse_time(text)
    if moment is None:
        return ""
    there, here = moment.astimezone(now.tzinfo), now
    if abs((here - there).total_seconds()) < 5:
        return "now"
    if there.date() == here.date():
        return there.strftime("%H:%M")
    if there.date() == here.date() - timedelta(days=1):
        return there.strftime("yest %H:%M")
    if timedelta(0) < here - there < timedelta(days=6):
        return there.strftime("%a %H:%M")
    return there.strftime("%d %b %H:%M").lstrip("0") if there.year == here.year else there.strftime("%Y-%m-%d")


def since(text: str | None, now: datetime) -> float | None:
    moment = parse_time(text)
    return (now - moment).total_seconds() if moment is not None else None


def value(found: Json) -> str:
    """A parameter's value as JSON, but texts without quotes."""
    return found if isinstance(found, str) else json.dumps(found)


def number(found: float) -> str:
    """Four digits that matter: 0.8941, 17.2, 1.2e+06."""
    return f"{found:.4g}"


def trend(values: tuple[float, ...], width: int, bar: str) -> str:
    """A sparkline of at most `width` signs; the last value always shows."""
    finite = [item for item in values if item == item and abs(item) != float("inf")]
    if len(finite) < 2:
        return ""
    if len(finite) > width:
        step = len(finite) / width
        finite = [finite[min(len(finite) - 1, int((at + 1) * step) - 1)] for at in range(width)]
    low, high = min(finite), max(finite)
    spread = high - low
    top = len(bar) - 1
    return "".join(bar[round((item - low) / spread * top)] if spread else bar[top // 2] for item in finite)


def count(amount: int, noun: str, plural: str = "") -> str:
    """1 step, 3 steps."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"
