"""What a step used without having declared it: reads the records of `step_audit` and of `tracing`, sorts out what counts, hashes it.

What does not count, and why: docs/isolation.md. Called by `runner`, before a step (`begin`) and after it ended (`judge`).
"""

from __future__ import annotations

import os
import stat as st
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mlpipe_engine.errors import FilesystemError, MlpipeError
from mlpipe_engine.executors.packages import ALWAYS, Packages, normalised, owner_text
from mlpipe_engine.executors.staging import write_over
from mlpipe_engine.hashing.files import hash_bytes, hash_file
from mlpipe_engine.hashing.scan import scan_tree, special_kind
from mlpipe_engine.hashing.stat_cache import StatCache
from mlpipe_engine.model.plan import Undeclared

Record = tuple[str, str]
"""(kind, text) as `step_audit` writes them."""

_SYSTEM = ("/usr/", "/lib/", "/lib32/", "/lib64/", "/libx32/", "/bin/", "/sbin/", "/proc/", "/sys/", "/dev/",
           "/var/cache/fontconfig/", "/run/systemd/resolve/", "/run/nscd/", "/System/", "/Library/")  # fmt: skip
_SYSTEM_ETC = (
    "ld.so", "localtime", "timezone", "adjtime", "locale", "nsswitch.conf", "passwd", "group", "hosts", "host.conf", "hostname",
    "resolv.conf", "gai.conf", "services", "protocols", "networks", "fonts/", "ssl/", "pki/", "ca-certificates", "crypto-policies/",
    "mime.types", "magic", "os-release", "lsb-release", "debian_version", "machine-id", "python3", "alternatives/", "inputrc",
    "papersize", "OpenCL/", "glvnd/", "vulkan/", "ImageMagick", "terminfo", "mtab", "selinux/", "gss/", "krb5.conf", "profile",
    "bash.bashrc", "environment", "suid-debug", "login.defs",
)  # fmt: skip
"""Of /etc only how the machine itself is set up; settings of other programs count."""

_MOST_LINKS = 40
"""As many as the kernel follows on one way."""

_HARMLESS = frozenset((
    "uname", "lscpu", "ldconfig", "ld", "objdump", "getconf", "nvidia-smi", "fc-list", "fc-match", "fc-cache",
    "hostname", "date", "sleep", "true", "false", "echo", "printf", "cat", "cp", "mv", "ln", "rm", "ls", "mkdir",
    "rmdir", "touch", "head", "tail", "wc", "uniq", "cut", "tr", "grep", "egrep", "fgrep", "gzip", "bzip2", "xz",
    "zstd", "cmp", "diff", "file", "stat", "df", "du", "free", "ps", "id", "whoami", "tty", "nproc", "arch",
    "basename", "dirname", "readlink", "realpath", "sha256sum", "md5sum", "dd", "tee", "test",
))  # fmt: skip
"""Programs of the system that start no Python."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What belongs to a step: everything else it uses is undeclared."""

    root: str
    step_dir: str
    inputs: tuple[str, ...]
    """Real paths of what was lent."""
    known: tuple[str, ...]
    """Folders that are ours or count otherwise: home, sdk, editable sources."""
    packages: Packages
    versions: dict[str, tuple[str, str]]
    """Distribution -> (version, digest)."""
    python: bool
    """A Python step, whose imports say which distributions count."""
    level: str
    """"python" or "full"."""
    source: str = ""
    """The source directory, absolute; "" when the step has none."""
    strict: bool = False

    @property
    def file(self) -> str:
        return f"{self.step_dir}/audit"

    @property
    def trace(self) -> str:
        return f"{self.step_dir}/trace"


@dataclass
class Seen:
    """Records sorted by what they mean."""

    files: dict[str, str] = field(default_factory=dict)
    """Path -> signature when it was opened, "" unknown."""
    folders: dict[str, None] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)
    """Looked for inside code/, relative."""
    own: set[str] = field(default_factory=set)
    rewritten: set[str] = field(default_factory=set)
    components: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    enumerated: bool = False
    interpreters: int = 0
    audited_starts: int = 0
    programs: dict[str, None] = field(default_factory=dict)
    addresses: dict[str, None] = field(default_factory=dict)
    ports: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    """Link -> its target, on the way to what another program opened."""
    images: int = 0
    """Python interpreters the trace saw start."""


def begin(scope: Scope) -> None:
    """Make the file the step's records go to. Raises FilesystemError."""
    try:
        write_over(scope.file, _head(scope), 0o644)
    except OSError as error:
        raise FilesystemError.of(error, "write", scope.file) from error


def _head(scope: Scope) -> bytes:
    lines = [scope.step_dir, *(f"k{path}" for path in scope.known), *(f"i{path}" for path in scope.inputs)]
    text = os.fsencode("\0".join(lines)) + b"\0f"
    return text + b" " * (-(len(text) + 2) % 256) + b"\0\0"  # filled up: mostly as long as that of the last step


def is_silent(scope: Scope) -> bool:
    """Whether no Python of the step had anything to record."""
    try:
        return scope.level != "full" and os.lstat(scope.file).st_size == len(_head(scope))
    except OSError:
        return False


def records(scope: Scope) -> list[Record] | None:
    """None: something could not be recorded. Raises FilesystemError: the records are there and cannot be read."""
    try:
        with open(scope.file, "rb") as file:
            body = file.read().split(b"\0\0", 1)[1]
    except (FileNotFoundError, IndexError):
        return None
    except OSError as error:
        raise FilesystemError.of(error, "read", scope.file) from error
    return [(text[:1], text[1:]) for text in map(os.fsdecode, body.split(b"\0")) if text]


def judge(scope: Scope, stats: StatCache) -> tuple[Undeclared, str]:
    """What the step used, and, when that cannot be told or hashed, why its result may not serve again. Raises FilesystemError."""
    noted = records(scope)
    if noted is None:
        return Undeclared(audit="not audited: its reads could not be recorded"), "what it read could not be recorded"
    if not noted and not scope.python and scope.level != "full":
        return Undeclared(audit=scope.level), ""
    seen = sort(scope, noted)
    if scope.level == "full":
        from mlpipe_engine.executors.tracing import traced

        found = traced(scope.trace)
        if found is None:
            return Undeclared(audit="not audited: strace left no record"), "what it read could not be traced"
        seen.images = found[1]
        sort(scope, found[0], seen)
    files, problems = _hashed(scope, seen, stats)
    files.update(ignored_notes(scope, seen))
    problems += _outside(scope, seen)
    modules = _modules(scope, seen)
    audit = scope.level
    if scope.python and not seen.interpreters:
        audit = "not audited: its interpreter did not load the witness"
    shown = tuple(sorted((_stored(scope.root, path), sign) for path, sign in files.items()))
    return Undeclared(files=shown, modules=modules, audit=audit), "; ".join(problems[:3])


def sort(scope: Scope, noted: Iterable[Record], seen: Seen | None = None) -> Seen:
    """Records as meanings; what belongs to the step, its interpreter or the system is left out."""
    seen = Seen() if seen is None else seen
    made: set[str] = set()
    for kind, text in noted:
        match kind:
            case "r":
                sign, _, path = text.partition("\t")
                _opened(scope, seen, path, sign, made)
            case "l":
                component = _component(scope, text)
                if component:
                    seen.components.setdefault(component)
                elif not _is_known(scope, text) and not _inside(text, made) and text not in scope.packages.ours:
                    seen.folders.setdefault(text)
            case "w":
                if text in seen.files and seen.files[text] != "-":
                    seen.rewritten.add(text)
                made.add(text)
            case "n":
                seen.missing.setdefault(os.path.relpath(text, f"{scope.step_dir}/code"))
            case "m":
                seen.components.setdefault(text)
            case "i" | "d":
                seen.names.setdefault(text if kind == "i" else f"{normalised(text)} (distribution)")
            case "a" | "e":
                seen.enumerated = True
            case "p":
                seen.interpreters += 1
            case "y":
                seen.audited_starts += 1
            case "t":
                _went(scope, seen, text, made)
            case "x":
                seen.programs.setdefault(text)
                if text.startswith("/"):
                    _opened(scope, seen, _went(scope, seen, text, made), "", made)
            case "s":
                seen.addresses.setdefault(text)
            case "b":
                seen.ports.add(text)
    seen.own |= made
    return seen


def _opened(scope: Scope, seen: Seen, path: str, sign: str, made: set[str]) -> None:
    if path.startswith(f"{scope.step_dir}/code/") and sign == "-":
        seen.missing.setdefault(os.path.relpath(path, f"{scope.step_dir}/code"))
        return
    component = _component(scope, path)
    source = _source_of(path)
    if source != path:
        path, sign = source, ""
    if component:
        seen.components.setdefault(component)
    elif not _is_known(scope, path) and not _inside(path, made) and not seen.files.get(path):
        seen.files[path] = sign


def _went(scope: Scope, seen: Seen, path: str, made: set[str]) -> str:
    """Where a path leads. A link on the way counts, unless it is ours or leads the way to what is ours."""
    for link, target in (links := links_on(path))[1]:
        if (
            not _component(scope, link)
            and not _is_known(scope, link)
            and not _leads_to_known(scope, link)
            and not _inside(link, made)
        ):
            seen.links.setdefault(link, target)
    return links[0]


def links_on(path: str) -> tuple[str, list[tuple[str, str]]]:
    """(the path without links, every link that was followed with its target), for an absolute path; what is not there counts as no link."""
    rest = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done = ""
    found: list[tuple[str, str]] = []
    while rest:
        part = rest.pop()
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        try:
            target = os.readlink(f"{done}/{part}") if len(found) < _MOST_LINKS else ""
        except OSError:
            target = ""
        if not target:
            done = f"{done}/{part}"
            continue
        found.append((f"{done}/{part}", target))
        done = "" if target.startswith("/") else done
        rest.extend([part for part in target.split("/") if part not in ("", ".")][::-1])
    return done or "/", found


def _leads_to_known(scope: Scope, link: str) -> bool:
    return any(folder.startswith(link + "/") for folder in _known_folders(scope))


def _known_folders(scope: Scope) -> tuple[str, ...]:
    return scope.step_dir, *scope.inputs, *scope.known, *scope.packages.prefixes, *scope.packages.sites


def _source_of(path: str) -> str:
    """Bytecode counts by its source: Python compares the two before it takes it."""
    folder, cache, name = path.rpartition("/__pycache__/")
    source = f"{folder}/{name.partition('.')[0]}.py" if cache else ""
    return source if source and ".pyc" in name and os.path.exists(source) else path


def _component(scope: Scope, path: str) -> str:
    for site in scope.packages.sites:
        if path.startswith(site + "/"):
            parts = path[len(site) + 1 :].split("/")
            if parts[0] == "__pycache__" and len(parts) > 1:
                return f"{site}/{parts[1].partition('.')[0]}.py"
            return f"{site}/{parts[0]}" if not parts[0].endswith(".pth") else ""
    return ""


def _inside(path: str, folders: set[str]) -> bool:
    """Made by the step, or below a folder it made."""
    while path and path != "/":
        if path in folders:
            return True
        path = path.rpartition("/")[0]
    return False


def _is_known(scope: Scope, path: str) -> bool:
    return is_system(path) or any(path == folder or path.startswith(folder + "/") for folder in _known_folders(scope))


def is_system(path: str) -> bool:
    if (path + "/").startswith(_SYSTEM) or path in ("/", "/etc"):
        return True
    return path.startswith("/etc/") and path[5:].startswith(_SYSTEM_ETC)


def _hashed(scope: Scope, seen: Seen, stats: StatCache) -> tuple[dict[str, str], list[str]]:
    start = _start(scope)
    files: dict[str, str] = {}
    problems: list[str] = []
    for path, sign in seen.files.items():
        if sign.startswith("link "):
            files[path] = sign
            continue
        if path in seen.rewritten:
            problems.append(f"it changed the undeclared file {path} after reading it")
            continue
        now = signature(path, "refused" if scope.strict else "", stats)
        if now == "absent" and sign in ("", "-"):
            files[path] = now
        elif sign == "-" and path in seen.own:
            continue  # it made what it did not find: a cache of its own
        elif _changed(path, sign, start):
            problems.append(f"the undeclared file {path} changed while it ran")
        elif now.startswith(("special", "unreadable")):
            problems.append(f"the undeclared {path} {_cannot(now)}")
        else:
            files[path] = now
    for path, target in seen.links.items():
        if signature(path, "", stats) != f"link {target}" or _changed(path, "", start):
            problems.append(f"the link {path} changed while it ran")
        else:
            files.setdefault(path, f"link {target}")
    for path in seen.folders:
        if path in files:
            continue
        now = signature(path, "refused" if scope.strict else "", stats)
        if _listing_changed(path, start) and not any(os.path.dirname(own) == path for own in seen.own):
            problems.append(f"the undeclared folder {path} changed while it ran")
        elif now.startswith("unreadable"):
            problems.append(f"the undeclared folder {path} {_cannot(now)}")
        else:
            files[path] = now
    for path in _unowned(scope, seen):
        files[path] = signature(path, "tree", stats)
    return files, problems


def _cannot(sign: str) -> str:
    kind, _, rest = sign.partition(" ")
    return f"is a {rest}, whose content cannot be hashed" if kind == "special" else "cannot be read to hash it"


def _start(scope: Scope) -> int:
    """When the step was laid out, on the clock of its file system."""
    try:
        return os.stat(f"{scope.step_dir}/step.json").st_mtime_ns
    except OSError:
        return 0


def _changed(path: str, sign: str, start: int) -> bool:
    try:
        info = os.lstat(path)
    except OSError:
        return True
    if sign in ("", "-"):
        return sign == "-" or max(info.st_ctime_ns, info.st_mtime_ns) > start
    same = f"{info.st_ino} {info.st_size} {info.st_mtime_ns}"
    return sign not in (f"{same} {info.st_ctime_ns}", f"{same} *")


def _listing_changed(path: str, start: int) -> bool:
    try:
        return os.stat(path).st_mtime_ns > start
    except OSError:
        return False


def _unowned(scope: Scope, seen: Seen) -> list[str]:
    """What lies in a site folder although no distribution brought it: it counts by its content."""
    return [
        path
        for path in seen.components
        if scope.packages.providers(os.path.basename(path)) in ((), ("?",)) and "mlpipe" not in os.path.basename(path)
    ]


def signature(path: str, like: str, stats: StatCache) -> str:
    """A path as it is now, in the terms of `like`: "absent", "b3:...", "folder NAMES", "tree ...", "link TARGET", "refused"."""
    stats.look(path)
    try:
        info = os.lstat(path)
        if like == "refused":
            return like
        if st.S_ISLNK(info.st_mode):
            return f"link {os.readlink(path)}"
        if st.S_ISDIR(info.st_mode):
            if like.startswith("tree"):
                return f"tree {scan_tree(path, ignore=_NoBytecode(), cache=stats).digest}"
            names = sorted(os.fsencode(name) for name in os.listdir(path) if name != "__pycache__")
            return f"folder {hash_bytes(b'/'.join(names))}"
        if not st.S_ISREG(info.st_mode):
            return f"special {special_kind(info.st_mode)}"
        known = stats.digest(path, info)
        if known is None:
            known = hash_file(path, info.st_size)
            after = os.lstat(path)
            if (info.st_mtime_ns, info.st_ctime_ns, info.st_size) != (after.st_mtime_ns, after.st_ctime_ns, after.st_size):
                return "unreadable"
            stats.remember(path, info, known)
        return known
    except (FileNotFoundError, NotADirectoryError):
        return "absent"
    except (OSError, MlpipeError):
        return "unreadable"


class _NoBytecode:
    def enter(self, relative: str, names: list[str]) -> Callable[[str, bool], bool]:
        return _skip_bytecode


def _skip_bytecode(name: str, is_folder: bool) -> bool:
    return name == "__pycache__"


def ignored_notes(scope: Scope, seen: Seen) -> dict[str, str]:
    """Files the step looked for that an ignore rule kept out of its copy of the source."""
    if not scope.source:
        return {}
    found = {f"{scope.source}/{relative}": relative for relative in seen.missing if not relative.startswith("..")}
    found |= {path: path[len(scope.source) + 1 :] for path in seen.files if path.startswith(scope.source + "/")}
    notes = {}
    for path, relative in found.items():
        rule = _ignoring_rule(scope, path, relative)
        if rule:
            notes[f"{os.path.dirname(path)}/./{os.path.basename(path)}"] = f"ignored {rule}"
    return notes


def _ignoring_rule(scope: Scope, path: str, relative: str) -> str:
    from mlpipe_engine.snapshots.ignore import ProjectIgnore

    if not os.path.lexists(path):
        return ""
    rule = ProjectIgnore(scope.root, scope.source).why(relative)
    if rule is None or " is never part of the code" in rule:
        return rule or ""
    place, _, pattern = rule.partition(" ")
    return f"{os.path.relpath(os.path.join(scope.source, place), scope.root)} {pattern}"


def _outside(scope: Scope, seen: Seen) -> list[str]:
    return [
        f"it connected to {_shown(a)}, whose answers cannot be hashed"
        for a in seen.addresses
        if not _is_own(scope, a, seen.ports)
    ]


def _shown(address: str) -> str:
    host, _, port = address.partition(" ")
    return f"{host} port {port}" if port else host


def _is_own(scope: Scope, address: str, ports: set[str]) -> bool:
    """A connection of the step to itself: to a socket in its folder, or to a port of this machine that one of its processes bound."""
    if address.startswith("/"):
        return address.startswith((f"{scope.step_dir}/", "/dev/", "/run/nscd/", "/var/run/nscd/"))
    host, _, port = address.partition(" ")
    if not (host.startswith("127.") or host in ("localhost", "::1", "0.0.0.0")):
        return False
    return port in ports or ("0" in ports and port.isdigit() and int(port) >= 32768)


def _modules(scope: Scope, seen: Seen) -> tuple[tuple[str, str], ...] | None:
    """Names that were imported, tried or read, with who provides them; None where an import may have gone unseen."""
    if scope.packages.loose:
        return None  # their trees count through the distribution that brought them, and nobody knows which imports are theirs
    if not scope.python or not seen.interpreters or seen.enumerated or seen.audited_starts >= seen.interpreters > 0:
        return None
    if scope.level == "full":
        if seen.images > seen.interpreters:
            return None
    elif not all(is_harmless(program) for program in seen.programs):
        return None
    names = {*seen.names, *(os.path.basename(path) for path in seen.components), ALWAYS}
    names -= {"__main__", "sitecustomize", "usercustomize", "mlpipe_run"}
    return tuple((name, owner_text(scope.packages, scope.versions, name)) for name in sorted(names))


def is_harmless(program: str) -> bool:
    return is_system(program) and os.path.basename(program) in _HARMLESS


def refused(scope: Scope) -> list[str]:
    """Paths a confined step tried to read and could not."""
    noted = records(scope) or []
    seen = sort(scope, noted)
    if scope.level == "full":
        from mlpipe_engine.executors.tracing import traced

        sort(scope, (traced(scope.trace) or ([], 0))[0], seen)
    paths = [*seen.files, *seen.folders]
    return [path for path in paths if path not in seen.own and os.path.lexists(path)]


def missing_ignored(scope: Scope) -> list[tuple[str, str]]:
    """(path below the source directory, rule) of what a failed step looked for and an ignore rule kept out."""
    notes = ignored_notes(scope, sort(scope, records(scope) or []))
    return [(os.path.relpath(path, scope.source), sign.removeprefix("ignored ")) for path, sign in notes.items()]


def _stored(root: str, path: str) -> str:
    path = os.path.normpath(path)
    return os.path.relpath(path, root) if path == root or path.startswith(root + "/") else path


def absolute(root: str, stored: str) -> str:
    return os.path.normpath(os.path.join(root, stored))
