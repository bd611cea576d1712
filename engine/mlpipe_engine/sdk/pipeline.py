"""A Pipeline: steps and everything they need, frozen into a spec. Building it starts nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Union

from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError, ScriptNotFoundError, nearest
from mlpipe_engine.model.spec import ParameterSpec, PipelineSpec, StepSpec
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.steps import Relative, Step
from mlpipe_engine.sdk.workspace import Workspace

if TYPE_CHECKING:
    from mlpipe_engine.sdk.datastore import AbstractDatastore
    from mlpipe_engine.sdk.runs import PipelineRun


@strict
class StepSequence:
    """Steps that run one after the other, although no data flows between them. Members may be lists: those run in parallel.

    >>> from mlpipe_engine import CommandStep
    >>> first, second = CommandStep(["true"], name="first"), CommandStep(["true"], name="second")
    >>> [step.name for step in StepSequence([first, second])]
    ['first', 'second']
    """

    def __init__(self, steps: Sequence[Nested] | None = None) -> None:
        self.steps = list(steps or ())
        before: list[Step] = []
        for member in self.steps:
            current = _flat(member)
            for step in current:
                for earlier in before:
                    step.run_after(earlier)
            before = current

    def __iter__(self) -> Iterator[Step]:
        return iter(_flat(self.steps))


Nested = Union[Step, StepSequence, Sequence["Nested"]]


def _flat(nested: Nested) -> list[Step]:
    found: dict[Step, None] = {}
    pending: list[Nested] = [nested]  # what comes next stands last
    while pending:
        item = pending.pop()
        if isinstance(item, Step):
            found[item] = None
        elif isinstance(item, StepSequence):
            pending.extend(reversed(item.steps))
        elif isinstance(item, list | tuple):
            pending.extend(reversed(item))
        else:
            raise DefinitionTypeError(
                f"a {type(item).__name__} is no step", where=caller(), field="steps",
                expected="steps, lists of steps or a StepSequence",
            )  # fmt: skip
    return list(found)


@strict
class Pipeline:
    """Steps as one unit that can be validated, planned, submitted.

    Upstream steps that were not listed are pulled in unless `resolve_closure` is off. `name` defaults to the variable's.

    >>> import tempfile
    >>> from mlpipe_engine import CommandStep, PipelineData, Workspace
    >>> names = PipelineData("names")
    >>> collect = CommandStep("ls > $names", name="collect", outputs=[names])
    >>> count = CommandStep(["wc", "-l", names], name="count")
    >>> pipeline = Pipeline(Workspace.create("demo", path=tempfile.mkdtemp()), steps=[count])
    >>> [step.name for step in pipeline.steps], pipeline.validate()
    (['count', 'collect'], [])
    """

    def __init__(
        self, workspace: Workspace, steps: Nested, description: str | None = None, default_datastore: AbstractDatastore | None = None,
        default_source_directory: str | os.PathLike[str] | None = None, resolve_closure: bool = True, name: str | None = None,
    ) -> None:  # fmt: skip
        self.workspace = workspace
        self.where = caller()
        if not isinstance(workspace, Workspace):
            raise DefinitionTypeError(f"workspace is a {type(workspace).__name__}", where=self.where, expected="a Workspace")
        if name is not None and (not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 200):
            raise DefinitionValueError(
                f"name is {name!r}", where=self.where, field="name", expected="1 to 200 printable characters"
            )
        self.name = name
        self.description = description or ""
        self._default_source = os.fspath(default_source_directory) if default_source_directory is not None else None
        listed = _flat(steps)
        self.steps, self._pulled_in = _closure(listed) if resolve_closure else (listed, ())
        self._parameters = _parameters(self.steps)
        self._relative = Relative(workspace.root)
        self._specs = tuple(step.spec(self._relative, self._default_source) for step in self.steps)
        for spec in self._specs:
            self._find_script(spec)

    def _find_script(self, step: StepSpec) -> None:
        if step.script is None or step.source_directory is None:
            return
        path = os.path.normpath(os.path.join(self.workspace.root, step.source_directory, step.script))
        folder = os.path.normpath(os.path.join(self.workspace.root, step.source_directory))
        if not path.startswith(folder.rstrip(os.sep) + os.sep):
            raise ScriptNotFoundError(
                f"Step [{step.name}]: script {step.script} lies outside its source directory {folder}", where=step.where
            )
        if not os.path.isfile(path):
            close = nearest(
                os.path.basename(path), os.listdir(os.path.dirname(path)) if os.path.isdir(os.path.dirname(path)) else []
            )
            raise ScriptNotFoundError(
                f"Step [{step.name}]: script not found at: {path}" + (f"; did you mean {close!r}?" if close else ""),
                where=step.where,
            )

    def to_spec(self, name: str | None = None) -> PipelineSpec:
        """What is planned and run; reads nothing."""
        return PipelineSpec(
            name=self.name or name or "pipeline", steps=self._specs, parameters=self._parameters, description=self.description,
            where=self.where, pulled_in=self._pulled_in,
        )  # fmt: skip

    def validate(self) -> list[dict[str, object]]:
        """Every problem of the graph, as documents; an empty list means it can be submitted."""
        from mlpipe_engine.planning.graph import validate

        return [error.document() | {"type": type(error).__name__, "message": str(error)} for error in validate(self.to_spec())]

    def submit(
        self, experiment_name: str, pipeline_parameters: Mapping[str, object] | None = None, continue_on_step_failure: bool = False,
        regenerate_outputs: bool = False, parent_run_id: str | None = None, tags: Mapping[str, str] | None = None,
    ) -> PipelineRun:  # fmt: skip
        """Start a run and return at once; it goes on when this process ends. `regenerate_outputs=True` runs every step."""
        from mlpipe_engine.sdk.experiment import Experiment

        return Experiment(self.workspace, experiment_name).submit(
            self, tags=tags, pipeline_parameters=pipeline_parameters, continue_on_step_failure=continue_on_step_failure,
            regenerate_outputs=regenerate_outputs, parent_run_id=parent_run_id,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Pipeline(name={self.name!r}, steps={[step.name for step in self.steps]})"


def _closure(listed: list[Step]) -> tuple[list[Step], tuple[str, ...]]:
    found = dict.fromkeys(listed)
    queue = list(listed)
    for step in queue:  # grows while it is read
        for upstream in step.upstream:
            if upstream not in found:
                found[upstream] = None
                queue.append(upstream)
    return queue, tuple(step.name for step in queue[len(listed) :])


def _parameters(steps: list[Step]) -> tuple[ParameterSpec, ...]:
    known: dict[str, ParameterSpec] = {}
    for step in steps:
        for name, parameter in step.parameters.items():
            if known.setdefault(name, parameter.spec()) != parameter.spec():
                raise DefinitionValueError(
                    f"Parameter [{name}] is defined more than once, with different defaults or types", where=step.where
                )
    return tuple(known[name] for name in sorted(known))


def default_name(pipeline: Pipeline, namespace: Mapping[str, object], stem: str) -> str:
    """The name of a pipeline that was given none: its variable, or its file where the variable says nothing.

    One rule for a script that submits and for a definition that is loaded, so that both have one history.
    """
    found: dict[int, str] = {}
    for variable, value in namespace.items():
        if isinstance(value, Pipeline):
            found.setdefault(id(value), variable)
    variable = found.get(id(pipeline), "")
    return (
        variable if variable and not (stem and len(found) == 1 and variable in ("pipeline", "pipeline1")) else stem or "pipeline"
    )
