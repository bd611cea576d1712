"""An Experiment: a named group of runs. It exists once it has a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from mlpipe_engine.model.spec import Json, SubmitOptions
from mlpipe_engine.sdk import loading
from mlpipe_engine.sdk.keywords import strict
from mlpipe_engine.sdk.pipeline import Pipeline

if TYPE_CHECKING:
    from mlpipe_engine.sdk.runs import PipelineRun
    from mlpipe_engine.sdk.workspace import Workspace


class Experiment:
    """Where runs are grouped under a name.

    >>> import tempfile
    >>> from mlpipe_engine import Workspace
    >>> Experiment(Workspace.create("demo", path=tempfile.mkdtemp()), "first_try").name
    'first_try'
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9][\w\-]{0,254}", name, re.ASCII):
            raise ValueError(
                f"invalid experiment name {name!r}: 1 to 255 letters, digits, '_' or '-', starting with a letter or digit"
            )
        self.workspace = workspace
        self.name = name

    @strict
    def submit(
        self, config: Pipeline, tags: Mapping[str, str] | None = None, pipeline_parameters: Mapping[str, object] | None = None,
        continue_on_step_failure: bool = False, regenerate_outputs: bool = False, parent_run_id: str | None = None,
    ) -> PipelineRun:  # fmt: skip
        """Start a run of a pipeline and return at once; the run goes on when this process ends.

        Raises DefinitionError, InputError and their like before anything starts.
        """
        from mlpipe_engine.sdk.runs import PipelineRun

        if not isinstance(config, Pipeline):
            raise TypeError(f"cannot submit a {type(config).__name__}; expected a Pipeline")
        if loading.active:
            return cast("PipelineRun", loading.note(f"Experiment({self.name!r}).submit"))
        options = SubmitOptions(
            experiment=self.name, parameters=tuple(sorted((name, _json(value)) for name, value in (pipeline_parameters or {}).items())),
            force=bool(regenerate_outputs), continue_on_step_failure=bool(continue_on_step_failure),
            tags=tuple(sorted((str(key), str(value)) for key, value in (tags or {}).items())), source="sdk",
            resumed_from=parent_run_id,
        )  # fmt: skip
        spec = config.to_spec(os.path.splitext(os.path.basename(config.where.rpartition(":")[0]))[0] or None)
        return PipelineRun(self.workspace, self.workspace.engine.submit(spec, options))

    def get_runs(self) -> Iterator[PipelineRun]:
        """Newest first."""
        from mlpipe_engine.sdk.runs import PipelineRun

        before: int | None = None
        while page := self.workspace.engine.runs(limit=100, before=before, experiment=self.name):
            yield from (PipelineRun(self.workspace, run.id) for run in page)
            before = page[-1].number

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r})"


def _json(value: object) -> Json:
    return tuple(_json(member) for member in value) if isinstance(value, list | tuple) else cast(Json, value)
