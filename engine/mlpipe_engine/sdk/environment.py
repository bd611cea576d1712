"""Environment, CondaDependencies, DockerSection, RunConfiguration: what a step needs installed, in the words of the Azure SDK.

Building one reads nothing from disk and installs nothing; a run builds what its steps need (`executors.environments`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlpipe_engine.errors import DefinitionTypeError, DefinitionValueError
from mlpipe_engine.model.spec import EnvironmentSpec
from mlpipe_engine.sdk.keywords import caller, strict

if TYPE_CHECKING:
    from mlpipe_engine.executors.conda_file import CondaFile

_PYTHON_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,2}")


@strict
class CondaDependencies:
    """Packages from pip and conda, and the version of Python.

    >>> wanted = CondaDependencies.create(pip_packages=["polars"], python_version="3.12")
    >>> wanted.add_pip_package("pyarrow>=15")
    >>> list(wanted.pip_packages), wanted.python_version
    (['polars', 'pyarrow>=15'], '3.12')
    """

    __slots__ = ("added_conda", "added_pip", "channels", "file", "python_version", "requirements_file", "where")

    def __init__(self, conda_dependencies_file_path: str | os.PathLike[str] | None = None) -> None:
        """`conda_dependencies_file_path`: a conda environment file that this adds to."""
        self.where = caller()
        self.file = None if conda_dependencies_file_path is None else _path(conda_dependencies_file_path)
        self.requirements_file: str | None = None
        self.added_pip: list[str] = []
        self.added_conda: list[str] = []
        self.channels: list[str] = []
        self.python_version: str | None = None

    @classmethod
    def create(
        cls, pip_indexurl: str | None = None, pip_packages: Sequence[str] | None = None, conda_packages: Sequence[str] | None = None,
        python_version: str | None = None, pin_sdk_version: bool = True,
    ) -> CondaDependencies:  # fmt: skip
        """Nothing is added that was not asked for; `pin_sdk_version` is taken and means nothing here."""
        made = cls()
        if pip_indexurl is not None:
            made.added_pip.append(f"--index-url {_line(pip_indexurl, 'pip_indexurl')}")
        for package in _packages(pip_packages, "pip_packages"):
            made.add_pip_package(package)
        for package in _packages(conda_packages, "conda_packages"):
            made.add_conda_package(package)
        if python_version is not None:
            made.set_python_version(python_version)
        return made

    def add_pip_package(self, pip_package: str) -> None:
        """A line as it may stand in a requirements file."""
        _add(self.added_pip, _line(pip_package, "pip_package"))

    def add_conda_package(self, conda_package: str) -> None:
        _add(self.added_conda, _line(conda_package, "conda_package"))

    def add_channel(self, channel: str) -> None:
        _add(self.channels, _line(channel, "channel"))

    def remove_pip_package(self, pip_package: str) -> None:
        """Takes back what a definition added. Raises DefinitionValueError for a package that stands in a file."""
        self._remove(self.added_pip, pip_package)

    def remove_conda_package(self, conda_package: str) -> None:
        self._remove(self.added_conda, conda_package)

    def _remove(self, packages: list[str], package: str) -> None:
        name = _name(_line(package, "package"))
        kept = [other for other in packages if _name(other) != name]
        if len(kept) == len(packages) and (self.file or self.requirements_file):
            raise DefinitionValueError(
                f"{package!r} was not added by the definition", where=caller(), hint=f"Remove it from {self.file or self.requirements_file}."
            )  # fmt: skip
        packages[:] = kept

    def set_python_version(self, version: str) -> None:
        if not isinstance(version, str) or not _PYTHON_VERSION.fullmatch(version):
            raise DefinitionValueError(
                f"python version {version!r}", where=caller(), expected="a text such as '3.12'", hint="Put it in quotes."
            )
        self.python_version = version

    @property
    def pip_packages(self) -> tuple[str, ...]:
        """With those of the file, which is read now; it is relative to the current folder here."""
        return (*(self._read().pip if self.file else ()), *self.added_pip)

    @property
    def conda_packages(self) -> tuple[str, ...]:
        return (*(self._read().conda if self.file else ()), *self.added_conda)

    @property
    def conda_channels(self) -> tuple[str, ...]:
        return (*(self._read().channels if self.file else ()), *self.channels)

    def _read(self) -> CondaFile:
        from mlpipe_engine.executors.conda_file import read_conda_file

        return read_conda_file(os.path.abspath(self.file or ""), str(self.file))


@strict
class PythonSection:
    """The Python part of an Environment."""

    __slots__ = ("conda_dependencies", "interpreter_path", "user_managed_dependencies")

    def __init__(self) -> None:
        self.conda_dependencies = CondaDependencies()
        self.user_managed_dependencies = False
        """True: nothing is installed; the step runs with `interpreter_path`, or with the interpreter it would have without."""
        self.interpreter_path = "python"


@strict
class DockerSection:
    """The part of an Environment that says which image its steps run in.

    >>> from mlpipe_engine import Environment
    >>> env = Environment("training")
    >>> env.docker.base_image = "python:3.12-slim"
    >>> type(env.docker).__name__, env.docker.enabled
    ('DockerSection', False)
    """

    __slots__ = ("base_dockerfile", "base_image", "enabled", "from_host")

    def __init__(self) -> None:
        self.enabled = False
        """True: a step whose target is "local" runs in a container."""
        self.base_image: str | None = None
        self.base_dockerfile: str | os.PathLike[str] | None = None
        """The path of a Dockerfile, which may copy from its own folder."""
        self.from_host = False


@strict
class DockerConfiguration:
    """Whether a RunConfiguration's step runs in a container.

    >>> from mlpipe_engine import RunConfiguration
    >>> config = RunConfiguration()
    >>> config.docker = DockerConfiguration(use_docker=True)
    >>> config.in_container
    True
    """

    __slots__ = ("use_docker",)

    def __init__(self, use_docker: bool = False) -> None:
        self.use_docker = use_docker


@strict
class Environment:
    """Packages a step needs, under a name, and the image it runs in. Built when a run first needs it.

    >>> env = Environment("training")
    >>> env.python.conda_dependencies.add_pip_package("polars")
    >>> env.environment_variables["MODE"] = "fast"
    >>> env.name, env.declares_packages
    ('training', True)
    """

    __slots__ = ("docker", "environment_variables", "name", "python", "where")

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or (name and not name.isprintable()):
            raise DefinitionValueError(f"the name of an environment is {name!r}", where=caller(), expected="a printable text")
        self.name = name
        self.where = caller()
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: dict[str, str] = {}

    @classmethod
    def from_docker_image(
        cls, name: str, image: str, container_registry: object = None, conda_specification: str | os.PathLike[str] | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
    ) -> Environment:  # fmt: skip
        """An image somebody else made, with what is to be installed on top of it. It counts by its id, never by its name.

        >>> Environment.from_docker_image("training", "python:3.12-slim").docker.base_image
        'python:3.12-slim'
        """
        if container_registry is not None:
            hint = "Write the registry's address before the image's name, and log in with `docker login`."
            raise DefinitionValueError(
                "container_registry is not used here", where=caller(), field="container_registry", hint=hint
            )
        made = cls._on_top(name, conda_specification, pip_requirements)
        made.docker.base_image = _line(image, "image")
        return made

    @classmethod
    def from_dockerfile(
        cls, name: str, dockerfile: str | os.PathLike[str], conda_specification: str | os.PathLike[str] | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
    ) -> Environment:  # fmt: skip
        """The image that a Dockerfile makes. The file is read when a run is planned; it is relative to the project folder."""
        made = cls._on_top(name, conda_specification, pip_requirements)
        made.docker.base_dockerfile = _path(dockerfile)
        return made

    @classmethod
    def from_host(cls, name: str = "host") -> Environment:
        """In a container: this machine's own interpreter and what is installed in it. Needs no registry and no network.

        As a process the step runs with that interpreter itself.
        """
        made = cls(name)
        made.docker.from_host = True
        return made

    @classmethod
    def _on_top(
        cls, name: str, conda: str | os.PathLike[str] | None, requirements: str | os.PathLike[str] | None
    ) -> Environment:  # fmt: skip
        made = cls(name)
        if conda is not None:
            made.python.conda_dependencies = CondaDependencies(conda)
        if requirements is not None:
            made.python.conda_dependencies.requirements_file = _path(requirements)
        return made

    @classmethod
    def from_pip_requirements(
        cls, name: str, file_path: str | os.PathLike[str], pip_version: str | None = None
    ) -> Environment:  # fmt: skip
        """What a requirements file asks for. The file is read when a run is planned; it is relative to the project folder."""
        made = cls(name)
        made.python.conda_dependencies.requirements_file = _path(file_path)
        return made

    @classmethod
    def from_conda_specification(cls, name: str, file_path: str | os.PathLike[str]) -> Environment:
        """What a conda environment file asks for: its Python, its pip section, its packages."""
        made = cls(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @property
    def declares_packages(self) -> bool:
        """Whether anything has to be installed."""
        wanted = self._wanted()
        if self.python.user_managed_dependencies:
            return False
        return bool(
            wanted.file or wanted.requirements_file or wanted.added_pip or wanted.added_conda or wanted.python_version
        )  # fmt: skip

    def _wanted(self) -> CondaDependencies:
        wanted = self.python.conda_dependencies
        if not isinstance(wanted, CondaDependencies):
            raise DefinitionTypeError(
                f"python.conda_dependencies of environment {self.name!r} is a {type(wanted).__name__}", where=self.where,
                expected="CondaDependencies",
            )  # fmt: skip
        return wanted

    def interpreter(self) -> str | None:
        """The interpreter a user-managed environment names."""
        chosen = self.python.interpreter_path
        return chosen if self.python.user_managed_dependencies and chosen != "python" else None

    def spec(self, relative: Callable[[str], str]) -> EnvironmentSpec | None:
        """The frozen form; None when nothing has to be installed and no image is named."""
        image, dockerfile = self._image()
        if image or dockerfile or self.docker.from_host:
            shared = {"name": self.name or "of the step", "image": image, "from_host": self.docker.from_host, "where": self.where}
            base = EnvironmentSpec(dockerfile=relative(dockerfile) if dockerfile else None, **shared)  # type: ignore[arg-type]
        elif self.declares_packages:
            base = EnvironmentSpec(name=self.name or "of the step", where=self.where)
        else:
            return None
        return replace(base, **self._packages(relative)) if self.declares_packages else base

    def _image(self) -> tuple[str | None, str | None]:
        section = self.docker
        if section.base_image is not None and section.base_dockerfile is not None:
            raise DefinitionValueError(
                f"environment {self.name!r} names an image and a Dockerfile", where=self.where, expected="one of them",
                hint="Write FROM with that image in the Dockerfile.",
            )  # fmt: skip
        image = None if section.base_image is None else _line(section.base_image, "docker.base_image")
        return image, None if section.base_dockerfile is None else _path(section.base_dockerfile)

    def _packages(self, relative: Callable[[str], str]) -> dict[str, Any]:
        wanted = self._wanted()
        return {
            "requirements_file": relative(wanted.requirements_file) if wanted.requirements_file else None,
            "conda_file": relative(wanted.file) if wanted.file else None, "packages": tuple(wanted.added_pip),
            "conda_packages": tuple(wanted.added_conda), "channels": tuple(wanted.channels), "python_version": wanted.python_version,
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Environment({self.name!r})"


@strict
class RunConfiguration:
    """Where a step runs, with which packages and variables.

    >>> config = RunConfiguration()
    >>> config.environment.environment_variables["MODE"] = "fast"
    >>> config.target
    'local'
    """

    __slots__ = ("_environment", "docker", "target")

    def __init__(
        self,
        target: object = "local",
        environment: Environment | None = None,
        conda_dependencies: CondaDependencies | None = None,
    ) -> None:
        self.target = target
        """A compute target or its name."""
        self.docker = DockerConfiguration()
        self._environment = Environment("")
        if environment is not None:
            self.environment = environment
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies

    @property
    def in_container(self) -> bool:
        """Whether a step whose target is "local" is asked to run in a container."""
        return bool(self.docker.use_docker or self.environment.docker.enabled)

    @property
    def environment(self) -> Environment:
        return self._environment

    @environment.setter
    def environment(self, given: object) -> None:
        if not isinstance(given, Environment):
            raise DefinitionTypeError(f"environment is a {type(given).__name__}", where=caller(), expected="an Environment")
        self._environment = given

    @property
    def environment_variables(self) -> dict[str, str]:
        return self.environment.environment_variables

    @environment_variables.setter
    def environment_variables(self, variables: Mapping[str, str]) -> None:
        self.environment.environment_variables = dict(variables)


def _path(given: object) -> str:
    if not isinstance(given, str | os.PathLike) or not str(os.fspath(given)):
        raise DefinitionValueError(f"file_path is {given!r}", where=caller(), expected="the path of a file")
    return str(os.fspath(given))


def _packages(given: object, field: str) -> Sequence[str]:
    if given is not None and (isinstance(given, str) or not isinstance(given, Sequence)):
        raise DefinitionValueError(f"{field} is {given!r}", where=caller(), field=field, expected="a list of texts")
    return given or ()


def _line(given: object, field: str) -> str:
    if not isinstance(given, str) or not given.strip() or not given.isprintable():
        raise DefinitionValueError(
            f"{field} is {given!r}", where=caller(), field=field, expected="one line of text, such as 'numpy>=2'"
        )
    return given.strip()


def _add(packages: list[str], package: str) -> None:
    if package not in packages:
        packages.append(package)


def _name(package: str) -> str:
    return re.split(r"[\s=<>!~\[;@]", package, maxsplit=1)[0].lower().replace("_", "-")
