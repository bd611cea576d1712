"""Conda environment files: which Python, conda packages and pip packages they ask for; and which of them PyPI has as well.

Reads the part of YAML such files are written in (block and flow lists, quotes, comments) and refuses the rest by line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlpipe_engine.errors import EnvironmentProblem, FilesystemError

_MAX_BYTES = 1 << 20

_SAME_NAME = (
    "beautifulsoup4", "bokeh", "boto3", "catboost", "category_encoders", "click", "cloudpickle", "cython", "dask", "dill",
    "duckdb", "fastapi", "flask", "flake8", "fsspec", "gensim", "geopandas", "h5py", "httpx", "hypothesis",
    "imbalanced-learn", "ipykernel", "ipython", "jinja2", "joblib", "jsonschema", "jupyter", "jupyterlab", "keras",
    "lightgbm", "lxml", "matplotlib", "mlflow", "mypy", "nbconvert", "networkx", "nltk", "notebook", "numba", "numpy",
    "onnx", "onnxruntime", "openpyxl", "optuna", "packaging", "pandas", "patsy", "pillow", "pip", "plotly", "polars",
    "protobuf", "psutil", "pyarrow", "pydantic", "pytest", "python-dateutil", "pytz", "pyyaml", "regex", "requests", "rich",
    "s3fs", "scikit-image", "scikit-learn", "scipy", "seaborn", "setuptools", "shap", "six", "sqlalchemy", "statsmodels",
    "sympy", "tabulate", "tensorboard", "tensorflow", "threadpoolctl", "tokenizers", "torchmetrics", "tqdm", "transformers",
    "typing_extensions", "umap-learn", "urllib3", "wheel", "xarray", "xgboost", "xlrd", "torchvision", "lightning",
    "pytorch-lightning",
)  # fmt: skip
ON_PYPI = {name: name for name in _SAME_NAME} | {
    "pytorch": "torch",
    "python-duckdb": "duckdb",
    "pytables": "tables",
    "opencv": "opencv-python",
    "py-opencv": "opencv-python",
    "huggingface_hub": "huggingface-hub",
}
"""Conda names whose project is on PyPI, and its name there. Any other name could be somebody else's project on PyPI."""


@dataclass(frozen=True, slots=True)
class CondaFile:
    channels: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    """As written, without Python itself."""
    pip: tuple[str, ...] = ()
    python_version: str | None = None
    lines: tuple[tuple[str, int], ...] = ()
    """Conda package -> line it stands in."""


def read_conda_file(path: str, shown: str) -> CondaFile:
    """Raises EnvironmentProblem with file and line."""
    try:
        with open(path, "rb") as file:
            body = file.read(_MAX_BYTES + 1)
        text = body.decode("utf-8-sig")
    except FileNotFoundError:
        raise EnvironmentProblem(
            f"the conda file {shown} does not exist", hint="Correct its path; it is relative to the project folder."
        ) from None
    except OSError as error:
        raise FilesystemError.of(error, "read", path) from error
    except UnicodeDecodeError:
        raise EnvironmentProblem(f"the conda file {shown} is no UTF-8 text") from None
    return _Reader(shown).read(text)


class _Reader:
    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._section = ""
        self._channels: list[str] = []
        self._conda: dict[str, int] = {}
        self._pip: list[str] = []
        self._python: str | None = None
        self._pip_indent: int | None = None
        """Of the line `- pip:`, while its list goes on."""

    def read(self, text: str) -> CondaFile:
        for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            line = _without_comment(raw).rstrip()
            if not line.strip() or line.strip() == "---":
                continue
            if "\t" in line[: len(line) - len(line.lstrip())]:
                raise self._wrong(number, "a tab at the start of the line", "spaces")
            self._line(line, number)
        return CondaFile(
            tuple(self._channels), tuple(self._conda), tuple(self._pip), self._python, tuple(self._conda.items())
        )  # fmt: skip

    def _line(self, line: str, number: int) -> None:
        indent, content = len(line) - len(line.lstrip()), line.strip()
        if indent == 0 and not content.startswith("-"):
            self._key(content, number)
            return
        if self._section in ("name", "prefix"):
            raise self._wrong(number, repr(content), "one value")
        if not content.startswith("- ") and content != "-":
            raise self._wrong(number, repr(content), "a list entry that starts with '- '")
        self._entry(content[1:].strip(), indent, number)

    def _key(self, content: str, number: int) -> None:
        name, colon, value = content.partition(":")
        name, value = _unquoted(name.strip()), value.strip()
        if not colon:
            raise self._wrong(number, repr(content), "a key such as 'dependencies:'")
        if name not in ("name", "channels", "dependencies", "prefix"):
            raise self._wrong(number, f"the key {name!r}", "name, channels or dependencies")
        self._section, self._pip_indent = name, None
        if name in ("channels", "dependencies") and value:
            if not (value.startswith("[") and value.endswith("]")) or "{" in value:
                raise self._wrong(number, repr(value), "a list")
            for part in value[1:-1].split(","):
                if part.strip():
                    self._entry(part.strip(), 0, number)

    def _entry(self, content: str, indent: int, number: int) -> None:
        if self._pip_indent is not None and indent > self._pip_indent:
            self._pip.append(_unquoted(content))
            return
        self._pip_indent = None
        if self._section == "channels":
            self._channels.append(_unquoted(content))
        elif re.fullmatch(r"pip\s*:", content):
            self._pip_indent = indent
        elif not content or content.endswith(":") or content.startswith(("{", "[", "&", "*", "|", ">-")):
            raise self._wrong(number, repr(content), "a package such as 'numpy=2.1', or 'pip:' with a list below it")
        else:
            self._package(_unquoted(content), number)

    def _package(self, package: str, number: int) -> None:
        found = re.fullmatch(r"python\s*(?:={0,2}\s*|\s+)([0-9]+(?:\.[0-9]+){0,2})(?:\.\*|=\S+)?", package)
        if found:
            self._python = found[1]
        elif re.fullmatch(r"python\s*([<>=!~].*)?", package):
            if package != "python":
                raise self._wrong(number, repr(package), "an exact version such as 'python=3.12'")
        else:
            self._conda[package] = number

    def _wrong(self, number: int, found: str, expected: str) -> EnvironmentProblem:
        return EnvironmentProblem(f"found {found}", where=f"{self._shown}:{number}", expected=expected)


def _without_comment(line: str) -> str:
    """A # begins a comment at the start or after a space, outside of quotes; in a pip line `#egg=` does not."""
    quote = ""
    for position, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (position == 0 or line[position - 1].isspace()):
            return line[:position]
    return line


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def as_pip(package: str) -> str | None:
    """The requirement that means the same to pip; None where only conda can provide it."""
    found = re.fullmatch(r"([A-Za-z0-9_.\-]+)\s*(.*)", package)
    name = ON_PYPI.get(found[1].lower()) if found else None
    if found is None or name is None:
        return None
    version = found[2].strip()
    if not version:
        return name
    exact = re.fullmatch(r"=?\s*([0-9][\w.]*)(\.\*)?", version)
    if exact:
        return f"{name}=={exact[1]}.*"
    if re.fullmatch(r"==\s*[0-9][\w.]*", version) or re.fullmatch(
        r"[<>!]=?\s*[0-9][\w.]*(\s*,\s*[<>!]=?\s*[0-9][\w.]*)*", version
    ):
        return name + version.replace(" ", "")
    return None
