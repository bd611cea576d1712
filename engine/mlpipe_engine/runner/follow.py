"""Reads what a running step reports: new lines of events.jsonl and the growth of its logs.

The format of events.jsonl is documented in `mlpipe_run.py`, its only writer. Files only; rows are made by `record`.
"""

from __future__ import annotations

import json
import math
import os
import stat as st
import time
from dataclasses import dataclass, field

from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.executors.staging import Layout
from mlpipe_engine.model.records import MetricRecord
from mlpipe_engine.runner.step_events import read_events


@dataclass
class StepEvents:
    """One batch of what a step reported, sorted by kind."""

    metrics: list[MetricRecord] = field(default_factory=list)
    scalars: list[tuple[str, float]] = field(default_factory=list)
    """For `when` conditions: the newest value of a name wins."""
    child_metrics: list[tuple[str, list[MetricRecord]]] = field(default_factory=list)
    labels: list[tuple[str, str, str, str | None]] = field(default_factory=list)
    """(target as in events.jsonl, "tags" or "properties", name, value)."""
    files: list[tuple[str, str]] = field(default_factory=list)
    children: list[tuple[str, str]] = field(default_factory=list)
    children_ended: list[tuple[str, str]] = field(default_factory=list)
    models: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.metrics or self.child_metrics or self.labels or self.files or self.children or self.children_ended or self.models
        )


class Follower:
    """One per attempt. `read` is cheap when nothing happened: a stat of one file and of two logs. It raises FilesystemError."""

    def __init__(self, layout: Layout, step: str, max_log_bytes: int = 1_000_000_000) -> None:
        self._layout = layout
        self._max_log_bytes = max_log_bytes
        self._step = step
        self._offset = 0
        self._sizes = (0, 0)
        self._began = time.monotonic()

    def read(self, *, final: bool) -> StepEvents:
        if not final:
            self._index_logs()
        batch = StepEvents()
        try:
            info = os.lstat(self._layout.events)
        except OSError:
            return batch
        size = info.st_size if st.S_ISREG(info.st_mode) else 0  # whatever else a step put there says nothing
        while self._offset < size:
            try:
                events, offset = read_events(self._layout.events, self._offset)
            except FileNotFoundError:
                break
            except OSError as error:
                raise FilesystemError.of(error, "read", self._layout.events) from error
            if offset == self._offset:
                break
            self._offset = offset
            for event in events:
                self._sort(event, batch)
        return batch

    def _index_logs(self) -> None:
        """A line "milliseconds stdout-bytes stderr-bytes" whenever a log has grown: the index of times."""
        sizes = (_size(f"{self._layout.step_dir}/logs/stdout.log"), _size(f"{self._layout.step_dir}/logs/stderr.log"))
        if sizes == self._sizes:
            return
        self._sizes = sizes
        for stream, size in zip(("stdout", "stderr"), sizes):
            if size > self._max_log_bytes:
                _cut_log(f"{self._layout.step_dir}/logs/{stream}.log", size, self._max_log_bytes // 2)
        line = f"{(time.monotonic() - self._began) * 1000:.0f} {sizes[0]} {sizes[1]}\n"
        index = f"{self._layout.step_dir}/logs/times"
        try:
            fd = os.open(index, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, line.encode())
            finally:
                os.close(fd)
        except FileNotFoundError:
            return  # the folder was deleted under the step; the run notices by itself when that was all of the project
        except OSError as error:
            raise FilesystemError.of(error, "write", index) from error

    def _sort(self, event: dict[str, object], batch: StepEvents) -> None:
        target = str(event.get("target") or "")
        match event.get("e"):
            case "metric":
                self._metric(event, target, batch)
            case "tag" | "property":
                value = event.get("value")
                column = "tags" if event["e"] == "tag" else "properties"
                batch.labels.append((target, column, str(event.get("name")), None if value is None else str(value)))
            case "file":
                batch.files.append((str(event.get("name")), self._relative(str(event.get("path")))))
            case "child":
                batch.children.append((str(event.get("id")), str(event.get("name") or "")))
            case "child_end":
                state = str(event.get("state") or "succeeded")
                batch.children_ended.append(
                    (str(event.get("id")), state if state in ("succeeded", "failed", "canceled") else "succeeded")
                )
            case "model":
                tags = event.get("tags")
                batch.models.append(
                    (
                        str(event.get("name")),
                        str(event.get("path")),
                        {str(k): str(v) for k, v in tags.items()} if isinstance(tags, dict) else {},
                    )
                )

    def _relative(self, path: str) -> str:
        """Below the step's folder, so that the project can be moved."""
        return os.path.relpath(path, self._layout.step_dir)

    def _metric(self, event: dict[str, object], target: str, batch: StepEvents) -> None:
        value, number = event.get("value"), event.get("step")
        record = MetricRecord(
            run_id="", step="" if target == "parent" else self._step, name=str(event.get("name")), kind=str(event.get("kind")),
            value=json.dumps(value), step_number=number if isinstance(number, int) else None, time=str(event.get("t") or ""),
            origin=self._step if target == "parent" else "",
        )  # fmt: skip
        if target in ("", "parent"):
            batch.metrics.append(record)
            if (
                record.kind == "scalar"
                and not isinstance(value, bool)
                and isinstance(value, int | float)
                and math.isfinite(value)
            ):
                batch.scalars.append((record.name, float(value)))
        else:
            batch.child_metrics.append((target, [record]))


def _cut_log(path: str, size: int, keep: int) -> None:
    """The beginning and whatever is written from now on stay. The step has the file open for appending, so it goes on unharmed;
    what it writes between the look and the cut is cut too."""
    note = f"\nmlpipe-tui: about {size - keep:,} bytes were cut here, because this log grew over {2 * keep:,} bytes ([store] max_log)\n"
    try:
        os.truncate(path, keep)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, note.encode())
        finally:
            os.close(fd)
    except OSError:
        return  # the disk is full or the log is gone: the step's own trouble will say so


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
