"""The benchmarks work: graphs are what they say, outputs are checked, ratios come from one session. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import command, peers, session, soak, targets
from benchmarks.contenders import FloorPython, make_project
from benchmarks.errors import BenchError
from benchmarks.graphs import SHAPES, chain, cksum, fnv, layered, source_bytes
from benchmarks.measure import Bench, Entry, Figure, Sample
from benchmarks.site import PROGRAMS, Site
from benchmarks.workloads import Arena


@pytest.mark.parametrize("shape", SHAPES)
def test_a_graph_is_always_the_same_and_needs_only_what_comes_before(shape: str) -> None:
    graph = SHAPES[shape](200)
    assert graph == SHAPES[shape](200)
    assert graph.size == 200
    assert all(need < index for index, needs in enumerate(graph.needs) for need in needs)


def test_the_changed_source_makes_the_wanted_share_run() -> None:
    graph = layered(1000)
    assert len(graph.below(graph.step_with_below(98))) == 98
    assert len(chain(50).below(10)) == 40


def test_the_sums_are_those_the_programs_write(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    (tmp_path / "b").write_bytes(bytes(range(256)) * 40)
    data = (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes()
    programs = [([str(PROGRAMS / "step.sh")], cksum)]
    compiled = Site.of(tmp_path / "site").compiled("step")
    if compiled:
        programs.append(([compiled], fnv))
    for words, digest in programs:
        subprocess.run([*words, "out", "a", "b"], cwd=tmp_path, check=True)
        assert (tmp_path / "out").read_bytes() == digest(data)


def test_a_quick_session_measures_checks_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "figures.json"
    words = [
        "w1",
        "w2",
        "w3",
        "--quick",
        "--peers",
        "none",
        "--rounds",
        "1",
        "--root",
        str(tmp_path / "bench"),
        "--json",
        str(document),
    ]
    assert command.main(words) == 0
    found = json.loads(document.read_text())
    assert found["schema"] == "mlpipe.bench/1" and not found["notes"]
    ran = {(one["case"], one["contender"], one["workload"]): one["ran"] for one in found["figures"]}
    for contender in ("mlpipe-tui", "floor_py"):
        assert ran["layered 20", contender, "W1"] == 0
        assert ran["chain 20", contender, "W1"] == 0
        assert ran["fan 20", contender, "W1"] == 0
        assert ran["layered 20", contender, "W2"] == 20
        assert ran["layered 20, 3 below", contender, "W3"] == 3
        assert ran["layered 20, touched", contender, "W3t"] == 0
    assert all(sample["wall_seconds"] > 0 for one in found["figures"] for sample in one["samples"])
    assert "worth nothing" in capsys.readouterr().out


def bench(root: Path) -> Bench:
    return Bench(str(root), rounds=2, jobs=2, environment={"PATH": "/usr/bin:/bin"}, say=lambda _: None)


def test_a_contender_with_a_wrong_output_is_found(tmp_path: Path) -> None:
    site = Site.of(tmp_path)
    floor = FloorPython(site.bare_python, str(PROGRAMS / "floor.py"))
    arena = Arena(bench(tmp_path), site, [floor], layered(20), site.step())
    arena.settle()
    assert arena.contenders == [floor]
    arena.check(floor)
    Path(arena.folders["floor_py"], "out", "7.txt").write_text("stale\n")
    with pytest.raises(BenchError, match="1 outputs are wrong, the first is that of step 7"):
        arena.check(floor)
    arena.bench.close()


def test_the_floor_runs_what_a_change_concerns_and_nothing_else(tmp_path: Path) -> None:
    site, graph = Site.of(tmp_path), layered(50)
    floor = FloorPython(site.bare_python, str(PROGRAMS / "floor.py"))
    folder = site.folder("floor")
    make_project(floor, folder, graph, site.step(), 2)
    floor.forget(folder, graph)
    for edition, ran in ((0, 50), (0, 0), (1, len(graph.below(3)))):
        Path(folder, "src", "3.txt").write_bytes(source_bytes(3, edition))
        done = subprocess.run(floor.command(folder), cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout == f"{ran} ran\n"


def test_turns_are_taken_and_who_fails_is_left_out_and_named(tmp_path: Path) -> None:
    order: list[str] = []
    measured = bench(tmp_path)

    def entry(name: str, program: str) -> Entry:
        return Entry(name, lambda: [program], str(tmp_path), lambda _: order.append(name))

    made = measured.compare("W", "case", [entry("a", "/bin/true"), entry("b", "/bin/true"), entry("c", "/bin/false")])
    measured.close()
    assert [figure.contender for figure in made] == ["a", "b"]
    assert all(len(figure.samples) == 2 for figure in made)
    assert order.count("c") == 1 and order.count("a") == order.count("b") == 3
    assert order[-4:-2] != order[-2:], "each round begins with another one"
    assert measured.notes == ["W case: c: false ended with 1: no output"]


def figure(contender: str, *walls: float, case: str = "case") -> Figure:
    return Figure("W1", case, contender, tuple(Sample(wall, wall, 1) for wall in walls))


def test_a_ratio_is_one_of_medians_of_the_same_session() -> None:
    figures = [figure("ours", 3.0, 1.0, 2.0), figure("peer", 4.0, 10.0, 1.0), figure("ours", 9.0, case="other")]
    times = targets.Target("x", "W1", "case", "ours", "peer", 0.5)
    rates = targets.Target("x", "W1", "case", "ours", "peer", 2.5, at_least=True)
    nobody = targets.Target("x", "W1", "case", "ours", "absent", 2.0)
    itself = targets.Target("x", "W1", "other", "ours", "ours", 4.0, base_case="case")
    found = targets.judge(figures, [times, rates, nobody, itself])
    assert [verdict.ratio for verdict in found] == [0.5, 2.0, None, 4.5]
    assert [verdict.word for verdict in found] == ["ok", "missed", "not measured", "missed"]


def test_every_target_names_a_case_that_is_measured() -> None:
    names = {workload.lower() for workload in session.TITLES} - {"w3t"}
    assert names == set(command.WORKLOADS)
    assert {target.workload for target in targets.TARGETS} <= set(session.TITLES)


def made_session(load: float) -> session.Session:
    figures = (figure("mlpipe-tui", 2.0, case="layered 1,000"), figure("doit", 1.0, case="layered 1,000"))
    return session.Session(
        date="2026-01-01 00:00 UTC", machine="m", cores=2, load_at_start=(load, 0.0, 0.0), versions={"doit": "0.37.0"},
        absent={"tup": "not on this machine"}, figures=figures, verdicts=tuple(targets.judge(figures)),
    )  # fmt: skip


def test_a_busy_machine_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "REPOSITORY", tmp_path)
    command._publish(made_session(3.1), {})
    assert not list(tmp_path.iterdir())
    assert "not published: the load average was 3.1" in capsys.readouterr().out
    command._publish(made_session(2.9), {"null": "profile\n"})
    text = (tmp_path / "docs/benchmarks.md").read_text()
    assert "| up to date, 1,000 steps | doit | <= 0.27x | 2.00x | 2.00x | **missed** |" in text
    assert "| first run, 1,000 steps | doit | <= 1.00x |  |  | not measured |" in text
    assert "tup: not on this machine" in text
    assert (tmp_path / "docs/benchmarks/profiles/null.txt").read_text() == "profile\n"


@pytest.mark.parametrize(("words", "message"), [
    (["w77"], "there is no benchmark 'w77'; expected some of w1, w2,"),
    (["--peers", "bazel"], "there is no peer 'bazel'; expected none, or some of doit,"),
    (["w1", "soak"], "soak runs alone"),
    (["--rounds", "0"], "--rounds is 0; expected 1 or more"),
])  # fmt: skip
def test_wrong_words_are_told_in_a_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_peer_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = peers.find(str(tmp_path), "/usr/bin/python3", ["make", "tup"], lambda _: None)
    assert found.programs == {} and set(found.absent) == {"make", "tup"}


def test_a_soak_finds_what_grows() -> None:
    flat = [soak.Point(runs, 5.0, 40 << 20, 8, 1, 100_000 + runs * 2000, 1 << 20, 0) for runs in (100, 200, 300)]
    assert soak.verdict(flat) == []
    grown = soak.Point(400, 5.0, 45 << 20, 9, 2, 3_000_000, 65 << 20, 1)
    assert [problem.split()[0] for problem in soak.verdict([*flat, grown])] == ["memory", "open", "threads", "the", "the", "1"]
