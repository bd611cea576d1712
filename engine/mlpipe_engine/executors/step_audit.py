"""The witness inside a step: notes what Python code opens, lists, imports, starts and connects to. Standard library only, Python 3.8.

Copied into .mlpipe/sdk as `sitecustomize`, so every interpreter a step starts loads it; without MLPIPE_AUDIT it does nothing.
Records are appended with one write each: a letter, a text, NUL. The file is opened anew for every record, because a descriptor
that is kept can be closed, and given to another file, by the step. A step is never disturbed: what cannot be recorded removes the
file, and `executors.audit`, which reads it, takes that as an answer. The head of the file names folders that need no record.

p interpreter | r signature TAB path: opened | n path: looked for inside code/, not there | l path: listed | w path: made by the step
m path: a component of a site folder | i name: imported or tried | d name: a distribution asked for | a: all of them asked for
e path: a site folder was listed | y program: an audited Python was started | x program: another | s address: connected | b port: bound
"""

from __future__ import annotations

import os
import sys


def take():
    """These two are set by _watch; a warm interpreter asks for them (zygote.py)."""


def move(path, noted):
    """Without _watch nothing is noted."""


def _watch(path):
    with open(path, "rb") as file:
        head = file.read(1 << 20).split(b"\0\0")[0]
    step_dir, *lines = [os.fsdecode(item) for item in head.split(b"\0")]
    known = [line[1:] for line in lines if line[0] == "k"]
    inputs = tuple([line[1:].rstrip("/") + "/" for line in lines if line[0] == "i"])
    code = step_dir + "/code/"
    here = os.path.dirname(os.path.abspath(__file__))
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix} - {"/", ""}
    prefixes |= {os.path.realpath(prefix) for prefix in prefixes}
    skip = tuple(
        [folder.rstrip("/") + "/" for folder in (*prefixes, *known)]
        + ["/usr/", "/lib/", "/lib64/", "/lib32/", "/bin/", "/sbin/", "/proc/", "/sys/", "/dev/"]
    )
    named = [item for item in sys.path if item.endswith(("site-packages", "dist-packages"))]
    sites = tuple({folder.rstrip("/") + "/" for item in named for folder in (item, os.path.realpath(item))})
    seen = set()
    real_folders = {}
    standard = getattr(sys, "stdlib_module_names", frozenset(sys.builtin_module_names))

    def say(kind, text):
        key = kind + text
        if key in seen:
            return
        seen.add(key)
        record = os.fsencode(key) + b"\0"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            if os.write(fd, record) != len(record):
                raise OSError("short write")
        finally:
            os.close(fd)

    def lost():
        try:
            os.unlink(path)
        except OSError:
            pass

    def ours(name):
        """Whether a link there is none of the step's concern: it belongs to what counts otherwise, or leads the way there."""
        return (name + "/").startswith((step_dir + "/", *inputs, *skip)) or any(
            folder.startswith(name + "/") for folder in (step_dir + "/", *inputs, *skip, *sites)
        )

    def without_links(name):
        """The path that an absolute one leads to. Every link on the way is noted: it may lead elsewhere later."""
        rest = [part for part in name.split("/") if part not in ("", ".")][::-1]
        done = ""
        hops = 0
        while rest:
            part = rest.pop()
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            try:
                target = os.readlink(done + "/" + part)
            except OSError:
                done += "/" + part
                continue
            hops += 1
            if hops > 40:  # as many as the kernel follows
                return os.path.realpath(name)
            if not ours(done + "/" + part) and not component(done + "/" + part):
                say("r", "link %s\t%s" % (target, done + "/" + part))
            if target.startswith("/"):
                done = ""
            rest.extend([part for part in target.split("/") if part not in ("", ".")][::-1])
        return done or "/"

    def real(name):
        """Absolute, links of folders resolved (remembered); the last part as it is. None: not a path."""
        if isinstance(name, int):
            name = os.readlink("/proc/self/fd/%d" % name)
            if not name.startswith("/"):
                return None
        elif isinstance(name, bytes):
            name = os.fsdecode(name)
        elif not isinstance(name, str):
            name = os.fspath(name)
            name = name if isinstance(name, str) else os.fsdecode(name)
        if not name or "\0" in name:
            return None
        if not name.startswith("/"):
            name = os.getcwd() + "/" + name
        folder, _, base = name.rpartition("/")
        if base in ("", ".", ".."):
            return without_links(name)
        if folder not in real_folders:
            resolved = without_links(folder)
            if not os.path.isdir(resolved):
                return os.path.normpath(resolved + "/" + base)  # may appear, or lead elsewhere, later
            real_folders[folder] = "" if resolved == "/" else resolved
        return real_folders[folder] + "/" + base

    def component(name):
        """The part of a site folder a path belongs to; "" outside of them."""
        for site in sites:
            if name.startswith(site):
                rest = name[len(site) :].split("/")
                if rest[0] == "__pycache__" and len(rest) > 1:
                    return site + rest[1].split(".")[0] + ".py"
                return site + rest[0]
        return ""

    def reading(name):
        if name is None:
            return
        found = component(name)
        if found:
            say("m", found)
            return
        if (name + "/").startswith(skip) or "r" + name in seen:
            return
        if name.startswith(code) and not os.path.lexists(name):
            say("n", name)
            return
        try:
            info = os.lstat(name)
        except OSError:
            info = None
        if info is not None and info.st_mode & 0o170000 == 0o120000:
            seen.add("r" + name)
            target = without_links(name)
            if target != name:
                reading(target)
            return
        seen.add("r" + name)
        if name.startswith(step_dir + "/") or (name + "/").startswith(inputs):
            return
        if info is not None and info.st_mode & 0o170000 == 0o040000:
            say("l", name)
            return
        if name.endswith(".pyc") and "/__pycache__/" in name:
            folder, _, base = name.rpartition("/__pycache__/")
            source = folder + "/" + base.split(".")[0] + ".py"
            if os.path.exists(source):
                reading(source)
                return
        sign = "-" if info is None else "%d %d %d " % (info.st_ino, info.st_size, info.st_mtime_ns)
        if info is not None:  # of its log SQLite sets the owner anew when root opens it
            sign += "*" if name.endswith("-wal") else str(info.st_ctime_ns)
        say("r", sign + "\t" + name)

    def made(name):
        if name is not None and not name.startswith(step_dir + "/") and not (name + "/").startswith(skip):
            say("w", name)

    def on_open(args):
        name, mode, flags = args[0], args[1], args[2]
        if name is path or name == path or isinstance(name, int):
            return
        if isinstance(mode, str):
            writes, anew = any(c in mode for c in "wax+"), "w" in mode or "x" in mode
        else:
            flags = flags or 0
            writes = bool(flags & 3)
            anew = bool(flags & os.O_TRUNC) or flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL
        if isinstance(mode, str) and isinstance(flags, int) and flags & os.O_TRUNC:
            anew = True
        name = real(name)
        if name is None:
            return
        if anew or (writes and not os.path.exists(name)):
            made(name)
        elif not (isinstance(mode, str) and "a" in mode and "+" not in mode) and not (mode is None and flags & 3 == os.O_WRONLY):
            reading(name)

    def on_list(args):
        name = real(args[0] if args[0] is not None else ".")
        if name is None:
            return
        name = without_links(name)
        caller = sys._getframe(2).f_code.co_filename
        importing = caller.startswith("<frozen importlib")
        if name + "/" in sites:
            if not importing and not caller.endswith(("importlib/metadata/__init__.py", "importlib_metadata/__init__.py")):
                say("e", name)
            return
        found = component(name)
        if found:
            say("m", found)
        elif name != here and not (name + "/").startswith((step_dir + "/", *skip, *inputs)):
            say("l", name)

    def on_mkdir(args):
        name = real(args[0])
        if name is not None and not os.path.lexists(name):
            made(name)

    def on_target(args):
        made(real(args[1]))

    def imported(name):
        top = name.partition(".")[0]
        if top not in standard and top:
            say("i", top)

    def on_import(args):
        imported(args[0])
        if len(args) > 1 and args[1]:
            reading(real(args[1]))

    def on_library(args):
        if isinstance(args[0], (str, bytes)) and "/" in os.fsdecode(args[0]):
            reading(real(args[0]))

    def on_database(args):
        if isinstance(args[0], (str, bytes)) and args[0] not in (":memory:", b":memory:", "", b""):
            name = os.fsdecode(args[0])
            name = name[5:].partition("?")[0] if name.startswith("file:") else name
            name = real(name)
            if name is None:
                return
            if not os.path.exists(name):
                made(name)
                return
            reading(name)
            for beside in ("-wal", "-journal"):  # what was written last may stand there, and be read from there
                reading(without_links(name) + beside)

    def found_program(program, environment):
        program = os.fsdecode(program)
        if "/" in program:
            return os.path.abspath(program)
        places = environment.get("PATH", os.defpath) if environment is not None else os.environ.get("PATH", os.defpath)
        for folder in os.fsdecode(places).split(os.pathsep):
            if os.access(folder + "/" + program, os.X_OK):
                return folder + "/" + program
        return program

    def started(program, words, environment):
        try:
            environment = {os.fsdecode(k): os.fsdecode(v) for k, v in environment.items()} if environment is not None else None
        except (AttributeError, TypeError):
            environment = {}
        name = found_program(program, environment)
        inherits = environment if environment is not None else os.environ
        ours = here in inherits.get("PYTHONPATH", "").split(os.pathsep) and inherits.get("MLPIPE_AUDIT") == path
        same = os.path.realpath(name) == os.path.realpath(sys.executable)
        plain = words is not None and not isinstance(words, (str, bytes)) and _keeps_watch([os.fsdecode(w) for w in words][1:])
        say("y" if same and ours and plain else "x", name)

    def on_popen(args):
        words = args[1]
        started(args[0] if args[0] is not None else (words if isinstance(words, (str, bytes)) else words[0]), words, args[3])

    def on_spawn(args):
        started(args[0], args[1], args[2])

    def on_old_spawn(args):
        started(args[1], args[2], args[3])

    def on_shell(args):
        say("x", "/bin/sh")

    def on_connect(args):
        address = args[1]
        if isinstance(address, tuple) and len(address) >= 2:
            say("s", "%s %s" % (address[0], address[1]))
        elif isinstance(address, (str, bytes)) and address:
            name = os.fsdecode(address)
            if not name.startswith("\0") and not os.path.realpath(name).startswith(step_dir + "/"):
                say("s", name)

    def on_bind(args):
        if isinstance(args[1], tuple) and len(args[1]) >= 2:
            say("b", str(args[1][1]))

    actions = {
        "open": on_open, "import": on_import, "os.listdir": on_list, "os.scandir": on_list, "os.mkdir": on_mkdir,
        "os.rename": on_target, "os.link": on_target, "os.symlink": on_target, "ctypes.dlopen": on_library,
        "sqlite3.connect": on_database, "subprocess.Popen": on_popen, "os.posix_spawn": on_spawn, "os.exec": on_spawn,
        "os.spawn": on_old_spawn, "os.system": on_shell, "pty.spawn": on_shell, "socket.connect": on_connect,
        "socket.sendto": on_connect, "socket.bind": on_bind,
    }  # fmt: skip

    def hook(event, args):
        action = actions.get(event)
        if action is not None:
            try:
                action(args)
            except Exception:
                lost()

    class Witness:
        """Sees what is asked for by importlib.import_module and find_spec, which raise no audit event, and finds nothing."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            try:
                imported(name)
            except Exception:
                lost()

        @staticmethod
        def find_distributions(context=None):
            try:
                name = getattr(context, "name", None)
                say("d", name) if name else say("a", "")
            except Exception:
                lost()
            return []

    def taken():
        """What was noted so far, for those who become steps; the file goes."""
        with open(path, "rb") as file:
            noted = file.read().split(b"\0\0", 1)[1]
        os.unlink(path)
        return noted

    def moved(new, noted):
        """A warm process has become a step: its records go to the step's file, behind what was noted while it was warmed up."""
        nonlocal path, step_dir, inputs, code, skip
        path = new
        with open(path, "rb") as file:
            head = file.read(1 << 20).split(b"\0\0")[0]
        step_dir, *lines = [os.fsdecode(item) for item in head.split(b"\0")]
        code = step_dir + "/code/"
        inputs = tuple([line[1:].rstrip("/") + "/" for line in lines if line[0] == "i"])
        skip = skip + tuple([line[1:].rstrip("/") + "/" for line in lines if line[0] == "k"])
        real_folders.clear()
        seen.clear()
        seen.update([os.fsdecode(record) for record in noted.split(b"\0")])
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            if os.write(fd, noted) != len(noted):
                raise OSError("short write")
        finally:
            os.close(fd)

    say("p", sys.executable or "")
    for name in list(sys.modules):
        imported(name)
    global take, move
    take, move = taken, moved
    sys.meta_path.insert(0, Witness)
    sys.addaudithook(hook)


def _keeps_watch(words):
    """Whether a Python started with these words loads sitecustomize: no -I, -E or -S before the script."""
    words = iter(words)
    for word in words:
        if word in ("-X", "-W"):
            next(words, None)
        elif word.startswith("--") and word != "--" or word.startswith(("-X", "-W")):
            continue
        elif not word.startswith("-") or word in ("-", "--") or word[1:2] in ("c", "m"):
            return True
        elif any(letter in word for letter in "IES"):
            return False
    return True


def _next_sitecustomize():
    """A person's own one still runs."""
    here = os.path.dirname(os.path.abspath(__file__))
    ours = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [item for item in sys.path if os.path.abspath(item) != here]
    try:
        import sitecustomize  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


if __name__ == "sitecustomize":
    if os.environ.get("MLPIPE_AUDIT") and hasattr(sys, "addaudithook"):
        try:
            _watch(os.environ["MLPIPE_AUDIT"])
        except Exception:
            try:
                os.unlink(os.environ["MLPIPE_AUDIT"])
            except OSError:
                pass
    _next_sitecustomize()
