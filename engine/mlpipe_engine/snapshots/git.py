"""Facts about the git work tree a run was started from: commit, branch, dirty or not, remote without credentials.

The keys are those of the Azure SDK. No git, no work tree: no facts and no error.
"""

from __future__ import annotations

import os
import re
import subprocess


def git_facts(directory: str) -> tuple[dict[str, str], bytes]:
    """(properties, diff against the commit when dirty). Empty when there is no repository."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return {}, b""
    branch = _git(directory, "symbolic-ref", "--short", "-q", "HEAD") or b""
    remote = _git(directory, "ls-remote", "--get-url") or b""
    status = _git(directory, "status", "--porcelain", ".") or b""
    facts = {
        "azureml.git.commit": commit.decode(),
        "azureml.git.branch": branch.decode("utf-8", "replace"),
        "azureml.git.dirty": str(bool(status)),
    }
    address = without_credentials(remote.decode("utf-8", "replace"))
    if address and address != "origin":
        facts["azureml.git.repository_uri"] = address
    diff = (_git(directory, "diff", "--no-color", "--no-ext-diff", "HEAD", "--", ".", limit=8 << 20) or b"") if status else b""
    return {key: value for key, value in facts.items() if value}, diff


def without_credentials(address: str) -> str:
    """https://user:token@host/x -> https://host/x; git@host:x keeps its user, which is no secret."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", r"\1", address, flags=re.IGNORECASE)


def _git(directory: str, *words: str, limit: int = 1 << 16) -> bytes | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", directory, *words],
            capture_output=True,
            timeout=20,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()[:limit] if done.returncode == 0 else None
