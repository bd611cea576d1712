"""One contract for every kind of datastore, each against the real thing."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import pytest
from mlpipe_engine.data.credentials import Credentials
from mlpipe_engine.data.objects import ObjectStore, open_store
from mlpipe_engine.data.transfer import hash_of
from mlpipe_engine.errors import DatastoreError, DatastoreUnreachableError, MlpipeError, ObjectChangedError
from mlpipe_engine.hashing.files import hash_bytes
from mlpipe_engine.model.datastores import DatastoreSpec
from servers import Served
from servers.web import Web

BIG = os.urandom(1 << 20) * 9 + b"tail"
"""Larger than any block or range of the adapters."""


def spec_of(served: Served, **changes: str) -> DatastoreSpec:
    return DatastoreSpec.of("there", served.url, {**served.settings, **changes})


def opened(spec: DatastoreSpec, root: Path) -> ObjectStore:
    return open_store(spec, str(root), Credentials(spec))


class Contract:
    """`store` is a datastore that can be written; names are below a folder of this test, so that servers can be shared."""

    @pytest.fixture
    def folder(self) -> str:
        return f"t {uuid.uuid4().hex[:8]}/"

    def put(self, store: ObjectStore, path: str, body: bytes, files: Path) -> None:
        source = files / uuid.uuid4().hex
        source.write_bytes(body)
        written = store.write(path, str(source), hash_bytes(body))
        assert (written.path, written.size) == (path, len(body))

    def test_what_was_written_is_listed_and_comes_back_from_any_offset(
        self, store: ObjectStore, folder: str, files: Path
    ) -> None:
        bodies = {"a.csv": b"1,2\n", "deep/er/b.bin": BIG, "empty": b"", "name with %41 & ümläut+#.txt": b"x", ".hidden": b"h"}
        for name, body in bodies.items():
            self.put(store, folder + name, body, files)
        assert {item.path: item.size for item in store.walk(folder)} == {
            folder + name: len(body) for name, body in bodies.items()
        }
        for name, body in bodies.items():
            item = store.stat(folder + name)
            assert item is not None and item.version and item.size == len(body)
            assert hash_of(store, item) == hash_bytes(body)
        big = store.stat(folder + "deep/er/b.bin")
        assert big is not None
        assert b"".join(store.read(big, len(BIG) - 10)) == BIG[-10:]
        assert b"".join(store.read(big, len(BIG))) == b""

    def test_what_is_not_there_is_not_there(self, store: ObjectStore, folder: str, files: Path) -> None:
        self.put(store, folder + "in/a", b"1", files)
        assert store.stat(folder + "b") is None
        assert store.stat(folder + "in") is None, "a folder is no object"
        assert list(store.walk(folder + "none/")) == []
        store.delete(folder + "b")
        store.delete(folder + "in/a")
        assert store.stat(folder + "in/a") is None

    def test_listing_one_folder_says_nothing_of_its_neighbours(self, store: ObjectStore, folder: str, files: Path) -> None:
        self.put(store, folder + "a/x", b"1", files)
        self.put(store, folder + "ab/y", b"2", files)
        assert [item.path for item in store.walk(folder + "a/")] == [folder + "a/x"]

    def test_a_change_shows_in_the_version_and_stops_a_read_that_goes_on(
        self, store: ObjectStore, folder: str, files: Path
    ) -> None:
        self.put(store, folder + "a", BIG, files)
        first = store.stat(folder + "a")
        assert first is not None
        reading = store.read(first, 0)
        next(reading)
        reading.close()  # type: ignore[attr-defined]
        self.put(store, folder + "a", BIG[::-1] + b"!", files)
        second = store.stat(folder + "a")
        assert second is not None and second.version != first.version
        with pytest.raises(ObjectChangedError):
            list(store.read(first, 100))
        assert hash_of(store, second) == hash_bytes(BIG[::-1] + b"!")
        store.delete(folder + "a")
        with pytest.raises(ObjectChangedError):
            list(store.read(second, 0))

    def test_nothing_half_written_is_listed(self, store: ObjectStore, folder: str, files: Path) -> None:
        gone = files / "gone"
        with pytest.raises((OSError, MlpipeError)):
            store.write(folder + "a", str(gone), hash_bytes(b""))
        assert list(store.walk(folder)) == []


class TestFolder(Contract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return opened(DatastoreSpec.of("there", str(tmp_path / "store"), {}), tmp_path)


@pytest.mark.needs("azurite")
class TestBlob(Contract):
    @pytest.fixture
    def store(self, azurite_server: Served, tmp_path: Path) -> ObjectStore:
        from mlpipe_engine.data.adapters.blob import BlobStore

        store = opened(spec_of(azurite_server), tmp_path)
        assert isinstance(store, BlobStore)
        store.make_container()
        return store

    def test_a_wrong_key_a_missing_container_and_a_dead_host_each_say_so(
        self, azurite_server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WRONG", "d3JvbmcgYnV0IGJhc2U2NA==")
        with pytest.raises(DatastoreError, match="access was refused") as refused:
            opened(spec_of(azurite_server, account_key="env:WRONG"), tmp_path).stat("a")
        assert 'account_key = "env:NAME"' in refused.value.hint
        spec = DatastoreSpec.of("there", "az://nowhere", dict(azurite_server.settings))
        with pytest.raises(DatastoreError, match="there is no container 'nowhere'"):
            list(opened(spec, tmp_path).walk(""))
        with pytest.raises(DatastoreUnreachableError, match="datastore://there/a cannot be reached"):
            opened(spec_of(azurite_server, endpoint="http://127.0.0.1:9/devstoreaccount1"), tmp_path).stat("a")
        monkeypatch.setenv("WRONG", "no base64 at all!")
        with pytest.raises(DatastoreError) as trouble:
            opened(spec_of(azurite_server, account_key="env:WRONG"), tmp_path).stat("a")
        assert "no base64 at all" not in str(trouble.value)

    def test_a_signature_and_a_connection_string_open_it_too(
        self, azurite_server: Served, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Path
    ) -> None:
        from datetime import UTC, datetime, timedelta

        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        self.put(store, "signed/a", b"1", files)
        endpoint, key = azurite_server.settings["endpoint"], os.environ["AZURITE_KEY"]
        token = generate_container_sas(
            "devstoreaccount1",
            "data",
            account_key=key,
            permission=ContainerSasPermissions(read=True, list=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        monkeypatch.setenv("TOKEN", "?" + token)
        monkeypatch.setenv("STRING", f"AccountName=devstoreaccount1;AccountKey={key};BlobEndpoint={endpoint};")
        for settings in ({"endpoint": endpoint, "sas_token": "env:TOKEN"}, {"connection_string": "env:STRING"}):
            other = opened(DatastoreSpec.of("other", "az://data/signed", settings), tmp_path)
            assert [item.path for item in other.walk("")] == ["a"]


@pytest.mark.needs("s3")
class TestS3(Contract):
    @pytest.fixture
    def store(self, s3_server: Served, tmp_path: Path) -> ObjectStore:
        from mlpipe_engine.data.adapters.s3 import S3Store

        store = opened(spec_of(s3_server), tmp_path)
        assert isinstance(store, S3Store)
        client = store._connected()
        if "data" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket="data")
        return store

    def test_a_wrong_key_a_missing_bucket_and_a_dead_host_each_say_so(
        self, s3_server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WRONG", "not-the-secret")
        with pytest.raises(DatastoreError, match="access was refused") as refused:
            list(opened(spec_of(s3_server, secret_key="env:WRONG"), tmp_path).walk(""))
        assert "not-the-secret" not in str(refused.value)
        spec = DatastoreSpec.of("there", "s3://nowhere-at-all", dict(s3_server.settings))
        with pytest.raises(DatastoreError, match="there is no bucket 'nowhere-at-all'"):
            list(opened(spec, tmp_path).walk(""))
        with pytest.raises(DatastoreUnreachableError, match="cannot be reached"):
            opened(spec_of(s3_server, endpoint="http://127.0.0.1:9"), tmp_path).stat("a")


@pytest.mark.needs("sshd")
class TestSftp(Contract):
    @pytest.fixture
    def store(self, sftp_server: Served, tmp_path: Path) -> ObjectStore:
        return opened(spec_of(sftp_server), tmp_path)

    def test_an_unknown_host_and_a_wrong_key_get_nothing(self, sftp_server: Served, tmp_path: Path) -> None:
        empty = tmp_path / "known"
        empty.write_text("")
        with pytest.raises(DatastoreError, match="is not a known host; it shows the key SHA256:") as unknown:
            opened(spec_of(sftp_server, known_hosts=str(empty)), tmp_path).stat("a")
        shown = unknown.value.what.rpartition(" ")[2]
        assert f'host_key = "{shown}"' in unknown.value.hint
        assert opened(spec_of(sftp_server, known_hosts=str(empty), host_key=shown), tmp_path).stat("a") is None
        with pytest.raises(DatastoreError, match=f"shows the host key {re.escape(shown)}; expected SHA256:other"):
            opened(spec_of(sftp_server, host_key="SHA256:other"), tmp_path).stat("a")
        other = tmp_path / "other"
        import subprocess

        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
        with pytest.raises(DatastoreError, match="was not let in .tried key_file"):
            opened(spec_of(sftp_server, key_file=str(other)), tmp_path).stat("a")

    def test_an_upload_goes_on_with_the_part_an_earlier_one_left(
        self, sftp_server: Served, store: ObjectStore, files: Path
    ) -> None:
        from mlpipe_engine.data.objects import PART

        (files / "big").write_bytes(BIG)
        digest = hash_bytes(BIG)
        self.put(store, f"resume/big.{digest[-16:]}{PART}", BIG[: len(BIG) // 2], files)
        written = store.write("resume/big", str(files / "big"), digest)
        assert hash_of(store, written) == digest
        assert [item.path for item in store.walk("resume/")] == ["resume/big"]


@pytest.mark.needs("samba")
class TestSmb(Contract):
    @pytest.fixture
    def store(self, samba_server: Served, tmp_path: Path) -> ObjectStore:
        return opened(spec_of(samba_server), tmp_path)

    def test_a_wrong_password_says_so(self, samba_server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WRONG", "not the password")
        with pytest.raises(DatastoreError, match="access was refused for user 'root'"):
            opened(spec_of(samba_server, password="env:WRONG"), tmp_path).stat("a")


class TestWeb:
    def test_files_are_read_by_ranges_and_nothing_else_is_offered(self, site: Web, tmp_path: Path) -> None:
        site.put("/base/a%20b.bin", BIG)
        store = opened(DatastoreSpec.of("there", f"{site.url}/base", {}), tmp_path)
        item = store.stat("a b.bin")
        assert item is not None and item.settled and item.size == len(BIG)
        assert b"".join(store.read(item, 5)) == BIG[5:]
        assert store.stat("none") is None
        with pytest.raises(DatastoreError, match="HTTP knows no folders"):
            list(store.walk(""))
        with pytest.raises(DatastoreError, match="read only"):
            store.write("x", "y", "b3:0")

    def test_a_server_without_ranges_or_validators_is_read_all_the_same(self, site: Web, tmp_path: Path) -> None:
        site.put("/a", BIG, tag="")
        site.ranges = False
        store = opened(DatastoreSpec.of("there", site.url, {}), tmp_path)
        item = store.stat("a")
        assert item is not None and item.settled, "its time is old by its own clock"
        assert b"".join(store.read(item, 7)) == BIG[7:]
        import time

        site.pages["/a"].modified = time.time()
        fresh = store.stat("a")
        assert fresh is not None and not fresh.settled, "within a second a file can change twice"

    def test_a_token_is_sent_to_this_host_and_shown_to_nobody(
        self, site: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard: list[str] = []

        def trouble(handler: object, page: object) -> bool:
            heard.append(handler.headers.get("Authorization", ""))  # type: ignore[attr-defined]
            return False

        site.put("/a", b"1")
        site.trouble = trouble
        monkeypatch.setenv("MY_TOKEN", "very-secret-token")
        store = opened(DatastoreSpec.of("there", site.url, {"token": "env:MY_TOKEN"}), tmp_path)
        item = store.stat("a")
        assert item is not None and list(store.read(item, 0)) == [b"1"]
        assert heard == ["Bearer very-secret-token"]
        monkeypatch.delenv("MY_TOKEN")
        with pytest.raises(DatastoreError, match=r"takes its token from \$MY_TOKEN, which is not set"):
            store.stat("a")


@pytest.mark.parametrize("extra", ["azure.storage.blob", "boto3", "paramiko", "smbclient"])
def test_a_missing_library_is_one_line_with_the_command(extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, extra, None)
    url, name = {
        "azure.storage.blob": ("az://c", "azure"), "boto3": ("s3://b", "s3"), "paramiko": ("sftp://h/d", "sftp"),
        "smbclient": ("smb://h/s", "smb"),
    }[extra]  # fmt: skip
    with pytest.raises(DatastoreError, match="which is not installed") as missing:
        opened(DatastoreSpec.of("there", url, {}), tmp_path)
    assert missing.value.hint == f"Install it: pip install 'mlpipe-tui[{name}]'"
