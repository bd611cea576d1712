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
from mlpipe_engine.model.manifest import ManifestEntry, Section
from mlpipe_engine.store.locks import owner_of, try_lock, unlock

if TYPE_CHECKING:
    from mlpipe_engine.config.project import ComputeConfig, ProjectConfig
    from mlpipe_engine.executors.containers.engines import EngineAccess
    from mlpipe_engine.hashing.stat_cache import StatCache
    from mlpipe_engine.model.spec import StepSpec

Say = Callable[[str], None]
_POLL_SECONDS = 0.2
IN_IMAGES = EnvironmentDescription(version="of the image", implementation="", executable="", distributions=(), path_files=())
"""What is known of the Python in an image that was not made here: its image's id stands for all of it."""


@dataclass
class StepImages:
    root: str
    config: ProjectConfig
    stats: StatCache
    cached: Callable[[str], str | None]
    to_cache: MutableMapping[str, str]
    _engines: dict[str, EngineAccess] = field(default_factory=dict)
    _known: dict[tuple[str, str, str], StepImage] = field(default_factory=dict)
    _ids: dict[tuple[str, str], str] = field(default_factory=dict)
    _entries: dict[str, tuple[ManifestEntry, ...]] = field(default_factory=dict)

    def named(self, step: StepSpec, compute: ComputeConfig) -> tuple[str, str, str] | None:
        """(image somebody named, who, where it is written); None: it is made from this machine's interpreter."""
        if compute.image:
            where = self.config.line(f"compute.{compute.name}", "image")
            return compute.image, f"image of [compute.{compute.name}]", where
        return None

    def missing(self, step: StepSpec, compute: ComputeConfig) -> str | None:
        """The name of an image whose id is not known before it is pulled or built."""
        named = self.named(step, compute)
        if named is None or self._id_of(compute.engine, named[0]) is not None:
            return None
        return named[0]

    def interpreter(self, step: StepSpec, compute: ComputeConfig) -> tuple[Interpreter, EnvironmentDescription] | None:
        """Of a step in a named image; None where it is that of this machine."""
        named = self.named(step, compute)
        return None if named is None else (Interpreter(compute.python or "python3", named[1]), IN_IMAGES)

    def of(
        self, step: StepSpec, compute: ComputeConfig, interpreter: Interpreter, description: EnvironmentDescription, say: Say | None
    ) -> StepImage:  # fmt: skip
        """Raises EnvironmentProblem, ExecutorUnavailableError. `say`: where pulling is told; None: nothing is pulled."""
        named = self.named(step, compute)
        key = (compute.engine, named[0] if named else "", interpreter.path)
        known = self._known.get(key)
        if known is None:
            known = self._named(compute, *named, interpreter, say) if named else self._of_host(compute, interpreter, description)
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

    def _named(
        self, compute: ComputeConfig, reference: str, how: str, where: str, interpreter: Interpreter, say: Say | None
    ) -> StepImage:  # fmt: skip
        found = self._id_of(compute.engine, reference)
        if found is None:
            if say is None:
                raise EnvironmentProblem(f"the image {reference} is not here yet", where=where)
            with self._lock(compute.engine, reference, say):
                found = self._id_of(compute.engine, reference) or images.pull(self.engine(compute.engine), reference, say, where)
            self._ids[compute.engine, reference] = found
        return StepImage(
            identity=found, reference=found, python=interpreter.path, how=f"image {reference} ({how})", engine=compute.engine
        )

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
