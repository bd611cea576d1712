"""The graph of a pipeline: is it sound, in which order, who is above and below, what a partial run selects.

Pure and iterative: chains of thousands of steps are ordinary.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlpipe_engine.errors import (
    CycleError,
    DefinitionError,
    DefinitionErrors,
    DuplicateNameError,
    OutputConflictError,
    UnknownInputError,
    UsageError,
    nearest,
)  # fmt: skip
from mlpipe_engine.model.spec import (
    InputRef,
    LiteralRef,
    OutputRef,
    ParameterRef,
    PipelineSpec,
    StepOutputSource,
    StepSpec,
    SubmitOptions,
    Text,
)  # fmt: skip
from mlpipe_engine.planning import conditions

STEP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. \-]{0,99}", re.ASCII)
PORT_NAME = re.compile(r"\w{1,100}")


def validate(spec: PipelineSpec) -> tuple[DefinitionError, ...]:
    """Every problem of the definition, in the order of its steps."""
    problems: list[DefinitionError] = []
    if not spec.steps:
        problems.append(DefinitionError(f"pipeline {spec.name!r} has no steps", where=spec.where))
    problems += _names(spec)
    known = {step.name: step for step in spec.steps}
    parameters = {parameter.name for parameter in spec.parameters}
    for step in spec.steps:
        problems += _ports(step)
        problems += _references(step, known, parameters)
        problems += _numbers(step)
        problems += _texts(step)
    problems += _producers(spec)
    if not any(isinstance(problem, DuplicateNameError) for problem in problems):
        cycle = find_cycle({name: _direct(step) for name, step in known.items()})
        if cycle:
            problems.append(CycleError(cycle))
    return tuple(problems)


def check(spec: PipelineSpec) -> None:
    """Raises what `validate` found."""
    problems = validate(spec)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise DefinitionErrors(problems)


def _names(spec: PipelineSpec) -> list[DefinitionError]:
    problems: list[DefinitionError] = []
    seen: dict[str, StepSpec] = {}
    for step in spec.steps:
        if not STEP_NAME.fullmatch(step.name) or step.name.endswith((" ", ".")):
            problems.append(DefinitionError(
                f"step name {_shown(step.name)}", where=step.where, field="name",
                expected="1 to 100 letters, digits, spaces, '_', '.', '-', starting with a letter, digit or '_', not ending with a space or dot",
            ))  # fmt: skip
        folded = unicodedata.normalize("NFC", step.name).casefold()
        other = seen.setdefault(folded, step)
        if other is not step:
            same = (
                "the same name"
                if other.name == step.name
                else f"the name {other.name!r}, which differs in upper and lower case only"
            )
            place = f" at {other.where}" if other.where else ""
            problems.append(DuplicateNameError(
                f"two steps are called {step.name!r}: another one{place} has {same}", where=step.where, field="name",
                hint="Give one of them another name.",
            ))  # fmt: skip
    return problems


def _shown(name: str) -> str:
    text = repr(name)
    return text if len(text) <= 60 else text[:50] + f"... ({len(name)} characters)"


def _ports(step: StepSpec) -> list[DefinitionError]:
    problems: list[DefinitionError] = []
    for kind, ports in (("input", step.inputs), ("output", step.outputs)):
        seen: set[str] = set()
        for port in ports:
            if not PORT_NAME.fullmatch(port.name):
                problems.append(DefinitionError(
                    f"step {step.name!r}: {kind} name {_shown(port.name)}", where=step.where, field=f"{kind}s", expected="letters, digits and '_'"
                ))  # fmt: skip
            if port.name.casefold() in seen:
                problems.append(
                    DuplicateNameError(
                        f"step {step.name!r}: [{port.name}] is repeated. {kind.capitalize()} port names must be unique.",
                        where=step.where,
                    )
                )
            seen.add(port.name.casefold())
    for port_name in {p.name for p in step.inputs} & {p.name for p in step.outputs}:
        problems.append(
            DuplicateNameError(
                f"step {step.name!r}: {port_name!r} is an input and an output", where=step.where, hint="Rename one of them."
            )
        )
    return problems


def _references(step: StepSpec, known: Mapping[str, StepSpec], parameters: set[str]) -> list[DefinitionError]:
    problems: list[DefinitionError] = []
    for item in step.inputs:
        if not isinstance(item.source, StepOutputSource):
            continue
        producer = known.get(item.source.step)
        if producer is None:
            problems.append(
                _unknown(
                    step,
                    f"input {item.name!r} comes from step {item.source.step!r}, which is not in the pipeline",
                    item.source.step,
                    known,
                )
            )
        elif item.source.output not in {output.name for output in producer.outputs}:
            problems.append(_unknown(
                step, f"input {item.name!r} is output {item.source.output!r} of step {producer.name!r}, which has no such output",
                item.source.output, [output.name for output in producer.outputs],
            ))  # fmt: skip
    for name in step.run_after:
        if name not in known:
            problems.append(_unknown(step, f"runs after step {name!r}, which is not in the pipeline", name, known))
    inputs, outputs = {item.name for item in step.inputs}, {item.name for item in step.outputs}
    for part in [part for word in (*step.command, *step.arguments) for part in word] + [part for _, part in step.params]:
        choices = {InputRef: inputs, OutputRef: outputs, ParameterRef: parameters}.get(type(part))
        if choices is not None and part.name not in choices:  # type: ignore[union-attr]
            kind = {InputRef: "input", OutputRef: "output", ParameterRef: "parameter"}[type(part)]
            problems.append(_unknown(step, f"an argument uses {kind} {part.name!r}, which is not declared", part.name, choices))  # type: ignore[union-attr]
    return problems + _condition(step, known, parameters)


def _condition(step: StepSpec, known: Mapping[str, StepSpec], parameters: set[str]) -> list[DefinitionError]:
    if step.when is None:
        return []
    wrong = conditions.check(step.when)
    if wrong is not None:
        return [DefinitionError(f"step {step.name!r}: {wrong}", where=step.where, field="when", hint=wrong.hint)]
    asked, metrics = conditions.names(step.when)
    problems: list[DefinitionError] = [
        _unknown(step, f"its condition asks for parameter {name!r}, which does not exist", name, parameters)
        for name in asked
        if name not in parameters
    ]
    problems += [_unknown(step, f"its condition asks for a metric of step {name!r}, which is not in the pipeline", name, known)
                 for name, _ in metrics if name not in known]  # fmt: skip
    return problems


def _unknown(step: StepSpec, what: str, name: str, choices: Iterable[str]) -> UnknownInputError:
    names = sorted(choices)
    close = nearest(name, names)
    return UnknownInputError(
        f"step {step.name!r}: {what}" + (f"; did you mean {close!r}?" if close else ""), where=step.where,
        expected="one of " + ", ".join(names[:12]) if names and not close else "",
    )  # fmt: skip


def _numbers(step: StepSpec) -> list[DefinitionError]:
    checks = (
        ("retries", step.retries, 0 <= step.retries <= 100, "0 to 100"),
        ("retry_delay_seconds", step.retry_delay_seconds, 0 <= step.retry_delay_seconds <= 86400, "0 to 86400"),
        (
            "timeout_seconds",
            step.timeout_seconds,
            step.timeout_seconds is None or 0 < step.timeout_seconds < 1e9,
            "a positive number of seconds",
        ),
        ("cpus", step.resources.cpus, 0 < step.resources.cpus <= 4096, "more than 0"),
        (
            "memory",
            step.resources.memory_bytes,
            0 <= step.resources.memory_bytes < 1 << 60,
            "a number of bytes, or text such as '2GB'",
        ),
        ("gpus", step.resources.gpus, 0 <= step.resources.gpus <= 64, "0 to 64"),
    )
    return [
        DefinitionError(f"step {step.name!r}: {field} is {value!r}", where=step.where, field=field, expected=expected)
        for field, value, fine, expected in checks
        if not fine
    ]


def _texts(step: StepSpec) -> list[DefinitionError]:
    """What no operating system can hand to a process: found here, because at the start of the step it is too late."""
    literals = [part for word in (*step.command, *step.arguments) for part in word] + [part for _, part in step.params]
    texts = [("arguments", part.text) for part in literals if isinstance(part, Text)]
    texts += [("arguments", part.value) for part in literals if isinstance(part, LiteralRef) and isinstance(part.value, str)]
    texts += [("environment_variables", value) for _, value in step.environment_variables]
    texts += [("source_directory", step.source_directory or ""), ("script", step.script or "")]
    problems = [
        DefinitionError(f"step {step.name!r}: the text {_shown(text)} holds a NUL character", where=step.where, field=field)
        for field, text in texts
        if "\0" in text
    ]
    names = [("environment_variables", name) for name, _ in step.environment_variables] + [
        ("params", name) for name, _ in step.params
    ]
    problems += [
        DefinitionError(
            f"step {step.name!r}: {_shown(name)} cannot be the name of a variable", where=step.where, field=field,
            expected="a name without '=' that is not empty",
        )
        for field, name in names
        if not name or "=" in name or "\0" in name
    ]  # fmt: skip
    return problems


def _producers(spec: PipelineSpec) -> list[DefinitionError]:
    """A promoted name for the whole pipeline has one producer; a step's outputs are its own by construction."""
    seen: dict[str, str] = {}
    problems: list[DefinitionError] = []
    for step in spec.steps:
        for output in step.outputs:
            name = output.pipeline_output_name
            if name is None:
                continue
            other = seen.setdefault(name, step.name)
            if other != step.name:
                problems.append(
                    OutputConflictError(
                        f"pipeline output {name!r} is made by step {other!r} and by step {step.name!r}", where=step.where
                    )
                )
    return problems


def _direct(step: StepSpec) -> tuple[str, ...]:
    found = [item.source.step for item in step.inputs if isinstance(item.source, StepOutputSource)]
    found += step.run_after
    if step.when is not None and conditions.check(step.when) is None:
        found += [name for name, _ in conditions.names(step.when)[1]]
    return tuple(dict.fromkeys(found))


def upstream(spec: PipelineSpec) -> dict[str, tuple[str, ...]]:
    """Direct parents by step: producers of its inputs, steps it runs after, steps its condition asks."""
    return {step.name: _direct(step) for step in spec.steps}


def find_cycle(parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A cycle as it is followed, first step repeated at the end; () when there is none."""
    left = {name: [p for p in direct if p in parents] for name, direct in parents.items()}
    waiting = {name: len(direct) for name, direct in left.items()}
    children: dict[str, list[str]] = {name: [] for name in left}
    for name, direct in left.items():
        for parent in direct:
            children[parent].append(name)
    queue = deque(name for name, count in waiting.items() if count == 0)
    while queue:
        for child in children[queue.popleft()]:
            waiting[child] -= 1
            if waiting[child] == 0:
                queue.append(child)
    stuck = {name for name, count in waiting.items() if count > 0}
    if not stuck:
        return ()
    current, walked = next(name for name in left if name in stuck), []
    while current not in walked:
        walked.append(current)
        current = next(parent for parent in left[current] if parent in stuck)
    cycle = walked[walked.index(current) :][::-1]
    return (*cycle, cycle[0])


def topological(spec: PipelineSpec) -> tuple[str, ...]:
    """Parents first; the written order where that leaves a choice. Prereq: no cycle."""
    import heapq

    order = {step.name: number for number, step in enumerate(spec.steps)}
    parents = upstream(spec)
    waiting = {name: len(direct) for name, direct in parents.items()}
    children: dict[str, list[str]] = {name: [] for name in order}
    for name, direct in parents.items():
        for parent in direct:
            children[parent].append(name)
    names = list(order)
    heap = [order[name] for name, count in waiting.items() if count == 0]
    heapq.heapify(heap)
    found = []
    while heap:
        name = names[heapq.heappop(heap)]
        found.append(name)
        for child in children[name]:
            waiting[child] -= 1
            if waiting[child] == 0:
                heapq.heappush(heap, order[child])
    return tuple(found)


def reachable(start: Iterable[str], edges: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """`start` and everything its edges lead to."""
    seen = set(start)
    queue = deque(seen)
    while queue:
        for name in edges.get(queue.popleft(), ()):
            if name not in seen:
                seen.add(name)
                queue.append(name)
    return frozenset(seen)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a run covers."""

    run: frozenset[str]
    assumed: frozenset[str]
    """Left out, but their last results are inputs of what runs."""


def select(spec: PipelineSpec, options: SubmitOptions) -> Selection:
    """--step, --from and --only together cover what any of them names. Raises UsageError with the nearest step."""
    names = [step.name for step in spec.steps]
    asked = (*options.until_steps, *options.from_steps, *options.only_steps, *options.force_steps)
    for name in asked:
        if name not in names:
            close = nearest(name, names)
            raise UsageError(
                f"pipeline {spec.name!r} has no step {name!r}" + (f"; did you mean {close!r}?" if close else ""),
                expected="" if close else "one of " + ", ".join(names[:20]),
            )
    parents = upstream(spec)
    children: dict[str, list[str]] = {name: [] for name in names}
    for name, direct in parents.items():
        for parent in direct:
            children[parent].append(name)
    if not (options.until_steps or options.from_steps or options.only_steps):
        return Selection(frozenset(names), frozenset())
    run = frozenset(options.only_steps)
    if options.until_steps:
        run |= reachable(options.until_steps, parents)
    if options.from_steps:
        run |= reachable(options.from_steps, children)
    needed = {parent for name in run for parent in parents[name]} - run
    return Selection(run, frozenset(needed))
