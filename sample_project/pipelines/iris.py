"""The pipeline of the article this project re-creates: prepare iris, train a model, compare it with guessing."""

from mlpipe_engine import Dataset, Experiment, Pipeline, PipelineData, PipelineParameter, PythonScriptStep, Workspace

ws = Workspace.from_config()

iris = Dataset.File.from_files("data/iris.csv").register(ws, "iris", create_new_version=True).as_named_input("iris").as_mount()
prepared = PipelineData("prepared")
model = PipelineData("model")
comparison = PipelineData("comparison")

prepare = PythonScriptStep(
    "prepare.py", name="prepare", source_directory="iris", arguments=[iris, prepared], inputs=[iris], outputs=[prepared]
)
train = PythonScriptStep(
    "train.py",
    name="train",
    source_directory="iris",
    arguments=[prepared, model, "--neighbours", PipelineParameter("neighbours", 5, minimum=1, maximum=50)],
    inputs=[prepared],
    outputs=[model],
)
compare = PythonScriptStep(
    "compare.py",
    name="compare",
    source_directory="iris",
    arguments=[prepared, model, comparison],
    inputs=[prepared, model],
    outputs=[comparison],
)

pipeline = Pipeline(ws, steps=[compare], name="iris")  # prepare and train are pulled in, because compare needs them

if __name__ == "__main__":
    Experiment(ws, "iris").submit(pipeline).wait_for_completion(show_output=True)
