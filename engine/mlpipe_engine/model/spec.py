"""A pipeline as its author wrote it, as one frozen value that crosses process borders as JSON.

Nothing in here was looked up on disk. `sdk` builds it, `definitions` carries it, `planning` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if (
    TYPE_CHECKING
):  # most pipelines, and every verb that only looks, do without; `wire` imports it where a value names one of its types
    from mlpipe_engine.model.datasets import DatasetDefinition, Expectation

Json = None | bool | int | float | str | tuple["Json", ...]
"""A parameter value: frozen JSON without objects; lists are tuples."""

ParameterType = Literal["str", "int", "float", "bool", "list", "none", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """A named value that is set when the pipeline is submitted."""

    name: str
    type: ParameterType
    default: Json = None
    required: bool = False
    """True when there is no default; None is a legal default of type "none" or "any"."""
    choices: tuple[Json, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Literal part of a word."""

    text: str


@dataclass(frozen=True, slots=True)
class ParameterRef:
    """The effective value of a parameter, as text in argv, typed in the fingerprint."""

    name: str


@dataclass(frozen=True, slots=True)
class InputRef:
    """The absolute path of the step's input of that name."""

    name: str


@dataclass(frozen=True, slots=True)
class OutputRef:
    """The absolute path of the step's output of that name."""

    name: str


@dataclass(frozen=True, slots=True)
class LiteralRef:
    """A typed literal: an argument written as 1, "1", 1.0 or True keeps its type in the fingerprint."""

    value: Json


Part = Text | ParameterRef | InputRef | OutputRef | LiteralRef
Word = tuple[Part, ...]
"""One word of argv: the texts of its parts joined. Nothing ever goes through a shell."""

InputMode = Literal["mount", "download", "direct"]


@dataclass(frozen=True, slots=True)
class StepOutputSource:
    """The output of another step."""

    step: str
    output: str


@dataclass(frozen=True, slots=True)
class PathSource:
    """Files of the project or of the machine: `paths` are project-relative where inside it, globs allowed (`*`, `**`).

    One literal path (no glob) that is a file is lent as that file, else as its enclosing folder (single-file rule).
    """

    paths: tuple[str, ...]
    validate: bool = True


@dataclass(frozen=True, slots=True)
class VersionSource:
    """A registered dataset. Which version, and so which files, is looked up when a pipeline is planned."""

    name: str
    version: int | None = None
    """None: the latest, asked anew for every plan."""


Source = StepOutputSource | PathSource | VersionSource


@dataclass(frozen=True, slots=True)
class Registration:
    """A name under which a run keeps what it found, or made, as a version of a dataset."""

    name: str
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    new_version: bool = True
    """False: other content or another definition under the name is an error, no new version."""


TableFormat = Literal["parquet", "csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetUse:
    """What is done to the bytes of a source before a step gets them."""

    definition: DatasetDefinition | None = None
    """None: the registered version's own, as it is."""
    format: TableFormat = "parquet"
    """How a table is handed over, as one file."""
    expectations: tuple[Expectation, ...] = ()
    register: Registration | None = None
    version: str = ""
    """Which version a name was found to mean, for people: `flights v3`."""
    pinned: str = ""
    """Content of that version: anything else is an error, never a silent change."""
    pinned_operations: int = 0
    """How many of the operations are the version's own; those that follow were added by the pipeline."""

    @property
    def is_table(self) -> bool:
        return self.definition is None or self.definition.kind == "tabular"

    @property
    def chooses_files(self) -> bool:
        return self.definition is not None and self.definition.kind == "file" and bool(self.definition.operations)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    name: str
    source: Source
    mode: InputMode = "mount"
    path_on_compute: str | None = None
    use: DatasetUse | None = None
    """None: the step gets the files as they are. Over an output or a version the definition has no paths of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    name: str
    mode: Literal["mount", "upload"] = "mount"
    is_directory: bool | None = None
    """True: the folder is made before the step starts; None: the script may make a file or a folder."""
    allow_missing: bool = False
    path_on_compute: str | None = None
    datastore: str | None = None
    destination: str | None = None
    source_globs: str | None = None
    overwrite: bool = False
    """A delivery may replace what no run of this project put there."""
    pipeline_output_name: str | None = None
    register: Registration | None = None
    """After the step ended well, as a dataset."""
    register_as: DatasetDefinition | None = None
    """How it is read as a table then; None: as files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a step leases while it runs."""

    cpus: float = 1.0
    cpus_asked: bool = False
    """Its author gave the number: containers enforce it then."""
    memory_bytes: int = 0
    gpus: int = 0
    gpus_optional: bool = False
    """Where there are not so many, the step runs without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """Packages a step needs, as its author declared them. Whether they come as a folder or as an image is the executor's."""

    name: str = field(compare=False)
    """For people."""
    requirements_file: str | None = None
    """Project-relative where inside it; in pip's format."""
    conda_file: str | None = None
    packages: tuple[str, ...] = ()
    """Lines of pip's format, beside those of the files."""
    conda_packages: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    python_version: str | None = None
    image: str | None = None
    """What steps run in, or what packages are installed on top of; for compute targets of kind "docker" alone."""
    dockerfile: str | None = None
    """Builds that image; its folder is what it may copy from."""
    from_host: bool = False
    """The image is made of this machine's interpreter, whatever image a compute target names."""
    where: str = field(default="", compare=False)

    @property
    def installs(self) -> bool:
        """Whether there are packages to be installed, or a Python to be found."""
        return bool(
            self.requirements_file or self.conda_file or self.packages or self.conda_packages or self.channels or self.python_version
        )  # fmt: skip


StepKind = Literal["python", "command", "shell", "sql", "transfer"]
OWN_KINDS = ("sql", "transfer")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One step. `name` is unique in its pipeline (also after case folding)."""

    name: str
    kind: StepKind
    """python: `script` under the step's interpreter; command: `command` is argv; shell: one word for `/bin/sh -c`.

    sql: `script`, or the one word of `command`, is a SELECT over the inputs; transfer: the input is copied to the output. Both are
    run by programs of ours, under our interpreter.
    """
    script: str | None = None
    command: tuple[Word, ...] = ()
    arguments: tuple[Word, ...] = ()
    source_directory: str | None = None
    """Project-relative where inside it; None: no code besides the command."""
    inputs: tuple[InputSpec, ...] = ()
    outputs: tuple[OutputSpec, ...] = ()
    params: tuple[tuple[str, Part], ...] = ()
    """Environment variables AML_PARAMETER_<name>; sorted by name."""
    environment_variables: tuple[tuple[str, str], ...] = ()
    run_after: tuple[str, ...] = ()
    allow_reuse: bool = True
    version: str | None = None
    hash_paths: tuple[str, ...] = ()
    code: Literal["precise", "snapshot"] = "precise"
    compute: str | None = None
    python: str | None = None
    """The interpreter its author asked for: a path, a folder of an environment, or the name of a program."""
    environment: EnvironmentSpec | None = None
    resources: Resources = Resources()
    retries: int = 0
    retry_delay_seconds: float = 1.0
    timeout_seconds: float | None = None
    when: str | None = None
    """An expression over param("x") and metric("step", "name"); False skips the step and what needs it."""
    trigger: Literal["success", "always"] = "success"
    description: str = field(default="", compare=False)
    where: str = field(default="", compare=False)
    """`file:line` of its definition."""


@dataclass(frozen=True, kw_only=True)
class PipelineSpec:
    """What is asked of all steps at once is found once: a run of three steps out of thousands does not go through all of them."""

    name: str
    steps: tuple[StepSpec, ...]
    """In the order written; upstream steps pulled in by closure stand where they were found."""
    parameters: tuple[ParameterSpec, ...] = ()
    description: str = field(default="", compare=False)
    where: str = field(default="", compare=False)
    pulled_in: tuple[str, ...] = field(default=(), compare=False)
    """Steps the author did not list but others need."""

    @cached_property
    def by_name(self) -> Mapping[str, StepSpec]:
        """In the order of `steps`."""
        return {step.name: step for step in self.steps}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Where in `steps` each stands."""
        return {step.name: place for place, step in enumerate(self.steps)}

    @cached_property
    def uses_datastores(self) -> bool:
        """Whether an output goes to one."""
        return any(output.datastore for step in self.steps for output in step.outputs)

    @cached_property
    def registers_inputs(self) -> bool:
        """Whether a dataset that a step takes gets a version."""
        return any(item.use is not None and item.use.register is not None for step in self.steps for item in step.inputs)

    def in_order(self, names: Iterable[str]) -> list[str]:
        return sorted(names, key=self.places.__getitem__)

    def step(self, name: str) -> StepSpec:
        """Raises KeyError."""
        return self.by_name[name]

    def look_through(self) -> None:
        """Find now what is asked of all steps at once."""
        _ = self.by_name, self.places, self.uses_datastores, self.registers_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOptions:
    """How one run of a pipeline differs from the plain one."""

    experiment: str
    parameters: tuple[tuple[str, Json], ...] = ()
    """Values given for this run, sorted by name."""
    force: bool = False
    """regenerate_outputs: run everything; the results are reusable later."""
    force_steps: tuple[str, ...] = ()
    until_steps: tuple[str, ...] = ()
    """--step: these and what they need."""
    only_steps: tuple[str, ...] = ()
    """--only: these alone, on the results their upstream steps last had."""
    from_steps: tuple[str, ...] = ()
    """--from: these and everything below runs; the rest is taken as it is."""
    compute: str | None = None
    continue_on_step_failure: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    source: str = "cli"
    """Who asked: cli, sdk, tui, watch, api."""
    resumed_from: str | None = None
    request: tuple[str, ...] = ()
    """The words of the command line that mean exactly this run, for the next time they are typed; (): they would not."""
