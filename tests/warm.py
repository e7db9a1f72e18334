"""Processes of this project that begin with torch, DeepSpeed and transformers imported: forked, not started anew.

Importing them takes a rank longer than all the steps of a test's training. So one process for each process of pytest
imports them once; asked for `python -m launcher.…`, it forks a copy of itself that becomes what would have been
started: arguments, environment, folder, standard streams, session, parent, exit status and signals are those of a
process that subprocess.Popen starts. The project's own modules are imported anew by each, from the path that it is
given, so a run still imports its own snapshot. Whoever was forked starts its own children in the same way.

What such a process cannot show: anything about importing, and ranks whose hashes are salted differently. So these
start interpreters: whatever is on Slurm, for SLURM_CONF is a variable that differs (tests/slurm, the trials of
tests/faults and tests/methods); what asks for `started` in place of `bench` (some of tests/train/test_resume,
test_survive, test_world_size and test_evaluation); what follows W&B (tests/track) or has vLLM answer; and
everything under LAUNCHER_TESTS_WARM=0.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.machinery
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

import numpy

VARIABLE = "LAUNCHER_TESTS_WARM"
PACKAGE = "launcher"
MODULES = (
    "launcher.cli.main",
    "launcher.node.entry",
    "launcher.node.local_array",
    "launcher.node.local_job",
    "launcher.node.eval_job",
    "launcher.node.export_job",
    "launcher.node.generate_job",
    "launcher.checkpoint.universal",
    "launcher.train.run",
    # What these import, too, DeepSpeed and transformers import only once a model is there.
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.ops.op_builder.all_ops",
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "transformers.generation.utils",
    "transformers.models.llama.modeling_llama",
)
"""What they import is what a forked process need not import again."""
READ_LATE = (
    "LAUNCHER_",
    "MASTER_",
    "PYTEST_",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "PWD",
    "TMPDIR",
    "TORCH_EXTENSIONS_DIR",
    "TQDM_DISABLE",
)
"""Beginnings of variables that no library reads when it is imported. Where another one differs, nothing is forked."""
ON_SLURM = "SLURM_CONF"
"""Nothing is forked where this differs, and nobody wonders."""
AT_IMPORT = {"OPENBLAS_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "TQDM_DISABLE": "1"}
"""Threads do not survive a fork; DeepSpeed settles on an accelerator when it is imported; bars are for terminals."""
PR_SET_CHILD_SUBREAPER = 36
MOST_BYTES = 1 << 17
"""Of a request; more than arguments and environment ever take."""


class Warm:
    """The asking end of a process that forks."""

    def __init__(self, calls: socket.socket, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        self._calls = calls
        self._before = dict(before)
        self._after = dict(after)
        self._lock = threading.Lock()

    def early(self, environment: Mapping[str, str]) -> list[str]:
        """Variables for which what was imported there might be different under this environment."""
        return sorted(name for name in self.differing(environment) if not name.startswith(READ_LATE))

    def differing(self, environment: Mapping[str, str]) -> set[str]:
        """Names of variables that have another value there than before and after all was imported."""
        before, after, asked = self._before.items(), self._after.items(), environment.items()
        return {name for name, _ in before - asked | asked - before - after}

    def start(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        """Fork a child of this process; its id."""
        with self._lock, _adopting():
            socket.send_fds(self._calls, [json.dumps(request).encode()], streams)
            return int(self._calls.recv(MOST_BYTES))


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Inside, a grandchild whose parent ends becomes a child of this process."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


STARTING = inspect.signature(subprocess.Popen._execute_child)
"""Of the method below, which has no public one."""


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """subprocess.Popen, which forks where it can."""

    warm: Warm | None = None
    """Who forks for this process."""

    def _execute_child(self, *arguments: Any) -> None:
        told = STARTING.bind(self, *arguments).arguments
        warm = self.warm or warmed()
        environment = told["env"] if told["env"] is not None else os.environ
        words = _words_of_module(told["args"])
        plain = not told["shell"] and told["preexec_fn"] is None and not told["pass_fds"] and told["executable"] is None
        early = warm.early(environment) if warm is not None and words is not None else []
        if early and self.warm is None and ON_SLURM not in early:
            warnings.warn(f"an interpreter is started, because of {', '.join(early)}", stacklevel=3)
        if warm is None or words is None or early or not plain:
            super()._execute_child(*arguments)
            return
        pipes = [told[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        umask = os.umask(0o077)
        os.umask(umask)
        request = {
            "words": words,
            "environment": dict(environment),
            "cwd": os.fspath(told["cwd"] or Path.cwd()),
            "session": told["start_new_session"],
            "umask": umask,
        }
        streams = [pipe if pipe != -1 else own for own, pipe in enumerate(pipes[place] for place in (0, 3, 5))]
        self.pid = warm.start(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)


def _words_of_module(arguments: object) -> list[str] | None:
    """MODULE ARGUMENT… of `python -m launcher.…`; None of another command."""
    if not isinstance(arguments, (list, tuple)):
        return None
    words = [os.fspath(word) for word in arguments if word != "-u"]
    asked = words[:2] == [sys.executable, "-m"] and words[2].startswith(f"{PACKAGE}.")
    return words[2:] if asked else None


# Ranks of several trainings share the processors here, and a thread that waits in a loop takes them from the others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
AT_START = dict(os.environ)
"""Before any test changed it."""


def forks_here() -> bool:
    """Whether it is wanted, and can be done."""
    # Where there are GPUs, a process that has looked for them cannot hand them on.
    return AT_START.get(VARIABLE) != "0" and sys.platform == "linux" and not Path("/dev/nvidiactl").exists()


@cache
def warmed() -> Warm | None:
    """Who forks for pytest's process; None where interpreters are to be started."""
    if not forks_here():
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with tempfile.TemporaryFile() as errors:
        subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.warm", str(theirs.fileno())],
            cwd=Path(__file__).resolve().parents[1],
            env={**AT_START, **AT_IMPORT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        after = ours.recv(MOST_BYTES)
        if not after:
            errors.seek(0)
            raise RuntimeError(f"{VARIABLE}=0 does without; {errors.read().decode()}")
    return Warm(ours, AT_START, json.loads(after))


def main(descriptor: str) -> None:
    """Import everything, then fork for whoever asks."""
    calls = socket.socket(fileno=int(descriptor))
    calls.set_inheritable(False)
    before = {name: value for name, value in os.environ.items() if name not in AT_IMPORT}
    for module in MODULES:
        importlib.import_module(module)
    _probe()
    _forget_package()
    own = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    assert sys.path[: len(own)] == own, sys.path
    threads = list(Path("/proc/self/task").iterdir())
    assert len(threads) == 1, "threads do not survive a fork"
    gc.collect()
    gc.freeze()
    calls.send(json.dumps(dict(os.environ)).encode())
    _serve(
        calls,
        _Origin(
            before=before, after=dict(os.environ), path=sys.path[len(own) :], interrupt=signal.getsignal(signal.SIGINT)
        ),
    )


def _probe() -> None:
    """Have DeepSpeed find out with a compiler what it can build here, which each rank does anew."""
    before = set(os.listdir("/proc/self/fd"))
    assert isinstance(importlib.import_module("deepspeed.ops").__compatible_ops__, dict)
    for descriptor in set(os.listdir("/proc/self/fd")) - before:
        # It leaves a copy of standard error open; the one that was read from is gone already.
        with contextlib.suppress(OSError):
            os.close(int(descriptor))


def _forget_package() -> None:
    """Have the project's modules imported again, without compiling again what is the same there."""
    compiled: dict[bytes, CodeType] = {}
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        spec = sys.modules.pop(name).__spec__
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            code = spec.loader.get_code(name)
            assert code is not None
            compiled[spec.loader.get_data(spec.loader.path)] = code
    compile_anew = importlib.machinery.SourceFileLoader.source_to_code

    def code_of(loader: Any, data: Any, path: Any, **options: Any) -> CodeType:
        known = compiled.get(bytes(data)) if isinstance(data, (bytes, memoryview)) else None
        return compile_anew(loader, data, path, **options) if known is None else _moved(known, os.fsdecode(path))

    importlib.machinery.SourceFileLoader.source_to_code = code_of  # type: ignore[method-assign]


def _moved(code: CodeType, path: str) -> CodeType:
    """The same code, read from elsewhere."""
    constants = tuple(_moved(part, path) if isinstance(part, CodeType) else part for part in code.co_consts)
    return code.replace(co_filename=path, co_consts=constants)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Origin:
    """What every process begins with."""

    before: Mapping[str, str]
    """Variables before everything was imported."""
    after: Mapping[str, str]
    """The same, and what importing set: pytest's process, that imports much, hands it on."""
    path: Sequence[str]
    """Where modules are found, after the working directory and PYTHONPATH."""
    interrupt: Any
    """What SIGINT does."""


def _serve(calls: socket.socket, origin: _Origin) -> NoReturn:
    """Fork a process for every request, until whoever asks is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        message, streams, *_ = socket.recv_fds(calls, MOST_BYTES, 3)
        if not message:
            os._exit(0)
        (reading, writing), (waiting, going) = os.pipe(), os.pipe()
        # The one between ends at once, so that the process gets for a parent the one that asked.
        between = os.fork()
        if not between:
            child = os.fork()
            if child:
                os.write(writing, str(child).encode())
                os._exit(0)
            calls.close()
            os.close(going)
            os.read(waiting, 1)
            for end in (reading, writing, waiting):
                os.close(end)
            _become(json.loads(message), streams, origin)
        for descriptor in (*streams, writing, waiting):
            os.close(descriptor)
        os.waitpid(between, 0)
        calls.send(os.read(reading, 32))
        os.close(reading)
        # Nobody holds the other end any more, and the process goes on.
        os.close(going)


def _become(request: dict[str, Any], streams: Sequence[int], origin: _Origin) -> NoReturn:
    """Be what was asked for; this process has done nothing yet but import."""
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        if request["session"]:
            os.setsid()
        os.chdir(request["cwd"])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not os.fork():
            ours.close()
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            _serve(theirs, origin)
        theirs.close()
        Popen.warm = Warm(ours, origin.before, origin.after)
        subprocess.Popen = Popen  # type: ignore[misc]
        code = _run(request, origin)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _run(request: dict[str, Any], origin: _Origin) -> int:
    """The module, as `python -m` runs it; the exit status."""
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, origin.interrupt)
    sys.argv = list(request["words"])
    sys.path[:] = [request["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *origin.path]
    sys.path_importer_cache.clear()
    tempfile.tempdir = None
    numpy.random.seed()
    code = 0
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = _status(end.code)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _status(code: object) -> int:
    """What sys.exit(code) ends a process with."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    main(sys.argv[1])
