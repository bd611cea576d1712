"""`logs`: what steps wrote, as it is in the files; raw bytes into a pipe, cleaned text onto a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass

from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.model.records import RunRecord
from mlpipe_engine.model.states import FINAL, State
from mlpipe_engine.model.text import clean

_BLOCK = 1 << 16


@dataclass
class _Source:
    """One file and how far it was printed."""

    step: str
    stream: str
    path: str
    offset: int = 0
    rest: bytes = b""


def logs(arguments: Arguments) -> int:
    engine = Engine.open(arguments.text("directory"))
    run = engine.find_run(arguments.positionals["RUN"])
    step = arguments.positionals.get("STEP")
    if step is not None or run.kind == "sweep":
        engine.find_step(run.id, step or "")
    streams = [name for name in ("stdout", "stderr") if arguments.flag(name)] or ["stdout", "stderr"]
    sources: dict[tuple[str, str], _Source] = {}
    prefix = step is None
    while True:
        done = _is_over(engine, run, step)
        for record in engine.steps(run.id):
            if (step is None or record.name == step) and record.state not in (State.QUEUED, State.SKIPPED):
                for stream in streams:
                    path = engine.log_path(run.id, record.name, stream)
                    source = sources.setdefault((record.name, stream), _Source(record.name, stream, path))
                    _print_new(source, prefix=prefix, as_json=arguments.flag("json"), final=done or not arguments.flag("follow"))
        if done or not arguments.flag("follow"):
            return 0
        time.sleep(0.1)


def _is_over(engine: Engine, run: RunRecord, step: str | None) -> bool:
    run = engine.find_run(run.id)
    if run.state in FINAL or engine.is_interrupted(run):
        return True
    return step is not None and engine.find_step(run.id, step).state in FINAL


def _print_new(source: _Source, *, prefix: bool, as_json: bool, final: bool) -> None:
    try:
        file = open(source.path, "rb")  # noqa: SIM115  (closed below; a missing file is normal)
    except OSError:
        return
    raw = not (prefix or as_json or sys.stdout.isatty())
    with file:
        if os.fstat(file.fileno()).st_size < source.offset:
            source.offset = 0  # it grew over [store] max_log and was cut: what is left is shown from its beginning
        file.seek(source.offset)
        while data := file.read(_BLOCK):
            source.offset += len(data)
            if raw:
                sys.stdout.buffer.write(data)
                continue
            lines = (source.rest + data).split(b"\n")
            source.rest = lines.pop()
            for line in lines:
                _print_line(source, line, prefix=prefix, as_json=as_json)
    if final and source.rest:
        _print_line(source, source.rest, prefix=prefix, as_json=as_json)
        source.rest = b""
    sys.stdout.flush()


def _print_line(source: _Source, line: bytes, *, prefix: bool, as_json: bool) -> None:
    if as_json:
        text = line.decode("utf-8", "backslashreplace")
        print(json.dumps({"step": source.step, "stream": source.stream, "text": text}))
        return
    text = clean(line.rstrip(b"\r"))
    mark = f"{clean(source.step)} | " if prefix else ""
    print(f"{mark}{text}")
