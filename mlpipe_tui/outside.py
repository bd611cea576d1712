"""The app, its last part: it leaves the screen to another program, and takes it back."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import mlpipe_engine

import mlpipe_tui
from mlpipe_tui.clean import clean
from mlpipe_tui.following import line_of, path_of
from mlpipe_tui.steering import Steering
from mlpipe_tui.viewmodels import form


class Outside(Steering):
    """Where there is no terminal to leave (in a browser) it says so."""

    def leave_to(self, words: tuple[str, ...], *, wait: bool = False) -> None:
        """A command of ours on the plain screen. `wait`: until Enter, because it ends at once."""
        self.log_command(words)
        command = [sys.executable, "-m", "mlpipe_tui", "-C", self.root, *words]
        code = self._outside(command, wait=wait, shown=form.command_line(words))
        if code not in (0, 130):
            self.tell(f"{form.command_line(words)} ended with {code}", bad=True)
        self._watch.forget()

    def edit(self, place: str) -> None:
        """$EDITOR at file:line."""
        path, line = path_of(place), line_of(place)
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
        try:
            words = shlex.split(editor)
        except ValueError:
            words = []
        if not words:
            self.tell(f"$EDITOR is not set; {path}{':' + str(line) if line else ''} is the place", bad=True)
            return
        name = os.path.basename(words[0])
        known = {
            "code": ["--goto", f"{path}:{line}"],
            "codium": ["--goto", f"{path}:{line}"],
            "subl": [f"{path}:{line}"],
            "hx": [f"{path}:{line}"],
        }
        arguments = known.get(name, [f"+{line}", path]) if line else [path]
        if not os.path.isfile(path):
            self.tell(f"{path} is not there any more", bad=True)
            return
        self._outside([*words, *arguments], wait=False, shown="")
        self.load_definitions()

    def child_environment(self) -> dict[str, str]:
        """For commands of ours: they find the same packages as this process."""
        places = [
            os.path.dirname(os.path.dirname(os.path.abspath(package.__file__ or ""))) for package in (mlpipe_engine, mlpipe_tui)
        ]
        return dict(os.environ) | {
            "PYTHONPATH": os.pathsep.join(filter(None, [*dict.fromkeys(places), os.environ.get("PYTHONPATH", "")]))
        }

    def _outside(self, command: list[str], *, wait: bool, shown: str) -> int:
        environment = self.child_environment() if command[0] == sys.executable else dict(os.environ)
        try:
            with self.suspend():
                if shown:
                    print(f"$ {clean(shown)}", flush=True)
                try:
                    code = subprocess.run(command, env=environment, check=False).returncode
                except KeyboardInterrupt:
                    code = 130
                except OSError as error:
                    print(f"{command[0]}: {error.strerror}", flush=True)
                    code, wait = 127, True
                if wait:
                    print("[Enter returns]", end="", flush=True)
                    try:
                        sys.stdin.readline()
                    except KeyboardInterrupt:
                        pass
        except Exception as error:  # no terminal to suspend: in the browser and in tests
            self.tell(f"not possible here: {error}", bad=True)
            return 0
        return code
