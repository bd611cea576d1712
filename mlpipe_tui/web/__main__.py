"""`python -m mlpipe_tui.web ROOT PORT [options of the app]`: what `mlpipe-tui web` becomes once its words were checked."""

from __future__ import annotations

import os
import sys


def main(words: list[str]) -> int:
    from mlpipe_tui.clean import one_line
    from mlpipe_tui.web.server import GuardedServer, listen, session_command

    root, port, *options = words
    try:
        listening = listen(int(port))
    except OSError as error:
        print(
            f"error: port {port} of 127.0.0.1: {error.strerror}\nhint: leave --port out, and a free one is taken", file=sys.stderr
        )
        return 4
    title = one_line(os.path.basename(root), limit=60)
    server = GuardedServer(session_command(root, options), listening, title)

    def ready(link: str) -> None:
        print(f"{title} is at {link}", flush=True)
        print("The link is a key: who has it can run this project's pipelines as you. Ctrl-C ends it; runs go on.", flush=True)

    server.run(ready)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
