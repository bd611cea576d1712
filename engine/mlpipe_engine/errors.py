"""Every exception the engine raises on purpose, as one tree.

MlpipeError
+- UsageError, ConfigError, PublishError                                           exit 2
+- DefinitionError                                                                 exit 3
|  +- PipelineLoadError, CycleError, UnknownInputError, DuplicateNameError, OutputConflictError, ParameterError
|  +- DefinitionValueError (ScriptNotFoundError, DatasetTimestampMissingError), DefinitionTypeError: ValueError and TypeError too, as in the Azure SDK
+- InputError (InputMissingError, DatasetNotFoundError, DatastoreError, RunNotFoundError), EnvironmentProblem,
|  ExecutorUnavailableError, StagingError, FilesystemError, LockTimeoutError       exit 4
+- ExecutionError (StepFailedError, RunFailedError)                                exit 1
+- StoreError (StoreDamagedError, StoreTooNewError, ArtifactCorruptedError)        exit 5

Data goes to `args` so that pickling keeps `str(error)` right; the text is made in `__str__`. A bug of ours is never an MlpipeError.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice a person most likely meant by `name`, or None when nothing is close."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


class MlpipeError(Exception):
    """What a person did, gave or has, that we cannot work with. `hint` is one imperative sentence."""

    exit_code = 1
    hint = ""
    where = ""
    """`file:line[:column]` when the cause stands in a file."""
    field = ""
    """Dotted path of the field in that file, or the keyword argument."""
    expected = ""

    def __init__(self, what: str = "", *, hint: str = "", where: str = "", field: str = "", expected: str = "") -> None:
        super().__init__(what, hint, where, field, expected)
        self.what = what
        if hint:
            self.hint = hint
        if where:
            self.where = where
        if field:
            self.field = field
        if expected:
            self.expected = expected

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))

    def __str__(self) -> str:
        text = self.what
        if self.expected:
            text += f"; expected {self.expected}"
        place = " ".join(part for part in (self.where, f"field {self.field}" if self.field else "") if part)
        return f"{place}: {text}" if place else text

    def document(self) -> dict[str, object]:
        """The value of `{"error": ...}` that `--json` prints."""
        return {
            "exit": self.exit_code,
            "what": self.what or str(self),
            "where": self.where,
            "field": self.field,
            "expected": self.expected,
            "hint": self.hint,
        }


def _rebuild(kind: type[MlpipeError], args: tuple[object, ...], state: dict[str, object]) -> MlpipeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(MlpipeError):
    """A command line that cannot be carried out."""

    exit_code = 2


class ConfigError(MlpipeError):
    """`mlpipe.toml` says something we do not understand."""

    exit_code = 2


class ProjectNotFoundError(ConfigError):
    """No `mlpipe.toml` here or in any parent folder."""

    hint = "Run `mlpipe-tui init` in the folder that should become the project."


class PublishError(MlpipeError):
    """Publishing or an endpoint refused."""

    exit_code = 2


class DefinitionError(MlpipeError):
    """A pipeline definition that cannot be run as written."""

    exit_code = 3


class DefinitionErrors(DefinitionError):
    """Several definition errors, reported together."""

    def __init__(self, errors: tuple[DefinitionError, ...]) -> None:
        super().__init__("\n".join(str(error) for error in errors), hint=errors[0].hint if errors else "")
        self.args = (errors,)
        self.errors = errors

    def document(self) -> dict[str, object]:
        return super().document() | {"errors": [error.document() for error in self.errors]}


class PipelineLoadError(DefinitionError):
    """The user's own file raised while it was loaded; carries the user's traceback with our frames cut away."""

    def __init__(
        self,
        file: str,
        user_traceback: str,
        summary: str,
        *,
        where: str = "",
        hint: str = "",
        field: str = "",
        expected: str = "",
    ) -> None:
        super().__init__(summary, where=where or file, hint=hint, field=field, expected=expected)
        self.args = (file, user_traceback, summary)
        self.file = file
        self.user_traceback = user_traceback


class CycleError(DefinitionError):
    """Steps that wait for each other; `path` starts and ends with the same step."""

    hint = "Remove one of these inputs, or split the step."

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__("Cycle detected: " + " -> ".join(path))
        self.args = (path,)
        self.path = path


class DefinitionValueError(DefinitionError, ValueError):
    """A value that means nothing where it stands; scripts of the Azure SDK expect a ValueError."""


class DatasetTimestampMissingError(DefinitionValueError):
    """A time filter on a dataset without a timestamp column."""


class DefinitionTypeError(DefinitionError, TypeError):
    """A keyword that does not exist, or a value of the wrong kind; a TypeError as well."""


class ScriptNotFoundError(DefinitionValueError):
    """The script of a step does not exist in its source directory."""

    hint = "script_name is relative to source_directory, which is relative to the project folder."


class UnknownInputError(DefinitionError):
    """A step asks for something that no step of the pipeline makes."""


class DuplicateNameError(DefinitionError):
    """Two things of one pipeline carry the same name (also after case folding or Unicode normalisation)."""


class OutputConflictError(DefinitionError):
    """Two steps claim one output."""


class ParameterError(DefinitionError):
    """A parameter value that is unknown, missing, of the wrong type or out of range."""


class InputError(MlpipeError):
    """Something a run needs from outside is missing or unfit."""

    exit_code = 4


class InputMissingError(InputError):
    """A declared input path does not exist or cannot be read."""


class DatasetNotFoundError(InputError):
    """No dataset of that name or version."""


class DatastoreError(InputError):
    """A datastore refused: unknown name, wrong credentials, nothing there, not made for that."""


class DatastoreUnreachableError(DatastoreError):
    """The network or the other side failed; the same request may go through later."""


class ObjectChangedError(DatastoreError):
    """Something in a datastore became another while it was read."""


class RunNotFoundError(InputError):
    """No run, step or output of that name."""


class SnapshotError(InputError):
    """A source directory or input tree that cannot be frozen (special file, unreadable, changed while read)."""


class EnvironmentProblem(MlpipeError):
    """An interpreter, image or requirement that is not there."""

    exit_code = 4


class ExecutorUnavailableError(MlpipeError):
    """The executor a step needs does not answer on this machine."""

    exit_code = 4


class StagingError(MlpipeError):
    """A step directory could not be laid out."""

    exit_code = 4


class FilesystemError(MlpipeError):
    """The operating system refused a file operation (disk full, read-only, too many open files, I/O error)."""

    exit_code = 4

    @classmethod
    def of(cls, error: OSError, doing: str, path: str | None = None) -> FilesystemError:
        """The one translation of OSError, used by every adapter at its edge."""
        import errno

        hints = {
            errno.ENOSPC: "Free some disk space, then run the same command again.",
            errno.EDQUOT: "Raise the disk quota or free some space, then run the same command again.",
            errno.EROFS: "Make the file system writable, then run the same command again.",
            errno.EACCES: "Change the owner or the mode of that path.",
            errno.EPERM: "Change the owner or the mode of that path.",
            errno.EMFILE: "Raise the limit of open files (ulimit -n), then run the same command again.",
            errno.ENFILE: "Close other programs, then run the same command again.",
            errno.EAGAIN: "Raise the limit of processes (ulimit -u) or end some, then run the same command again.",
            errno.ENOMEM: "Close other programs, or give the process more memory (ulimit -v).",
            errno.EFBIG: "Raise the limit of file sizes (ulimit -f), then run the same command again.",
            errno.EIO: "Check the disk; `mlpipe-tui doctor` tells what of the store is still whole.",
        }
        name = path or error.filename or ""
        if isinstance(name, bytes):
            name = os.fsdecode(name)
        reason = os.strerror(error.errno) if error.errno else str(error)
        return cls(f"cannot {doing}{' ' + str(name) if name else ''}: {reason}", hint=hints.get(error.errno or 0, ""))


class LockTimeoutError(MlpipeError):
    """Another process held a lock for too long; its message names the holder."""

    exit_code = 4


class ExecutionError(MlpipeError):
    """A run did not reach its end."""

    exit_code = 1


class StepFailedError(ExecutionError):
    """A step failed. Raised only where somebody waits for a run; inside the runner a failure is a value."""


class RunFailedError(ExecutionError):
    """A run failed or was canceled. The Azure SDK calls it ActivityFailedException."""


class StoreError(MlpipeError):
    """The project's store cannot be used."""

    exit_code = 5


class StoreDamagedError(StoreError):
    """The store's file is not what we wrote."""

    hint = "Run `mlpipe-tui doctor --rebuild`: it keeps the damaged file aside and makes a new one from what is on disk."


class StoreTooNewError(StoreError):
    """A newer version wrote this store; nothing was changed."""

    hint = "Install the newer mlpipe-tui, or use another project folder."

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(f"{path} has schema version {found}; this mlpipe-tui knows versions up to {known}")
        self.args = (path, found, known)


class ArtifactCorruptedError(StoreError):
    """A stored artifact no longer has the bytes its digest names; it was moved to quarantine."""
