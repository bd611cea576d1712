"""A datastore as it was declared: a name, a URL, options, and the names of its credentials (never the credentials).

Which schemes there are, and what each knows, stands in `SCHEMES`; configuration, SDK and adapters all read it there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from mlpipe_engine.errors import ConfigError, nearest

Kind = Literal["folder", "blob", "s3", "sftp", "smb", "http", "sql"]
Origin = Literal["built in", "mlpipe.toml", "registered"]

BUILT_IN = ("workspaceblobstore", "workspacefilestore")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|keyring:[^/\s]+/\S+")


@dataclass(frozen=True, slots=True)
class Scheme:
    """What follows `scheme://` and which settings such a store knows."""

    kind: Kind
    form: str
    options: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    extra: str = ""
    """The optional part of the distribution that brings its library."""


_BLOB = Scheme(
    "blob",
    "az://container/folder",
    ("account", "endpoint", "anonymous"),
    ("account_key", "sas_token", "connection_string"),
    "azure",
)
_HTTP = Scheme("http", "https://host/folder", ("user",), ("password", "token"))
_POSTGRES = Scheme("sql", "postgresql://user@host:5432/database", ("user", "sslmode"), ("password",), "sql")
_MYSQL = Scheme("sql", "mysql://user@host:3306/database", ("user",), ("password",), "sql")
SCHEMES: dict[str, Scheme] = {
    "file": Scheme("folder", "file:///folder, or a path"),
    "az": _BLOB,
    "abfs": _BLOB,
    "abfss": _BLOB,
    "wasbs": _BLOB,
    "s3": Scheme(
        "s3", "s3://bucket/folder", ("endpoint", "region", "anonymous", "profile"), ("access_key", "secret_key", "session_token"), "s3"
    ),
    "sftp": Scheme(
        "sftp", "sftp://user@host:22/folder", ("user", "key_file", "known_hosts", "host_key"), ("password", "private_key", "passphrase"),
        "sftp",
    ),
    "smb": Scheme("smb", "smb://user@host:445/share/folder", ("user", "domain"), ("password",), "smb"),
    "http": _HTTP,
    "https": _HTTP,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "mssql": Scheme("sql", "mssql://user@host:1433/database", ("user",), ("password",), "sql"),
    "sqlite": Scheme("sql", "sqlite:///file.db"),
    "duckdb": Scheme("sql", "duckdb:///file.duckdb"),
}  # fmt: skip
SETTINGS = tuple(sorted({name for scheme in SCHEMES.values() for name in (*scheme.options, *scheme.credentials)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreSpec:
    """`options` and `credentials` are sorted pairs; a credential is the name of a secret: "env:NAME" or "keyring:SERVICE/USER"."""

    name: str
    url: str
    options: tuple[tuple[str, str], ...] = ()
    credentials: tuple[tuple[str, str], ...] = ()
    origin: Origin = "registered"
    where: str = ""
    """`file:line` of its table in mlpipe.toml."""

    @classmethod
    def of(
        cls, name: str, url: str, settings: Mapping[str, str], *, origin: Origin = "registered", where: str = ""
    ) -> DatastoreSpec:  # fmt: skip
        """Raises ConfigError for a name, URL or setting that means nothing, and for a secret that stands where its name should."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"datastore name {name!r}", where=where, expected="letters, digits, '_', '.', '-', at most 100")
        known = scheme_of(url, where, name)
        _check_url(url, known, where, name)
        options: list[tuple[str, str]] = []
        credentials: list[tuple[str, str]] = []
        for setting, value in sorted(settings.items()):
            field = f"datastore.{name}.{setting}"
            if setting in known.options:
                options.append((setting, value))
            elif setting in known.credentials:
                if not is_reference(value):
                    raise ConfigError(
                        "found a value that is not shown here", where=where, field=field,
                        expected='the name of a secret: "env:NAME" or "keyring:SERVICE/USER"',
                        hint=f'Put the secret into an environment variable and write {setting} = "env:NAME".',
                    )  # fmt: skip
                credentials.append((setting, value))
            else:
                choices = [*known.options, *known.credentials]
                close = nearest(setting, choices)
                raise ConfigError(
                    f"unknown name {setting!r}" + (f"; did you mean {close!r}?" if close else ""), where=where, field=field,
                    expected="one of " + ", ".join(["url", *choices]), hint="Correct or remove it.",
                )  # fmt: skip
        return cls(name=name, url=url, options=tuple(options), credentials=tuple(credentials), origin=origin, where=where)

    @property
    def scheme(self) -> str:
        return _scheme_name(self.url)

    @property
    def kind(self) -> Kind:
        return SCHEMES[self.scheme].kind

    @property
    def extra(self) -> str:
        return SCHEMES[self.scheme].extra

    def option(self, name: str) -> str | None:
        return dict(self.options).get(name)

    @property
    def is_read_only(self) -> bool:
        return self.kind in ("http", "sql")


def is_reference(value: object) -> bool:
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def _scheme_name(url: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?=//|[^\\])", url)
    return found[1].lower() if found else "file"


def scheme_of(url: object, where: str = "", name: str = "") -> Scheme:
    field = f"datastore.{name}.url" if name else "url"
    if not isinstance(url, str) or not url.strip():
        raise ConfigError(f"found {url!r}", where=where, field=field, expected="a URL or a folder")
    scheme = _scheme_name(url)
    if scheme not in SCHEMES:
        close = nearest(scheme, SCHEMES)
        raise ConfigError(
            f"unknown kind of datastore {scheme + '://'!r}" + (f"; did you mean {close + '://'!r}?" if close else ""), where=where,
            field=field, expected="one of " + ", ".join(f"{known}://" for known in SCHEMES),
        )  # fmt: skip
    return SCHEMES[scheme]


def _check_url(url: str, scheme: Scheme, where: str, name: str) -> None:
    if scheme.kind == "folder" or url.startswith(("sqlite:", "duckdb:")):
        return
    field = f"datastore.{name}.url"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"the URL cannot be read: {error}", where=where, field=field, expected=scheme.form) from None
    if parts.password is not None:
        raise ConfigError(
            "the URL holds a password", where=where, field=field, expected=scheme.form,
            hint='Leave it out of the URL and write password = "env:NAME".',
        )  # fmt: skip
    if not host:
        raise ConfigError(f"the URL {url!r} is not complete", where=where, field=field, expected=scheme.form)
    if parts.query or parts.fragment:
        raise ConfigError("the URL has a part behind '?' or '#'", where=where, field=field, expected=scheme.form)
