"""Steps without a script of their own: a query over the inputs, and a verified copy. Programs of ours carry them out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError, nearest
from mlpipe_engine.model.spec import StepSpec
from mlpipe_engine.sdk.bindings import short
from mlpipe_engine.sdk.datastore import DATA_REFERENCE, DataPath
from mlpipe_engine.sdk.keywords import caller, strict
from mlpipe_engine.sdk.steps import Relative, Step
from mlpipe_engine.sdk.values import Output, OutputFileDatasetConfig

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL)
"""What of a query holds no $names: texts, identifiers, comments."""
_BOUND = re.compile(r"(?<![\w$])\$([A-Za-z_]\w*)")
_FILLED = re.compile(r"@@(\w+)@@")


@strict
class SqlStep(Step):
    """One SELECT in DuckDB's SQL over the inputs, each of which is a view of its name; the result becomes the output.

    `$name` is the value of a parameter, bound and never part of the text. `@@name@@` is an input, or a parameter's text as it
    stands. Inputs are tables: tabular datasets, Parquet, CSV, JSON lines. The query reads nothing but them.

    >>> from mlpipe_engine import PipelineData
    >>> late = PipelineData("late")
    >>> step = SqlStep("SELECT 1 AS one WHERE 2 > $least", name="late", output=late, params={"least": 1})
    >>> step.kind, [output.name for output in step.outputs]
    ('sql', ['late'])
    """

    kind = "sql"

    def __init__(
        self, sql: str | None = None, name: str | None = None, inputs: Sequence[object] | None = None, output: object = None,
        params: Mapping[str, object] | None = None, script_name: str | os.PathLike[str] | None = None,
        source_directory: str | os.PathLike[str] | None = None, output_format: str = "parquet", compute_target: object = None,
        allow_reuse: bool = True, version: str | None = None, hash_paths: Sequence[str] | None = None, cpus: float | None = None,
        memory: int | str | None = None, retries: int = 0, retry_delay_seconds: float = 1.0, timeout_seconds: float | None = None,
        when: str | None = None, trigger: str = "success", outputs: Sequence[object] | None = None,
    ) -> None:  # fmt: skip
        given = [*([output] if output is not None else []), *_listed(outputs, name)]
        if (sql is None) == (script_name is None):
            raise _wrong(name, "it needs either sql or script_name, the file that holds it", "sql")
        if len(given) != 1:
            raise _wrong(name, f"it has {len(given)} outputs; a query has one result", "output")
        if output_format not in ("parquet", "csv"):
            raise _wrong(name, f"output_format={output_format!r}; expected 'parquet' or 'csv'", "output_format")
        if sql is not None and (not isinstance(sql, str) or not sql.strip()):
            raise _wrong(name, f"sql={short(sql)}; expected the text of a SELECT", "sql")
        script = None if script_name is None else os.fspath(script_name)
        super().__init__(
            name=name, default_name=script or "sql", script=script, command=[] if sql is None else [_with_views(sql)],
            arguments=[output_format, given[0]], compute_target=compute_target, runconfig=None, runconfig_pipeline_params=None,
            inputs=inputs, outputs=given, params=params, source_directory=source_directory, allow_reuse=allow_reuse, version=version,
            hash_paths=hash_paths, cpus=cpus, memory=memory, gpus=0, retries=retries, retry_delay_seconds=retry_delay_seconds,
            timeout_seconds=timeout_seconds, when=when, trigger=trigger, environment_variables=None, code="precise", python=None,
            environment=None,
        )  # fmt: skip
        if sql is not None:
            self._check_names(sql)

    def _check_names(self, sql: str) -> None:
        """A misspelt name is found before anything runs. What a file holds is found when it runs."""
        inputs = [*self._bindings.inputs, *(name for name, _ in self._bindings.params)]
        params = [name for name, _ in self._bindings.params]
        plain = _QUOTED.sub(" ", sql.replace(DATA_REFERENCE, ""))
        asked = [(f"${name}", name, params, "no parameter of the step") for name in _BOUND.findall(plain)]
        asked += [(f"@@{name}@@", name, inputs, "neither an input nor a parameter of the step") for name in _FILLED.findall(sql)]
        for shown, name, known, what in asked:
            if name not in known:
                close = nearest(name, known)
                more = f"; did you mean {close!r}?" if close else f"; known: {', '.join(known) or 'none'}"
                raise self._bindings.wrong(f"{shown} is {what}{more}", hint="List it in params or inputs.")

    def spec(self, relative: Relative, default_source: str | None) -> StepSpec:
        return super().spec(relative, default_source if self.script is not None else None)


@strict
class AdlaStep(SqlStep):
    """The Azure SDK's step for U-SQL, on DuckDB. It differs: the script is one SELECT in DuckDB's SQL, not U-SQL.

    `@@name@@` of an input is a view, not a path; there is no EXTRACT and no OUTPUT: the result goes to the one output.
    `degree_of_parallelism` is the number of cores; `priority` and `runtime_version` are taken and not used.

    >>> from mlpipe_engine import Dataset, PipelineData
    >>> trips = Dataset.File.from_files("trips.csv").as_named_input("trips")
    >>> AdlaStep("sum.sql", name="sum", inputs=[trips], outputs=[PipelineData("sums")], source_directory="sql").kind
    'sql'
    """

    def __init__(
        self, script_name: str | os.PathLike[str], name: str | None = None, inputs: Sequence[object] | None = None,
        outputs: Sequence[object] | None = None, params: Mapping[str, object] | None = None, degree_of_parallelism: int | None = None,
        priority: int | None = None, runtime_version: str | None = None, compute_target: object = None,
        source_directory: str | os.PathLike[str] | None = None, allow_reuse: bool = True, version: str | None = None,
        hash_paths: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            name=name, script_name=script_name, inputs=inputs, outputs=outputs, params=params, source_directory=source_directory,
            compute_target=compute_target, allow_reuse=allow_reuse, version=version, hash_paths=hash_paths, cpus=degree_of_parallelism,
        )  # fmt: skip


@strict
class DataTransferStep(Step):
    """A copy of data to another place: a dataset, a path of a datastore or an output, to an output or a path of a datastore.

    Every file is read back and compared by hash. A tabular dataset, such as a SQL query, arrives as one Parquet file.

    >>> from mlpipe_engine import Dataset, PipelineData
    >>> step = DataTransferStep("copy", Dataset.File.from_files("data.csv").as_named_input("data"), PipelineData("copied"))
    >>> step.kind
    'transfer'
    """

    kind = "transfer"

    def __init__(
        self, name: str, source_data_reference: object = None, destination_data_reference: object = None, compute_target: object = None,
        source_reference_type: str | None = None, destination_reference_type: str | None = None, allow_reuse: bool = True,
        retries: int = 0, retry_delay_seconds: float = 1.0, timeout_seconds: float | None = None, version: str | None = None,
    ) -> None:  # fmt: skip
        for field, value in (("source", source_reference_type), ("destination", destination_reference_type)):
            if value not in (None, "file", "directory"):
                raise DefinitionValueError(
                    f"Step [{name}]: {field}_reference_type={value!r}", where=caller(), field=f"{field}_reference_type",
                    expected="'file', 'directory' or nothing: what lies there is looked at",
                )  # fmt: skip
        if source_data_reference is None:
            raise DefinitionValueError(f"Step [{name}]: it needs a source_data_reference", where=caller())
        output = _destination(destination_data_reference, name)
        super().__init__(
            name=name, default_name="transfer", script=None, command=[], arguments=[source_data_reference, output],
            compute_target=compute_target, runconfig=None, runconfig_pipeline_params=None, inputs=[source_data_reference],
            outputs=[output], params=None, source_directory=None, allow_reuse=allow_reuse, version=version, hash_paths=None, cpus=None,
            memory=None, gpus=0, retries=retries, retry_delay_seconds=retry_delay_seconds, timeout_seconds=timeout_seconds, when=None,
            trigger="success", environment_variables=None, code="precise", python=None, environment=None,
        )  # fmt: skip

    def spec(self, relative: Relative, default_source: str | None) -> StepSpec:
        return super().spec(relative, None)

    def get_output(self) -> Output:
        """The output that other steps may take as their input: what was copied."""
        return self.outputs[0]


def _destination(given: object, name: str) -> Output:
    if isinstance(given, DataPath):
        label = re.sub(r"\W+", "_", given.data_reference_name or name).strip("_") or "transferred"
        label = f"_{label}" if label[0].isdigit() else label
        return OutputFileDatasetConfig(name=label, destination=(given.datastore, given.path_on_datastore))
    if isinstance(given, Output):
        return given
    raise DefinitionTypeError(
        f"Step [{name}]: destination_data_reference={short(given)}", where=caller(), field="destination_data_reference",
        expected="datastore.path('folder'), PipelineData or OutputFileDatasetConfig",
    )  # fmt: skip


def _with_views(sql: str) -> str:
    """An input that was formatted into the text, as in f"SELECT * FROM {flights}", is its view."""
    return re.sub(re.escape(DATA_REFERENCE) + r"(\w+)", r"@@\1@@", sql)


def _listed(outputs: object, name: str | None) -> list[object]:
    if outputs is None:
        return []
    if isinstance(outputs, str | bytes | Mapping) or not isinstance(outputs, Sequence):
        raise _wrong(name, f"outputs={short(outputs)}; expected a list", "outputs")
    return list(outputs)


def _wrong(name: str | None, what: str, field: str) -> DefinitionValueError:
    return DefinitionValueError(f"SqlStep [{name or 'sql'}]: {what}", where=caller(), field=field)
