"""The vocabulary of the original SDK, as scripts use it."""

from __future__ import annotations

import doctest
import inspect
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlpipe_engine
import pytest
from mlpipe_engine import (
    CommandStep,
    ConfigError,
    Dataset,
    Datastore,
    Experiment,
    InputError,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    StepSequence,
    Workspace,
)  # fmt: skip
from mlpipe_engine.errors import FilesystemError
from mlpipe_engine.model.spec import InputRef, LiteralRef, OutputRef, Text
from worlds import World

CLASSES = [
    name for name in mlpipe_engine.__all__
    if isinstance(getattr(mlpipe_engine, name), type) and getattr(mlpipe_engine, name).__module__.startswith("mlpipe_engine.sdk")
]  # fmt: skip


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_shows_how_it_is_used(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    thing = getattr(mlpipe_engine, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(thing, name, globs={name: thing})
    assert example.examples, f"{name} has no example"
    assert doctest.DocTestRunner(verbose=False).run(example, out=sys.stderr.write).failed == 0


@pytest.mark.parametrize("name", CLASSES)
def test_no_public_method_swallows_or_merely_rejects_a_misspelt_keyword(name: str) -> None:
    thing = getattr(mlpipe_engine, name)
    for attribute, member in vars(thing).items():
        function = getattr(member, "__func__", member)
        if attribute.startswith("_") or not inspect.isfunction(function):
            continue
        places = [object()] * sum(1 for one in inspect.signature(function).parameters.values() if one.default is one.empty)
        with pytest.raises(TypeError, match="unexpected keyword argument 'surely_unknown'"):
            function(*places, surely_unknown=1)


@pytest.fixture
def ws(world: World) -> Workspace:
    world.write("src/a.py", "")
    return Workspace.from_config(world.root)


def spec_of(ws: Workspace, *steps: Any) -> Any:
    return Pipeline(ws, list(steps), name="p").to_spec()


def test_the_article_defect_of_a_dataset_named_twice_is_merged_and_the_arguments_mode_wins(ws: Workspace) -> None:
    data = Dataset.File.from_files("x").as_named_input("input1")
    step = CommandStep(["cat", data.as_download()], name="s", inputs=[data])
    (found,) = spec_of(ws, step).steps[0].inputs
    assert (found.name, found.mode) == ("input1", "download")


def test_lists_of_the_caller_are_never_changed(ws: Workspace) -> None:
    o = PipelineData("o")
    inputs: list[Any] = []
    arguments = [Dataset.File.from_files("x").as_named_input("i"), o]
    CommandStep(["cat", *arguments], name="s", inputs=inputs, outputs=[o])
    assert inputs == [] and len(arguments) == 2


def test_every_object_is_one_word_and_keeps_its_type(ws: Workspace) -> None:
    o, i = PipelineData("o"), Dataset.File.from_files("x").as_named_input("i")
    step = CommandStep(["p", 1, 1.5, True, None, "a b", f"{o}/part", i, f"--in={i}"], name="s", outputs=[o])
    words = spec_of(ws, step).steps[0].command
    assert words == (
        (Text("p"),), (LiteralRef(1),), (LiteralRef(1.5),), (LiteralRef(True),), (LiteralRef(None),), (Text("a b"),),
        (OutputRef("o"), Text("/part")), (InputRef("i"),), (Text("--in="), InputRef("i")),
    )  # fmt: skip


def test_nested_lists_sequences_and_closure(ws: Workspace) -> None:
    a, b, c, d = (CommandStep(["true"], name=name) for name in "abcd")
    o = PipelineData("o")
    maker = CommandStep("echo > $o", name="maker", outputs=[o])
    reader = CommandStep(["cat", o], name="reader")
    spec = spec_of(ws, [a, [b]], StepSequence([c, [d, reader]]))
    assert [step.name for step in spec.steps] == ["a", "b", "c", "d", "reader", "maker"]
    assert spec.pulled_in == ("maker",)
    assert spec.step("d").run_after == spec.step("reader").run_after == ("c",)
    assert maker.upstream == []
    alone = CommandStep(["cat", o], name="alone")
    assert [problem["type"] for problem in Pipeline(ws, [alone], resolve_closure=False).validate()] == ["UnknownInputError"]


def test_unnamed_outputs_get_stable_names(ws: Workspace) -> None:
    def build() -> Any:
        first, second = OutputFileDatasetConfig(), OutputFileDatasetConfig(name="named").as_upload(source_globs="*.csv")
        return spec_of(ws, CommandStep(["true"], name="s", outputs=[first, second]))

    assert build() == build()
    assert [output.name for output in build().steps[0].outputs] == ["output_1", "named"]


def test_one_parameter_has_one_definition(ws: Workspace) -> None:
    one, other = PipelineParameter("n", 1), PipelineParameter("n", "1")
    with pytest.raises(ValueError, match="defined more than once"):
        Pipeline(ws, [CommandStep(["echo", one], name="a"), CommandStep(["echo", other], name="b")])


@pytest.mark.parametrize("value", [None, "", "a\nb", [1, "x"], 0, False, 1.5])
def test_parameters_of_every_kind_reach_the_script_as_they_are(world: World, value: Any) -> None:
    world.write(
        "src/s.py",
        "import json, sys\nfrom mlpipe_run import Run\njson.dump([Run.get_context().parameters['v'], sys.argv[2]], open(sys.argv[1], 'w'))\n",
    )
    world.define(f"""
o = PipelineData("o")
v = PipelineParameter("v", {value!r})
p = Pipeline(ws, [PythonScriptStep("s.py", name="s", arguments=[o, v], outputs=[o], source_directory="src")])
""")
    import json

    typed, text = json.loads(world.run().output("s", "o"))
    assert typed == value
    assert text == {"None": "", "[1, 'x']": '[1, "x"]'}.get(repr(value), str(value))


def test_paths_lend_files_folders_and_globs_as_the_single_file_rule_says(world: World) -> None:
    world.write("d/a.csv", "a")
    world.write("d/sub/b.csv", "b")
    world.write("d/c.txt", "c")
    world.define(
        """
from pathlib import Path
f = Dataset.File.from_files
o = PipelineData("o")
step = CommandStep("cat $file $folder/c.txt $glob/a.csv $glob/sub/b.csv $d $AZUREML_DATAREFERENCE_glob/a.csv > $o; ls $glob >> $o", name="s",
    inputs=[f("d/a.csv").as_named_input("file"), f("d").as_named_input("folder"), f("d/**/*.csv").as_named_input("glob"), Path("d/c.txt")], outputs=[o])
p = Pipeline(ws, [step])
""".replace("$d ", "$c ")
    )
    assert world.run().output("s", "o") == b"acabca" + b"a.csv\nsub\n"


def test_download_is_a_private_copy(world: World) -> None:
    world.write("d/a.csv", "a")
    world.define("""
o, q = PipelineData("o"), PipelineData("q")
i = Dataset.File.from_files("d").as_named_input("i").as_download()
first = CommandStep("echo b >> $i/a.csv; cp $i/a.csv $o", name="first", inputs=[i], outputs=[o])
second = CommandStep("echo c >> $o; cp $o $q", name="second", inputs=[o.as_download()], outputs=[q])
p = Pipeline(ws, [second])
""")
    done = world.run()
    assert done.output("second", "q") == b"ab\nc\n" and done.output("first", "o") == b"ab\n"
    assert (world.root / "d/a.csv").read_text() == "a"


ARTICLE = """
from mlpipe_engine import *
import sys
ws = Workspace.from_config()
store = ws.get_default_datastore()
store.upload_files(["iris.csv"], target_path="train-dataset/", overwrite=True)
iris = Dataset.File.from_files([(store, "train-dataset/iris.csv")])
output = PipelineData("output_data1", datastore=store, output_name="output_data1")
train = PythonScriptStep("train.py", name="Train Step", arguments=["--input", iris.as_named_input("iris").as_mount(), "--output", output],
    outputs=[output], source_directory="src")
pipeline1 = Pipeline(workspace=ws, steps=[[train]])
run = Experiment(ws, "Compare_Models_Exp").submit(pipeline1, tags={"who": "me"})
print(run)
if "wait" in sys.argv:
    run.wait_for_completion()
"""


@pytest.fixture
def article(world: World) -> World:
    world.write("iris.csv", "1,2\n")
    world.write("src/train.py", "import shutil, sys, time\ntime.sleep(0.5)\nshutil.copyfile(sys.argv[2], sys.argv[4])\n")
    world.write("pipeline.py", ARTICLE)
    return world


def test_a_script_as_in_the_article_runs_with_plain_python(article: World) -> None:
    done = subprocess.run(
        [sys.executable, "pipeline.py", "wait"],
        cwd=article.root,
        env=article.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Train Step: succeeded" in done.stdout and done.stdout.splitlines()[-1].startswith("PipelineRun 1: Finished")
    ws = Workspace.from_config(article.root)
    run = next(iter(Experiment(ws, "Compare_Models_Exp").get_runs()))
    assert (run.get_status(), run.get_tags()) == ("Finished", {"who": "me"})
    assert Path(run.find_step_run("Train Step")[0].get_output_data("output_data1").path).read_text() == "1,2\n"


def test_its_run_goes_on_when_the_script_is_killed(article: World) -> None:
    script = subprocess.Popen(
        [sys.executable, "pipeline.py", "wait"], cwd=article.root, env=article.environment(), stdout=subprocess.PIPE, text=True
    )
    assert script.stdout is not None
    script.stdout.readline()
    script.stdout.readline()
    script.kill()
    script.wait()
    run = Workspace.from_config(article.root).get_run("latest")
    assert run.wait_for_completion(show_output=False) == "Finished"


def test_while_it_is_only_loaded_nothing_happens_and_that_is_said(article: World) -> None:
    before = article.files()
    done = article.cli("plan")
    assert done.returncode == 4, "the file it would have uploaded is not there"
    assert article.files() == before
    article.write(".mlpipe/datastores/workspaceblobstore/train-dataset/iris.csv", "1,2\n")
    before = article.files()
    planned = article.cli("plan")
    assert planned.returncode == 0, planned.stderr
    assert "not done while loading: upload of 1 files to workspaceblobstore" in planned.stdout
    assert "not done while loading: Experiment('Compare_Models_Exp').submit" in planned.stdout
    assert article.files() == before, "a plan leaves store and datastore byte-equal"


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 256, "é"])
def test_experiment_names(ws: Workspace, name: str) -> None:
    with pytest.raises(ValueError, match="invalid experiment name"):
        Experiment(ws, name)


@pytest.mark.parametrize(
    ("call", "close"),
    [
        (lambda ws: PythonScriptStep("a.py", allow_resue=False), "allow_reuse"),
        (lambda ws: CommandStep("true", timeout_second=1), "timeout_seconds"),
        (lambda ws: PipelineData("a", is_dir=True), "is_directory"),
        (lambda ws: PipelineParameter("a", default_valu=1), "default_value"),
        (lambda ws: Pipeline(ws, step=[]), "steps"),
        (lambda ws: Experiment(ws, "e").submit(None, regenerate_output=True), "regenerate_outputs"),
        (lambda ws: Dataset.File.from_files("x", valdate=False), "validate"),
    ],
)
def test_misspelt_keywords_name_the_nearest(ws: Workspace, call: Any, close: str) -> None:
    with pytest.raises(TypeError, match=f"did you mean '{close}'"):
        call(ws)


def test_datastores(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    ws = Workspace.from_config(world.root)
    store = Datastore(ws)
    world.write("a/x.txt", "1")
    world.write("a/b/y.txt", "2")
    store.upload(str(world.root / "a"), target_path="/../t", show_progress=False)
    assert store.download(str(world.root / "back"), prefix="t/b") == 1
    assert (world.root / "back/t/b/y.txt").read_text() == "2"
    world.write("a/x.txt", "other")
    store.upload_files([str(world.root / "a/x.txt")], target_path="t")
    assert "it has other bytes (b3:" in capsys.readouterr().err
    assert Path(store.root, "t/x.txt").read_text() == "1"
    with pytest.raises(Exception, match="leaves the datastore"):
        store.path("a/../../b")
    with pytest.raises(Exception, match="did you mean 'workspaceblobstore'"):
        Datastore(ws, "workspaceblobstor")
    assert "workspacefilestore" in ws.datastores and "x" not in ws.datastores


def test_a_workspace_is_found_from_below_and_lends_the_azure_name(world: World) -> None:
    (world.root / "a/b").mkdir(parents=True)
    assert Workspace.from_config(world.root / "a/b").root == str(world.root)
    world.write(".azureml/config.json", '{"workspace_name": "azure-name", "subscription_id": "x"}')
    assert Workspace.from_config(world.root).name == "azure-name"


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, mlpipe_engine; print(sorted(m for m in sys.modules if m.startswith('mlpipe_engine.')))"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]" and began


NAMED = """
from mlpipe_engine import *
ws = Workspace.from_config()
{body}
if __name__ == "__main__":
    {submit}.wait_for_completion(show_output=False)
"""


@pytest.mark.parametrize(("body", "submit", "name"), [
    ("pipeline1 = Pipeline(ws, [CommandStep('true', name='s')])", "pipeline1.submit('e')", "daily"),
    ("churn = Pipeline(ws, [CommandStep('true', name='s')])", "churn.submit('e')", "churn"),
    ("a = Pipeline(ws, [CommandStep('true', name='s')])\nb = Pipeline(ws, [CommandStep('false', name='s')])", "a.submit('e')", "a"),
    ("a = Pipeline(ws, [CommandStep('true', name='s')], name='given')", "Experiment(ws, 'e').submit(a)", "given"),
], ids=["file", "variable", "two", "given"])  # fmt: skip
def test_a_pipeline_has_one_name_however_it_is_started(world: World, body: str, submit: str, name: str) -> None:
    world.write("pipelines/daily.py", NAMED.format(body=body, submit=submit))
    done = subprocess.run(
        [sys.executable, "pipelines/daily.py"],
        cwd=world.root,
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (run,) = Workspace.from_config(world.root).engine.runs()
    assert run.pipeline == name
    assert name in [pipeline.name for pipeline in Workspace.from_config(world.root).engine.pipelines()]


def test_in_a_notebook_the_variable_names_the_pipeline(world: World) -> None:
    cell = "pipeline1 = Pipeline(ws, [CommandStep('true', name='s')])\nrun = pipeline1.submit('e')"
    namespace: dict[str, Any] = {"ws": Workspace.from_config(world.root), "Pipeline": Pipeline, "CommandStep": CommandStep}
    exec(compile(cell, "/tmp/ipykernel_1/2345.py", "exec"), namespace)
    namespace["run"].wait_for_completion(show_output=False)
    assert namespace["run"].record.pipeline == "pipeline1"


def test_long_chains_are_built_quickly(ws: Workspace) -> None:
    began = time.perf_counter()
    steps: list[CommandStep] = []
    last: list[PipelineData] = []
    for number in range(5000):
        output = PipelineData(f"o{number}")
        steps.append(CommandStep(["true"], name=f"s{number}", inputs=last, outputs=[output]))
        last = [output]
    assert len(spec_of(ws, steps[-1]).pulled_in) == 4999
    assert len(spec_of(ws, steps).steps) == 5000
    assert time.perf_counter() - began < 5


def test_a_workspace_takes_what_scripts_of_the_azure_sdk_give(world: World, tmp_path: Path) -> None:
    made = Workspace.create("demo", subscription_id="s", resource_group="r", location="l", path=tmp_path / "new")
    assert Workspace.get(name="demo", subscription_id="s", resource_group="r", path=tmp_path / "new").root == made.root
    with pytest.raises(ConfigError, match="already is a project"):
        Workspace.create("demo", path=tmp_path / "new")
    assert Workspace.create("demo", path=tmp_path / "new", exist_ok=True).name == "demo"
    made.write_config()
    assert Workspace.from_config(Path(made.root, ".azureml/config.json")).name == "demo"
    with pytest.raises(FilesystemError, match="cannot make a project in"):
        Workspace.create("demo", path=world.root / "mlpipe.toml" / "x")
    world.write(".azureml/config.json", "[" * 100_000)
    assert Workspace.from_config(world.root).name == world.root.name, "a damaged foreign file lends no name and does no harm"
    with pytest.raises(KeyError, match="did you mean 'local'"):
        made.compute_targets["locl"]


def test_an_upload_that_cannot_be_done_says_so(world: World) -> None:
    store = Datastore(Workspace.from_config(world.root))
    world.write("a/x.txt", "1")
    with pytest.raises(InputError, match="expected a list of paths"):
        store.upload_files("a/x.txt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not point to a file"):
        store.upload_files([world.root / "a"])
    with pytest.raises(InputError, match="does not lie below relative_root"):
        store.upload_files([world.root / "a/x.txt"], relative_root=world.root / "b")
    with pytest.raises(InputError, match="is not a folder"):
        store.upload(world.root / "a/x.txt")
    Path(store.root, "t/x.txt").mkdir(parents=True)
    with pytest.raises(FilesystemError, match="Is a directory"):
        store.upload_files([world.root / "a/x.txt"], target_path="t")
    assert Datastore(store.workspace, "workspacefilestore").download(world.root / "back") == 0
