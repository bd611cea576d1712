"""Data that lies elsewhere as the input of a step: fetched once, pinned, reused, run again when bytes change, served without network."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from mlpipe_engine.data.objects import ObjectStore
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, InputMissingError, MlpipeError
from mlpipe_engine.hashing.files import hash_bytes
from servers import Served
from servers.web import Page, Web, hang_up, send
from worlds import Done, World

SUM = """
import os, sys
total, names = 0, []
for folder, folders, files in os.walk(sys.argv[1]):
    folders.sort()
    for name in sorted(files):
        path = os.path.join(folder, name)
        names.append(os.path.relpath(path, sys.argv[1]))
        total += sum(int(line) for line in open(path) if line.strip())
if os.path.isfile(sys.argv[1]):
    total = sum(int(line) for line in open(sys.argv[1]) if line.strip())
    names = [os.path.basename(os.path.realpath(sys.argv[1]))]
open(sys.argv[2], "w").write(f"{total} {' '.join(names)}")
"""


def define(world: World, paths: str, mode: str = "as_mount()") -> None:
    world.write("src/total.py", SUM)
    world.define(
        f"out = PipelineData('out')\n"
        f"data = Dataset.File.from_files({paths}).as_named_input('data').{mode}\n"
        "p = Pipeline(ws, [PythonScriptStep('total.py', name='total', arguments=[data, out], outputs=[out], source_directory='src')])"
    )


class Away:
    """A datastore at a server, with a folder of this test in it."""

    def __init__(self, world: World, served: Served, files: Path) -> None:
        self.folder = uuid.uuid4().hex[:8]
        self._files = files
        world.write("mlpipe.toml", served.toml("away"))
        self.world = world

    @property
    def store(self) -> ObjectStore:
        return Engine.open(str(self.world.root)).data_sources().store("away")

    def put(self, name: str, body: bytes) -> None:
        source = self._files / uuid.uuid4().hex
        source.write_bytes(body)
        self.store.write(f"{self.folder}/{name}", str(source), hash_bytes(body))

    def address(self, path: str) -> str:
        return f"(Datastore(ws, 'away'), '{self.folder}/{path}')"


@pytest.fixture(params=[
    pytest.param("azurite", marks=pytest.mark.needs("azurite")), pytest.param("s3", marks=pytest.mark.needs("s3")),
    pytest.param("sftp", marks=pytest.mark.needs("sshd")), pytest.param("samba", marks=pytest.mark.needs("samba")),
])  # fmt: skip
def away(request: pytest.FixtureRequest, world: World, files: Path, _servers: dict[str, Served]) -> Away:
    served = _servers[request.param]
    found = Away(world, served, files)
    if request.param == "azurite":
        Engine.open(str(world.root)).make_container("away")
    if request.param == "s3":
        client = found.store._connected()  # type: ignore[attr-defined]
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket="data")
    return found


def ran(done: Done) -> bool:
    return done.ran == {"total"}


def test_a_dataset_from_a_server_is_run_reused_and_run_again_when_one_object_changes(away: Away, world: World) -> None:
    away.put("in/a.csv", b"1\n2\n")
    away.put("in/deep/b.csv", b"3\n")
    away.put("in/notes.txt", b"100\n")
    define(world, away.address("in/**/*.csv"))
    first = world.run()
    assert first.output("total", "out") == b"6 a.csv deep/b.csv"
    assert not ran(world.run())
    away.put("in/notes.txt", b"200\n")
    assert not ran(world.run()), "it does not match"
    away.put("in/deep/b.csv", b"4\n")
    again = world.run()
    assert ran(again) and again.output("total", "out") == b"7 a.csv deep/b.csv"
    away.put("in/deep/b.csv", b"4\n")
    assert not ran(world.run()), "written again, with the bytes it had"
    away.put("in/c.csv", b"10\n")
    assert world.run().output("total", "out") == b"17 a.csv c.csv deep/b.csv"


@pytest.mark.needs("sshd")
@pytest.mark.parametrize("away", ["sftp"], indirect=True)
def test_one_file_is_lent_as_that_file_and_a_folder_as_that_folder(away: Away, world: World) -> None:
    away.put("in/a.csv", b"1\n")
    away.put("in/sub/b.csv", b"2\n")
    define(world, away.address("in/a.csv"))
    assert world.run().output("total", "out") == b"1 a.csv"
    define(world, away.address("in"), "as_download()")
    assert world.run().output("total", "out") == b"3 a.csv sub/b.csv"


@pytest.mark.needs("sshd")
@pytest.mark.parametrize("away", ["sftp"], indirect=True)
def test_the_same_bytes_from_elsewhere_are_the_same_input(away: Away, world: World) -> None:
    away.put("in/a.csv", b"1\n")
    away.put("in/b.csv", b"2\n")
    define(world, away.address("in"))
    world.run()
    world.write("local/a.csv", "1\n")
    world.write("local/b.csv", "2\n")
    define(world, "'local'")
    assert not ran(world.run()), "content decides, not where it lies"


@pytest.mark.needs("sshd")
@pytest.mark.parametrize("away", ["sftp"], indirect=True)
def test_without_the_server_the_cache_serves_and_says_so(
    away: Away, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away.put("in/a.csv", b"1\n")
    define(world, away.address("in/*.csv"))
    assert ran(world.run())
    monkeypatch.setenv("MLPIPE_OFFLINE", "1")
    world.write("src/total.py", SUM + "# changed\n")
    done = world.cli("run", "-e", "test")
    assert done.returncode == 0, done.stderr
    assert "is served from the cache, as it was on 20" in done.stderr
    define(world, away.address("in/a.csv"))
    with pytest.raises(DatastoreUnreachableError, match="nothing of it is in the cache"):
        world.run()


@pytest.mark.needs("sshd")
@pytest.mark.parametrize("away", ["sftp"], indirect=True)
def test_nothing_there_is_said_before_anything_starts(away: Away, world: World) -> None:
    away.put("in/a.csv", b"1\n")
    define(world, away.address("in/*.parquet"))
    with pytest.raises(InputMissingError, match="step 'total' needs datastore://away/.*parquet, but nothing matches it"):
        world.run()
    define(world, away.address("nowhere"))
    with pytest.raises(InputMissingError, match="there is nothing of that name"):
        world.run()


@pytest.mark.needs("sshd")
@pytest.mark.parametrize("away", ["sftp"], indirect=True)
def test_local_files_and_others_can_be_one_dataset(away: Away, world: World) -> None:
    away.put("in/a.csv", b"1\n")
    world.write("local/b.csv", "2\n")
    define(world, f"[{away.address('in/*')}, 'local/*.csv']")
    first = world.run()
    assert first.output("total", "out") == b"3 away/a.csv local/b.csv"
    assert not ran(world.run())
    world.write("local/b.csv", "5\n")
    assert world.run().output("total", "out") == b"6 away/a.csv local/b.csv"


# HTTP, where the server can be told what to do


@pytest.fixture
def page(site: Web, world: World) -> str:
    return site.put("/data/numbers.csv", b"1\n" * 300_000)


def test_an_address_is_fetched_once_and_checked_each_time(site: Web, world: World, page: str) -> None:
    define(world, f"'{page}'")
    assert world.run().output("total", "out") == b"300000 numbers.csv"
    gets = site.count("GET")
    assert gets == 1
    assert not ran(world.run())
    assert site.count("GET") == gets, "its tag is the same"
    site.put("/data/numbers.csv", b"5\n")
    assert world.run().output("total", "out") == b"5 numbers.csv"
    done = world.cli("run", "-e", "test")
    assert done.returncode == 0 and site.count("HEAD") >= 4, "an address is asked each time, also where stats alone would do"


def cut_at(*sizes: int) -> object:
    """Hangs up after so many bytes, once for each."""
    left = list(sizes)

    def trouble(handler: BaseHTTPRequestHandler, page: Page) -> bool:
        if not left:
            return False
        send(handler, page, cut=left.pop(0))
        return True

    return trouble


def test_a_download_that_breaks_off_goes_on_where_it_was(site: Web, world: World, page: str) -> None:
    site.trouble = cut_at(100_000, 50_000)  # type: ignore[assignment]
    define(world, f"'{page}'")
    assert world.run().output("total", "out") == b"300000 numbers.csv"
    starts = [int(wanted[6:-1]) for method, _, wanted in site.requests if method == "GET" and wanted]
    assert len(starts) == 2 and starts[0] == 100_000 and starts[1] == 150_000


def test_a_network_that_stays_broken_is_one_line_and_the_next_try_completes(site: Web, world: World, page: str) -> None:
    site.trouble = cut_at(*[10_000] * 50)  # type: ignore[assignment]
    define(world, f"'{page}'")
    done = world.cli("run")
    assert done.returncode == 4
    assert len(done.stderr.strip().splitlines()) == 3, done.stderr
    assert "ended after" in done.stderr and "(tried 4 times)" in done.stderr and "hint: Check the network" in done.stderr
    assert not list((world.root / ".mlpipe/cache/remote/blobs").glob("*/*")), "nothing partial is visible"
    before = site.count("GET")
    site.trouble = None
    assert world.run().output("total", "out") == b"300000 numbers.csv"
    resumed = [wanted for method, _, wanted in site.requests if method == "GET"][before:]
    assert resumed == ["bytes=40000-"], "what had arrived was kept"


def test_an_object_that_changes_between_two_requests_is_read_anew_as_a_whole(site: Web, world: World, page: str) -> None:
    def trouble(handler: BaseHTTPRequestHandler, page: Page) -> bool:
        if site.count("GET") > 1:
            return False
        send(handler, page, cut=100_000)
        site.put("/data/numbers.csv", b"2\n" * 300_000)
        return True

    site.trouble = trouble
    define(world, f"'{page}'")
    assert world.run().output("total", "out") == b"600000 numbers.csv", "never half of one and half of the other"


def test_an_object_that_never_holds_still_is_given_up(site: Web, world: World, page: str) -> None:
    count = iter(range(1000))

    def trouble(handler: BaseHTTPRequestHandler, page: Page) -> bool:
        send(handler, page, cut=100_000)
        site.put("/data/numbers.csv", f"{next(count)}\n".encode() * 100_000)
        return True

    site.trouble = trouble
    define(world, f"'{page}'")
    with pytest.raises(DatastoreError, match="3 times") as error:
        world.run()
    assert "Let the program that writes it finish" in error.value.hint


def status(code: int, times: int = 1000) -> object:
    left = [code] * times

    def trouble(handler: BaseHTTPRequestHandler, page: Page) -> bool:
        if not left:
            return False
        handler.send_error(left.pop())
        return True

    return trouble


def test_a_server_that_is_busy_is_asked_again_and_one_that_says_no_is_not(site: Web, world: World, page: str) -> None:
    site.trouble = status(503, 2)  # type: ignore[assignment]
    define(world, f"'{page}'")
    assert ran(world.run())
    other = site.put("/data/secret.csv", b"1\n")
    site.trouble = status(403)  # type: ignore[assignment]
    before = site.count("GET")
    define(world, f"'{other}'")
    with pytest.raises(DatastoreError, match="answered 403"):
        world.run()
    assert site.count("GET") == before + 1


@pytest.mark.parametrize("lie", ["longer", "shorter", "circle", "reset"])
def test_a_server_that_lies_ends_in_one_line(site: Web, world: World, page: str, lie: str) -> None:
    def trouble(handler: BaseHTTPRequestHandler, page: Page) -> bool:
        if lie == "reset":
            hang_up(handler)
            return True
        if lie == "circle":
            handler.send_response(302)
            handler.send_header("Location", handler.path)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return True
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(page.body) + (7 if lie == "longer" else -7)))
        handler.end_headers()
        handler.wfile.write(page.body)
        hang_up(handler)
        return True

    site.trouble = trouble
    define(world, f"'{page}'")
    done = world.cli("run")
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    assert not list((world.root / ".mlpipe/cache/remote/blobs").glob("*/*"))


def test_a_step_that_writes_into_the_cache_spoils_only_that(site: Web, world: World, page: str) -> None:
    world.write(
        "src/spoil.py",
        "import os, sys\nos.chmod(sys.argv[1], 0o644)\nopen(sys.argv[1], 'a').write('9\\n')\nopen(sys.argv[2], 'w')\n",
    )
    define(world, f"'{page}'")
    pipeline = (world.root / "pipeline.py").read_text()
    world.write("pipeline.py", pipeline.replace("'total.py'", "'spoil.py'"))
    spoiled = world.run()
    assert "changed" in spoiled.step("total").error, "its result may not serve again"
    world.write("pipeline.py", pipeline)
    assert world.run().output("total", "out") == b"300000 numbers.csv", "the copy was not trusted"


def test_names_that_would_leave_the_folder_or_collide(site: Web, world: World) -> None:
    one, two = site.put("/x/%2e%2e%2fevil.csv", b"1\n"), site.put("/y/a.csv?version=1", b"2\n")
    define(world, f"['{one}', '{two}']")
    out = world.run().output("total", "out")
    assert out.startswith(b"3 ") and b".." not in out
    define(world, f"['{site.put('/a/x.csv?v=1', b'1')}', '{site.put('/a/x.csv?v=2', b'1')}']")
    with pytest.raises(MlpipeError, match="would have the same name 'x.csv'"):
        world.run()


@pytest.mark.parametrize(("address", "said"), [
    ("ftp://h/x", "expected a path, datastore://NAME/path"),
    ("datastore://nowhere/x", "there is no datastore 'nowhere'"),
    ("datastore://workspaceblobstor/x", "did you mean 'workspaceblobstore'"),
    ("datastore://workspaceblobstore/../x", "leaves the datastore"),
    ("https://user:secret@h/x", "holds a user or a password"),
    ("https:///x", "names no host"),
])  # fmt: skip
def test_addresses_that_mean_nothing(world: World, address: str, said: str) -> None:
    define(world, f"'{address}'")
    done = world.cli("run")
    assert done.returncode in (3, 4) and said in done.stderr, done.stderr
    assert "secret" not in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    os.environ.pop("MLPIPE_OFFLINE", None)
