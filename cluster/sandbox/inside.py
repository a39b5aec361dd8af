"""What a sandbox does before its command: ``python -I -m cluster.sandbox.inside FD``, begun by ``outside`` with the plan on its input.

Two processes: the first leaves its namespaces and waits, the second is process 1 of the new ones, reaps what is left to it, and takes
all others along when it ends. ``FD`` is a socket to ``outside``: it is told what failed, and gets the proxy's socket and the folder of exchange.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

from cluster.sandbox import kernel
from cluster.sandbox.root import EXCHANGE, build_root
from cluster.sandbox.seccomp import deny_system_calls

NOT_FOUND, NOT_EXECUTABLE, NOT_MADE = 127, 126, 120
PROXY = ("127.0.0.1", 3128)
UNSHARED, LISTENING, READY, FAILED = b"U", b"L", b"R", b"F"
USER = 1000
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # netdevice(7): SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_WORST = "1000"


def main(arguments: list[str]) -> int:
    """Leave, wait for the plan, and live as long as process 1 of the new namespaces; its exit code."""
    with socket.socket(fileno=int(arguments[0])) as outside:
        with _telling(outside, "the kernel gives this user no namespaces of its own"):
            kernel.die_with_parent()
            kernel.unshare(kernel.ALL_NAMESPACES)
            outside.send(UNSHARED)
        plan = json.loads(sys.stdin.buffer.read())
        with _telling(outside, "the sandbox gets no loopback"):
            with _listen() as listener:
                socket.send_fds(outside, [LISTENING], [listener.fileno()])
        first = os.fork()
        if not first:
            os._exit(_live(outside, plan))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: os.kill(first, received))
    return _code(os.waitpid(first, 0)[1])


@contextlib.contextmanager
def _telling(outside: socket.socket, what: str) -> Iterator[None]:
    """Whatever the kernel refuses ends this process, and is told in words."""
    try:
        yield
    except OSError as error:
        outside.send(FAILED + f"{what} ({error.strerror or error})".encode())
        os._exit(NOT_MADE)


def _listen() -> socket.socket:
    """On the sandbox's own loopback, the only network that it has."""
    with socket.socket() as any_socket:
        name = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("16sH", fcntl.ioctl(any_socket, _GET_FLAGS, name))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))
    return socket.create_server(PROXY)


def _live(outside: socket.socket, plan: dict[str, Any]) -> int:
    """Process 1: make the root, give everything up, run the command to its end."""
    with _telling(outside, "the kernel does not let this user mount the sandbox's folders"):
        package = os.open(plan["package"], os.O_RDONLY) if plan["package"] else None
        socket.sethostname("sandbox")
        build_root(plan["place"], plan["shown"], plan["memory_bytes"], USER)
        kernel.enter_root(plan["place"])
    with _telling(outside, "the kernel does not let the sandbox give up its rights"):
        os.setsid()
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(_WORST)
        kernel.limit(plan["memory_bytes"], plan["processes"], plan["open_files"])
        kernel.drop_privileges(USER, leave_groups=plan["leave_groups"])
        deny_system_calls()
        os.chdir("/job")
    _hand_over(outside)
    try:
        if package is not None:
            _unpack(package)
        command = subprocess.Popen(plan["command"], env=plan["environment"], stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return _fail(NOT_FOUND, f"there is no command {plan['command'][0]!r} in the package or on the path")
    except OSError as error:
        return _fail(NOT_EXECUTABLE, f"{plan['command'][0]!r} cannot be run: {error.strerror}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: os.kill(command.pid, received))
    return _reap(command.pid)


def _hand_over(outside: socket.socket) -> None:
    exchange = os.open(EXCHANGE, os.O_RDONLY | os.O_DIRECTORY)
    socket.send_fds(outside, [READY], [exchange])
    os.close(exchange)
    outside.close()


def _unpack(package: int) -> None:
    with os.fdopen(package, "rb") as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            path = archive.extract(member)
            if mode := member.external_attr >> 16 & 0o777:
                os.chmod(path, mode | 0o600)


def _reap(command: int) -> int:
    """Until the command ends; whoever else lost its parent is ours."""
    while True:
        process, status = os.wait()
        if process == command:
            return _code(status)


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _fail(code: int, text: str) -> int:
    sys.stderr.write(f"aidos: {text}\n")
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
