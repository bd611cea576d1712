"""Which image each step runs in, and that its engine has it before the step starts. One `StepImages` per plan or run.

The order: the step's environment, its compute target, else an image of the interpreter the step would have as a process. Used by
the resolver for fingerprints and by `containers` for tasks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlpipe_engine.errors import EnvironmentProblem
from mlpipe_engine.executors.containers import host_image, images
from mlpipe_engine.executors.containers.images import StepImage
from mlpipe_engine.executors.interpreters import EnvironmentDescription, Interpreter
from mlpipe_engine.model.encoding import fingerprint
from mlpipe_engine.model.manifest import ManifestEntry, Section
from mlpipe_engine.store.locks import owner_of, try_lock, unlock

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig, ProjectConfig
    from mlpipe_engine.executors.containers.engines import EngineAccess
    from mlpipe_engine.executors.containers.image_building import Order
    from mlpipe_engine.executors.environments import Declared
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.spec import EnvironmentSpec, StepSpec

Say = Callable[[str], None]
_POLL_SECONDS = 0.2
IN_IMAGES = EnvironmentDescription(version="of the image", implementation="", executable="", distributions=(), path_files=())
"""What is known of the Python in an image that was not made here: its image's id stands for all of it."""


@dataclass(frozen=True)
class Source:
    """An image that a definition or the project file names."""

    image: str
    dockerfile: str
    """One of the two is empty."""
    packages: EnvironmentSpec | None
    """Installed on top of it."""
    how: str
    where: str
    compute: ComputeConfig

    @property
    def name(self) -> str:
        return self.image or self.dockerfile

    @property
    def label(self) -> str:
        return os.path.basename(os.path.dirname(self.dockerfile)) or self.name

    @property
    def python(self) -> str:
        return self.compute.python or "python3"


@dataclass
class StepImages:
    root: str
    config: ProjectConfig
    stats: StatCache
    cached: Callable[[str], str | None]
    to_cache: MutableMapping[str, str]
    declared: Callable[[EnvironmentSpec], Declared]
    """What the files of an environment ask for."""
    _engines: dict[str, EngineAccess] = field(default_factory=dict)
    _known: dict[object, StepImage] = field(default_factory=dict)
    _ids: dict[tuple[str, str], str] = field(default_factory=dict)
    _entries: dict[str, tuple[ManifestEntry, ...]] = field(default_factory=dict)

    def source(self, step: StepSpec, compute: ComputeConfig) -> Source | None:
        """What somebody named for the step; None: its image is made from this machine's interpreter."""
        environment = step.environment
        where = self.config.line(f"compute.{compute.name}", "image")
        if environment is not None and environment.from_host:
            return None
        if environment is not None and (environment.image or environment.dockerfile):
            how = f"environment {environment.name}"
            return Source(
                environment.image or "",
                environment.dockerfile or "",
                self._packages(environment),
                how,
                environment.where,
                compute,
            )
        if compute.image:
            packages = self._packages(environment) if environment is not None else None
            return Source(compute.image, "", packages, f"image of [compute.{compute.name}]", where, compute)
        return None

    def _packages(self, environment: EnvironmentSpec) -> EnvironmentSpec | None:
        return environment if environment.installs else None

    def missing(self, step: StepSpec, compute: ComputeConfig) -> str | None:
        """What has to be pulled or built before the image's id is known."""
        source = self.source(step, compute)
        return source.name if source is not None and self._resolved(source, None) is None else None

    def interpreter(self, step: StepSpec, compute: ComputeConfig) -> tuple[Interpreter, EnvironmentDescription] | None:
        """Of a step in a named image; None where it is that of this machine."""
        source = self.source(step, compute)
        return None if source is None else (Interpreter(source.python, source.how), IN_IMAGES)

    def of(
        self, step: StepSpec, compute: ComputeConfig, interpreter: Interpreter, description: EnvironmentDescription, say: Say | None
    ) -> StepImage:  # fmt: skip
        """Raises EnvironmentProblem, ExecutorUnavailableError. `say`: where pulling is told; None: nothing is pulled."""
        source = self.source(step, compute)
        key = source if source is not None else (compute.engine, interpreter.path)
        known = self._known.get(key)
        if known is None:
            known = self._named(source, say) if source is not None else self._of_host(compute, interpreter, description)
            self._known[key] = known
        return known

    def _of_host(self, compute: ComputeConfig, interpreter: Interpreter, description: EnvironmentDescription) -> StepImage:
        name = f"host image {interpreter.path}"
        contents, fresh = host_image.contents_of(
            interpreter, description, self.stats, self.to_cache.get(name) or self.cached(name)
        )
        if fresh is not None:
            self.to_cache[name] = fresh
        return StepImage(
            identity=f"host {contents.key}", reference=contents.tag, python=interpreter.path, engine=compute.engine, contents=contents,
            how=f"image of {interpreter.path} ({interpreter.how})",
        )  # fmt: skip

    def _named(self, source: Source, say: Say | None) -> StepImage:
        found = self._resolved(source, say)
        if found is None:
            raise EnvironmentProblem(f"the image {source.name} is not here yet", where=source.where)
        return StepImage(
            identity=found, reference=found, python=source.python, how=f"image {source.name} ({source.how})", engine=source.compute.engine
        )  # fmt: skip

    def _resolved(self, source: Source, say: Say | None) -> str | None:
        """The id; None where it had to be pulled or built and `say` is None."""
        base = self._built(source, self._order_of_dockerfile(source), say) if source.dockerfile else self._pulled(source, say)
        if base is None or source.packages is None:
            return base
        return self._built(source, self._order_of_packages(source, base), say)

    def _pulled(self, source: Source, say: Say | None) -> str | None:
        engine, reference = source.compute.engine, source.image
        found = self._id_of(engine, reference)
        if found is None and say is not None:
            with self._lock(engine, reference, say):
                found = self._id_of(engine, reference) or images.pull(self.engine(engine), reference, say, source.where)
            self._ids[engine, reference] = found
        return found

    def _built(self, source: Source, order: Order, say: Say | None) -> str | None:
        from mlpipe_engine.executors.containers import image_building

        self.stats.unwatchable = True  # an image can be removed from its engine, and built anew with other packages
        key = (source.compute.engine, order.tag)
        found = self._ids.get(key)
        if found is None:
            engine = self.engine(source.compute.engine)
            found = image_building.built_id(engine, order)
            if found is None and say is not None:
                with self._lock(source.compute.engine, order.tag, say):
                    found = image_building.built_id(engine, order) or image_building.build(engine, order, say)
            if found is not None:
                self._ids[key] = found
        return found

    def _order_of_dockerfile(self, source: Source) -> Order:
        from mlpipe_engine.executors.containers.image_building import Order
        from mlpipe_engine.hashing.scan import scan_tree

        path = os.path.normpath(os.path.join(self.root, source.dockerfile))
        self.stats.follow(path)
        if not os.path.isfile(path):
            raise EnvironmentProblem(
                f"there is no Dockerfile {source.dockerfile}", where=source.where, hint="Correct its path; it is relative to the project folder."
            )  # fmt: skip
        folder = os.path.dirname(path)
        if folder == os.path.normpath(self.root):
            raise EnvironmentProblem(
                f"the Dockerfile {source.dockerfile} lies in the project folder, all of which would be sent to the engine", where=source.where,
                hint="Put it into a folder of its own, with what it copies.",
            )  # fmt: skip
        tree = scan_tree(folder, ignore=None, cache=self.stats)
        digest = fingerprint("dockerfile", [1, os.path.basename(path), tree.digest])
        return Order(name=source.label, where=source.where, digest=_short(digest), log=self._log(digest), dockerfile=path)

    def _order_of_packages(self, source: Source, base: str) -> Order:
        from mlpipe_engine.executors.containers.image_building import Order

        assert source.packages is not None
        declared = self.declared(source.packages)
        if declared.conda:
            raise EnvironmentProblem(
                f"environment {source.packages.name!r} needs {', '.join(declared.conda)} from conda on top of the image {source.name}",
                where=source.where, hint="Use an image that has them, or name packages of PyPI in the pip section.",
            )  # fmt: skip
        digest = fingerprint("environment image", [
            1, base, source.python, list(declared.requirements.identity), declared.wheels.no_index, list(declared.wheelhouse)
        ])  # fmt: skip
        return Order(
            name=source.packages.name, where=source.where, digest=_short(digest), log=self._log(digest), python=source.python, base=base,
            declared=declared,
        )  # fmt: skip

    def _log(self, digest: str) -> str:
        return os.path.join(self.root, ".mlpipe", "environments", f"{_short(digest)}.image.log")

    def entries(self, image: StepImage) -> tuple[ManifestEntry, ...]:
        """The same objects for the same image: manifests are hashed by their identity first."""
        found = self._entries.get(image.identity)
        if found is None:
            found = self._entries[image.identity] = (ManifestEntry(Section.ENVIRONMENT, "image", image.identity),)
        return found

    def provide(self, image: StepImage, say: Say) -> str:
        """The id by which the engine has it now: made once, by one process. Raises EnvironmentProblem, ExecutorUnavailableError."""
        key = (image.engine, image.reference)
        known = self._ids.get(key)
        if known is not None:
            return known
        engine = self.engine(image.engine)
        if image.contents is None:
            found = images.image_id(engine, image.reference)
            if found is None:
                raise EnvironmentProblem(f"the image {image.reference} is gone from the engine", hint="Run the pipeline again.")
        else:
            found = images.host_image_id(engine, image.contents)
            if found is None:
                with self._lock(image.engine, image.reference, say):
                    scratch = os.path.join(self.root, ".mlpipe", "tmp")
                    found = images.host_image_id(engine, image.contents) or images.make_host_image(
                        engine, image.contents, scratch, say
                    )
        self._ids[key] = found
        return found

    def engine(self, url: str) -> EngineAccess:
        """Raises ExecutorUnavailableError when it does not answer."""
        from mlpipe_engine.executors.containers.engines import EngineAccess

        found = self._engines.get(url)
        if found is None:
            found = EngineAccess(url)
            _ = found.facts
            self._engines[url] = found
        return found

    def _id_of(self, engine: str, reference: str) -> str | None:
        """Names move: what an engine has under one is asked anew by every plan, so a run with nothing to do asks too."""
        if not reference.startswith("sha256:"):
            self.stats.unwatchable = True
        known = self._ids.get((engine, reference))
        if known is None:
            known = images.image_id(self.engine(engine), reference)
            if known is not None:
                self._ids[engine, reference] = known
        return known

    @contextmanager
    def _lock(self, engine: str, reference: str, say: Say) -> Iterator[None]:
        from hashlib import sha256

        name = sha256(f"{engine} {reference}".encode()).hexdigest()[:20]
        path, told = os.path.join(self.root, ".mlpipe", "locks", "images", name), False
        while (lock := try_lock(path, f"process {os.getpid()}")) is None:
            if not told:
                say(f"{reference} is being made by {owner_of(path) or 'another process'}; waiting for it")
                told = True
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            unlock(lock)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:20]
