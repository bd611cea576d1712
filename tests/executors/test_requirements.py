"""What requirement and conda files say, and what of it counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlpipe_engine.errors import EnvironmentProblem
from mlpipe_engine.executors.conda_file import as_pip, read_conda_file
from mlpipe_engine.executors.requirements import Reader
from mlpipe_engine.hashing.stat_cache import StatCache


def read(root: Path, name: str = "req.txt") -> Reader:
    reader = Reader(str(root), StatCache())
    reader.file(str(root / name), "pipeline.py:1")
    return reader


def test_comments_blank_lines_and_continuations(tmp_path: Path) -> None:
    (tmp_path / "req.txt").write_text(
        "\ufeff# all of it\n\na==1 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11  # two\r\nb[x]>=2 ; python_version < '3'\nc @ https://x/y#egg=c\n"
    )
    assert read(tmp_path).found.lines == [
        "a==1 --hash=sha256:00 --hash=sha256:11",
        "b[x]>=2 ; python_version < '3'",
        "c @ https://x/y#egg=c",
    ]


def test_includes_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "req.txt").write_text("-r sub/more.txt\n--requirement=sub/more.txt\n-csub/limits.txt\n")
    (tmp_path / "sub/more.txt").write_text("a\n-r ../req.txt\n")
    (tmp_path / "sub/limits.txt").write_text("a<2\n")
    found = read(tmp_path).found
    assert (found.lines, found.constraints, found.count) == (["a"], ["a<2"], 1)
    assert found.identity == ["a", "constraint a<2"]


@pytest.mark.parametrize(
    "line", ["./pkg", "pkg/", "file://{root}/pkg", "pkg @ file://{root}/pkg", "./pkg[extra] ; python_version > '3'"]
)
def test_a_local_package_counts_by_content_and_not_by_place(tmp_path: Path, line: str) -> None:
    identities = []
    for name, text in (("one", "1"), ("two", "1"), ("three", "2")):
        root = tmp_path / name
        (root / "pkg").mkdir(parents=True)
        (root / "pkg/setup.py").write_text(text)
        (root / "req.txt").write_text(line.replace("{root}", str(root)) + "\n")
        found = read(root).found
        assert str(root / "pkg") in found.lines[0]
        identities.append(found.identity)
    assert identities[0] == identities[1] != identities[2]
    assert str(tmp_path) not in identities[0][0]


def test_of_an_editable_package_only_what_says_how_it_is_built_counts(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/pyproject.toml").write_text("x")
    (tmp_path / "req.txt").write_text("-e pkg[extra]\n")
    before = read(tmp_path).found
    assert before.lines == [f"-e {tmp_path}/pkg[extra]"]
    (tmp_path / "pkg/code.py").write_text("x")
    assert read(tmp_path).found.identity == before.identity
    (tmp_path / "pkg/pyproject.toml").write_text("y")
    assert read(tmp_path).found.identity != before.identity


def test_a_variable_counts_by_its_value_which_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "req.txt").write_text("--index-url https://me:${TOKEN}@example.org/simple\n")
    monkeypatch.setenv("TOKEN", "secret-one")
    one = read(tmp_path).found
    monkeypatch.setenv("TOKEN", "secret-two")
    two = read(tmp_path).found
    assert one.lines == two.lines and one.identity != two.identity
    assert "secret" not in repr((one, two))


@pytest.mark.parametrize(
    ("conda", "pip"),
    [
        ("numpy", "numpy"), ("numpy=1.26", "numpy==1.26.*"), ("numpy==1.26.4", "numpy==1.26.4"), ("numpy 1.26", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"), ("scikit-learn >=1.2, <2", "scikit-learn>=1.2,<2"), ("pytorch=2", "torch==2.*"),
        ("numpy=1.26.4=py311h1_0", None), ("numpy=1.2|1.3", None), ("conda-forge::numpy", None), ("cudatoolkit", None), ("r-base", None),
    ],
)  # fmt: skip
def test_conda_packages_as_pip_knows_them(conda: str, pip: str | None) -> None:
    assert as_pip(conda) == pip


def test_a_conda_file(tmp_path: Path) -> None:
    path = tmp_path / "environment.yml"
    path.write_text("""---
name: "demo"
channels:
- conda-forge   # first
dependencies:
- python = 3.12
- 'numpy=1.26'
- pip:
  - a>1  # why
  - "b @ https://x/#egg=b"
- scipy
prefix: /home/x
""")
    found = read_conda_file(str(path), "environment.yml")
    assert (found.channels, found.conda, found.python_version) == (("conda-forge",), ("numpy=1.26", "scipy"), "3.12")
    assert found.pip == ("a>1", "b @ https://x/#egg=b") and found.lines == (("numpy=1.26", 7), ("scipy", 11))
    path.write_text("dependencies: [python=3.11, numpy]\n")
    assert read_conda_file(str(path), "environment.yml").conda == ("numpy",)
    with pytest.raises(EnvironmentProblem, match=r"the conda file gone.yml does not exist"):
        read_conda_file(str(tmp_path / "gone.yml"), "gone.yml")
