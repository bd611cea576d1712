"""Causes: what differs between two manifests and two code trees, in words a person can act on.

Reads the very manifests that were hashed. Line counts of changed files come from outside, because they need bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from mlpipe_engine.model.encoding import Value, encode
from mlpipe_engine.model.manifest import Manifest, Section
from mlpipe_engine.model.plan import Cause
from mlpipe_engine.model.spec import ParameterRef, StepSpec
from mlpipe_engine.model.trees import Tree, shown_path

LineCounts = Callable[[str, str], tuple[int, int] | None]
"""(digest before, digest after) -> (+added, -removed); None when the bytes are gone or are no text."""


def no_line_counts(before: str, after: str) -> None:
    return None


def manifest_causes(
    before: Manifest, after: Manifest, step: StepSpec, upstream: Mapping[str, tuple[str, str]]
) -> tuple[Cause, ...]:
    """Every difference outside the code, in the order of sections.

    `upstream`: input name -> (root step, text of its first cause) for inputs whose producing step ran in this run.
    """
    old: dict[tuple[Section, str], Value] = {
        (entry.section, entry.name): entry.value for entry in before.entries if entry.section is not Section.CODE
    }
    new: dict[tuple[Section, str], Value] = {
        (entry.section, entry.name): entry.value for entry in after.entries if entry.section is not Section.CODE
    }
    changed = [key for key in [*new, *(key for key in old if key not in new)] if not _same(old, new, key)]
    causes = []
    for section, name in changed:
        cause = _cause(section, name, old.get((section, name)), new.get((section, name)), step, upstream)
        if cause not in causes:
            causes.append(cause)
    return tuple(causes)


def _same(old: Mapping[tuple[Section, str], Value], new: Mapping[tuple[Section, str], Value], key: tuple[Section, str]) -> bool:
    if key not in old or key not in new:
        return False
    left, right = old[key], new[key]
    if type(left) is str and type(right) is str:
        return left == right
    return encode(left) == encode(right)  # as they were hashed: 1, 1.0 and True differ


def _cause(
    section: Section, name: str, before: Value, after: Value, step: StepSpec, upstream: Mapping[str, tuple[str, str]]
) -> Cause:
    match section:
        case Section.ARGUMENT:
            parameter = _parameter_of(step, int(name))
            kind, subject = ("parameter", parameter) if parameter else ("argument", f"argument {int(name)}")
            return Cause(kind=kind, subject=subject, before=_word_text(before), after=_word_text(after))
        case Section.PARAMETER | Section.VARIABLE:
            return Cause(kind=section.value, subject=name, before=_shown(_unwrapped(before)), after=_shown(_unwrapped(after)))
        case Section.INPUT:
            root, detail = upstream.get(name, ("", ""))
            if not root and _same_bytes(before, after):
                return Cause(kind="input", subject=name, detail="is read differently")
            return Cause(
                kind="input", subject=name, before=_input_text(before), after=_input_text(after), root=root, detail=detail
            )
        case Section.OUTPUT:
            change = "added" if before is None else "removed" if after is None else "declared differently"
            return Cause(kind="output", subject=name, detail=change)
        case Section.ENVIRONMENT:
            return _environment_cause(name, before, after)
        case Section.STEP if name.startswith("file "):
            change = "added" if before is None else "removed" if after is None else "changed (named in hash_paths)"
            return Cause(kind="file", subject=name.removeprefix("file "), detail=change)
        case _:
            return Cause(kind=section.value, subject=name, before=_shown(before), after=_shown(after))


def undeclared_cause(path: str, then: str, now: str) -> Cause:
    """A file or folder the step used without declaring it is not what it was."""
    what = "folder" if "folder" in (then.partition(" ")[0], now.partition(" ")[0]) else "file"
    if now == "absent":
        detail = "is gone"
    elif then == "absent":
        detail = "appeared"
    else:
        detail = "has other names in it" if what == "folder" else "changed"
    return Cause(kind="undeclared", subject=f"undeclared {what} {path}", detail=detail)


def _environment_cause(name: str, before: Value, after: Value) -> Cause:
    """Distributions are ("distribution NAME", [version, digest]); the rest are plain values or digests."""
    kind, _, subject = name.partition(" ")
    if kind == "distribution" and subject:
        old, new = _first(before), _first(after)
        detail = "same version, other files" if old == new else ""
        return Cause(kind="distribution", subject=subject, before=old, after=new, detail=detail)
    return Cause(kind="environment", subject=name, before=_shown(before), after=_shown(after))


def _first(value: Value) -> str:
    if isinstance(value, list | tuple) and value:
        return str(value[0])
    return "" if value is None else str(value)


def _parameter_of(step: StepSpec, number: int) -> str:
    words = (*step.command, *step.arguments)
    if number > len(words):
        return ""
    names = [part.name for part in words[number - 1] if isinstance(part, ParameterRef)]
    return names[0] if len(names) == 1 else ""


def _word_text(word: Value) -> str:
    if not isinstance(word, list | tuple):
        return ""
    texts = []
    for part in word:
        if isinstance(part, list | tuple) and len(part) == 2:
            texts.append(_shown(part[1]) if part[0] == "value" else f"<{part[0]} {part[1]}>")
    return "".join(texts)


def _unwrapped(value: Value) -> Value:
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == "value":
        return value[1]
    return value


def _shown(value: Value) -> str:
    """Python's own notation for everything but plain text, so that 1, 1.0, True and "1" look different where they matter."""
    if value is None:
        return ""
    if isinstance(value, str):
        text = value if value and value.isprintable() and len(value) <= 60 else repr(value)
        return short(text) if text.startswith(("k1:", "b3:")) else text[:120]
    return repr(value)[:120]


def _same_bytes(before: Value, after: Value) -> bool:
    """Only the mode, or what is made of the bytes, differs."""
    return isinstance(before, list | tuple) and isinstance(after, list | tuple) and before[2] == after[2]


def _input_text(value: Value) -> str:
    if isinstance(value, list | tuple) and len(value) >= 3:
        return short(str(value[2]))
    return ""


def short(digest: str) -> str:
    """Eight hex digits: enough to tell two apart on a screen."""
    scheme, _, hexes = digest.partition(":")
    return hexes[:8] if hexes else scheme[:8]


def code_causes(
    before: Tree, after: Tree, counts: LineCounts = no_line_counts, *, only: Iterable[str] | None = None, prefix: str = ""
) -> tuple[Cause, ...]:
    """Files added, removed and changed. `only`: limit changed files to these paths (what the step had read)."""
    old, new = before.by_path, after.by_path
    wanted = None if only is None else set(only)
    causes = []
    for path in sorted(old.keys() | new.keys()):
        left, right = old.get(path), new.get(path)
        name = shown_path(path, prefix)
        if left is None or right is None:
            causes.append(Cause(kind="file", subject=name, detail="added" if left is None else "removed"))
        elif left.kind != right.kind:
            causes.append(Cause(kind="file", subject=name, before=_KINDS[left.kind], after=_KINDS[right.kind]))
        elif left.digest != right.digest and (wanted is None or path in wanted or left.kind == "l"):
            counted = counts(left.digest, right.digest) if left.kind in "fx" else None
            detail = f"+{counted[0]} -{counted[1]}" if counted else "changed"
            causes.append(Cause(kind="file", subject=name, detail=detail))
    return tuple(causes)


_KINDS = {"f": "file", "x": "executable file", "d": "folder", "l": "link"}
