"""A warm interpreter that a trial's Python program is forked from: what the program imports first is imported already.

Run as a script: ``python fork_server.py CHANNEL SCRIPT``, where CHANNEL is the number of a socket's descriptor. It says once that it is
ready; each request then comes with the descriptor that the program is to print to, and is answered with how the program ended. The
forked child differs from a fresh ``python SCRIPT`` in its imports alone. Linux only.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

HEAD = struct.Struct("!I")
"""Before each message: its length."""
READY = b"+"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def import_ahead(script: str) -> None:
    """Carry out the imports that a script begins with, up to the first that is its own or fails, or anything else.

    What comes behind stays to the program: it may set what an import reads.
    """
    try:
        statements = ast.parse(Path(script).read_bytes()).body
    except (SyntaxError, ValueError):  # the program will say so itself
        return
    for statement in statements:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        if not isinstance(statement, ast.Import | ast.ImportFrom) or not all(map(_is_installed, _names(statement))):
            return
        try:
            exec(compile(ast.Module([statement], []), script, "exec", dont_inherit=True), {"__name__": "__main__"})  # noqa: S102 — an import
        except Exception:  # as above
            return


def _names(statement: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name.partition(".")[0] for alias in statement.names]
    return [(statement.module or "").partition(".")[0] if statement.level == 0 else ""]


def _is_installed(name: str) -> bool:
    """Whether a module belongs to Python or to what is installed, and not to the program."""
    if name == "aidos" or name in sys.builtin_module_names:
        return True
    found = find_spec(name) if name else None
    return bool(found and found.origin and (found.origin == "frozen" or found.origin.startswith((sys.prefix, sys.base_prefix))))


def hides_own(script: str) -> bool:
    """Whether a module beside the script has the name of one that is loaded here: a fresh interpreter would take the script's."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    beside = Path(script).parent.iterdir()
    return any(each.name.partition(".")[0] in loaded for each in beside if each.suffix in {".py", ".so"} or (each / "__init__.py").exists())


def serve(channel: socket.socket) -> list[str] | None:
    """Fork once a request. Returns in each child with its arguments, and None once the worker is gone."""
    server = os.getpid()
    gc.freeze()  # a child that ends looks through what is its own only
    while request := _receive(channel):
        asked, output = request
        child = os.fork()
        if child == 0:
            channel.close()
            _become(asked["environment"], output, server)
            return list(asked["arguments"])
        os.close(output)
        code = _await(child, channel)
        with suppress(BrokenPipeError):
            channel.sendall(HEAD.pack(code))
    return None


def _receive(channel: socket.socket) -> tuple[dict[str, Any], int] | None:
    head, descriptors, _, _ = socket.recv_fds(channel, HEAD.size, 1)
    if not head:
        return None
    (left,), parts = HEAD.unpack(head), []
    while left:
        parts.append(channel.recv(left))
        left -= len(parts[-1])
    return json.loads(b"".join(parts)), descriptors[0]


def _become(environment: dict[str, str], output: int, server: int) -> None:
    """Be a process of its own, that dies with the server."""
    os.setsid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        os._exit(128 + signal.SIGKILL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    if drawing := sys.modules.get("numpy.random"):
        drawing.seed()  # else all trials draw the same numbers; Python's own generator does this by itself


def _await(child: int, channel: socket.socket) -> int:
    """The child's exit code, 128 + N for signal N. Its group ends with it, and with the worker."""
    ended = os.pidfd_open(child)
    # Nothing is sent while a program runs: a channel that can be read has been closed.
    ready, _, _ = select.select([ended, channel.fileno()], [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    os.close(ended)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def run_script(arguments: list[str]) -> int:
    """Be ``python SCRIPT ARGUMENTS`` up to its exit code."""
    script = os.path.abspath(arguments[0])
    main = ModuleType("__main__")
    main.__dict__.update(__file__=script, __builtins__=builtins)
    sys.modules["__main__"], sys.argv[:], sys.path[0] = main, arguments, os.path.dirname(os.path.realpath(script))
    try:
        exec(compile(Path(script).read_bytes(), script, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 — it is what this process is for
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        sys.stderr.write(f"{leaving.code}\n")
        return 1
    except BaseException as error:
        own = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(own), own)
        return 1
    return 0


def leave(code: int) -> NoReturn:
    """End as an interpreter does, but let the kernel have what was imported: taking it down piece by piece takes 30 ms."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter's end does
    atexit._run_exitfuncs()
    folder = os.path.dirname(sys.modules["__main__"].__file__ or "") + os.sep
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(folder):
            module.__dict__.clear()
    gc.collect()  # files that the program left open are written
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    _channel, _script = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    del sys.path[0]  # this file's folder
    sys.path.insert(0, "")
    import_ahead(_script)
    with suppress(Exception):  # what the program reports with; what is wrong with that the program says itself
        importlib.import_module("aidos.tracking.trial").prepare()
    if threading.active_count() == 1 and not hides_own(_script):
        _channel.sendall(READY)
        if (_arguments := serve(_channel)) is not None:
            leave(run_script(_arguments))
