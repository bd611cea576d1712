"""Which files of a source directory do not belong to it: git's ignore rules, matched in O(pattern x path).

`.amlignore` replaces `.gitignore` in its folder (as in the Azure SDK); files above the source directory count up to the project
root. The semantics are git's (gitignore(5), wildmatch), proved against `git check-ignore`; a rule that ignores the source
directory itself is not applied, because the directory was named on purpose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

ALWAYS = frozenset(
    {".git", ".mlpipe", "__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".DS_Store"}
)
"""Never part of the code, whatever the ignore files say. Virtual environments (a pyvenv.cfg inside) neither."""

_EDITORS = re.compile(
    r"\..*\.sw[a-px]|4913|.*~|\.#.*|#.*#|\.goutputstream-.*|.*___jb_(?:tmp|old|bak)___|\..*\.kate-swp|\.~lock\..*#|\.nfs[0-9a-f]{8,}"
)


def is_editors_own(name: str) -> bool:
    """Swap, backup and lock files that editors put beside the file they edit: never part of the code either."""
    return _EDITORS.fullmatch(name) is not None


_STAR, _ANY = 256, 257
_Token = int | frozenset[int]
"""A byte, _STAR, _ANY, or the set of bytes that match."""
_Segment = tuple[_Token, ...]

_CLASSES: dict[bytes, frozenset[int]] = {
    b"alnum": frozenset(b for b in range(128) if chr(b).isalnum()),
    b"alpha": frozenset(b for b in range(128) if chr(b).isalpha()),
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset([*range(32), 127]),
    b"digit": frozenset(b"0123456789"),
    b"graph": frozenset(range(33, 127)),
    b"lower": frozenset(range(97, 123)),
    b"print": frozenset(range(32, 127)),
    b"punct": frozenset(b for b in range(33, 127) if not chr(b).isalnum()),
    b"space": frozenset(b" \t\n\v\f\r"),
    b"upper": frozenset(range(65, 91)),
    b"xdigit": frozenset(b"0123456789abcdefABCDEF"),
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an ignore file."""

    prefix: bytes
    """Everything before the first special character, compared as it is. What follows is matched from there, even in the middle of
    a name: so `a**/b` ignores `ax/b` and `ab`, because git looks at the `**` as if nothing stood before it."""
    segments: tuple[_Segment | None, ...]
    """Of what follows the prefix; None stands for `**`."""
    negated: bool
    folders_only: bool
    base_name_only: bool
    """No slash in it: matches the last part of a path at any depth."""
    literal: bytes | None
    """The whole base name, when nothing in it is special."""
    place: str
    """file:line, for messages."""
    text: str

    def matches(self, relative: list[bytes], is_folder: bool) -> bool:
        """`relative`: parts of the path below the folder of the ignore file."""
        if self.folders_only and not is_folder:
            return False
        if self.base_name_only:
            name = relative[-1]
            return name == self.literal if self.literal is not None else _segment_matches(self.segments[0] or (), name)
        path = b"/".join(relative)
        if not path.startswith(self.prefix):
            return False
        return _path_matches(self.segments, path[len(self.prefix) :].split(b"/"))


def parse(body: bytes, place: str) -> tuple[list[Pattern], list[str]]:
    """Patterns of a file and warnings about lines that can never match."""
    patterns, warnings = [], []
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    for number, raw in enumerate(body.split(b"\n"), 1):
        line = raw[:-1] if raw.endswith(b"\r") else raw
        line = _without_trailing_spaces(line)
        if not line or line.startswith(b"#"):
            continue
        where = f"{place}:{number}"
        pattern, problem = _parse_line(line, where)
        if pattern is not None:
            patterns.append(pattern)
        elif problem:
            warnings.append(f"{where}: {problem}: {os.fsdecode(line)!r}; this line is not applied")
    return patterns, warnings


def _without_trailing_spaces(line: bytes) -> bytes:
    end = len(line)
    while end and line[end - 1] in b" ":
        backslashes = 0
        while end - 2 - backslashes >= 0 and line[end - 2 - backslashes] == 0x5C:
            backslashes += 1
        if backslashes % 2:
            break
        end -= 1
    return line[:end]


def _parse_line(line: bytes, where: str) -> tuple[Pattern | None, str]:
    text = os.fsdecode(line)
    negated = line.startswith(b"!")
    if negated:
        line = line[1:]
    folders_only = line.endswith(b"/")
    if folders_only:
        line = line[:-1]
    if not line:
        return None, "a pattern without a name"
    base_name_only = b"/" not in line
    if line.startswith(b"/"):
        line = line[1:]
        if not line:
            return None, "a pattern without a name"
    prefix = b"" if base_name_only else line[: next((at for at, byte in enumerate(line) if byte in b"*?[\\"), len(line))]
    segments = _tokens(line[len(prefix) :], path=not base_name_only)
    if segments is None:
        return None, "a pattern that can never match (open bracket or backslash at its end)"
    plain = segments[0] if base_name_only else None
    literal = (
        bytes(t for t in plain if isinstance(t, int)) if plain and all(isinstance(t, int) and t < 256 for t in plain) else None
    )
    return Pattern(prefix, segments, negated, folders_only, base_name_only, literal, where, text), ""


def _tokens(line: bytes, *, path: bool) -> tuple[_Segment | None, ...] | None:
    segments: list[_Segment | None] = []
    current: list[_Token] = []
    position, start = 0, 0
    while position <= len(line):
        if position == len(line) or line[position] == 0x2F:
            piece = line[start:position]
            segments.append(None if path and piece == b"**" else tuple(current))
            current, start = [], position + 1
            position += 1
            continue
        byte = line[position]
        if byte == 0x2A:
            if not current or current[-1] != _STAR:
                current.append(_STAR)
        elif byte == 0x3F:
            current.append(_ANY)
        elif byte == 0x5C:
            position += 1
            if position == len(line):
                return None
            current.append(line[position])
        elif byte == 0x5B:
            found = _bracket(line, position)
            if found is None:
                return None
            members, position = found
            current.append(members)
        else:
            current.append(byte)
        position += 1
    return tuple(segments)


def _bracket(line: bytes, position: int) -> tuple[frozenset[int], int] | None:
    """The set of a bracket expression that opens at `position`, and where it closes."""
    position += 1
    inverted = position < len(line) and line[position] in b"!^"
    if inverted:
        position += 1
    members: set[int] = set()
    previous: int | None = None
    first = True
    while position < len(line):
        byte = line[position]
        if byte == 0x5D and not first:
            chosen = frozenset(range(256)) - members if inverted else frozenset(members)
            return chosen - {0x2F}, position
        first = False
        if byte == 0x5B and line[position + 1 : position + 2] == b":":
            end = line.find(b":]", position + 2)
            name = line[position + 2 : end] if end > 0 else b""
            if end > 0 and name in _CLASSES:
                members |= _CLASSES[name]
                previous, position = None, end + 2
                continue
            if end > 0 and b"]" not in name:
                return None
        if byte == 0x2D and previous is not None and position + 1 < len(line) and line[position + 1] != 0x5D:
            position += 1
            last = line[position]
            if last == 0x5C:
                position += 1
                if position == len(line):
                    return None
                last = line[position]
            members.update(range(previous, last + 1))
            previous = None
        else:
            if byte == 0x5C:
                position += 1
                if position == len(line):
                    return None
                byte = line[position]
            members.add(byte)
            previous = byte
        position += 1
    return None


def _segment_matches(tokens: _Segment, name: bytes) -> bool:
    """Greedy with one way back, to the last star: never more than len(tokens) x len(name) steps."""
    at = position = 0
    star, resume = -1, 0
    count, length = len(tokens), len(name)
    while position < length:
        if at < count:
            token = tokens[at]
            if token == _STAR:
                star, resume = at, position
                at += 1
                continue
            if token == _ANY or token == name[position] or (isinstance(token, frozenset) and name[position] in token):
                at += 1
                position += 1
                continue
        if star < 0:
            return False
        at = star + 1
        resume += 1
        position = resume
    while at < count and tokens[at] == _STAR:
        at += 1
    return at == count


def _path_matches(segments: tuple[_Segment | None, ...], parts: list[bytes]) -> bool:
    """The same algorithm one level up: `**` is the star, a segment is the letter. A last `**` needs something below it."""
    at = position = 0
    star, resume = -1, 0
    count, length = len(segments), len(parts)
    while position < length:
        if at < count:
            segment = segments[at]
            if segment is None:
                if at == count - 1:
                    return True
                star, resume = at, position
                at += 1
                continue
            if _segment_matches(segment, parts[position]):
                at += 1
                position += 1
                continue
        if star < 0:
            return False
        at = star + 1
        resume += 1
        position = resume
    return at == count


class ProjectIgnore:
    """The rules for one source directory. Implements what `hashing.scan` asks for."""

    def __init__(self, project_root: str, directory: str) -> None:
        self.warnings: list[str] = []
        self.consulted: list[str] = []
        """Ignore files looked for above the source directory, whether they are there or not."""
        self._directory = directory
        self._levels: dict[str, list[tuple[int, list[Pattern]]]] = {}
        self._offset: list[bytes] = []
        self._outer = self._above(os.path.realpath(project_root), os.path.realpath(directory))

    def _above(self, root: str, directory: str) -> list[tuple[int, list[Pattern]]]:
        """Rules of the folders from the project root down to the one above the source directory."""
        if directory != root and not directory.startswith(root.rstrip("/") + "/"):
            return []
        inner = os.path.relpath(directory, root)
        self._offset = [] if inner == "." else [os.fsencode(part) for part in inner.split(os.sep)]
        levels, folder = [], root
        for depth, part in enumerate(self._offset):
            self.consulted += [os.path.join(folder, name) for name in (".amlignore", ".gitignore")]
            patterns = self._read(folder, os.listdir(folder), "../" * (len(self._offset) - depth))
            if patterns:
                levels.append((depth, patterns))
            folder = os.path.join(folder, os.fsdecode(part))
        return levels

    def _read(self, folder: str, names: list[str], shown: str) -> list[Pattern]:
        name = ".amlignore" if ".amlignore" in names else ".gitignore" if ".gitignore" in names else None
        if name is None:
            return []
        try:
            with open(os.path.join(folder, name), "rb") as file:
                body = file.read(1 << 20)
        except OSError as error:
            self.warnings.append(f"{os.path.join(folder, name)} cannot be read ({error.strerror}); its rules are not applied")
            return []
        patterns, warnings = parse(body, f"{shown}{name}")
        self.warnings.extend(warnings)
        return patterns

    def enter(self, relative: str, names: list[str]) -> Callable[[str, bool], bool]:
        parent = relative.rpartition("/")[0] if relative else None
        levels = list(self._outer) if parent is None else list(self._levels[parent])
        parts = self._offset + ([os.fsencode(part) for part in relative.split("/")] if relative else [])
        folder = os.path.join(self._directory, relative) if relative else self._directory
        own = self._read(folder, names, f"{relative}/" if relative else "")
        if own:
            levels.append((len(parts), own))
        self._levels[relative] = levels

        def ignored(name: str, is_folder: bool) -> bool:
            if name in ALWAYS or is_editors_own(name):
                return True
            if is_folder and os.path.exists(f"{folder}/{name}/pyvenv.cfg"):
                self.consulted.append(f"{folder}/{name}/pyvenv.cfg")
                return True
            if not levels:
                return False
            found = _last_match(levels, [*parts, os.fsencode(name)], is_folder)
            return found is not None and not found.negated

        return ignored

    def why(self, relative: str) -> str | None:
        """For messages: the rule that leaves out this path or a folder above it, as "file:line pattern"."""
        parts = relative.split("/")
        for depth, part in enumerate(parts):
            parent = "/".join(parts[:depth])
            folder = os.path.join(self._directory, parent)
            if parent not in self._levels:
                try:
                    self.enter(parent, os.listdir(folder))
                except (OSError, KeyError):
                    return None
            if part in ALWAYS or is_editors_own(part):
                return f"{part} is never part of the code"
            full = [*self._offset, *(os.fsencode(p) for p in parts[: depth + 1])]
            found = _last_match(self._levels[parent], full, os.path.isdir(os.path.join(folder, part)))
            if found is not None and not found.negated:
                return f"{found.place} {found.text}"
        return None


def _last_match(levels: list[tuple[int, list[Pattern]]], parts: list[bytes], is_folder: bool) -> Pattern | None:
    for depth, patterns in reversed(levels):
        below = parts[depth:]
        for pattern in reversed(patterns):
            if pattern.matches(below, is_folder):
                return pattern
    return None
