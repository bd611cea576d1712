"""A warm interpreter: imports what a compute target preloads, then forks a step for each request. Standard library only, Python 3.8.

Started by the supervisor with the interpreter and the environment of the steps, for nobody to type: INTERPRETER zygote.py FD MODULES...
A forked step is what `python script.py` would be: its own __main__, arguments, environment, search path, random numbers, audit. It is
forked twice, so that its parent is the supervisor, which waits for it as for any other.

Out: {"ready": true} or {"refused": why} once; then for each request {"pid": number}. In: {"argv", "cwd", "env", "stdout", "stderr"}.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys

PINNED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""Set to 1 while modules are imported, so that no library starts threads; a step gets what it would have had."""


def main():
    sys.path.pop(0)  # the folder of this file is nobody's code
    line = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(line.fileno(), False)
    refused = preload(sys.argv[2:])
    if refused:
        say(line, {"refused": refused})
        return
    noted = sys.modules["sitecustomize"].take() if os.environ.get("MLPIPE_AUDIT") else None
    gc.collect()
    gc.freeze()
    say(line, {"ready": True})
    request = serve(line)
    if request is not None:
        become(request, noted)


def say(line, message):
    line.sendall(json.dumps(message).encode() + b"\n")


def preload(names):
    """Why a fork of this process would not be what a cold start is; "" when it would."""
    pinned = [name for name in PINNED if name not in os.environ]
    for name in pinned:
        os.environ[name] = "1"
    try:
        for name in names:
            importlib.import_module(name)
    except BaseException as error:
        return "importing %s failed: %s: %s" % (name, type(error).__name__, error)
    finally:
        for name in pinned:
            os.environ.pop(name, None)
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        return "after importing %s %d other threads are running" % (", ".join(names), len(threads) - 1)
    prefixes = tuple({os.path.realpath(p) + os.sep for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)})
    ours = os.path.realpath(os.environ.get("PYTHONPATH", "").split(os.pathsep)[0] or "/nowhere")
    sdk = os.path.dirname(ours) if os.path.basename(ours) == "audit" else ours
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if module is sys.modules["__main__"] or not isinstance(path, str) or not os.path.isabs(path):
            continue
        path = os.path.realpath(path)
        if not path.startswith(prefixes) and not path.startswith(sdk + os.sep):
            return "%s comes from %s, which is no installed package: its code may change" % (name, path)
    return ""


def serve(line):
    """The request of the step this process has become; None: the supervisor is gone."""
    buffer = b""
    while True:
        data = line.recv(1 << 20)
        if not data:
            return None
        buffer += data
        while b"\n" in buffer:
            text, buffer = buffer.split(b"\n", 1)
            request = json.loads(text)
            reading, writing = os.pipe()
            middle = os.fork()
            if middle == 0:
                step = os.fork()
                if step == 0:
                    os.close(reading)
                    os.close(writing)
                    line.close()
                    return request
                os.write(writing, b"%d" % step)
                os._exit(0)
            os.close(writing)
            pid = os.read(reading, 32)
            os.close(reading)
            os.waitpid(middle, 0)  # from now on the supervisor is the parent of the step
            say(line, {"pid": int(pid)})


def become(request, noted):
    """From here on this is the step."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for fd, path in ((1, request["stdout"]), (2, request["stderr"])):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, fd)
        os.close(opened)
    os.close(null)
    os.chdir(request["cwd"])
    os.umask(0o022)
    old = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["env"])
    script, words = request["argv"][1], request["argv"][2:]
    new = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    here = [item for item in new if os.path.basename(item) != "audit"]
    sys.path[:] = [os.path.dirname(script), *here, *[item for item in sys.path if item not in old]]
    sys.argv[:] = [script, *words]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = request["argv"]
    if noted is not None:
        try:
            sys.modules["sitecustomize"].move(os.environ["MLPIPE_AUDIT"], noted)
        except Exception:
            os.unlink(os.environ["MLPIPE_AUDIT"])  # what cannot be recorded is no answer
    anew()
    run(script)


def anew():
    """What a fresh interpreter would not have had from its parent: thread counts, random numbers, temporary names."""
    wanted = int(os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    if "ctypes" in sys.modules:
        set_threads(wanted)
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.__dict__["tempdir"] = None
    signal.signal(signal.SIGINT, signal.default_int_handler)


def set_threads(wanted):
    """OpenBLAS was told to use one thread while it was imported. OpenMP asks the environment of its first region."""
    import ctypes

    with open("/proc/self/maps") as file:
        paths = {line.split(None, 5)[5].strip() for line in file if len(line.split(None, 5)) == 6}
    for path in paths:
        base = os.path.basename(path)
        if "openblas" in base:
            names = ["openblas_set_num_threads", "openblas_set_num_threads64_", "scipy_openblas_set_num_threads"]
            names.append("scipy_openblas_set_num_threads64_")
        elif base.startswith(("libgomp", "libomp", "libiomp")):
            names = ["omp_set_num_threads"]
        else:
            continue
        library = ctypes.CDLL(path)
        for name in names:
            if hasattr(library, name):
                getattr(library, name)(ctypes.c_int(wanted))


def run(script):
    import builtins
    import types
    from importlib.machinery import SourceFileLoader

    main_module = types.ModuleType("__main__")
    main_module.__dict__.update(
        __file__=script, __builtins__=builtins, __loader__=SourceFileLoader("__main__", script), __package__=None, __cached__=None
    )
    if "__mp_main__" in sys.modules:  # multiprocessing's other name for it
        sys.modules["__mp_main__"] = main_module
    sys.modules["__main__"] = main_module
    try:
        with open(script, "rb") as file:
            code = compile(file.read(), script, "exec", dont_inherit=True)
        exec(code, main_module.__dict__)  # noqa: S102
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        sys.excepthook(type(error), error.with_traceback(trace.tb_next if trace else None), trace.tb_next if trace else None)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        sys.exit(1)


if __name__ == "__main__":
    main()
