"""`web`: the terminal app in a browser of this machine. The app is started by name; nothing of it is imported here."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.engine import Engine
from mlpipe_engine.errors import UsageError


def web(arguments: Arguments) -> int:
    port = arguments.text("port") or "0"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--port {port}: a port is a number from 0 to 65535", hint="leave --port out, and a free one is taken")
    missing = [name for name in ("textual_serve", "aiohttp") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the browser needs {' and '.join(missing)}, which are not installed", hint="pip install 'mlpipe-tui[web]'"
        )
    engine = Engine.open(arguments.text("directory"))
    root = engine.root
    engine.close()
    options = ["--read-only"] if arguments.flag("read-only") else []
    theme = arguments.text("theme")
    options += ["--theme", theme] if theme else []
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "mlpipe_tui.web", root, port, *options])
