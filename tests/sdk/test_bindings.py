"""What stands for what: inputs, outputs and arguments of a step become ports and words, whatever form they come in."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from mlpipe_engine import (
    CommandStep,
    Dataset,
    DefinitionError,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    RunConfiguration,
    Workspace,
)  # fmt: skip
from mlpipe_engine.model.spec import InputRef, OutputRef, ParameterRef, PathSource, StepOutputSource, StepSpec, Text
from worlds import World


@pytest.fixture
def ws(world: World) -> Workspace:
    world.write("src/a.py", "")
    return Workspace.from_config(world.root)


def built(ws: Workspace, step: Any) -> StepSpec:
    return Pipeline(ws, [step], name="p").to_spec().step(step.name)


def files(path: str) -> Any:
    return Dataset.File.from_files(path)


@pytest.mark.parametrize("first, second", [
    (Path("a/data.csv"), Path("b/data.csv")),
    (files("a/data.csv").as_mount(), files("b/data.csv").as_download()),
], ids=["paths", "unnamed datasets"])  # fmt: skip
def test_made_up_names_give_way_to_each_other(ws: Workspace, first: Any, second: Any) -> None:
    step = built(ws, CommandStep(["cat", first, second, first], name="s"))
    assert [(item.name, item.source) for item in step.inputs] == [
        ("data", PathSource(("a/data.csv",))), ("data_2", PathSource(("b/data.csv",))),
    ]  # fmt: skip
    assert step.command[1:] == ((InputRef("data"),), (InputRef("data_2"),), (InputRef("data"),))


def test_chosen_names_do_not(ws: Workspace) -> None:
    with pytest.raises(ValueError, match=r"\[x\] is repeated. Input port names must be unique."):
        CommandStep(["cat", files("a").as_named_input("x"), files("b").as_named_input("x")], name="s")


def test_unnamed_outputs_of_two_steps_meet_in_one(ws: Workspace) -> None:
    a, b = OutputFileDatasetConfig(), OutputFileDatasetConfig()
    CommandStep(["make", a], name="a")
    CommandStep(["make", b], name="b")
    step = built(ws, CommandStep(["join", a.as_input(), b.as_input("second")], name="c", inputs=[b.as_input()]))
    assert {item.name: item.source for item in step.inputs} == {
        "output_1": StepOutputSource("b", "output_1"), "output_1_2": StepOutputSource("a", "output_1"),
        "second": StepOutputSource("b", "output_1"),
    }  # fmt: skip


def test_an_input_called_like_an_output_gets_the_prefix_of_the_azure_sdk(ws: Workspace) -> None:
    model = PipelineData("model")
    old = files("old.pkl").as_named_input("model")
    step = built(ws, CommandStep(["train", old, model], name="s", outputs=[model]))
    assert step.command == ((Text("train"),), (InputRef("INPUT_model"),), (OutputRef("model"),))
    with pytest.raises(ValueError, match="name of two of its ports"):
        CommandStep(["train", old, f"{model}/x"], name="s2", inputs=[old], outputs=[PipelineData("model")])


def test_a_step_does_not_read_what_it_writes(ws: Workspace) -> None:
    o = PipelineData("o")
    with pytest.raises(ValueError, match=r"\[o\] is its input and its output"):
        CommandStep(["true"], name="s", inputs=[o], outputs=[o])


def test_an_output_config_among_the_arguments_is_an_output_and_its_as_input_an_input(ws: Workspace) -> None:
    prepared = OutputFileDatasetConfig(name="prepared")
    prepare = CommandStep(["prepare", prepared], name="prepare")
    train = CommandStep(["train", prepared.as_input("data")], name="train")
    spec = Pipeline(ws, [train], name="p").to_spec()
    assert spec.pulled_in == ("prepare",)
    assert spec.step("prepare").command[1] == (OutputRef("prepared"),)
    assert spec.step("train").inputs[0].source == StepOutputSource("prepare", "prepared")
    assert prepare.upstream == []


def test_a_path_in_a_datastore_is_an_input(ws: Workspace) -> None:
    data = ws.get_default_datastore().path("iris/iris.csv")
    named = ws.get_default_datastore().path("iris", data_reference_name="all")
    step = built(ws, CommandStep(["cat", data, f"{named}/x.csv"], name="s", inputs=[named.as_download()]))
    assert step.command[1:] == ((InputRef("iris"),), (InputRef("all"), Text("/x.csv")))
    assert {item.name: (item.source, item.mode) for item in step.inputs} == {
        "iris": (PathSource((".mlpipe/datastores/workspaceblobstore/iris/iris.csv",)), "mount"),
        "all": (PathSource((".mlpipe/datastores/workspaceblobstore/iris",)), "download"),
    }  # fmt: skip


def test_texts_follow_objects_that_were_formatted_into_them(ws: Workspace) -> None:
    renamed, unnamed, rate = PipelineData("a", output_name="b"), OutputFileDatasetConfig(), PipelineParameter("rate", 0.1)
    step = built(ws, CommandStep(
        ["p", f"{renamed}/x", f"{unnamed}", f"--rate={rate}!", "$AML_PARAMETER_rate"], name="s", outputs=[renamed, unnamed], params={"R": rate}
    ))  # fmt: skip
    assert step.command[1:] == (
        (OutputRef("b"), Text("/x")), (OutputRef("output_2"),), (Text("--rate="), ParameterRef("rate"), Text("!")),
        (Text("$AML_PARAMETER_rate"),),
    )  # fmt: skip


@pytest.mark.parametrize("make, says", [
    (lambda: CommandStep(["p", f"--n={PipelineParameter('n', 1)}"], name="s"), "holds the parameter 'n', which the step does not know"),
    (lambda: CommandStep(f"p {PipelineParameter('n', 1)}", name="s"), "holds the parameter 'n'"),
    (lambda: CommandStep(["p", f"{PipelineData('o')}/x"], name="s"), "neither an input nor an output"),
    (lambda: CommandStep(f"rm -r {PipelineData('o')}/x", name="s"), "neither an input nor an output"),
    (lambda: CommandStep(["p", [PipelineData("o")]], name="s"), r"PipelineData \(PipelineData\('o'\)\) stands inside a list"),
    (lambda: CommandStep(["p", {"a", "b"}], name="s"), "changes from one load to the next"),
    (lambda: CommandStep(["p", threading.Event], name="s", arguments=[object()]), "changes from one load to the next"),
    (lambda: CommandStep(["p", float("nan")], name="s"), "nan is no number"),
    (lambda: CommandStep(["p"], name="s", arguments="--rate 1"), r"arguments='--rate 1'; expected a list"),
    (lambda: CommandStep(["p"], name="s", inputs=files("x").as_named_input("x")), "inputs=.*expected a list"),
    (lambda: CommandStep(["p"], name="s", hash_paths="src/*.py"), "hash_paths='src/.*expected a list"),
    (lambda: CommandStep(["p"], name="s", retries="3"), "retries='3'; expected a whole number"),
    (lambda: CommandStep(["p"], name="s", retries=True), "retries=True; expected a whole number"),
    (lambda: CommandStep(["p"], name="s", timeout_seconds="3"), "timeout_seconds='3'"),
    (lambda: CommandStep(["p"], name="s", cpus="many"), "cpus='many'"),
    (lambda: CommandStep(["p"], name="s", gpus=None), "gpus=None"),
    (lambda: CommandStep(["p"], name="s", allow_reuse="no"), "allow_reuse='no'; expected True or False"),
    (lambda: CommandStep(["p"], name="s", when=lambda: True), "when=.*expected an expression as text"),
    (lambda: CommandStep(["p"], name="s", trigger="sometimes"), "trigger='sometimes'; expected 'success' or 'always'"),
    (lambda: CommandStep(["p"], name="s", environment_variables={"A": None}), "expected names and texts"),
    (lambda: CommandStep(["p"], name="s", params={"a=b": 1}), "params has the name 'a=b'"),
    (lambda: CommandStep(["p"], name="s", params=["a"]), r"params=\['a'\]; expected a dict"),
    (lambda: CommandStep(["p"], name="s", runconfig_pipeline_params={"NodeCount": 1}), "runconfig_pipeline_params"),
    (lambda: CommandStep(["p"], name="s", runconfig={"target": "x"}), "expected a RunConfiguration"),
    (lambda: CommandStep(["p"], name="s").run_after("other"), "cannot run after a str"),
    (lambda: CommandStep(["p"], name=3), "a step needs a name, found 3"),
    (lambda: PythonScriptStep("", name="s"), "script_name is ''"),
    (lambda: OutputFileDatasetConfig(destination="x/y"), "expected .datastore, 'path'."),
    (lambda: OutputFileDatasetConfig(partition_format="{x}"), "no columns"),
    (lambda: PipelineData("x", datastore="workspaceblobstore"), "expected a Datastore"),
    (lambda: PipelineData("x", output_name="a b"), "may contain only letters"),
    (lambda: PipelineParameter("n", "x", type="int"), "'x' is a str .its default."),
    (lambda: PipelineParameter("n", "x", choices=["a"]), "none of its choices"),
    (lambda: PipelineParameter("n", "x", minimum=1), "has no minimum or maximum"),
    (lambda: PipelineParameter("n", {"a": 1}), "a dict cannot be a parameter"),
    (lambda: files("x").as_named_input("a b"), "invalid input name 'a b'"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_where_it_is_written(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says) as caught:
        make()
    assert caught.value.where.startswith(f"{__file__}:"), "the error names the line of the author, not ours"


def test_errors_are_what_scripts_of_the_azure_sdk_catch(ws: Workspace) -> None:
    with pytest.raises(ValueError):
        CommandStep(["p"], name="s", retries="3")
    with pytest.raises(TypeError):
        Pipeline(ws, [3])
    with pytest.raises(TypeError):
        Pipeline("workspace", [])
    with pytest.raises(ValueError, match=r"Step \[s\]: script not found at: .*b.py; did you mean 'a.py'"):
        Pipeline(ws, [PythonScriptStep("b.py", name="s", source_directory="src")])
    with pytest.raises(ValueError, match="lies outside its source directory"):
        Pipeline(ws, [PythonScriptStep("../src2/b.py", name="s", source_directory="src")])


def test_a_step_that_could_not_be_built_claims_no_output(ws: Workspace) -> None:
    o = PipelineData("o")
    with pytest.raises(ValueError):
        CommandStep(["p"], name="s", outputs=[o], retries="3")
    assert built(ws, CommandStep(["p"], name="again", outputs=[o])).outputs[0].name == "o"


def test_a_script_is_named_below_its_source_directory_however_it_was_written(ws: Workspace) -> None:
    forms = ["a.py", "./a.py", f"{ws.root}/src/a.py", Path("a.py")]
    assert [built(ws, PythonScriptStep(form, name="s", source_directory="src")).script for form in forms] == ["a.py"] * 4


def test_a_project_reached_through_a_link_is_the_same_project(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ws.root)
    step = CommandStep(["cat", Path(tmp_path, "link", "x", "y.csv")], name="s", source_directory=tmp_path / "link" / "src")
    found = built(ws, step)
    assert (found.source_directory, found.inputs[0].source) == ("src", PathSource(("x/y.csv",)))


def test_a_run_configuration_gives_target_and_variables(ws: Workspace) -> None:
    config = RunConfiguration()
    config.target = ws.compute_targets["local"]
    config.environment_variables = {"A": "1", "B": "1"}
    step = built(ws, CommandStep(["p"], name="s", runconfig=config, environment_variables={"B": "2"}))
    assert (step.compute, step.environment_variables) == ("local", (("A", "1"), ("B", "2")))
    with pytest.raises(AttributeError):
        config.traget = "big"  # type: ignore[attr-defined]


def test_a_shell_gets_what_was_formatted_into_its_script(world: World) -> None:
    world.write("in/x.txt", "input\n")
    world.define("""
o, word = PipelineData("a", output_name="b"), PipelineParameter("word", "two words")
i = Dataset.File.from_files("in").as_named_input("i")
p = Pipeline(ws, [CommandStep(f'cat {i}/x.txt > {o}; echo "{word}_x" "$1" >> {o}; basename $AML_PARAMETER_word >> {o}', name="s",
    inputs=[i], outputs=[o], params={"word": word}, arguments=[f"--{word}"])])
""")
    assert world.run().output("s", "b") == b"input\ntwo words_x --two words\ntwo\n"
