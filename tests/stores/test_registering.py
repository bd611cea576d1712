"""Datastores by name: in mlpipe.toml, registered in code, chosen as the default; and the verbs of the command line."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlpipe_engine import Datastore, MlpipeError, Workspace
from mlpipe_engine.data.credentials import Credentials, keep_for_this_process, redact
from mlpipe_engine.errors import ConfigError, DatastoreError
from mlpipe_engine.model.datastores import SCHEMES, SETTINGS, DatastoreSpec
from worlds import World

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def ws(world: World) -> Workspace:
    return Workspace.from_config(world.root)


def test_a_registered_datastore_is_there_for_others_and_gone_when_unregistered(ws: Workspace, world: World) -> None:
    made = Datastore.register(ws, "lake", "lake")
    (world.root / "lake").mkdir()
    made.upload_files([world.write("x.txt", "1")], target_path="in", show_progress=False)
    again = Workspace.from_config(world.root)
    assert Datastore(again, "lake").ls() == ["in/x.txt"] and Datastore(again, "lake").ls("in") == ["in/x.txt"]
    again.set_default_datastore("lake")
    assert Workspace.from_config(world.root).get_default_datastore().name == "lake"
    Datastore(again, "lake").unregister()
    assert "lake" not in again.datastores and again.get_default_datastore().name == "workspaceblobstore"
    assert (world.root / "lake/in/x.txt").exists(), "data stays"
    with pytest.raises(ConfigError, match="is built in"):
        again.get_default_datastore().unregister()


def test_mlpipe_toml_declares_datastores_and_the_default(world: World) -> None:
    world.write("mlpipe.toml", '[default]\ndatastore = "lake"\n[datastore.lake]\nurl = "lake"\n')
    ws = Workspace.from_config(world.root)
    assert ws.get_default_datastore().name == "lake"
    with pytest.raises(ConfigError, match="makes 'lake' the default datastore"):
        ws.set_default_datastore("workspacefilestore")
    with pytest.raises(ConfigError, match="'lake' stands in mlpipe.toml"):
        Datastore.register(ws, "lake", "other")
    with pytest.raises(ConfigError, match="'lake' stands in mlpipe.toml"):
        Datastore(ws, "lake").unregister()


AZURE: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "register_azure_blob_container": (
        {"container_name": "c", "account_name": "acct", "sas_token": "env:T"}, "az://c", {"account": "acct", "sas_token": "env:T"}),
    "register_azure_file_share": (
        {"file_share_name": "s", "account_name": "acct", "account_key": "env:K"}, "smb://acct.file.core.windows.net/s",
        {"user": "acct", "password": "env:K"}),
    "register_azure_data_lake_gen2": (
        {"filesystem": "f", "account_name": "acct", "account_key": "env:K", "endpoint": "core.windows.net"}, "az://f",
        {"account": "acct", "account_key": "env:K", "endpoint": "https://acct.blob.core.windows.net"}),
    "register_azure_sql_database": (
        {"server_name": "srv", "database_name": "d", "username": "u", "password": "env:P"}, "mssql://srv.database.windows.net/d",
        {"user": "u", "password": "env:P"}),
    "register_azure_postgre_sql": (
        {"server_name": "srv", "database_name": "d", "user_id": "u", "user_password": "env:P"},
        "postgresql://srv.postgres.database.azure.com:5432/d", {"user": "u", "password": "env:P", "sslmode": "require"}),
    "register_azure_my_sql": (
        {"server_name": "db.example", "database_name": "d", "user_id": "u", "user_password": "env:P", "port_number": 3307},
        "mysql://db.example:3307/d", {"user": "u", "password": "env:P"}),
}  # fmt: skip


@pytest.mark.parametrize("name", AZURE)
def test_the_registrations_of_the_article(ws: Workspace, name: str) -> None:
    words, url, settings = AZURE[name]
    store = getattr(Datastore, name)(ws, "away", **words)
    assert (store.spec.url, dict((*store.spec.options, *store.spec.credentials))) == (url, settings)
    assert list(inspect.signature(getattr(Datastore, name)).parameters)[:2] == ["workspace", "datastore_name"]
    assert getattr(Datastore, name)(ws, "away", **words).spec == store.spec, "the same once more is no trouble"
    with pytest.raises(DatastoreError, match="there is a datastore 'away' already, with other settings"):
        Datastore.register(ws, "away", "other", overwrite=False)


def test_what_no_longer_exists_and_what_is_not_known_say_so(ws: Workspace) -> None:
    with pytest.raises(DatastoreError, match="switched it off"):
        Datastore.register_azure_data_lake(ws, "old", "store")
    with pytest.raises(DatastoreError, match="a service principal"):
        Datastore.register_azure_data_lake_gen2(ws, "x", "f", "a", client_id="i", client_secret="s")


def test_a_secret_given_in_code_is_kept_by_the_process_alone(
    ws: Workspace, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Datastore.register_azure_blob_container(ws, "away", "c", "acct", account_key="c2VjcmV0IGtleQ==")
    err = capsys.readouterr().err
    assert "kept for this process only and stored nowhere" in err and "$MLPIPE_AWAY_ACCOUNT_KEY" in err and "c2Vj" not in err
    assert Credentials(store.spec).get("account_key") == "c2VjcmV0IGtleQ=="
    assert not [name for name, body in world.files().items() if b"c2Vj" in body]


def test_a_named_secret_comes_from_the_environment_and_is_hidden_wherever_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DatastoreSpec.of("my.store", "s3://b", {"secret_key": "env:MY_SECRET"})
    monkeypatch.setenv("MY_SECRET", "s3cr&t/plus+")
    monkeypatch.setenv("MLPIPE_MY_STORE_ACCESS_KEY", "found by its usual name")
    assert (
        Credentials(spec).get("secret_key") == "s3cr&t/plus+" and Credentials(spec).get("access_key") == "found by its usual name"
    )
    assert (
        redact("a s3cr&t/plus+ b s3cr%26t%2Fplus%2B c czNjciZ0L3BsdXMr d ?sig=abc%3D&x=1") == "a *** b *** c *** d ?sig=***&x=1"
    )
    keep_for_this_process("x", "password", "only here")
    assert redact("it is only here") == "it is ***"


def test_every_setting_and_scheme_is_in_the_page_about_configuration() -> None:
    text = (REPOSITORY / "docs/datastores.md").read_text()
    assert [name for name in (*SETTINGS, *(f"{scheme}:" for scheme in SCHEMES)) if name not in text] == []


@pytest.mark.parametrize(("table", "said"), [
    ('[datastore.s]\nurl = "s3://b"\nsecret_key = "topsecret"\n', "mlpipe.toml:3 field datastore.s.secret_key"),
    ('[datastore.s]\nurll = "s3://b"\n', "did you mean 'url'?"),
    ('[datastore.s]\nregion = "x"\n', "a datastore without a URL"),
    ('[datastore.s]\nurl = "sfpt://h/b"\n', "did you mean 'sftp://'?"),
    ('[datastore.s]\nurl = "sftp://a:topsecret@h/b"\n', "the URL holds a password"),
    ('[datastore.s]\nurl = "sftp://h/b"\nregion = "x"\n', "unknown name 'region'"),
    ('[datastore.s]\nurl = "az://"\n', "is not complete"),
    ('[datastore.s]\nurl = "s3://b"\nsecret_key = ["topsecret"]\n', "found a list"),
    ('[datastore]\ns = "x"\n', "expected a table [datastore.s]"),
    ('[datastore.workspaceblobstore]\nurl = "x"\n', "is built in"),
    ('[datastore."a b"]\nurl = "x"\n', "datastore name 'a b'"),
])  # fmt: skip
def test_tables_that_mean_nothing(world: World, table: str, said: str) -> None:
    world.write("mlpipe.toml", table)
    done = world.cli("data", "stores")
    assert done.returncode == 2 and said in done.stderr and "topsecret" not in done.stderr, done.stderr


def test_the_verbs(world: World) -> None:
    world.write("mlpipe.toml", '[datastore.lake]\nurl = "lake"\n[datastore.dead]\nurl = "sftp://127.0.0.1:9/d"\n')
    world.write("data/a.csv", "1\n")
    world.write("data/sub/b.csv", "2\n")
    assert [item["name"] for item in world.json("data", "stores")["items"]] == [
        "workspaceblobstore",
        "workspacefilestore",
        "lake",
        "dead",
    ]
    checked = world.cli("data", "stores", "--check")
    assert checked.returncode == 4 and "127.0.0.1:9 cannot be reached" in checked.stderr
    assert world.json("data", "upload", "lake/raw", "data")["uploaded"] == 2
    world.write("data/a.csv", "other\n")
    again = world.cli("data", "upload", "lake/raw", "data")
    assert again.returncode == 0 and "1 unchanged, 1 kept" in again.stdout
    assert again.stderr.count("b3:") == 2 and "--overwrite replaces it" in again.stderr
    refused = world.cli("data", "upload", "lake/raw", "data", "--on-conflict", "error")
    assert refused.returncode == 4 and "raw/data/a.csv is there with other bytes" in refused.stderr
    assert (world.root / "lake/raw/data/a.csv").read_text() == "1\n"
    assert world.json("data", "upload", "lake/raw", "data", "--overwrite")["uploaded"] == 1
    assert world.json("data", "download", "lake/raw/**/*.csv", "back")["downloaded"] == 2
    assert (world.root / "back/raw/data/a.csv").read_text() == "other\n"
    assert world.json("data", "download", "lake/raw", "back")["unchanged"] == 2
    for words, said in [
        (("data", "upload", "lak", "data"), "did you mean 'lake'?"), (("data", "upload", "lake", "none"), "no file or folder 'none'"),
        (("data", "download", "lake/none"), "nothing in datastore 'lake' is called 'none'"),
        (("data", "upload", "lake", "data", "--on-conflict", "maybe"), "expected keep or error"),
    ]:  # fmt: skip
        done = world.cli(*words)
        assert done.returncode in (2, 4) and said in done.stderr, done.stderr


def test_an_upload_of_many_files_that_was_killed_is_completed_by_the_next(world: World) -> None:
    world.write("mlpipe.toml", '[datastore.lake]\nurl = "lake"\n')
    for number in range(300):
        world.write(f"data/{number:03}.bin", os.urandom(20_000))
    process = subprocess.Popen(world.command("data", "upload", "lake", "data"), cwd=world.root, env=world.environment(),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    while not list((world.root / "lake").glob("data/*.bin")) and process.poll() is None:
        pass
    process.kill()
    process.wait()
    done = list((world.root / "lake/data").glob("*.bin"))
    assert all(path.read_bytes() == (world.root / "data" / path.name).read_bytes() for path in done), (
        "nothing partial under its name"
    )
    report = world.json("data", "upload", "lake", "data")
    assert report["uploaded"] + report["unchanged"] == 300 and report["unchanged"] >= len(done) > 0
    assert [item["path"] for item in world.json("data", "ls", "lake/data")["items"]] == [f"data/{n:03}.bin" for n in range(300)]


REGISTERING = """
from mlpipe_engine import *
ws = Workspace.from_config()
store = Datastore.register(ws, 'later', 'later')
p = Pipeline(ws, [CommandStep(['cat', DataPath(store, 'x.txt')], name='s')])
"""


def test_loading_a_definition_registers_nothing(world: World) -> None:
    world.write("later/x.txt", "1")
    world.write("pipeline.py", REGISTERING.replace("DataPath(store, 'x.txt')", "store.path('x.txt')"))
    planned = world.cli("plan")
    assert planned.returncode == 0, planned.stderr
    assert "registration of datastore 'later'" in planned.stdout + planned.stderr
    assert not (world.root / ".mlpipe/datastores.json").exists()


def test_the_quick_path_notices_that_a_registered_default_changed(world: World) -> None:
    world.write("a/x.txt", "a")
    world.write("b/x.txt", "bb")
    ws = Workspace.from_config(world.root)
    for name in ("a", "b"):
        Datastore.register(ws, name, name)
    ws.set_default_datastore("a")
    world.define("p = Pipeline(ws, [CommandStep(['wc', '-c', ws.get_default_datastore().path('x.txt')], name='s')])")
    assert world.cli("run").returncode == 0
    assert "nothing to do" in world.cli("run").stdout.lower() or world.json("show")["run"]["state"] == "reused"
    ws.set_default_datastore("b")
    world.cli("run")
    assert world.json("show")["run"]["state"] == "succeeded"


def test_nothing_of_datastores_is_imported_where_none_is_used(world: World) -> None:
    world.write("x.txt", "1")
    world.define(
        "p = Pipeline(ws, [CommandStep(['cat', Dataset.File.from_files('x.txt').as_named_input('x').as_mount()], name='s')])"
    )
    code = (
        "import sys\nfrom mlpipe_engine.engine import Engine\nfrom mlpipe_engine.model.spec import SubmitOptions\n"
        "e = Engine.open('.')\ne.plan(e.pipeline(), SubmitOptions(experiment='x'))\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('azure', 'boto3', 'botocore', 'paramiko', 'smbclient', 'keyring', 'pymysql')"
        " or m in ('mlpipe_engine.data.remote', 'mlpipe_engine.data.cache', 'mlpipe_engine.runner.delivering')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=world.root, env=world.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_damaged_list_of_registered_datastores_is_one_line(world: World) -> None:
    world.write(".mlpipe/datastores.json", json.dumps({"datastores": [], "default": None}))
    done = world.cli("data", "stores")
    assert done.returncode == 2 and "is not what register wrote" in done.stderr
    with pytest.raises(MlpipeError):
        _ = Workspace.from_config(world.root).datastores["x"]
