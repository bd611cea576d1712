"""`init`: a folder becomes a project. Never overwrites a file."""

from __future__ import annotations

import os

from mlpipe_engine.cli.parse import Arguments
from mlpipe_engine.config.project import FILE_NAME, render_default_config
from mlpipe_engine.errors import InputError, UsageError
from mlpipe_engine.executors.containers.engines import engine_is_near

_EXAMPLE_PIPELINE = '''"""Counts words, in two steps that pass data. Try: mlpipe-tui run; mlpipe-tui plan; edit src/count.py; mlpipe-tui run."""

from mlpipe_engine import Dataset, Pipeline, PipelineData, PipelineParameter, PythonScriptStep, Workspace

ws = Workspace.from_config()

text = Dataset.File.from_files("data/text.txt").as_named_input("text").as_mount()
words = PipelineData("words")
counts = PipelineData("counts")

split = PythonScriptStep("split.py", name="split", source_directory="src", arguments=[text, words], inputs=[text], outputs=[words])
count = PythonScriptStep(
    "count.py",
    name="count",
    source_directory="src",
    arguments=[words, counts, "--top", PipelineParameter("top", 5, minimum=1)],
    inputs=[words],
    outputs=[counts],
)

pipeline = Pipeline(ws, steps=[split, count], name="words")
'''

_EXAMPLE_FILES = {
    "pipelines/words.py": _EXAMPLE_PIPELINE,
    "src/split.py": '''"""One word a line."""

import re
import sys

source, target = sys.argv[1:3]
with open(source) as text, open(target, "w") as words:
    for word in re.findall(r"[a-z]+", text.read().lower()):
        words.write(word + "\\n")
''',
    "src/count.py": '''"""The most frequent words, and how many different ones there are."""

import sys
from collections import Counter

from mlpipe_run import Run

source, target, _, top = sys.argv[1:5]
with open(source) as words:
    counts = Counter(words.read().split())
with open(target, "w") as table:
    for word, number in counts.most_common(int(top)):
        table.write(f"{number} {word}\\n")

Run.get_context().log("different_words", len(counts))
''',
    "data/text.txt": """A pipeline is a list of steps, and a step is a script that reads files and writes files.
What a step wrote is kept. When nothing that a step reads has changed, the step is not run again:
what it wrote before is used instead, and the tool can say why.
""",
}

_WRAP = '''"""Runs {script} as a step. Name its inputs and outputs, and it is only run again when something it uses has changed."""

from mlpipe_engine import Pipeline, PythonScriptStep, Workspace

ws = Workspace.from_config()

step = PythonScriptStep(
    {script!r},
    name={name!r},
    source_directory={folder!r},
    # arguments=["--data", data, "--model", model], inputs=[data], outputs=[model],
)

pipeline = Pipeline(ws, steps=[step], name={name!r})
'''


def init(arguments: Arguments) -> int:
    root = os.path.abspath(arguments.text("directory") or os.getcwd())
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a folder", hint="Make it first.")
    files: dict[str, str] = {}
    if not os.path.lexists(os.path.join(root, FILE_NAME)):
        files[FILE_NAME] = render_default_config(os.path.basename(root) or "project")
    wrap = arguments.text("wrap")
    if arguments.flag("example"):
        files |= _EXAMPLE_FILES
    elif wrap is not None:
        files |= _wrapped(root, wrap)
    elif not files:
        raise UsageError(
            f"{root} already is a project",
            hint="Add a pipeline with `mlpipe-tui init --wrap SCRIPT`, or write pipelines/NAME.py.",
        )
    taken = [name for name in files if os.path.lexists(os.path.join(root, name))]
    if taken:
        raise InputError(
            f"{', '.join(taken)} exists already; nothing was written", hint="Start in an empty folder, or remove it."
        )
    for name, text in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        print(f"made {name}")
    _ignore_state(root)
    print(
        "next: mlpipe-tui run"
        if arguments.flag("example") or wrap
        else "next: write pipelines/NAME.py, or start with `mlpipe-tui init --example`"
    )
    if engine_is_near():
        print("a container engine is here: `mlpipe-tui run --compute docker` shows each step what it declared and nothing else")
    return 0


def _wrapped(root: str, script: str) -> dict[str, str]:
    path = os.path.normpath(os.path.join(root, script))
    if not os.path.isfile(path):
        raise InputError(f"there is no script {script}", hint="Name an existing Python file, relative to the project folder.")
    if not path.startswith(root + os.sep):
        raise InputError(f"{script} lies outside the project {root}", hint="Copy it into the project first.")
    folder, base = os.path.split(os.path.relpath(path, root))
    name = os.path.splitext(base)[0]
    return {f"pipelines/{name}.py": _WRAP.format(script=base, name=name, folder=folder or ".")}


def _ignore_state(root: str) -> None:
    """Keep what runs leave behind out of git, where the project is a git work tree."""
    path = os.path.join(root, ".gitignore")
    if os.path.exists(path) or not os.path.isdir(os.path.join(root, ".git")):
        return
    with open(path, "x", encoding="utf-8") as file:
        file.write(".mlpipe/\n")
    print("made .gitignore")
