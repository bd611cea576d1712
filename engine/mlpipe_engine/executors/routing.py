"""One executor for a run whose steps run in different ways: each task goes to the executor of its kind.

Implements ports.Executor. Containers are only spoken to once a task asks for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlpipe_engine.model.execution import Finished, StepTask

if TYPE_CHECKING:
    from mlpipe_engine.executors.containers.executor import DockerExecutor
    from mlpipe_engine.executors.process import ProcessExecutor


class RoutingExecutor:
    """`wake` is called from other threads; `processes` is woken by it."""

    def __init__(self, processes: ProcessExecutor, wake: Callable[[], None]) -> None:
        self._processes = processes
        self._wake = wake
        self._containers: DockerExecutor | None = None

    @property
    def containers(self) -> DockerExecutor:
        if self._containers is None:
            from mlpipe_engine.executors.containers.executor import DockerExecutor

            self._containers = DockerExecutor(self._wake)
        return self._containers

    def start(self, task: StepTask) -> None:
        (self._processes if task.container is None else self.containers).start(task)

    def wait(self, timeout_seconds: float) -> list[Finished]:
        found = self._of_containers()
        return found or self._processes.wait(timeout_seconds) or self._of_containers()

    def _of_containers(self) -> list[Finished]:
        return self._containers.wait(0.0) if self._containers is not None else []

    def cancel(self, attempt_id: str) -> None:
        self._processes.cancel(attempt_id)
        if self._containers is not None:
            self._containers.cancel(attempt_id)

    def close(self) -> None:
        if self._containers is not None:
            self._containers.close()
        self._processes.close()
