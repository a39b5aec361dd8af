"""What a process that reads a stranger's file can no longer do: reach other files, the network, more memory or more time.

Landlock (https://docs.kernel.org/userspace-api/landlock.html) and a network namespace, as far as the kernel has them, and resource
limits everywhere. It holds for this process and what it starts, and cannot be undone. Landlock binds the
thread that asks for it and those that it starts, so it is asked for while there is one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PR_SET_NO_NEW_PRIVS = 38
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000
_READ = 1 << 2 | 1 << 3
_WRITE = 1 << 1 | 1 << 5 | 1 << 8 | 1 << 14
_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def confine(readable: Path, writable: Path, memory_bytes: int, file_bytes: int) -> None:
    """Keep this process to reading under one folder and writing under another, to so much memory beyond what it has, and no network."""
    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _libc.unshare(_NEW_USER | _NEW_NETWORK)
    _restrict_files(readable, writable)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def landlock_version() -> int:
    """What of Landlock the kernel has; under 1 without it."""
    return int(_libc.syscall(_CREATE_RULESET, None, 0, 1))


def end_after(seconds: float) -> None:
    """Have the kernel end this process then, whatever it is at."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds * 4) + 1,) * 2)


@contextlib.contextmanager
def untimed() -> Iterator[None]:
    """While this process waits for bytes its time does not pass; what is left of it afterwards is as before."""
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.setitimer(signal.ITIMER_REAL, left_s)


def _restrict_files(readable: Path, writable: Path) -> None:
    if (version := landlock_version()) < 1:
        return
    known = (1 << (13 if version == 1 else 14 if version == 2 else 15 if version < 5 else 16)) - 1
    asked = _Ruleset(known, 3, 3)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _libc.syscall(_CREATE_RULESET, ctypes.byref(asked), size, 0)
    for path, allowed in ((readable, _READ), (writable, _READ | _WRITE)):
        opened = os.open(path, os.O_PATH)
        rule = _Beneath(allowed & known, opened)
        _libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
        os.close(opened)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
