"""A run as one file: the same bytes every time, reused elsewhere, replayed elsewhere; and no hostile file does any harm."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import InputError
from mlpipe_engine.hashing.files import hash_bytes
from mlpipe_engine.model.trees import Entry, Tree
from mlpipe_engine.store import bundles
from mlpipe_engine.store.bundles import Archive
from worlds import World

DEFINITION = """
from pathlib import Path
data, model, log = PipelineData("data"), PipelineData("model"), PipelineData("log")
rate = PipelineParameter("rate", 1)
prep = PythonScriptStep("prep.py", name="prep", arguments=[Path("in/raw.txt"), Path("in/sets"), data], outputs=[data], source_directory="src")
train = PythonScriptStep("train.py", name="train", arguments=[data, model, rate], inputs=[data], outputs=[model], source_directory="src")
pipeline = Pipeline(ws, [prep, train], name="demo")
"""


def fill(world: World) -> World:
    world.write("in/raw.txt", "raw\n")
    world.write("in/sets/a.csv", "1\n")
    world.write("in/sets/deep/b.csv", "2\n")
    world.write(
        "src/prep.py",
        "import sys, glob\nprint('hello')\nopen(sys.argv[3], 'w').write(open(sys.argv[1]).read() + str(len(sys.argv[2])>0))\n",
    )
    world.write(
        "src/train.py",
        "import os, sys\nfrom mlpipe_run import Run\nRun.get_context().log('rmse', 0.5)\nos.mkdir(sys.argv[2])\n"
        "open(sys.argv[2] + '/weights', 'w').write(open(sys.argv[1]).read() + sys.argv[3])\nos.symlink('weights', sys.argv[2] + '/latest')\n"
        "open(sys.argv[2] + '/tool.sh', 'w').close()\nos.chmod(sys.argv[2] + '/tool.sh', 0o755)\n",
    )  # fmt: skip
    world.define(DEFINITION)
    return world


@pytest.fixture
def demo(world: World) -> World:
    fill(world).run(tags=(("owner", "ann"),))
    return world


@pytest.fixture
def other(world: World, tmp_path: Path) -> World:
    return fill(World(tmp_path / "other"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One bundle for all the tests that spoil it."""
    world = fill(World(tmp_path_factory.mktemp("exported") / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        done = world.run()
    done.engine.export(done.record.id, str(world.root / "b.zip"))
    return (world.root / "b.zip").read_bytes()


def export(world: World, name: str = "b.zip", *words: str) -> Path:
    done = world.cli("export", "1", "-o", name, *words)
    assert done.returncode == 0, done.stderr
    return world.root / name


def test_an_exported_run_has_the_same_bytes_every_time_and_its_manifest_first(demo: World) -> None:
    first, second = export(demo, "a.zip", "--outputs", "all"), export(demo, "b.zip", "--outputs", "all")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        document = json.loads(archive.read("manifest.json"))
    assert names[0] == "manifest.json" and names[1:] == sorted(names[1:])
    assert document["schema"] == "mlpipe.bundle/1" and sorted(file[0] for file in document["files"]) == names[1:]
    assert demo.json("verify", "a.zip")["outputs"] == ["prep.data", "train.model"]
    assert "a.zip exists" in demo.cli("export", "1", "-o", "a.zip").stderr


def test_nothing_of_this_machine_but_what_was_declared(world: World) -> None:
    fill(world)
    world.define(
        DEFINITION.replace(
            'source_directory="src")\ntrain', "source_directory=\"src\", environment_variables={'SEED': '7'})\ntrain"
        )
    )
    if (
        os.system(f"git -C '{world.root}' init -q && git -C '{world.root}' remote add origin https://ann:hunter2@example.org/x")
        == 0
    ):
        os.system(f"cd '{world.root}' && git add -A && git -c user.name=a -c user.email=a@b commit -qm x")
    done = world.cli("run", env=world.environment(SECRET_TOKEN="canary-1234"))
    assert done.returncode == 0, done.stderr
    path = export(world, "b.zip", "--outputs", "all")
    with zipfile.ZipFile(path) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert b"canary-1234" not in everything and b"hunter2" not in everything
    assert str(world.root).encode() not in everything, "no path of this machine"
    assert b"SEED" in everything


def test_an_imported_run_is_shown_and_reused(demo: World, other: World) -> None:
    path = export(demo, "b.zip", "--outputs", "all")
    done = other.cli("import", str(path))
    assert done.returncode == 0 and "imported as run 1: run 1 of project project" in done.stdout, done.stderr
    run = other.json("show", "1", "-m")
    assert run["run"]["id"] == demo.json("show", "1")["run"]["id"] and run["run"]["tags"] == {"owner": "ann"}
    assert run["metrics"][0]["value"] == 0.5 and "run 1 of project" in run["run"]["properties"]["imported from"]
    assert other.cli("logs", "1", "prep").stdout == "hello\n"
    assert other.plan() == {"prep": "Reuse", "train": "Reuse"}
    second = other.run()
    assert second.ran == set() and second.step("train").reused_from == run["run"]["id"]
    model = Path(second.engine.artifact(second.record.id, "train", "model"))
    assert (model / "weights").read_text() == "raw\nTrue1" and os.readlink(model / "latest") == "weights"
    assert os.access(model / "tool.sh", os.X_OK) and not os.stat(model / "weights").st_mode & 0o222
    again = other.cli("import", str(path))
    assert again.returncode == 4 and "in the project already, as run 1" in again.stderr
    assert not (other.root / ".mlpipe/tmp").exists()
    other.write("src/train.py", "import sys\nopen(sys.argv[2], 'w').write('new')\n")
    assert other.run().ran == {"train"} and other.cli("diff", "1", "3", "--patch").stdout.count("-import os, sys") == 1


def test_a_result_whose_outputs_stayed_behind_is_made_again(demo: World, other: World) -> None:
    other.cli("import", str(export(demo, "b.zip", "--outputs", "train.model")))
    assert other.plan()["prep"] == "Execute"
    assert other.run().ran == {"prep"}, "what train made came along, and is reused"
    wrong = demo.cli("export", "1", "-o", "c.zip", "--outputs", "modle")
    assert wrong.returncode == 2 and "did you mean 'model'" in wrong.stderr and not (demo.root / "c.zip").exists()


def test_a_run_of_reused_steps_can_be_taken_along_too(demo: World, other: World) -> None:
    demo.run()
    done = demo.cli("export", "2", "-o", "b.zip", "--outputs", "all")
    assert done.returncode == 0
    assert other.cli("import", str(demo.root / "b.zip")).returncode == 0
    assert "reused, where this run was made" in other.cli("show", "1").stdout
    assert other.run().ran == set()


def test_a_replay_is_equal_and_looks_at_no_working_tree(demo: World) -> None:
    path = export(demo)
    demo.write("src/train.py", "raise SystemExit(1)\n")
    for what in ("1", str(path)):
        done = demo.cli("replay", what)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == "prep: equal\ntrain: equal\neverything is equal\n"
    only = demo.json("replay", "1", "--step", "prep")
    assert only["equal"] and [item["name"] for item in only["items"]] == ["prep"]
    assert len(demo.json("runs")["items"]) == 1, "a replay is no run of this project"


def test_a_bundle_replays_where_its_inputs_are_not(demo: World, tmp_path: Path) -> None:
    path = export(demo)
    empty = World(tmp_path / "empty")
    assert empty.cli("replay", str(path)).returncode == 0
    bare = export(demo, "bare.zip", "--no-inputs")
    done = empty.cli("replay", str(bare))
    assert (done.returncode == 4 and "input 'raw_txt'" in done.stderr) or "came without its input" in done.stderr
    assert not (empty.root / ".mlpipe").exists()


def test_a_step_that_is_not_deterministic_is_named_with_its_files(world: World) -> None:
    fill(world)
    world.write("src/train.py", "import os, sys, uuid\nos.mkdir(sys.argv[2])\nopen(sys.argv[2] + '/same', 'w').close()\n"
                "open(sys.argv[2] + '/model.bin', 'w').write(str(uuid.uuid4()))\n")  # fmt: skip
    world.run()
    done = world.cli("replay", "1")
    assert done.returncode == 1
    assert "prep: equal\ntrain: differs (model, model.bin)\n" in done.stdout


def test_an_input_that_changed_since_cannot_be_taken_along(demo: World) -> None:
    demo.write("in/raw.txt", "other\n")
    done = demo.cli("export", "1", "-o", "b.zip")
    assert done.returncode == 0 and "no longer what the step read" in done.stderr
    replayed = demo.cli("replay", "1")
    assert replayed.returncode == 4 and "no longer what the step read" in replayed.stderr


@pytest.mark.parametrize("pattern", ["in/sets/*.csv", "in/**/*.csv", "in/sets/deep/*"])
def test_patterns_have_the_same_content_where_they_are_replayed(world: World, pattern: str) -> None:
    fill(world)
    world.define(
        f'files = Dataset.File.from_files("{pattern}").as_named_input("files").as_mount()\nout = PipelineData("out")\n'
        'p = Pipeline(ws, [CommandStep(["cp", "-rL", files, out], name="copy", inputs=[files], outputs=[out])], name="copying")'
    )
    world.run()
    done = world.cli("replay", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "made from something else" not in done.stdout


# What a hostile or damaged file does: one line, nothing added.

Change = Callable[[dict[str, bytes]], None]


def rewrite(path: Path, change: Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    change(entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, body in entries:
            archive.writestr(info, body)


def document(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(entries[0][1])
    return found


def add(name: str, mode: int = 0o100644) -> Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]:
    def change(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        entries.append((info, b"x"))

    return change


def tree_of(*entries: Entry) -> Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]:
    """The output of the last step becomes another tree, with a right digest everywhere."""

    def change(entries_: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        found = document(entries_)
        old = next(iter(found["artifacts"]))
        tree = Tree.of(list(entries))
        found["artifacts"] = {tree.digest: bundles._low(tree)}
        body = json.dumps(found).replace(old, tree.digest).encode()
        entries_[0] = (entries_[0][0], body)

    return change


def edit(**fields: object) -> Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]:
    def change(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
        entries[0] = (entries[0][0], json.dumps(document(entries) | fields).encode())

    return change


def poison(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    """Another manifest under a known fingerprint: would make a forged result be reused."""
    found = document(entries)
    first = next(iter(found["manifests"].values()))
    first["entries"][0]["value"] = "forged"
    entries[0] = (entries[0][0], json.dumps(found).encode())


def deep(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    entries[0] = (entries[0][0], b"[" * 100_000)


def climbing_step(entries: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    entries[0] = (entries[0][0], entries[0][1].replace(b'"name":"train"', b'"name":"../../x"').replace(b'"train"', b'"../../x"'))


HOSTILE: dict[str, tuple[Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None], str]] = {
    "parent": (add("blobs/../../x"), "leads out of it"),
    "absolute": (add("/etc/x"), "leads out of it"),
    "backslash": (add("..\\x"), "leads out of it"),
    "drive": (add("C:x"), "leads out of it"),
    "link": (add("blobs/" + "0" * 64, 0o120777), "no plain file"),
    "folder": (add("blobs/"), "no plain file"),
    "odd name": (add("README"), "not a name it may have"),
    "unlisted": (add("blobs/" + "0" * 64), "not listed in its manifest"),
    "case clash": (add("Manifest.json"), "stands in it twice"),
    "manifest not first": (lambda entries: entries.reverse(), "first entry is not manifest.json"),
    "missing file": (lambda entries: entries.__delitem__(-1), "listed in its manifest, but not there"),
    "other schema": (edit(schema="mlpipe.bundle/9"), "this version reads 'mlpipe.bundle/1'"),
    "other document": (edit(run={"_": "Tree", "entries": []}), "makes no sense"),
    "unknown class": (edit(run={"_": "os.system"}), "makes no sense"),
    "list of files": (edit(files=[["../x", "b3:00", 1]]), "list of files makes no sense"),
    "negative size": (edit(files=[["blobs/00", "b3:00", -1]]), "list of files makes no sense"),
    "not json": (deep, "not JSON"),
    "forged manifest": (poison, "a fingerprint is not that of its manifest"),
    "step name": (climbing_step, "no sense"),
    "tree climbs": (tree_of(Entry("../x", "d")), "leads out of it"),
    "tree absolute": (tree_of(Entry("/x", "d")), "leads out of it"),
    "tree twice": (tree_of(Entry("a", "d"), Entry("a", "l", "b")), "stands twice"),
    "through a link": (tree_of(Entry("a", "l", "b"), Entry("a/x", "d")), "below something that is no folder"),
    "link out": (tree_of(Entry("a", "d"), Entry("a/x", "l", "../../y")), "the link 'a/x' leads out"),
    "link to root": (tree_of(Entry("x", "l", "/etc/passwd")), "leads out of it"),
    "bytes missing": (tree_of(Entry("x", "f", hash_bytes(b"never"), 5)), "are not in it"),
    "device": (tree_of(Entry("x", "c")), "Entry.kind cannot be 'c'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_bundle_is_one_line_and_adds_nothing(other: World, exported: bytes, name: str) -> None:
    path = other.root.parent / "b.zip"
    path.write_bytes(exported)
    change, said = HOSTILE[name]
    rewrite(path, change)
    engine = Engine.open(str(other.root))
    before = other.files()
    with pytest.raises(InputError) as caught:
        engine.import_bundle(str(path))
    assert said in str(caught.value) and "\n" not in str(caught.value), str(caught.value)
    assert other.files() == before


def with_manifest(body: bytes) -> Callable[[list[tuple[zipfile.ZipInfo, bytes]]], None]:
    return lambda entries: entries.__setitem__(0, (entries[0][0], body))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value of a document, but for the lists of installed distributions: they are many and all alike."""
    yield path
    if isinstance(value, dict | list) and not (
        isinstance(value, dict) and value.get("section", {}) == {"_": "Section", "value": "environment"}
    ):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def test_a_manifest_with_any_one_value_changed_is_imported_or_refused_in_one_line(other: World, exported: bytes) -> None:
    path = other.root.parent / "b.zip"
    path.write_bytes(exported)
    with zipfile.ZipFile(path) as archive:
        whole = json.loads(archive.read("manifest.json"))
    rng = random.Random(7)
    found = sorted((place for place in leaves(whole) if place), key=str)
    odd = [None, "", "x\ud800", -1, 1 << 70, 1.5, True, [], {}, ["a"], {"_": "State", "value": "running"}, "../x", "a\0b"]
    engine, refused = Engine.open(str(other.root)), 0
    for _ in range(250):
        text = json.dumps(whole)
        spoiled = json.loads(text)
        place = rng.choice(found)
        inner = spoiled
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = rng.choice(odd)
        if len(place) > 1 and place[:2] != ("run", "id"):
            spoiled["run"]["id"] = f"{rng.getrandbits(128):032x}"
        rewrite(path, with_manifest(json.dumps(spoiled).encode()))
        try:
            engine.steps(engine.import_bundle(str(path)).id)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error), place
    assert 100 < refused < 250, "most changes are refused, and what means nothing may differ"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_stands_twice(world: World, exported: bytes) -> None:
    path = world.write("b.zip", exported)
    rewrite(path, lambda entries: entries.append(entries[1]))
    done = world.cli("verify", str(path))
    assert done.returncode == 4 and "stands in it twice" in done.stderr and done.stderr.count("\n") == 2


def test_every_flipped_byte_and_every_cut_is_found(other: World, exported: bytes) -> None:
    whole = exported
    spoiled = other.root / "spoiled.zip"
    before = set(other.files())
    harmless = 0
    for at in range(0, len(whole), max(1, len(whole) // 100)):
        for body in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]):
            spoiled.write_bytes(body)
            try:
                with Archive(str(spoiled)) as archive:
                    archive.verify()
            except InputError as error:
                assert "\n" not in str(error)
            else:
                assert len(body) == len(whole), "a cut one was taken for whole"
                harmless += 1
    assert harmless < 40, "only bytes that mean nothing to a reader (times, attributes, versions) may differ"
    spoiled.write_bytes(whole[: len(whole) // 2])
    done = other.cli("import", "spoiled.zip")
    assert done.returncode == 4 and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 2
    assert set(other.files()) - {"spoiled.zip"} <= before


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, exported: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(exported)
    size = os.stat(path).st_size
    with pytest.raises(InputError, match="there is room for"):
        Archive(str(path), max_bytes=size // 4)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("manifest.json", "w", force_zip64=True) as out:
            out.write(bytes(1 << 24))
    monkeypatch.setattr(bundles, "_RATIO_COUNTS_FROM", 1 << 23)
    with pytest.raises(InputError, match="would unpack to"):
        Archive(str(bomb))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "nothing.zip"), "there is no file"),
        (("import", "mlpipe.toml"), "no zip file"),
        (("verify", "src"), "cannot read"),
        (("replay", "9"), "there is no run '9'"),
        (("replay", "1", "--step", "trian"), "did you mean 'train'"),
        (("export", "9"), "there is no run '9'"),
        (("export", "1", "-o", "nowhere/b.zip"), "cannot write the bundle"),
    ],
)
def test_what_is_not_there_is_told(demo: World, words: tuple[str, ...], said: str) -> None:
    done = demo.cli(*words)
    assert done.returncode in (2, 4) and said in done.stderr and "Traceback" not in done.stderr, done.stderr
