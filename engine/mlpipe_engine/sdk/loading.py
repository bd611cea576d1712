"""Whether a definition file is only being loaded, and what it tried to do meanwhile.

The loader process sets `active`; then submit, publish, upload, register and create are noted instead of done.
"""

from __future__ import annotations

from typing import NoReturn

from mlpipe_engine.errors import DefinitionError

active = False
effects: list[str] = []
"""One line for each thing that was not done."""


class Pending:
    """Stands for the result of something that was not done; any use of it is an error with the way out."""

    def __init__(self, what: str) -> None:
        object.__setattr__(self, "_what", what)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DefinitionError(
            f"{self._what} did not happen, because this file is only being loaded; its result has no {name!r} yet",
            hint='Move it below `if __name__ == "__main__":`.',
        )

    def wait_for_completion(self, *_: object, **__: object) -> str:
        """Waiting for what never started ends at once: scripts written for the Azure SDK do it at module level."""
        return "NotStarted"

    def __str__(self) -> str:
        return f"<{self._what}: not done while loading>"


def note(what: str) -> Pending:
    effects.append(what)
    return Pending(what)
