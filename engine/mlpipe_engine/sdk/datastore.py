"""Datastores: named places for data. Two are folders of the project; others are declared in mlpipe.toml or registered.

While a definition is loaded nothing is asked of any of them; what would be done is noted instead.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlpipe_engine.errors import DatasetNotFoundError, DatastoreError, DefinitionTypeError, InputError, InputMissingError, nearest
from mlpipe_engine.model.datastores import BUILT_IN, SETTINGS, DatastoreSpec, is_reference
from mlpipe_engine.sdk import loading
from mlpipe_engine.sdk.keywords import caller, strict

if TYPE_CHECKING:
    from mlpipe_engine.data.transfer import Transferred
    from mlpipe_engine.sdk.dataset import DatasetConsumptionConfig
    from mlpipe_engine.sdk.workspace import Workspace

DATA_REFERENCE = "$AZUREML_DATAREFERENCE_"


def reference(name: str) -> str:
    """What an input or output looks like in a text: the variable that holds its path in the step."""
    return DATA_REFERENCE + name


@strict
@dataclass(frozen=True)
class DataPath:
    """A path in a datastore. Among the inputs or arguments of a step it is an input."""

    datastore: AbstractDatastore
    path_on_datastore: str
    data_reference_name: str | None = None
    """Name of the input; without one it is called like the last part of the path."""

    @property
    def absolute(self) -> str:
        """A path of this machine, or `datastore://NAME/path`."""
        return self.datastore.address(self.path_on_datastore)

    def as_mount(self) -> DatasetConsumptionConfig:
        from mlpipe_engine.sdk.dataset import Dataset

        found = Dataset.File.from_files(self).as_mount()
        return found if self.data_reference_name is None else found.renamed(self.data_reference_name)

    def as_download(self) -> DatasetConsumptionConfig:
        return self.as_mount().as_download()

    def __str__(self) -> str:
        return str(self.as_mount())


@strict
class AbstractDatastore:
    """A named place that is addressed by relative paths."""

    def __init__(self, workspace: Workspace, spec: DatastoreSpec) -> None:
        self.workspace = workspace
        self.spec = spec
        self.name = spec.name

    @property
    def datastore_type(self) -> str:
        return {
            "folder": "Local", "blob": "AzureBlob", "s3": "S3", "sftp": "Sftp", "smb": "AzureFile", "http": "Http", "sql": "Sql",
        }[self.spec.kind]  # fmt: skip

    def address(self, path: str) -> str:
        return f"datastore://{self.name}/{path}"

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataPath:
        return DataPath(self, _inside(path or ""), data_reference_name)

    def upload_files(
        self,
        files: Sequence[str | os.PathLike[str]],
        relative_root: str | os.PathLike[str] | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
        on_conflict: Literal["keep", "error"] = "keep",
    ) -> DataPath:
        """Copy local files in, several at a time; each is read back and compared. An existing file with equal bytes is left alone; one
        with other bytes is kept and named unless `overwrite`, or, with on_conflict="error", nothing is written and DatastoreError raised.

        `relative_root` defaults to the common folder of the files. Interrupted, the same call goes on where it stopped.
        Raises InputMissingError, InputError, DatastoreError, FilesystemError.
        """
        if isinstance(files, str | os.PathLike):
            raise InputError(f"files is {os.fspath(files)!r}", field="files", expected="a list of paths")
        if on_conflict not in ("keep", "error"):
            raise InputError(f"on_conflict is {on_conflict!r}", field="on_conflict", expected='"keep" or "error"')
        paths = [os.path.abspath(file) for file in files]
        for path in paths:
            if not os.path.isfile(path):
                raise InputMissingError(
                    f"{path!r} does not point to a file", field="files", hint="Name files; use upload() for folders."
                )
        root = _root_of(paths, relative_root)
        target = self.path(target_path)
        for path in paths:
            if not path.startswith(root.rstrip("/") + "/"):
                raise InputError(f"{path} does not lie below relative_root {root}", field="relative_root")
        if loading.active:
            loading.note(f"upload of {len(paths)} files to {self.name}")
            return target
        folder = target.path_on_datastore.strip("/")
        pairs = [(path, "/".join(filter(None, [folder, os.path.relpath(path, root).replace(os.sep, "/")]))) for path in paths]
        report = _Report(self, len(pairs), show_progress)
        self.workspace.engine.upload(self.name, pairs, overwrite=overwrite, on_conflict=on_conflict, seen=report.uploaded)
        return target

    def upload(
        self, src_dir: str | os.PathLike[str], target_path: str | None = None, overwrite: bool = False, show_progress: bool = True,
        on_conflict: Literal["keep", "error"] = "keep",
    ) -> DataPath:  # fmt: skip
        """Copy all files of a folder in, as `upload_files` does."""
        from mlpipe_engine.data.transfer import local_files

        if not os.path.isdir(src_dir):
            raise InputMissingError(f"{os.fspath(src_dir)!r} is not a folder", field="src_dir")
        files = local_files(os.fspath(src_dir))
        return self.upload_files(files, src_dir, target_path, overwrite, show_progress, on_conflict)

    def download(
        self, target_path: str | os.PathLike[str], prefix: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> int:
        """Copy files whose path starts with `prefix` out; returns how many. A local file with other bytes is kept and named unless
        `overwrite`. Raises DatastoreError, FilesystemError."""
        if loading.active:
            loading.note(f"download from {self.name}")
            return 0
        report = _Report(self, 0, show_progress)
        done = self.workspace.engine.download_prefix(
            self.name, (prefix or "").lstrip("/"), os.fspath(target_path), overwrite=overwrite, seen=report.downloaded
        )
        return sum(1 for item in done if item.what == "downloaded")

    def ls(self, path: str | None = None) -> list[str]:
        """Paths of what is at a path, below a folder, or matches a glob; sorted. Raises DatastoreError."""
        if loading.active:
            loading.note(f"ls of {self.name}")
            return []
        return [item.path for item in self.workspace.engine.list_datastore(self.name, path or "")]

    def set_as_default(self) -> None:
        """Raises ConfigError where mlpipe.toml names another default."""
        self.workspace.set_default_datastore(self.name)

    def unregister(self) -> None:
        """The datastore is forgotten; its data stays. Raises ConfigError for one that mlpipe.toml declares or that is built in."""
        if loading.active:
            loading.note(f"unregister of {self.name}")
            return
        self.workspace.engine.unregister_datastore(self.name)

    def __repr__(self) -> str:
        return f"Datastore(name={self.name!r}, url={self.spec.url!r})"


@strict
class LocalDatastore(AbstractDatastore):
    """A folder of this machine. Made when first written to."""

    @property
    def root(self) -> str:
        from mlpipe_engine.data.adapters.folder import folder_of

        return folder_of(self.spec, self.workspace.root)

    def address(self, path: str) -> str:
        return os.path.join(self.root, path)


@strict
class SqlDatastore(AbstractDatastore):
    """A database: read by `Dataset.Tabular.from_sql_query`."""

    def address(self, path: str) -> str:
        if path:
            raise InputError(f"{path!r} is no file: datastore {self.name!r} is a database", where=caller())
        return f"datastore://{self.name}"

    def read_sql(self, query: str, target_path: str | os.PathLike[str], query_timeout: float = 30) -> int:
        """The rows of one SELECT into a Parquet file; returns how many. Raises DatastoreError."""
        return self.workspace.engine.read_sql(self.name, query, os.fspath(target_path), timeout_seconds=query_timeout)


def datastore_of(workspace: Workspace, spec: DatastoreSpec) -> AbstractDatastore:
    kinds = {"folder": LocalDatastore, "sql": SqlDatastore}
    return kinds.get(spec.kind, AbstractDatastore)(workspace, spec)


class _Report:
    """One line for each file, as the Azure SDK prints them; what was not done is always said."""

    def __init__(self, store: AbstractDatastore, total: int, show: bool) -> None:
        self._store, self._total, self._show, self._count = store, total, show, 0

    def uploaded(self, item: Transferred) -> None:
        self._count += 1
        place = (
            os.path.join(self._store.root, item.path)
            if isinstance(self._store, LocalDatastore)
            else self._store.address(item.path)
        )
        if item.what == "kept":
            print(f"mlpipe-tui: {item.warning(place)}", file=sys.stderr)
        elif self._show:
            word = "Uploaded" if item.what == "uploaded" else "Unchanged:"
            print(f"{word} {item.local}, {self._count} files out of an estimated total of {self._total}")

    def downloaded(self, item: Transferred) -> None:
        if item.what == "kept":
            what = f"kept {item.local}: it has other bytes ({item.other}) than {self._store.address(item.path)} ({item.digest})"
            print(f"mlpipe-tui: {what}; use overwrite=True to replace it", file=sys.stderr)
        elif self._show and item.what == "downloaded":
            print(f"Downloaded {item.path}")


def _root_of(paths: list[str], given: str | os.PathLike[str] | None) -> str:
    if given:
        return os.path.abspath(given)
    return os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""


def _inside(path: str) -> str:
    """Leading `/` and `../` are dropped as the Azure SDK does; any other way out is refused."""
    relative = re.sub(r"^(\.*[/\\])*", "", path)
    if ".." in relative.split("/"):
        raise InputError(f"the path {path!r} leaves the datastore", hint="Use a path without '..'.")
    return relative


@strict
class Datastore:
    """`Datastore(workspace)` is the default one, `Datastore(workspace, name)` a named one.

    >>> import tempfile
    >>> from mlpipe_engine import Workspace
    >>> Datastore(Workspace.create("demo", path=tempfile.mkdtemp())).name
    'workspaceblobstore'
    """

    def __new__(cls, workspace: Workspace, name: str | None = None) -> AbstractDatastore:  # type: ignore[misc]
        if name is None:
            return workspace.get_default_datastore()
        if name not in workspace.datastores:
            close = nearest(name, workspace.datastores)
            raise DatasetNotFoundError(
                f"there is no datastore {name!r}" + (f"; did you mean {close!r}?" if close else ""),
                expected="one of " + ", ".join(workspace.datastores),
                hint=f"Add a table [datastore.{name}] to mlpipe.toml, or run the script that registers it once.",
            )
        return workspace.datastores[name]

    @staticmethod
    def get(workspace: Workspace, datastore_name: str) -> AbstractDatastore:
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Workspace) -> AbstractDatastore:
        return workspace.get_default_datastore()

    @staticmethod
    def register(
        workspace: Workspace, datastore_name: str, url: str, overwrite: bool = True, **settings: str | bool | None
    ) -> AbstractDatastore:
        """Any kind by its URL; `settings` are those of a table [datastore.NAME] in mlpipe.toml. Raises ConfigError, DatastoreError."""
        for setting in settings:
            if setting not in SETTINGS:
                close = nearest(setting, SETTINGS)
                raise DefinitionTypeError(
                    f"Datastore.register() got an unexpected keyword argument {setting!r}" + (f"; did you mean {close!r}?" if close else ""),
                    where=caller(),
                )  # fmt: skip
        given = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in settings.items()
            if value is not None
        }
        return _register(workspace, datastore_name, url, given, overwrite)

    @staticmethod
    def register_azure_blob_container(
        workspace: Workspace, datastore_name: str, container_name: str, account_name: str, sas_token: str | None = None,
        account_key: str | None = None, protocol: str | None = None, endpoint: str | None = None, overwrite: bool = False,
        create_if_not_exists: bool = False, skip_validation: bool = False, blob_cache_timeout: int | None = None,
        grant_workspace_access: bool = False, subscription_id: str | None = None, resource_group: str | None = None,
    ) -> AbstractDatastore:  # fmt: skip
        """A container of Azure Blob storage. `endpoint`: "core.windows.net", or the whole URL of the account at another server."""
        settings = {"account": account_name, "sas_token": sas_token, "account_key": account_key}
        settings["endpoint"] = _blob_endpoint(account_name, endpoint, protocol)
        store = _register(workspace, datastore_name, f"az://{container_name}", settings, overwrite)
        if create_if_not_exists and not loading.active:
            workspace.engine.make_container(datastore_name)
        return store

    @staticmethod
    def register_azure_file_share(
        workspace: Workspace, datastore_name: str, file_share_name: str, account_name: str, sas_token: str | None = None,
        account_key: str | None = None, protocol: str | None = None, endpoint: str | None = None, overwrite: bool = False,
        create_if_not_exists: bool = False, skip_validation: bool = False,
    ) -> AbstractDatastore:  # fmt: skip
        """A file share of Azure, or any SMB share: `endpoint` names the host. The account key is its password."""
        if sas_token is not None:
            raise DatastoreError(
                "a file share is reached by SMB, which knows no SAS token",
                where=caller(),
                field="sas_token",
                hint="Give account_key.",
            )
        host = (
            endpoint
            if endpoint and "core.windows.net" not in endpoint
            else f"{account_name}.file.{endpoint or 'core.windows.net'}"
        )
        host = re.sub(r"^\w+://", "", host).rstrip("/")
        settings = {"user": account_name, "password": account_key}
        return _register(workspace, datastore_name, f"smb://{host}/{file_share_name}", settings, overwrite)

    @staticmethod
    def register_azure_data_lake(
        workspace: Workspace, datastore_name: str, store_name: str, tenant_id: str | None = None, client_id: str | None = None,
        client_secret: str | None = None, resource_url: str | None = None, authority_url: str | None = None,
        subscription_id: str | None = None, resource_group: str | None = None, overwrite: bool = False,
        grant_workspace_access: bool = False,
    ) -> AbstractDatastore:  # fmt: skip
        """Always DatastoreError: Data Lake Storage Gen1 was switched off by Microsoft in February 2024."""
        raise DatastoreError(
            f"Data Lake Storage Gen1 ({store_name!r}) no longer exists: Microsoft switched it off in February 2024", where=caller(),
            hint="Use register_azure_data_lake_gen2, or register_azure_blob_container with the same account.",
        )  # fmt: skip

    @staticmethod
    def register_azure_data_lake_gen2(
        workspace: Workspace, datastore_name: str, filesystem: str, account_name: str, tenant_id: str | None = None,
        client_id: str | None = None, client_secret: str | None = None, resource_url: str | None = None, authority_url: str | None = None,
        protocol: str | None = None, endpoint: str | None = None, overwrite: bool = False, subscription_id: str | None = None,
        resource_group: str | None = None, grant_workspace_access: bool = False, account_key: str | None = None,
        sas_token: str | None = None,
    ) -> AbstractDatastore:  # fmt: skip
        """A file system of Data Lake Gen2, through the Blob endpoint of its account: give `account_key` or `sas_token`."""
        if client_secret is not None or client_id is not None:
            raise DatastoreError(
                "a service principal (client_id, client_secret) is not known here", where=caller(), field="client_id",
                hint='Give account_key="env:NAME" or sas_token="env:NAME" of the same account.',
            )  # fmt: skip
        settings = {"account": account_name, "sas_token": sas_token, "account_key": account_key}
        settings["endpoint"] = _blob_endpoint(account_name, endpoint, protocol)
        return _register(workspace, datastore_name, f"az://{filesystem}", settings, overwrite)

    @staticmethod
    def register_azure_sql_database(
        workspace: Workspace, datastore_name: str, server_name: str, database_name: str, tenant_id: str | None = None,
        client_id: str | None = None, client_secret: str | None = None, resource_url: str | None = None, authority_url: str | None = None,
        endpoint: str | None = None, overwrite: bool = False, username: str | None = None, password: str | None = None,
        subscription_id: str | None = None, resource_group: str | None = None, grant_workspace_access: bool = False,
    ) -> AbstractDatastore:  # fmt: skip
        """An Azure SQL database, by pymssql. Untested: no such server was at hand."""
        host = _sql_host(server_name, endpoint, "database.windows.net")
        settings = {"user": username, "password": password}
        return _register(workspace, datastore_name, f"mssql://{host}/{database_name}", settings, overwrite)

    @staticmethod
    def register_azure_postgre_sql(
        workspace: Workspace, datastore_name: str, server_name: str, database_name: str, user_id: str, user_password: str,
        port_number: int | str | None = None, endpoint: str | None = None, overwrite: bool = False, enforce_ssl: bool = True,
    ) -> AbstractDatastore:  # fmt: skip
        """A PostgreSQL database, of Azure or anywhere: a `server_name` with a dot in it is the whole host name."""
        host = _sql_host(server_name, endpoint, "postgres.database.azure.com")
        settings = {"user": user_id, "password": user_password, "sslmode": "require" if enforce_ssl else None}
        url = f"postgresql://{host}:{port_number or 5432}/{database_name}"
        return _register(workspace, datastore_name, url, settings, overwrite)

    @staticmethod
    def register_azure_my_sql(
        workspace: Workspace, datastore_name: str, server_name: str, database_name: str, user_id: str, user_password: str,
        port_number: int | str | None = None, endpoint: str | None = None, overwrite: bool = False,
    ) -> AbstractDatastore:  # fmt: skip
        """A MySQL or MariaDB database, of Azure or anywhere: a `server_name` with a dot in it is the whole host name."""
        host = _sql_host(server_name, endpoint, "mysql.database.azure.com")
        settings = {"user": user_id, "password": user_password}
        return _register(workspace, datastore_name, f"mysql://{host}:{port_number or 3306}/{database_name}", settings, overwrite)


def _blob_endpoint(account: str, endpoint: str | None, protocol: str | None) -> str | None:
    if endpoint is None:
        return None
    if "://" in endpoint:
        return endpoint
    return f"{protocol or 'https'}://{account}.blob.{endpoint}"


def _sql_host(server: str, endpoint: str | None, usual: str) -> str:
    return server if "." in server or server == "localhost" else f"{server}.{endpoint or usual}"


def _register(
    workspace: Workspace, name: str, url: str, settings: Mapping[str, str | None], overwrite: bool
) -> AbstractDatastore:  # fmt: skip
    """A secret that was given as a value is kept by this process and by nothing else."""
    named, loose = {}, {}
    for setting, value in settings.items():
        if value is None:
            continue
        if setting in _SECRETS and not is_reference(value):
            loose[setting] = value
        else:
            named[setting] = value
    spec = DatastoreSpec.of(name, url, named)
    known = {store.name: store for store in workspace.registered_datastores()}
    if name in known and not overwrite and known[name] != spec:
        raise DatastoreError(
            f"there is a datastore {name!r} already, with other settings", where=caller(), field="datastore_name",
            hint="Use overwrite=True, or another name.",
        )  # fmt: skip
    if loading.active:
        loading.note(f"registration of datastore {name!r}")
        workspace.pending_datastores[name] = spec
        return datastore_of(workspace, spec)
    for setting, value in loose.items():
        from mlpipe_engine.data.credentials import keep_for_this_process, variable

        keep_for_this_process(name, setting, value)
        print(
            f"mlpipe-tui: {setting} of datastore {name!r} is kept for this process only and stored nowhere; for runs, set"
            f" ${variable(name, setting)}, or give {setting}=\"env:NAME\"", file=sys.stderr,
        )  # fmt: skip
    workspace.engine.register_datastore(spec)
    return datastore_of(workspace, spec)


_SECRETS = frozenset(
    (
        "account_key",
        "sas_token",
        "connection_string",
        "access_key",
        "secret_key",
        "session_token",
        "password",
        "private_key",
        "passphrase",
        "token",
    )
)
__all__ = [
    "BUILT_IN",
    "AbstractDatastore",
    "DataPath",
    "Datastore",
    "LocalDatastore",
    "SqlDatastore",
    "datastore_of",
    "reference",
]
