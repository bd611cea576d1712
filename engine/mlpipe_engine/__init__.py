"""mlpipe_engine: pipelines of machine-learning steps, run locally, reused when nothing changed.

The public names below are imported when first used (PEP 562), so that `import mlpipe_engine` costs nothing.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "Workspace": "sdk.workspace",
    "Datastore": "sdk.datastore",
    "Dataset": "sdk.dataset",
    "FileDataset": "sdk.dataset",
    "TabularDataset": "sdk.tabular",
    "DataType": "sdk.tabular",
    "PromoteHeadersBehavior": "sdk.tabular",
    "Pipeline": "sdk.pipeline",
    "StepSequence": "sdk.pipeline",
    "PipelineData": "sdk.values",
    "OutputFileDatasetConfig": "sdk.values",
    "PipelineParameter": "sdk.values",
    "PythonScriptStep": "sdk.steps",
    "CommandStep": "sdk.steps",
    "SqlStep": "sdk.data_steps",
    "AdlaStep": "sdk.data_steps",
    "DataTransferStep": "sdk.data_steps",
    "RunConfiguration": "sdk.environment",
    "Environment": "sdk.environment",
    "CondaDependencies": "sdk.environment",
    "Experiment": "sdk.experiment",
    "PipelineRun": "sdk.runs",
    "StepRun": "sdk.runs",
    "Run": "",
    "MlpipeError": "errors",
    "ConfigError": "errors",
    "DefinitionError": "errors",
    "InputError": "errors",
    "ExecutionError": "errors",
    "RunFailedError": "errors",
    "StoreError": "errors",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOME[name]}" if _HOME[name] else "mlpipe_run"
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return __all__
