"""Datasets as inputs of steps, in real runs: what a step finds, when it runs again, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mlpipe_engine.engine import Engine
from mlpipe_engine.model.datasets import DatasetDefinition, DelimitedReader
from mlpipe_engine.model.spec import DatasetUse, PipelineSpec
from worlds import World

READ = """
import json, os
from mlpipe_run import Run
table = Run.get_context().input_datasets["table"]
open(os.environ["out"], "w").write(json.dumps([list(row.values()) for row in table.rows()] + [os.path.basename(table)]))
"""


def reading(world: World, use: DatasetUse) -> PipelineSpec:
    world.write("src/s.py", READ)
    world.define("""
s = PythonScriptStep("s.py", name="s", source_directory="src", inputs=[Dataset.File.from_files("t.csv").as_named_input("table")], outputs=[PipelineData("out")])
p = Pipeline(ws, [s], name="p")
""")
    spec = Engine.open(str(world.root)).pipeline()
    step = spec.steps[0]
    return replace(spec, steps=(replace(step, inputs=(replace(step.inputs[0], use=use),)),))


def test_first(world: World) -> None:
    world.write("t.csv", "i,t\n1,a\n2,b\n")
    spec = reading(world, DatasetUse(definition=DatasetDefinition(kind="tabular", paths=(), reader=DelimitedReader())))
    done = world.run(spec)
    assert done.states == {"s": "succeeded"}, done.step("s").error
    assert done.output("s", "out") == b'[[1, "a"], [2, "b"], "table.parquet"]'
    assert world.run(spec).states == {"s": "reused"}
    assert Path(world.root, ".mlpipe/cache/making").exists()
