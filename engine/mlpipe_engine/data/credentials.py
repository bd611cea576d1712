"""Secrets, by name: from the environment or a keyring, at the moment they are needed. Nothing here writes any of them anywhere.

A secret that a script gives as a value stays in this process. Every secret that was handed out is known to `redact`.
"""

from __future__ import annotations

import os
import re
import threading
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from mlpipe_engine.errors import DatastoreError

if TYPE_CHECKING:
    from mlpipe_engine.model.datastores import DatastoreSpec

_for_this_process: dict[tuple[str, str], str] = {}
_handed_out: set[str] = set()
_lock = threading.Lock()
_SHORT = 4
"""Secrets shorter than this are not hidden: every text holds them."""


def keep_for_this_process(datastore: str, role: str, secret: str) -> None:
    with _lock:
        _for_this_process[datastore, role] = secret
        _handed_out.add(secret)


def variable(datastore: str, role: str) -> str:
    """The environment variable that is looked at when nothing names another."""
    return f"MLPIPE_{re.sub(r'[^A-Za-z0-9]', '_', datastore)}_{role}".upper()


class Credentials:
    """Of one datastore."""

    def __init__(self, spec: DatastoreSpec) -> None:
        self._spec = spec

    def get(self, role: str) -> str | None:
        """Raises DatastoreError when the name leads nowhere; None when no name was given and the usual variable is not set."""
        reference = dict(self._spec.credentials).get(role)
        if reference is None:
            found = _for_this_process.get((self._spec.name, role)) or os.environ.get(variable(self._spec.name, role))
        else:
            found = self._named(role, reference)
        if found:
            with _lock:
                _handed_out.add(found)
        return found or None

    def _named(self, role: str, reference: str) -> str:
        kind, _, name = reference.partition(":")
        if kind == "env":
            value = os.environ.get(name)
            if not value:
                raise DatastoreError(
                    f"datastore {self._spec.name!r} takes its {role} from ${name}, which is not set", where=self._spec.where,
                    field=f"datastore.{self._spec.name}.{role}", hint=f"Set it: export {name}=...",
                )  # fmt: skip
            return value
        service, _, user = name.partition("/")
        return self._from_keyring(role, service, user)

    def _from_keyring(self, role: str, service: str, user: str) -> str:
        what = f"datastore {self._spec.name!r} takes its {role} from the keyring"
        try:
            import keyring
        except ImportError:
            raise DatastoreError(
                f"{what}, but the Python package 'keyring' is not installed", where=self._spec.where,
                hint="Install it: pip install 'mlpipe-tui[keyring]', or use env:NAME.",
            ) from None  # fmt: skip
        try:
            value = keyring.get_password(service, user)
        except Exception as error:  # whatever a back end raises
            raise DatastoreError(
                f"{what}, which cannot be used: {type(error).__name__}: {error}", where=self._spec.where
            ) from error
        if not value:
            raise DatastoreError(
                f"{what}, but nothing is kept there for service {service!r} and user {user!r}", where=self._spec.where,
                hint=f"Store it: keyring set {service} {user}",
            )  # fmt: skip
        return value

    def ways(self, *roles: str) -> str:
        """What a person can do to give one of these, for a hint."""
        return f'Write {roles[0]} = "env:NAME" into [datastore.{self._spec.name}], or set ${variable(self._spec.name, roles[0])}.'


def redact(text: str) -> str:
    """`text` without any secret that was handed out in this process, also where it is quoted for a URL or in base64."""
    with _lock:
        secrets = [secret for secret in _handed_out if len(secret) >= _SHORT]
    for secret in sorted(secrets, key=len, reverse=True):
        for form in {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), b64encode(secret.encode()).decode()}:
            text = text.replace(form, "***")
    return re.sub(r"(?i)\b(sig|x-amz-signature|accountkey|sharedaccesskey|password|pwd)=[^&;\s'\"]+", r"\1=***", text)
