"""A cosmetic change accepted by hand: who, when and why stand there for ever, and it can be taken back."""

from __future__ import annotations

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import UsageError
from worlds import World

DEFINITION = """
data, model = PipelineData("data"), PipelineData("model")
rate = PipelineParameter("rate", 1)
prep = PythonScriptStep("prep.py", name="prep", arguments=[Path("raw.txt"), data], outputs=[data], source_directory="src")
train = PythonScriptStep("train.py", name="train", arguments=[data, model, rate], inputs=[data], outputs=[model], source_directory="src")
pipeline = Pipeline(ws, [prep, train], name="demo")
"""


@pytest.fixture
def demo(world: World) -> World:
    world.write("raw.txt", "1 2 3")
    world.write("src/prep.py", "import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read())\n")
    world.write("src/train.py", "import sys\nopen(sys.argv[2], 'w').write(open(sys.argv[1]).read() + sys.argv[3])\n")
    world.define(f"from pathlib import Path\n{DEFINITION}")
    assert world.run().ran == {"prep", "train"}
    return world


def comment(world: World, name: str, text: str = "# a comment\n") -> None:
    path = world.root / "src" / name
    path.write_text(text + path.read_text())


def test_an_accepted_change_is_reused_and_says_who_and_why(demo: World) -> None:
    comment(demo, "train.py")
    assert demo.plan() == {"prep": "Reuse", "train": "Execute"}
    done = demo.cli("accept", "train", "--because", "comment only")
    assert done.returncode == 0 and "src/train.py +1 -0" in done.stdout
    assert "= train  reuse from run 1 (accepted by " in demo.cli("plan").stdout
    second = demo.run()
    assert second.ran == set() and second.record.state == "reused"
    assert second.output("train", "model") == b"1 2 31"
    why = demo.cli("why", "2", "train").stdout
    assert "comment only" in why and "changed, and accepted as it is:\n  src/train.py +1 -0" in why
    listed = demo.json("accept", "--list")["items"][0]
    assert (listed["step"], listed["run"], listed["because"], listed["revoked_at"]) == ("train", 1, "comment only", None)


def test_a_revoked_acceptance_makes_the_step_run_and_stays_in_the_history(demo: World) -> None:
    comment(demo, "train.py")
    demo.cli("accept", "train", "--because", "comment only")
    demo.run()
    assert demo.cli("accept", "--revoke", "1").returncode == 0
    assert demo.run().ran == {"train"}
    assert "comment only" in demo.cli("why", "2", "train").stdout
    assert "revoked by" in demo.cli("accept", "--list").stdout
    again = demo.cli("accept", "--revoke", "1")
    assert again.returncode == 2 and "revoked already" in again.stderr


def test_it_holds_for_exactly_what_was_accepted(demo: World) -> None:
    comment(demo, "train.py")
    demo.cli("accept", "train", "--because", "comment only")
    assert demo.plan()["train"] == "Reuse"
    assert demo.plan(parameters={"rate": 2})["train"] == "Execute"
    before = (demo.root / "src/train.py").read_text()
    comment(demo, "train.py", "# another\n")
    assert demo.plan()["train"] == "Execute"
    (demo.root / "src/train.py").write_text(before)
    assert demo.plan()["train"] == "Reuse"
    demo.write("raw.txt", "4")
    assert demo.run().ran == {"prep", "train"}, "another input is another pair"


def test_a_forced_step_runs_although_it_was_accepted(demo: World) -> None:
    comment(demo, "train.py")
    demo.cli("accept", "train", "--because", "comment only")
    assert demo.run(force_steps=("train",)).ran == {"train"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("accept", "prep", "--because", "x"), "more than code and environment: input"),
        (("accept", "train", "--because", "x"), "depends on what prep makes"),
        (("accept", "trian", "--because", "x"), "did you mean 'train'"),
        (("accept", "train", "7", "--because", "x"), "there is no run '7'"),
        (("accept", "train"), "needs a reason"),
        (("accept",), "accept needs STEP"),
        (("accept", "--revoke", "9"), "no acceptance 9"),
        (("accept", "--list", "--revoke", "9"), "exclude each other"),
    ],
)
def test_what_cannot_be_accepted_is_told(demo: World, words: tuple[str, ...], said: str) -> None:
    demo.write("raw.txt", "4 5")
    done = demo.cli(*words)
    assert done.returncode in (2, 4) and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert Engine.open(str(demo.root)).acceptances() == ()


def test_a_changed_parameter_is_never_accepted(demo: World) -> None:
    demo.define(f"from pathlib import Path\n{DEFINITION.replace('[data, model, rate]', '[data, model, 5]')}")
    engine = Engine.open(str(demo.root))
    with pytest.raises(UsageError, match="more than code and environment: argument"):
        engine.accept("train", None, "x")


def test_there_is_nothing_to_accept_where_nothing_changed(demo: World) -> None:
    with pytest.raises(UsageError, match="nothing to accept"):
        Engine.open(str(demo.root)).accept("train", None, "x")


def test_a_damaged_result_cannot_be_kept(demo: World) -> None:
    comment(demo, "train.py")
    demo.cli("accept", "train", "--because", "comment only")
    engine = Engine.open(str(demo.root))
    path = engine.artifact(engine.find_run("1").id, "train", "model")
    import os

    os.chmod(path, 0o644)
    with open(path, "w") as file:
        file.write("damaged")
    assert demo.plan()["train"] == "Execute"
    assert demo.run().output("train", "model") == b"1 2 31"
