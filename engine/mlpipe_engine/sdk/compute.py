"""ComputeTarget and AmlCompute: where steps run, in the words of the Azure SDK.

A cluster is a pool of this machine: its nodes are slots, and as many of its steps run at once. Nothing is allocated, so everything
is done at once; a node counts as there while its slot is used, and for a while after.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlpipe_engine.config import pools
from mlpipe_engine.config.pools import PoolFile
from mlpipe_engine.config.project import load_config
from mlpipe_engine.errors import ComputeTargetException, nearest
from mlpipe_engine.executors.slots import Slots
from mlpipe_engine.sdk.keywords import caller, strict

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig
    from mlpipe_engine.sdk.workspace import Workspace

_RESERVED = ("amlcompute", "local", "docker", "containerinstance")


@dataclass(frozen=True, kw_only=True)
class ProvisioningConfiguration:
    """What `AmlCompute.provisioning_configuration` makes."""

    vm_size: str
    vm_priority: str
    min_nodes: int
    max_nodes: int
    idle_seconds_before_scaledown: float
    description: str = ""


class ComputeTarget:
    """A compute target of a workspace, by its name. Raises ComputeTargetException when there is none.

    >>> import tempfile
    >>> from mlpipe_engine import Workspace
    >>> ws = Workspace.create("demo", path=tempfile.mkdtemp())
    >>> ComputeTarget(ws, "local").kind
    'process'
    """

    type = "Local"

    def __new__(cls, workspace: Workspace, name: str) -> ComputeTarget:
        config = _config(workspace, name)
        made = object.__new__(AmlCompute if config.max_nodes else cls if cls is not AmlCompute else ComputeTarget)
        made.workspace, made.name, made.config = workspace, name, config
        return made

    workspace: Workspace
    name: str
    config: ComputeConfig

    @property
    def kind(self) -> str:
        """ "process" or "docker"."""
        return self.config.kind

    @staticmethod
    def create(workspace: Workspace, name: str, provisioning_configuration: object) -> AmlCompute:
        """Make a pool, or change the one of that name. It is ready when this returns."""
        _refuse_in_step("created")
        if not isinstance(provisioning_configuration, ProvisioningConfiguration):
            found = type(provisioning_configuration).__name__
            raise ComputeTargetException(
                f"provisioning_configuration is a {found}", where=caller(), expected="AmlCompute.provisioning_configuration(...)"
            )
        if not isinstance(name, str) or not pools.NAME.fullmatch(name) or name in _RESERVED:
            wanted = "letters, digits, '_', '.', '-', and none of " + ", ".join(_RESERVED)
            raise ComputeTargetException(f"a compute target cannot be called {name!r}", where=caller(), expected=wanted)
        taken = next((item for item in load_config(workspace.root).computes if item.name == name and not item.made), None)
        if taken is not None:
            raise ComputeTargetException(
                f"mlpipe.toml has a compute target {name!r} already", where=caller(), hint=f"Change the table [compute.{name}] there."
            )  # fmt: skip
        asked, now = provisioning_configuration, _now()
        known = next((pool for pool in pools.read_pools(workspace.root) if pool.name == name), None)
        pool = PoolFile(
            name=name, kind=known.kind if known else _kind(), vm_size=asked.vm_size, priority=asked.vm_priority, min_nodes=asked.min_nodes,
            max_nodes=asked.max_nodes, idle_seconds=asked.idle_seconds_before_scaledown, description=asked.description,
            created_at=known.created_at if known else now, changed_at=now,
        )  # fmt: skip
        if known is None or replace(known, changed_at=now) != pool:
            pools.write_pool(workspace.root, pool)
        made = ComputeTarget(workspace, name)
        assert isinstance(made, AmlCompute)
        return made

    @staticmethod
    def attach(workspace: Workspace, name: str, attach_configuration: object) -> ComputeTarget:
        _refuse_in_step("attached")
        raise ComputeTargetException(
            "only pools of this machine can be made here", where=caller(),
            hint="For another machine's container engine add a table with engine = \"ssh://host\" to mlpipe.toml.",
        )  # fmt: skip

    def delete(self) -> None:
        """Take the pool away. Raises ComputeTargetException for a target of the project file."""
        _refuse_in_step("deleted")
        if not self.config.made:
            raise ComputeTargetException(
                f"compute target {self.name!r} is not one that was created", where=caller(), hint=f"Remove [compute.{self.name}] from mlpipe.toml."
            )  # fmt: skip
        pools.remove_pool(self.workspace.root, self.name)

    def wait_for_completion(
        self, show_output: bool = False, timeout_in_minutes: float = 25, is_delete_operation: bool = False
    ) -> None:
        """Returns at once: there is nothing to wait for."""
        if show_output:
            print("Succeeded")

    def get_status(self) -> AmlComputeStatus | None:
        return None

    def serialize(self) -> dict[str, Any]:
        return {"name": self.name, "computeType": self.type, "kind": self.kind, "provisioningState": "Succeeded"}

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, kind={self.kind!r})"


@strict
class AmlCompute(ComputeTarget):
    """A pool with a number of nodes.

    >>> AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4).max_nodes
    4
    """

    type = "AmlCompute"

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "", vm_priority: str = "dedicated", min_nodes: int = 0, max_nodes: int | None = None,
        idle_seconds_before_scaledown: float | None = None, tags: object = None, description: str | None = None, location: object = None,
    ) -> ProvisioningConfiguration:  # fmt: skip
        """Nodes are slots: steps of the target that run at once. `vm_priority` "lowpriority" starts after the others.

        A size that has GPUs gives its steps as many, where this machine has them.
        """
        if max_nodes is None:
            raise ComputeTargetException(
                "max nodes count is mandatory", where=caller(), field="max_nodes", expected="a whole number, 1 or more"
            )
        for name, value in (("min_nodes", min_nodes), ("max_nodes", max_nodes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ComputeTargetException(
                    f"{name} is {value!r}", where=caller(), field=name, expected="a whole number, 0 or more"
                )
        if max_nodes < max(min_nodes, 1):
            raise ComputeTargetException(
                f"max_nodes is {max_nodes} and min_nodes {min_nodes}", where=caller(), expected="max_nodes at least 1 and not below min_nodes"
            )  # fmt: skip
        if vm_priority not in ("dedicated", "lowpriority"):
            raise ComputeTargetException(
                f"vm_priority is {vm_priority!r}", where=caller(), expected="'dedicated' or 'lowpriority'"
            )
        idle = 1800.0 if idle_seconds_before_scaledown is None else idle_seconds_before_scaledown
        if isinstance(idle, bool) or not isinstance(idle, int | float) or idle < 0:
            raise ComputeTargetException(
                f"idle_seconds_before_scaledown is {idle!r}", where=caller(), expected="a number of seconds, 0 or more"
            )  # fmt: skip
        return ProvisioningConfiguration(
            vm_size=str(vm_size), vm_priority=vm_priority, min_nodes=min_nodes, max_nodes=max_nodes, idle_seconds_before_scaledown=float(idle),
            description=description or "",
        )  # fmt: skip

    @property
    def vm_size(self) -> str:
        return self._pool().vm_size

    def wait_for_completion(  # type: ignore[override]
        self, show_output: bool = False, min_node_count: int | None = None, timeout_in_minutes: float = 25, is_delete_operation: bool = False,
    ) -> None:  # fmt: skip
        """Returns at once, never raises: a pool has as many nodes as it needs, when it needs them."""
        if show_output:
            print("Succeeded\nAmlCompute wait for completion finished\n\nMinimum number of nodes requested have been provisioned")

    def update(
        self, min_nodes: int | None = None, max_nodes: int | None = None, idle_seconds_before_scaledown: float | None = None
    ) -> None:  # fmt: skip
        pool = self._pool()
        asked = AmlCompute.provisioning_configuration(
            vm_size=pool.vm_size, vm_priority=pool.priority, min_nodes=pool.min_nodes if min_nodes is None else min_nodes,
            max_nodes=pool.max_nodes if max_nodes is None else max_nodes, description=pool.description,
            idle_seconds_before_scaledown=pool.idle_seconds if idle_seconds_before_scaledown is None else idle_seconds_before_scaledown,
        )  # fmt: skip
        ComputeTarget.create(self.workspace, self.name, asked)
        self.config = _config(self.workspace, self.name)

    @property
    def status(self) -> AmlComputeStatus:
        return self.get_status()

    def get_status(self) -> AmlComputeStatus:
        return AmlComputeStatus(self._pool(), self._slots())

    def list_nodes(self) -> list[dict[str, Any]]:
        """Of the nodes that are there: what each is doing."""
        slots, found = self._slots(), []
        for number, state in enumerate(_states(self._pool(), slots)):
            holder = slots.holders([str(number)])
            if state:
                found.append({"nodeId": f"{self.name}-{number}", "nodeState": state, "run": holder[0] if holder else ""})
        return found

    def serialize(self) -> dict[str, Any]:
        return super().serialize() | {"properties": self.status.serialize()}

    def _pool(self) -> PoolFile:
        found = next((pool for pool in pools.read_pools(self.workspace.root) if pool.name == self.name), None)
        if found is not None:
            return found
        config = _config(self.workspace, self.name)
        return PoolFile(
            name=self.name, kind=config.kind, vm_size="", priority=config.priority, min_nodes=config.min_nodes, max_nodes=config.max_nodes,
            idle_seconds=config.idle_seconds, created_at="", changed_at="",
        )  # fmt: skip

    def _slots(self) -> Slots:
        return Slots(os.path.join(self.workspace.root, ".mlpipe", "locks", "pools", self.name))


class AmlComputeStatus:
    """The state of a pool when it was asked."""

    def __init__(self, pool: PoolFile, slots: Slots) -> None:
        states = _states(pool, slots)
        self.running, self.idle = states.count("running"), states.count("idle")
        self.current_node_count = self.running + self.idle
        self.target_node_count = self.current_node_count
        self.allocation_state, self.provisioning_state, self.errors = "Steady", "Succeeded", None
        self._pool = pool

    def serialize(self) -> dict[str, Any]:
        """The keys of the Azure SDK."""
        pool = self._pool
        counts = {"preparing": 0, "running": self.running, "idle": self.idle, "unusable": 0, "leaving": 0, "preempted": 0}
        scale = {
            "minNodeCount": pool.min_nodes, "maxNodeCount": pool.max_nodes, "nodeIdleTimeBeforeScaleDown": f"PT{pool.idle_seconds:g}S"
        }  # fmt: skip
        return {
            "errors": self.errors, "creationTime": pool.created_at, "createdBy": None, "modifiedTime": pool.changed_at,
            "provisioningState": self.provisioning_state, "provisioningStateTransitionTime": pool.changed_at,
            "currentNodeCount": self.current_node_count, "targetNodeCount": self.target_node_count, "nodeStateCounts": counts,
            "allocationState": self.allocation_state, "allocationStateTransitionTime": pool.changed_at, "scaleSettings": scale,
            "vmPriority": "LowPriority" if pool.priority == "lowpriority" else "Dedicated", "vmSize": pool.vm_size,
        }  # fmt: skip


def _states(pool: PoolFile, slots: Slots) -> list[str]:
    """Of each slot: "running", "idle", or "" for a node that is not there."""
    found, now = [], time.time()
    for number in range(pool.max_nodes):
        name = str(number)
        used = slots.last_used(name)
        lingers = used is not None and now - used < pool.idle_seconds
        found.append("running" if slots.is_held(name) else "idle" if number < pool.min_nodes or lingers else "")
    return found


def _config(workspace: Workspace, name: str) -> ComputeConfig:
    computes = load_config(workspace.root).computes
    for compute in computes:
        if compute.name == name:
            return compute
    close = nearest(name, [compute.name for compute in computes])
    raise ComputeTargetException(
        f"ComputeTargetNotFound: Compute Target with name {name} not found in provided workspace" + (f"; did you mean {close!r}?" if close else ""),
        where=caller(),
    )  # fmt: skip


def _kind() -> str:
    """Containers where there is an engine, as clusters have it; else processes."""
    from mlpipe_engine.executors.containers.engines import engine_is_near

    return "docker" if engine_is_near() else "process"


def _refuse_in_step(what: str) -> None:
    if os.environ.get("MLPIPE_STEP_FILE"):
        import json

        try:
            with open(os.environ["MLPIPE_STEP_FILE"], encoding="utf-8") as file:
                step = json.load(file)["step"]
        except (OSError, ValueError, KeyError):
            step = "?"
        raise ComputeTargetException(
            f"a compute target cannot be {what} inside a step (this is step {step!r})", where=caller(), hint="Do it in the script that submits."
        )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
