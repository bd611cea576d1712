"""Lays out a step directory: code/, in/, out/, logs/, step.json, command.sh; gives the StepTask an executor starts.

The layout is what people find under .mlpipe/runs/<experiment>/<run>/<step>/ afterwards. Knows nothing of processes or
containers. Called by `runner`.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlpipe_engine.errors import FilesystemError, StagingError
from mlpipe_engine.executors import tools
from mlpipe_engine.hashing.files import real_path
from mlpipe_engine.model.execution import StepTask
from mlpipe_engine.model.spec import OWN_KINDS, InputRef, Json, LiteralRef, OutputRef, ParameterRef, Part, StepSpec, Text, Word
from mlpipe_engine.planning.parameters import render

RESERVED_VARIABLES = frozenset(
    {"PATH", "HOME", "PYTHONPATH", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "SHELL", "USER"}
)
"""An input of this name gets no variable of its own name: the step would lose something it needs to start."""


@dataclass(frozen=True, kw_only=True)
class Lent:
    """One input as it is given to a step."""

    name: str
    source: str
    """Absolute path of what is lent."""
    files: tuple[str, ...] | None
    """Only these below `source`; None: all of it."""
    links: tuple[tuple[str, str], ...] = ()
    """(path within the input, file) of what was chosen one by one, beside `files`."""
    mode: str
    path_on_compute: str | None
    format: str | None = None
    """parquet or csv, where it is a table that was made for the step."""
    copy: Callable[[str], None]
    """Make a private, writable copy at the given path (mode "download")."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a step is told about the run it belongs to."""

    run_id: str
    run_number: int
    attempt_id: str
    experiment: str
    pipeline: str
    workspace: str
    root: str
    parameters: Mapping[str, Json]
    tags: Mapping[str, str]
    properties: Mapping[str, str]
    interpreter: str
    """The interpreter of the step and why that one, for people."""


@dataclass(frozen=True)
class Layout:
    step_dir: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    lent: tuple[str, ...] = ()
    """Real paths of what the links in in/ lead to."""

    @property
    def code(self) -> str:
        return f"{self.step_dir}/code"

    @property
    def events(self) -> str:
        return f"{self.step_dir}/events.jsonl"


def lay_out(
    step: StepSpec,
    step_dir: str,
    inputs: list[Lent],
    lay_out_code: Callable[[str], None] | None,
    about: Circumstances,
    take_spare: Callable[[str], bool] | None = None,
    link: Callable[[str, str], None] = os.symlink,
) -> Layout:
    """Make the folders and fill them. Raises StagingError, FilesystemError; what was made stays for inspection.

    `take_spare` puts an empty step directory at the place, if it has one; for steps without code.
    """
    try:
        if lay_out_code is not None or take_spare is None or not take_spare(step_dir):
            make_folders(step_dir, lay_out_code)
        layout = Layout(
            step_dir,
            {item.name: _lend(item, step_dir, link) for item in inputs},
            {item.name: _output_path(item.name, item.path_on_compute, item.is_directory, step_dir) for item in step.outputs},
            tuple(path for item in inputs if item.mode != "download" for path in _real_paths(item)),
        )
        _write_step_file(step, layout, inputs, about)
    except OSError as error:
        raise FilesystemError.of(error, f"lay out step {step.name!r} in", error.filename or step_dir) from error
    return layout


def laid_out(step: StepSpec, step_dir: str) -> Layout:
    """The layout of a directory that was laid out for `step` before."""
    return Layout(
        step_dir,
        {item.name: f"{step_dir}/in/{_inside(item.path_on_compute, item.name)}" for item in step.inputs},
        {item.name: f"{step_dir}/out/{_inside(item.path_on_compute, item.name)}" for item in step.outputs},
    )


def make_folders(step_dir: str, lay_out_code: Callable[[str], None] | None) -> None:
    """Those of a step directory that every step has. Raises OSError."""
    os.makedirs(step_dir)
    for name in ("in", "out", "logs", "tmp"):
        os.mkdir(f"{step_dir}/{name}")
    if lay_out_code is not None:
        lay_out_code(f"{step_dir}/code")
    else:
        os.mkdir(f"{step_dir}/code")
    for name in ("outputs", "logs"):
        os.makedirs(f"{step_dir}/code/{name}", exist_ok=True)


def _lend(item: Lent, step_dir: str, link: Callable[[str, str], None]) -> str:
    place = f"{step_dir}/in/{_inside(item.path_on_compute, item.name)}"
    if os.path.dirname(place) != f"{step_dir}/in":
        os.makedirs(os.path.dirname(place), exist_ok=True)
    if item.mode == "download":
        item.copy(place)
    elif item.files is None:
        link(item.source, place)
    else:
        os.makedirs(place)
        for file in item.files:
            target = os.path.join(place, file)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(os.path.join(item.source, file), target)
        for inside, file in item.links:
            target = os.path.join(place, inside)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(file, target)
    return place


def _real_paths(item: Lent) -> list[str]:
    if item.files is None:
        return [real_path(item.source)]
    return [real_path(os.path.join(item.source, file)) for file in item.files]


def _output_path(name: str, path_on_compute: str | None, is_directory: bool | None, step_dir: str) -> str:
    place = f"{step_dir}/out/{_inside(path_on_compute, name)}"
    if is_directory:
        os.makedirs(place)
    elif os.path.dirname(place) != f"{step_dir}/out":
        os.makedirs(os.path.dirname(place), exist_ok=True)
    return place


def _inside(path_on_compute: str | None, name: str) -> str:
    """A wished path stays below the step directory: processes share the machine's file system."""
    if not path_on_compute:
        return name
    parts = [part for part in path_on_compute.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise StagingError(f"path_on_compute {path_on_compute!r} leaves the step directory", hint="Use a path without '..'.")
    return "/".join(parts)


def _write_step_file(step: StepSpec, layout: Layout, inputs: list[Lent], about: Circumstances) -> None:
    document = {
        "protocol": 1,
        "run_id": about.run_id,
        "run_number": about.run_number,
        "step": step.name,
        "attempt": about.attempt_id,
        "experiment": about.experiment,
        "pipeline": about.pipeline,
        "interpreter": about.interpreter,
        "workspace": {"name": about.workspace, "root": about.root},
        "inputs": {
            item.name: {
                "path": layout.inputs[item.name],
                "mode": item.mode,
                "kind": "folder" if item.files is not None or os.path.isdir(item.source) else "file",
                **({"format": item.format} if item.format is not None else {}),
            }
            for item in inputs
        },
        "outputs": {name: {"path": path} for name, path in layout.outputs.items()},
        "parameters": dict(about.parameters),
        "params": {name: _value(part, layout, about.parameters) for name, part in step.params},
        "resources": {"cpus": step.resources.cpus, "memory_bytes": step.resources.memory_bytes},
        "events_path": layout.events,
        "files_dir": f"{layout.code}/outputs",
        "tags": dict(about.tags),
        "properties": dict(about.properties),
        "parent_metrics": [],
    }
    text = json.dumps(document).encode("ascii")
    write_over(f"{layout.step_dir}/step.json", text + b" " * (-len(text) % 512), 0o644)  # mostly as long as that of the last step


def write_over(path: str, body: bytes, mode: int) -> None:
    """Over what may be there. Not emptied first: ext4 sends a file that was to the disk when it is closed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        if os.fstat(fd).st_size > len(body):
            os.ftruncate(fd, 0)
        os.write(fd, body)
    finally:
        os.close(fd)


def argv(step: StepSpec, layout: Layout, parameters: Mapping[str, Json], interpreter: str, sdk: str) -> tuple[str, ...]:
    """The words of the process. Every object of the definition is exactly one word; nothing goes through a shell."""
    words = tuple(_word(word, layout, parameters) for word in step.arguments)
    if step.kind == "python":
        return (interpreter, f"{layout.code}/{step.script}", *words)
    command = tuple(_word(word, layout, parameters) for word in step.command)
    if step.kind in OWN_KINDS:
        return tools.argv(step, interpreter, sdk, layout.code, words, command)
    if step.kind == "shell":
        return ("/bin/sh", "-c", *command, *(("sh", *words) if words else ()))
    return (*command, *words)


def _word(word: Word, layout: Layout, parameters: Mapping[str, Json]) -> str:
    return "".join(_text(part, layout, parameters) for part in word)


def _text(part: Part, layout: Layout, parameters: Mapping[str, Json]) -> str:
    match part:
        case Text(text):
            return text
        case LiteralRef(value):
            return render(value)
        case ParameterRef(name):
            return render(parameters[name])
        case InputRef(name):
            return layout.inputs[name]
        case OutputRef(name):
            return layout.outputs[name]


def _value(part: Part, layout: Layout, parameters: Mapping[str, Json]) -> Json:
    match part:
        case LiteralRef(value):
            return value
        case ParameterRef(name):
            return parameters[name]
        case _:
            return _text(part, layout, parameters)


def variables(step: StepSpec, layout: Layout, parameters: Mapping[str, Json], about: Circumstances) -> dict[str, str]:
    """What a step finds in its environment besides the base: the names old scripts know, and its declared variables."""
    found = {
        "MLPIPE_STEP_FILE": f"{layout.step_dir}/step.json",
        "AZUREML_RUN_ID": about.attempt_id,
        "AZUREML_EXPERIMENT_NAME": about.experiment,
    }
    for name, path in (*layout.inputs.items(), *layout.outputs.items()):
        found[f"AZUREML_DATAREFERENCE_{name}"] = path
        if name not in RESERVED_VARIABLES:
            found.setdefault(name, path)
    for name, part in step.params:
        found[f"AML_PARAMETER_{name}"] = _text(part, layout, parameters)
    found.update(step.environment_variables)
    return found


def write_command_file(task: StepTask) -> None:
    """command.sh repeats the step by hand in its own directory, with the environment it had."""
    assignments = " \\\n  ".join(f"{name}={shlex.quote(value)}" for name, value in task.environment)
    text = (
        "#!/bin/sh\n# Runs this step again by hand, in this directory, outside of any run.\n"
        f"cd {shlex.quote(task.cwd)} || exit 1\n"
        f"exec env -i \\\n  {assignments} \\\n  {shlex.join(task.argv)}\n"
    )
    try:
        write_over(f"{task.step_dir}/command.sh", text.encode("utf-8", "surrogateescape"), 0o755)
    except OSError as error:
        raise FilesystemError.of(error, "write", f"{task.step_dir}/command.sh") from error
