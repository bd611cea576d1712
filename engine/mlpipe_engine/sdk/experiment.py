"""An Experiment: a named group of runs. It exists once it has a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError
from mlpipe_engine.model.spec import SubmitOptions
from mlpipe_engine.model.text import clean
from mlpipe_engine.sdk import loading
from mlpipe_engine.sdk.keywords import caller, calling_frame, strict
from mlpipe_engine.sdk.pipeline import Pipeline, default_name
from mlpipe_engine.sdk.values import frozen

if TYPE_CHECKING:
    from mlpipe_engine.sdk.runs import PipelineRun
    from mlpipe_engine.sdk.workspace import Workspace


@strict
class Experiment:
    """Where runs are grouped under a name.

    >>> import tempfile
    >>> from mlpipe_engine import Workspace
    >>> Experiment(Workspace.create("demo", path=tempfile.mkdtemp()), "first_try").name
    'first_try'
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9][\w\-]{0,254}", name, re.ASCII):
            raise DefinitionValueError(
                f"invalid experiment name {name!r}: 1 to 255 letters, digits, '_' or '-', starting with a letter or digit",
                where=caller(),
            )
        self.workspace = workspace
        self.name = name

    def submit(
        self, config: Pipeline, tags: Mapping[str, str] | None = None, pipeline_parameters: Mapping[str, object] | None = None,
        continue_on_step_failure: bool = False, regenerate_outputs: bool = False, parent_run_id: str | None = None,
    ) -> PipelineRun:  # fmt: skip
        """Start a run of a pipeline and return at once; the run goes on when this process ends.

        Raises DefinitionError, InputError and their like before anything starts.
        """
        from mlpipe_engine.sdk.runs import PipelineRun

        if not isinstance(config, Pipeline):
            raise DefinitionTypeError(f"cannot submit a {type(config).__name__}", where=caller(), expected="a Pipeline")
        if loading.active:
            return cast("PipelineRun", loading.note(f"Experiment({self.name!r}).submit"))
        engine = self.workspace.engine
        parent = (("parent_run_id", engine.find_run(parent_run_id).id),) if parent_run_id is not None else ()
        options = SubmitOptions(
            experiment=self.name,
            parameters=tuple(sorted((str(name), frozen(value, str(name))) for name, value in (pipeline_parameters or {}).items())),
            force=bool(regenerate_outputs), continue_on_step_failure=bool(continue_on_step_failure),
            tags=tuple(sorted((str(key), str(value)) for key, value in (tags or {}).items())), properties=parent, source="sdk",
        )  # fmt: skip
        run_id = engine.submit(config.to_spec(_name_of(config)), options)
        for warning in engine.warnings:
            print(f"mlpipe-tui: warning: {clean(warning)}", file=sys.stderr)
        return PipelineRun(self.workspace, run_id)

    def get_runs(self) -> Iterator[PipelineRun]:
        """Newest first."""
        from mlpipe_engine.sdk.runs import PipelineRun

        before: int | None = None
        while page := self.workspace.engine.runs(limit=100, before=before, experiment=self.name):
            yield from (PipelineRun(self.workspace, run.id) for run in page)
            before = page[-1].number

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r})"


def _name_of(pipeline: Pipeline) -> str:
    """As the loader would call it. A cell of a notebook is no file, so there the variable alone counts."""
    frame = calling_frame()
    file = pipeline.where.rpartition(":")[0]
    stem = os.path.splitext(os.path.basename(file))[0] if os.path.isfile(file) else ""
    return default_name(pipeline, {**frame.f_globals, **frame.f_locals} if frame is not None else {}, stem)
