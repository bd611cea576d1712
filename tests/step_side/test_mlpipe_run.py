"""The step side: one file, old syntax, in a run and by hand."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlpipe_engine.model.states import State
from mlpipe_engine.runner.step_events import MAX_LINE_BYTES, read_events
from worlds import REPOSITORY, World

SOURCE = REPOSITORY / "engine/mlpipe_run.py"


def test_it_is_one_file_of_python_3_8_with_the_standard_library_only() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 8))
    imported = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)


def script(world: World, body: str) -> None:
    world.write("src/s.py", "import sys\nfrom mlpipe_run import Run\nrun = Run.get_context()\n" + body)
    world.write("data.csv", "1,2")
    world.define("""
data = Dataset.File.from_files("data.csv").as_named_input("data")
o = PipelineData("o")
n = PipelineParameter("n", 3)
step = PythonScriptStep("s.py", name="s", arguments=[n], inputs=[data], outputs=[o], params={"lr": 0.5, "n": n}, source_directory="src")
p = Pipeline(ws, [step], name="pipe")
""")


EVERYTHING = """
import json, os
run.log("loss", 0.5, step=1); run.log("loss", 0.25, step=2); run.log("nan", float("nan")); run.log("text", "x"); run.log("flag", True)
run.log_list("list", [1, 2.5]); run.log_row("row", a=1, b="x"); run.log_table("table", {"a": [1, 2], "b": [3, 4]})
run.log_confusion_matrix("cm", {"schema_type": "confusion_matrix", "data": {"matrix": [[1, 2], [3, 4]]}})
run.log_accuracy_table("at", '{"a": 1}'); run.log_residuals("re", {"a": 1}); run.log_predictions("pr", {"a": 1})
open("picture.png", "wb").write(b"png"); run.log_image("image", path="picture.png")
run.parent.log("best", 7); run.parent.tag("stage", "done")
run.tag("k", "v"); run.set_tags({"x": 1}); run.remove_tags("x"); run.add_properties({"p": "q"})
try:
    run.add_properties({"p": "other"}); raise SystemExit("a property was changed")
except ValueError: pass
with run.child_run("child") as child:
    child.log("inner", 1)
children = run.create_children(2)
run.upload_file("notes/a.txt", "picture.png")
run.register_model("model", "notes/a.txt", tags={"t": 1})
assert run.get_metrics("loss") == {"loss": [0.5, 0.25]}
assert run.get_tags() == {"k": "v"}
assert run.experiment.name == "test" and run.experiment.workspace.name == "project" and run.number == 1
assert run.input_datasets["data"] == os.environ["AZUREML_DATAREFERENCE_data"] == os.environ["data"]
assert open(run.input_datasets["data"]).read() == "1,2"
assert run.parameters["n"] == 3 and os.environ["AML_PARAMETER_lr"] == "0.5" and os.environ["AML_PARAMETER_n"] == "3"
assert os.environ["AZUREML_RUN_ID"] and sys.argv[1:] == ["3"]
assert os.path.isdir("outputs") and os.path.isdir("logs")
open("outputs/left.txt", "w").write("left")
try:
    run.input_datasets["dta"]; raise SystemExit("no KeyError")
except KeyError as error: assert "did you mean 'data'" in str(error)
open(run.output_datasets["o"], "w").write("out")
"""


def test_everything_a_script_reports_arrives(world: World) -> None:
    script(world, EVERYTHING)
    done = world.run()
    assert done.record.state == "succeeded", done.log("s")
    engine, run_id = done.engine, done.record.id
    found = {}
    for metric in engine.metrics(run_id):
        found.setdefault((metric.step, metric.name, metric.kind), []).append(json.loads(metric.value))
    assert found[("s", "loss", "scalar")] == [0.5, 0.25]
    assert found[("s", "nan", "scalar")] == ["NaN"]
    assert found[("s", "row", "row")] == [{"a": 1, "b": "x"}]
    assert found[("s", "table", "table")] == [{"a": [1, 2], "b": [3, 4]}]
    assert found[("", "best", "scalar")] == [7]
    assert {kind for _, _, kind in found} == {
        "scalar",
        "list",
        "row",
        "table",
        "confusion_matrix",
        "accuracy_table",
        "residuals",
        "predictions",
        "image",
    }
    assert dict(done.step("s").tags) == {"k": "v", "p": "q"}
    assert dict(engine.find_run(run_id).tags) == {"stage": "done"}
    children = engine.children(run_id)
    assert [child.name for child in children] == ["child", "child", "child"]
    assert children[0].state is State.SUCCEEDED
    assert [m.name for m in engine.metrics(children[0].id)] == ["inner"]
    files = engine.files(run_id, "s")
    assert {"notes/a.txt", "outputs/left.txt", "outputs/images/picture.png"} <= set(files)
    assert Path(engine.file_path(run_id, "s", "notes/a.txt")).read_bytes() == b"png"
    assert engine._database().query("SELECT name, version FROM models") == [("model", 1)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("run.log('x', [1])", "use log_list"), ("run.log('x', object())", "cannot be logged"), ("run.log('', 1)", "name of a metric"),
        ("run.log('x', 1, step=1.5)", "step must be an integer"), ("run.log_table('x', [1])", "dict of column"), ("run.log_row('x')", "at least one"),
        ("run.log_image('x')", "either path or plot"), ("run.upload_file('../x', 's.py')", "leaves its folder"), ("run.create_children(0)", "1 to 100"),
        ("run.register_model('m', 'missing')", "does not exist"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_an_error_that_says_what_is_expected(tmp_path: Path, call: str, says: str) -> None:
    (tmp_path / "s.py").write_text(f"from mlpipe_run import Run\nrun = Run.get_context()\n{call}\n")
    done = subprocess.run(
        [sys.executable, "s.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ValueError" in done.stderr and says in done.stderr, done.stderr


def test_by_hand_the_same_script_works_and_prints(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("hello")
    (tmp_path / "s.py").write_text(
        "from mlpipe_run import Run\nrun = Run.get_context()\nrun.log('x', 1.5)\nrun.parent.log('y', 2)\nprint(open(run.input_datasets['text']).read())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCE.parent), "MLPIPE_INPUTS": "text=in.txt"}
    done = subprocess.run([sys.executable, "s.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "metric x = 1.5\nmetric y = 2\nhello\n"
    (folder,) = (tmp_path / "mlpipe_offline").iterdir()
    assert [json.loads(line)["name"] for line in (folder / "events.jsonl").read_text().splitlines()] == ["x", "y"]


def test_offline_can_be_refused(tmp_path: Path) -> None:
    code = "from mlpipe_run import Run; Run.get_context(allow_offline=False)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RunEnvironmentException" in done.stderr


def test_numpy_values_are_logged_as_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    code = "import numpy as np; from mlpipe_run import Run; r = Run.get_context(); r.log('a', np.float32(0.5)); r.log_list('b', np.arange(3)); r.log('c', np.int64(2), step=np.int64(1))"
    assert numpy
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "metric a = 0.5\nmetric b = [0, 1, 2]\nmetric c = 2\n"


def test_torn_and_hostile_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'{"e": "metric"}\nnonsense\n[1]\n' + b"[" * 5000 + b"\n" + b"x" * (MAX_LINE_BYTES + 5) + b'\n{"e": "tag"}\n{"e": "torn'
    )
    events, offset = read_events(str(path), 0)
    assert [event["e"] for event in events] == ["metric", "tag"]
    with open(path, "ab") as file:
        file.write(b'"}\n')
    assert read_events(str(path), offset)[0] == [{"e": "torn"}]


def test_hostile_events_do_not_break_a_run(world: World) -> None:
    script(
        world,
        """
import os, json
path = json.load(open(os.environ["MLPIPE_STEP_FILE"]))["events_path"]
with open(path, "w") as file:
    for event in ({"e": "metric"}, {"e": "metric", "name": 1, "value": {"a": [1]}, "step": "x"}, {"e": "child"}, {"e": "model"}, {"e": "tag"},
                  {"e": "file", "name": "x", "path": "/etc/passwd"}, {"e": "child_end", "state": "nonsense"}, {"e": 5}, {"e": "metric", "target": "nobody"}):
        file.write(json.dumps(event) + "\\n")
open(run.output_datasets["o"], "w").write("out")
""",
    )
    assert world.run().record.state == "succeeded"
