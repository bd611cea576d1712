"""Compute targets and pools in the words of the Azure SDK, and that pools really bound what runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from mlpipe_engine import AmlCompute, ComputeTarget, ComputeTargetException, Workspace
from mlpipe_engine.errors import ConfigError
from mlpipe_engine.executors.slots import Slots
from worlds import World


@pytest.fixture
def ws(world: World, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/engine.sock")
    return Workspace.from_config(world.root)


def pool(ws: Workspace, name: str = "cluster", **more: object) -> AmlCompute:
    return ComputeTarget.create(
        ws, name, AmlCompute.provisioning_configuration(**({"vm_size": "STANDARD_D2", "max_nodes": 2} | more))
    )  # type: ignore[arg-type]


def test_the_idioms_of_the_article(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    name = "aml-compute"
    assert name not in ws.compute_targets
    with pytest.raises(ComputeTargetException, match="ComputeTargetNotFound"):
        ComputeTarget(ws, name)
    made = pool(ws, name, vm_size="STANDARD_NC6", min_nodes=0, max_nodes=4)
    made.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    assert "Succeeded" in capsys.readouterr().out
    found = ws.compute_targets[name]
    assert found and type(found) is AmlCompute and type(ComputeTarget(ws, name)) is AmlCompute
    assert type(ws.compute_targets["local"]) is ComputeTarget and ws.compute_targets["docker"].kind == "docker"
    status = json.loads(json.dumps(found.status.serialize()))
    assert set(status) >= {
        "currentNodeCount", "targetNodeCount", "nodeStateCounts", "allocationState", "allocationStateTransitionTime", "errors", "creationTime",
        "modifiedTime", "provisioningState", "provisioningStateTransitionTime", "scaleSettings", "vmPriority", "vmSize",
    }  # fmt: skip
    assert status["nodeStateCounts"] == dict.fromkeys(("preparing", "running", "idle", "unusable", "leaving", "preempted"), 0)
    assert status["scaleSettings"] == {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT1800S"}
    assert (status["vmSize"], status["vmPriority"]) == ("STANDARD_NC6", "Dedicated")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "max nodes count is mandatory"),
        ({"max_nodes": 0}, "max_nodes is 0"),
        ({"max_nodes": 1, "min_nodes": 2}, "max_nodes is 1 and min_nodes 2"),
        ({"max_nodes": -1}, "max_nodes is -1"),
        ({"max_nodes": True}, "max_nodes is True"),
        ({"max_nodes": 1, "vm_priority": "cheap"}, "vm_priority is 'cheap'"),
        ({"max_nodes": 1, "idle_seconds_before_scaledown": -5}, "idle_seconds_before_scaledown is -5"),
    ],
)
def test_what_no_pool_can_be(given: dict[str, object], said: str) -> None:
    with pytest.raises(ComputeTargetException, match=said):
        AmlCompute.provisioning_configuration(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "local", "docker", "../up", "a b", "x" * 200])
def test_names_no_pool_can_have(ws: Workspace, name: str) -> None:
    with pytest.raises(ComputeTargetException, match="cannot be called"):
        pool(ws, name)


def test_a_target_of_the_project_file_is_not_replaced(ws: Workspace, world: World) -> None:
    world.write("mlpipe.toml", "[compute.big]\ncpus = 2\n")
    with pytest.raises(ComputeTargetException, match=r"mlpipe\.toml has a compute target 'big' already"):
        pool(ws, "big")
    with pytest.raises(ComputeTargetException, match="is not one that was created"):
        ws.compute_targets["big"].delete()


def test_update_and_delete(ws: Workspace) -> None:
    made = pool(ws)
    made.update(max_nodes=5, idle_seconds_before_scaledown=60)
    assert ws.compute_targets["cluster"].status.serialize()["scaleSettings"]["maxNodeCount"] == 5  # type: ignore[attr-defined]
    made.delete()
    made.delete()
    assert "cluster" not in ws.compute_targets


def test_nodes_come_with_use_and_go_when_idle(ws: Workspace, world: World) -> None:
    made = pool(ws, min_nodes=1, max_nodes=3, idle_seconds_before_scaledown=0.5)
    counts = lambda: (made.status.running, made.status.idle)
    assert counts() == (0, 1)
    held = Slots(str(world.root / ".mlpipe/locks/pools/cluster")).try_take(2, ["0", "1", "2"], "step a of run 1")
    assert held is not None and counts() == (2, 0)
    assert made.list_nodes()[0] == {"nodeId": "cluster-0", "nodeState": "running", "run": "step a of run 1"}
    held.release()
    assert counts() == (0, 2), "both linger"
    time.sleep(0.6)
    assert counts() == (0, 1), "the least number stays"


def test_a_pool_bounds_what_runs_at_once_and_low_priority_waits(ws: Workspace, world: World) -> None:
    pool(ws, "one", max_nodes=1)
    pool(ws, "low", max_nodes=4, vm_priority="lowpriority")
    world.define("""
steps = [CommandStep(command=f"date +%s.%N; sleep 0.4; date +%s.%N; true {n}", name=f"s{n}", compute_target="one", cpus=0.1) for n in range(3)]
p = Pipeline(ws, steps, name="p")
""")
    done = world.run()
    spans = sorted([float(word) for word in done.log(f"s{n}", "stdout").split()] for n in range(3))
    assert all(earlier[1] <= later[0] for earlier, later in zip(spans, spans[1:])), "one node, one step at a time"
    world.define("""
steps = [CommandStep(command="date +%s.%N", name="late", compute_target=ws.compute_targets["low"]),
    *(CommandStep(command=f"sleep 0.3; date +%s.%N; true {n}", name=f"s{n}", cpus=1000) for n in range(2))]
p = Pipeline(ws, steps, name="q")
""")
    done = world.run()
    assert set(done.states.values()) == {"succeeded"}
    assert float(done.log("late", "stdout")) > max(float(done.log(f"s{n}", "stdout")) for n in range(2))


def test_compute_is_not_made_inside_a_step(world: World, ws: Workspace) -> None:
    world.write("src/make.py", f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "engine")!r})
from mlpipe_engine import *
ws = Workspace.from_config({str(world.root)!r})
ComputeTarget.create(ws, "new", AmlCompute.provisioning_configuration(max_nodes=1))
""")  # fmt: skip
    world.define('p = Pipeline(ws, [PythonScriptStep("make.py", name="maker", source_directory="src")], name="p")')
    done = world.run()
    assert done.states == {"maker": "failed"}
    assert "a compute target cannot be created inside a step (this is step 'maker')" in done.log("maker")
    assert "new" not in ws.compute_targets


def test_a_pool_made_where_a_pipeline_is_defined(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/engine.sock")
    world.define("""
name = "cluster"
if name in ws.compute_targets and type(ws.compute_targets[name]) is AmlCompute:
    target = ws.compute_targets[name]
else:
    target = ComputeTarget.create(ws, name, AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=2))
    target.wait_for_completion(show_output=False)
p = Pipeline(ws, [CommandStep(command="true", name="s", compute_target=target)], name="p")
""")
    assert world.run().states == {"s": "succeeded"}
    assert world.run().states == {"s": "reused"}


def test_a_spoilt_file_is_named(world: World, ws: Workspace) -> None:
    pool(ws)
    path = world.write(".mlpipe/compute/cluster.json", "{")
    with pytest.raises(ConfigError, match="the pool cluster cannot be read") as caught:
        list(ws.compute_targets)
    assert str(path) in str(caught.value)
