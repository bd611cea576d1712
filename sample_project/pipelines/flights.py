"""Will a flight out of New York arrive late? Ten steps from raw tables to a report, with two models side by side."""

from mlpipe_engine import Dataset, Experiment, Pipeline, PipelineData, PipelineParameter, PythonScriptStep, SqlStep, Workspace

ws = Workspace.from_config()

max_delay = PipelineParameter("max_delay", 300, minimum=1, maximum=1440)
learning_rate = PipelineParameter("learning_rate", 0.1, minimum=0.001, maximum=1.0)


def table(name, **expected):
    """A run keeps what it read as a version of a dataset, and checks what is expected of it before a step gets it."""
    dataset = Dataset.Tabular.from_parquet_files(f"data/{name}.parquet").with_expectations(**expected)
    return dataset.register(ws, name, create_new_version=True).as_named_input(name)


flight_table = table(
    "flights",
    min_rows=1,
    columns={
        "month": "long",
        "day": "long",
        "sched_dep_time": "long",
        "dep_delay": "long",
        "arr_delay": "long",
        "carrier": "string",
    },
    max_null_share={"dep_delay": 0.05, "arr_delay": 0.05, "dest": 0},
    ranges={"month": (1, 12), "day": (1, 31), "dep_delay": (-120, None)},
)
weather = table("weather", columns=["origin", "month", "day", "hour", "temp"], ranges={"temp": (-40, 130), "hour": (0, 23)})
planes = table("planes", unique="tailnum", columns={"seats": "long", "year": "float"})
airports = table("airports", unique="faa")

departures = PipelineData("departures")
hours = PipelineData("hours")
flights = PipelineData("flights_clean")
joined = PipelineData("joined")
features = PipelineData("features")
data = PipelineData("data")
linear = PipelineData("linear")
trees = PipelineData("trees")
scores = PipelineData("scores")
chosen = PipelineData("chosen")
page = PipelineData("page", pipeline_output_name="report")


def step(name, arguments, outputs, script=None, **more):
    """All steps share one source directory; each runs again only when a file that it read has changed."""
    return PythonScriptStep(
        f"{script or name}.py",
        name=name,
        source_directory="src",
        arguments=arguments,
        outputs=outputs,
        timeout_seconds=600,
        **more,
    )


ingest = step(
    "ingest", ["--departures", departures, "--hours", hours], [departures, hours], inputs=[flight_table, weather, airports]
)
clean = step("clean", ["--departures", departures, "--max-delay", max_delay, "--out", flights], [flights])
join_weather = SqlStep(
    script_name="join_weather.sql", name="join_weather", source_directory="src", inputs=[flights, hours, planes], output=joined
)
make_features = step("features", ["--joined", joined, "--out", features], [features])
split = step("split", ["--features", features, "--out", data], [data])
train_linear = step("train_linear", ["--data", data, "--learning-rate", learning_rate, "--out", linear], [linear])
train_trees = step("train_trees", ["--data", data, "--learning-rate", learning_rate, "--out", trees], [trees])
evaluate = step("evaluate", ["--data", data, "--linear", linear, "--trees", trees, "--out", scores], [scores])
select = step("select", ["--scores", scores, "--linear", linear, "--trees", trees, "--out", chosen], [chosen], script="choose")
report = step(
    "report",
    ["--scores", scores, "--chosen", chosen, "--data", data, "--linear", linear, "--trees", trees, "--out", page],
    [page],
)

pipeline = Pipeline(
    ws,
    steps=[ingest, clean, join_weather, make_features, split, [train_linear, train_trees], evaluate, select, report],
    name="flights",
    description="Arrival delay of flights out of New York, predicted at departure",
)

if __name__ == "__main__":
    Experiment(ws, "flights").submit(pipeline).wait_for_completion(show_output=True)
