"""What the screens say, without any screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from mlpipe_engine.model.filters import parse_filter
from mlpipe_engine.model.plan import Cause, Execute, Result, Reuse, Skip, StepPlan, Undecided
from mlpipe_engine.model.records import MetricRecord, RunRecord, StepRecord
from mlpipe_engine.model.spec import ParameterSpec, PipelineSpec, StepSpec, SubmitOptions
from mlpipe_engine.model.states import State
from mlpipe_engine.model.views import Explanation, Plan

from mlpipe_tui.glyphs import ASCII, UNICODE
from mlpipe_tui.viewmodels import details, form, runs, steps, why, words
from mlpipe_tui.viewmodels.header import header, run_state
from mlpipe_tui.viewmodels.rich_lines import plain
from mlpipe_tui.viewmodels.shots import PlanShot, RunLine, RunShot, RunsPage, StepShot

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
SPEC = PipelineSpec(
    name="churn", parameters=(ParameterSpec(name="lr", type="float", default=0.1), ParameterSpec(name="name", type="str", required=True)),
    steps=(StepSpec(name="split", kind="python", script="split.py", source_directory="src", where="/p/pipeline.py:3"),
           StepSpec(name="train", kind="python", script="train.py", source_directory="src", where="/p/pipeline.py:9")),
)  # fmt: skip
GRAPH = (("split", ()), ("train", ("split",)))
RUN = RunRecord(
    id="a" * 32,
    number=42,
    pipeline="churn",
    experiment="churn",
    state=State.RUNNING,
    created_at="2026-11-24T14:59:02Z",
    started_at="2026-11-24T14:59:02Z",
)
OLD = Result(7, "b" * 32, 41, "train", "k1:f", "k1:b", "k1:s", "k1:t", None, (), 70.0, "2026-11-23T14:02:00Z")


def step(name: str, state: State, **more: object) -> StepRecord:
    return StepRecord(run_id=RUN.id, name=name, index=0, state=state, **more)  # type: ignore[arg-type]


def run_shot(*records: StepRecord, **more: object) -> RunShot:
    return RunShot(run=RUN, steps=records, spec=SPEC, graph=GRAPH, numbers=(("b" * 32, 41),), latest=42, **more)  # type: ignore[arg-type]


def step_shot(record: StepRecord, compared: Result | None = None, **more: object) -> StepShot:
    explanation = Explanation(run=RUN, step=record, causes=record.causes, compared_with=compared)
    return StepShot(run=RUN, step=record, explanation=explanation, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.012, "12 ms"), (0.0, "0 ms"), (1.44, "1.4 s"), (59.96, "1:00"), (70, "1:10"), (3730, "1:02:10"), (None, "")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert words.took(seconds) == text


@pytest.mark.parametrize(("ago", "text"), [
    (timedelta(seconds=1), "now"), (timedelta(hours=2), "13:00"), (timedelta(days=1), "yest 15:00"), (timedelta(days=3), "Sat 15:00"),
    (timedelta(days=30), "25 Oct 15:00"), (timedelta(days=400), "2025-10-20"),
])  # fmt: skip
def test_moments(ago: timedelta, text: str) -> None:
    assert words.when((NOW - ago).isoformat(), NOW) == text
    assert words.when("no time", NOW) == "" == words.when(None, NOW)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (999_999, "1.0 MB"), (87_000_000, "87.0 MB"), (4.2e12, "4.2 TB"), (None, "")],
)
def test_sizes(value: float | None, text: str) -> None:
    assert words.size(value) == text


def test_a_trend_ends_with_the_last_value() -> None:
    assert words.trend((1.0, 2.0, 8.0), 8, UNICODE.bar) == "▁▂█"
    assert len(words.trend(tuple(map(float, range(1000))), 8, UNICODE.bar)) == 8
    assert words.trend(tuple(map(float, range(1000))), 8, UNICODE.bar)[-1] == "█"
    assert words.trend((1.0,), 8, UNICODE.bar) == "" == words.trend((float("nan"), float("inf")), 8, UNICODE.bar)
    assert words.trend((2.0, 2.0), 8, ASCII.bar) == ASCII.bar[3] * 2


def test_rows_of_a_run() -> None:
    causes = (
        Cause(kind="parameter", subject="lr", before="0.1", after="0.05"),
        Cause(kind="input", subject="data", root="split"),
    )
    shot = run_shot(
        step("split", State.REUSED, reused_from="b" * 32),
        step("train", State.RUNNING, causes=causes, started_at="2026-11-24T14:59:18Z", expected_seconds=70.0),
    )
    table = steps.of_run(shot, UNICODE, NOW)
    assert table.title == "churn · run 42 · 1 running · 1 reused"
    reused, running = table.lines
    assert (reused.sign, reused.word, reused.why) == ("↺", "reused", "= run 41, all six facts equal")
    assert (running.why, running.short_why) == ("lr 0.1 → 0.05; input data (split ran)", "lr 0.1 → 0.05 (+1)")
    assert running.time == "0:42 of ~1:10" and running.running
    assert [line.name for line in steps.of_run(shot, UNICODE, NOW, parse_filter("state:running")).lines] == ["train"]
    waiting = steps.of_run(run_shot(step("split", State.RUNNING), step("train", State.QUEUED)), ASCII, NOW).lines[1]
    assert (waiting.sign, waiting.why) == ("o", "needs split")


def test_a_run_without_runner_shows_no_running_step() -> None:
    table = steps.of_run(
        run_shot(step("split", State.RUNNING, started_at=RUN.started_at), step("train", State.QUEUED), interrupted=True),
        UNICODE,
        NOW,
    )
    assert [line.word for line in table.lines] == ["interrupted", "queued"] and "interrupted" in table.title
    assert (
        run_state(run_shot(step("split", State.RUNNING), interrupted=True), UNICODE, NOW)[0] == "! run 42 interrupted (R goes on)"
    )


def test_rows_of_a_plan() -> None:
    plan = Plan(pipeline="churn", expected_seconds=85.0, steps=(
        StepPlan(step="split", decision=Reuse(OLD)), StepPlan(step="train", decision=Execute((Cause(kind="new", subject="new step"),)), expected_seconds=70.0),
    ))  # fmt: skip
    table = steps.of_plan(PlanShot(spec=SPEC, graph=GRAPH, options=SubmitOptions(experiment="churn"), plan=plan), UNICODE)
    assert table.title == "churn · plan · 1 to run · 1 of 2 reused · about 1:25"
    assert [(line.word, line.why, line.time) for line in table.lines] == [
        ("reuse", "= run 41, all six facts equal", ""),
        ("would run", "never ran", "~1:10"),
    ]


def test_six_facts_root_and_undo() -> None:
    causes = (
        Cause(kind="parameter", subject="lr", before="0.1", after="0.05"),
        Cause(kind="input", subject="data", before="aa", after="bb", root="split", detail="seed 7 -> 11"),
    )
    answer = why.of_step(step_shot(step("train", State.SUCCEEDED, causes=causes, seconds=70.0), OLD), SPEC, NOW)
    assert answer.headline == "Ran because 2 of 6 facts differ from the nearest earlier result (run 41, yest 14:02)."
    assert [(fact.name, fact.equal) for fact in answer.facts] == [
        ("code", True), ("params", False), ("inputs", False), ("env", True), ("outputs", True), ("policy", True),
    ]  # fmt: skip
    assert answer.roots == ("split ran: seed 7 -> 11",)
    assert answer.undo == ("Undo: set lr back to 0.1; undo what made split run. Then it is reused, saving ~1:10.",)
    assert answer.undo_command == (), "the parameter alone would not do"
    text = plain(why.lines(answer, UNICODE, 80))
    assert "≠ params   lr  0.1 → 0.05" in text and "= code" in text and "because split ran: seed 7 -> 11" in text
    assert "| params | ≠ | lr 0.1 -> 0.05 |" in why.markdown(answer, "train")


def test_a_parameter_alone_is_undone_by_a_command() -> None:
    causes = (Cause(kind="parameter", subject="lr", before="0.1", after="0.05"),)
    answer = why.of_step(step_shot(step("train", State.SUCCEEDED, causes=causes), OLD), SPEC, NOW)
    assert answer.undo_command == ("run", "churn", "--param", "lr=0.1") and not answer.acceptable


def test_code_alone_can_be_accepted() -> None:
    causes = (Cause(kind="file", subject="src/train.py", detail="+1 -1"),)
    planned = why.of_plan(StepPlan(step="train", decision=Execute(causes, OLD), expected_seconds=3.0), SPEC, NOW)
    assert planned.acceptable and planned.undo == ("Undo: restore src/train.py. Then it is reused, saving ~3.0 s.",)
    assert "1 of 6 facts differ from run 41" in planned.headline


@pytest.mark.parametrize(("record", "text"), [
    (step("train", State.REUSED, reused_from="b" * 32), "Reused: all 6 facts equal those of run 41."),
    (step("train", State.REUSED, unread=(Cause(kind="accepted", subject="accepted by me: comment"),)), "kept although something differs: accepted by me: comment"),
    (step("train", State.SKIPPED, causes=(Cause(kind="upstream", subject="step split failed"),)), "Skipped: step split failed."),
    (step("train", State.QUEUED), "Not decided yet: it needs split (running)."),
    (step("train", State.FAILED, causes=(Cause(kind="new", subject="new step"),)), "there is no earlier result"),
    (step("train", State.CANCELED), "Canceled before it was decided."),
])  # fmt: skip
def test_every_state_has_an_answer(record: StepRecord, text: str) -> None:
    shot = step_shot(record, made_in=41, blocked=(("split", "running"),))
    assert text in why.of_step(shot, SPEC, NOW).headline
    assert len(why.of_step(shot, SPEC, NOW).facts) == 6


@pytest.mark.parametrize(
    "decision", [Undecided(("split",)), Skip((Cause(kind="condition", subject="when is false"),)), Reuse(OLD)]
)
def test_every_decision_has_an_answer(decision: Undecided | Skip | Reuse) -> None:
    answer = why.of_plan(StepPlan(step="train", decision=decision), SPEC, NOW)
    assert answer.headline and len(answer.facts) == 6 and plain(why.lines(answer, ASCII, 60)).replace("·", "").isascii()


def test_metrics_and_what_an_empty_tab_says() -> None:
    def metric(value: str, kind: str = "scalar") -> MetricRecord:
        return MetricRecord(run_id=RUN.id, step="train", name="auc", kind=kind, value=value)

    found = details.series((metric("0.1"), metric("0.9"), metric("NaN"), metric('{"a": 1}', "table")))
    assert [(item.kind, item.values) for item in found] == [("scalar", (0.1, 0.9)), ("table", ())]
    assert "0.9" in plain(details.metric_lines(found, "train", UNICODE))
    assert details.HOW_TO_LOG in plain(details.metric_lines((), "train", UNICODE))
    assert details.no_log(step("train", State.QUEUED), (("split", "running"),), ran=False) == "Waits for split (running)."


def test_the_place_of_a_fault() -> None:
    text = 'Traceback (most recent call last):\n  File "/x/.mlpipe/runs/e/1/s/code/train.py", line 48, in fit\n    raise\n' \
           '  File "/usr/lib/numpy.py", line 3, in f\nValueError: NaN in plan\nafterwards\n'  # fmt: skip
    found = details.fault_in(text, "/x/.mlpipe/runs/e/1/s/code", "/x/src")
    assert found is not None and (found.path, found.line, found.message) == ("/x/src/train.py", 48, "ValueError: NaN in plan")
    assert details.fault_in("killed\n", "/c", "/s") is None


def test_rows_of_runs_against_a_baseline() -> None:
    from dataclasses import replace

    base = replace(RUN, id="b" * 32, number=41, state=State.SUCCEEDED, seconds=104.0, parameters=(("lr", 0.1), ("seed", 7)))
    other = RunLine(
        run=replace(base, id="c" * 32, number=40, parameters=(("lr", 0.05), ("seed", 7))),
        reused=3,
        steps=11,
        metric=(0.1, 0.8941),
    )
    row = runs.row(other, base, UNICODE, NOW, marked=True)
    assert (row.mark, row.changed, row.reused, row.metric, row.trend) == ("*", "lr 0.1→0.05", "3/11", "0.8941", "▁█")
    assert runs.row(RunLine(run=base), base, UNICODE, NOW, marked=False).changed == "(baseline)"
    gone = runs.row(RunLine(run=RUN, interrupted=True), None, UNICODE, NOW, marked=False)
    assert gone.word == "interrupted" and gone.time == "", "nobody knows how long it went on"
    page = RunsPage(lines=(), total=0, all=42, wanted=parse_filter("state:failed x"), without=(("state:failed", 3), ("x", 0)))
    assert runs.title(page, 0) == "Runs · 0/42 · filter: state:failed x"
    assert "  without state:failed: 3 runs" in runs.nothing(page)


SCREENS = (("1", "Pipeline"), ("2", "Runs"), ("6", "Compute"))


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40, 25])
def test_the_header_never_loses_the_run(width: int) -> None:
    found = header("churn", SCREENS, "Runs", ("run 42 ● 6/11 · 0:58", "warning"), "watch on", width)
    text = "".join(part for part, _ in found.spans)
    assert "run 42 ● 6/11 · 0:58" in text
    assert ("watch on" in text) == (width >= 60)
    if width >= 60:
        assert "[2 Runs]" in text and len(text) <= width
    for start, end, name in found.targets:
        assert text[start:end].strip(" []").split()[-1] in (name, *"126")


def test_the_command_line_of_a_form() -> None:
    options = form.options_for(SPEC, (("lr", 0.05), ("name", "a b")))
    assert form.command_line(form.run_words(SPEC, options)) == "mlpipe-tui run churn --param lr=0.05 --param 'name=a b' --detach"
    assert form.changed(SPEC, {"lr": "0.1", "name": "x"}) == {"name": "x"}
    assert options.source == "tui" and options.experiment == "churn"
