"""The kernel's calls that a sandbox is made of and Python 3.11 has not: unshare(2), mount(2), mount_setattr(2), pivot_root(2), capabilities(7)."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

NEW_MOUNTS, NEW_CGROUP, NEW_UTS, NEW_IPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
NEW_USER, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
ALL_NAMESPACES = NEW_MOUNTS | NEW_CGROUP | NEW_UTS | NEW_IPC | NEW_USER | NEW_PIDS | NEW_NET

READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXECUTION = 1, 2, 4, 8
"""The same bits in mount(2) and mount_setattr(2)."""
_BIND, _RECURSIVE, _PRIVATE, _DETACH = 4096, 16384, 1 << 18, 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_SET_PARENT_DEATH_SIGNAL, _DROP_FROM_BOUNDING_SET, _SET_NO_NEW_PRIVILEGES = 1, 24, 38
_CAPABILITIES_V3 = 0x20080522
_LAST_CAPABILITY = "/proc/sys/kernel/cap_last_cap"

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    ctypes.set_errno(0)
    if getattr(_libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave these namespaces; of processes, the children do. Raises: OSError."""
    _call("unshare", flags)


def mount(kind: str, target: str, flags: int, options: str) -> None:
    """A new filesystem of that kind. Raises: OSError."""
    _call("mount", kind.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())


def bind(source: str, target: str, attributes: int) -> None:
    """Show ``source``, with all that is mounted in it, at ``target`` and with these attributes. Raises: OSError; before Linux 5.12 always."""
    _call("mount", source.encode(), target.encode(), None, ctypes.c_ulong(_BIND | _RECURSIVE), None)
    set_attributes(target, attributes, _AT_RECURSIVE)


def set_attributes(target: str, attributes: int, flags: int = 0) -> None:
    """Add attributes to a mount. Raises: OSError."""
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    values = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, target.encode(), flags, ctypes.byref(values), ctypes.c_size_t(ctypes.sizeof(values)))


def keep_mounts_private() -> None:
    """Nothing that is mounted from here on shows elsewhere. Raises: OSError."""
    _call("mount", None, b"/", None, ctypes.c_ulong(_RECURSIVE | _PRIVATE), None)


def enter_root(place: str) -> None:
    """Make the mount ``place`` the root, and let go of the old one. Raises: OSError."""
    os.chdir(place)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def die_with_parent() -> None:
    """This process is killed when the one that began it ends."""
    _call("prctl", _SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def drop_privileges(user: int, *, leave_groups: bool) -> None:
    """Become ``user`` without a capability, now and after any exec. ``leave_groups``: who was not root cannot. Raises: OSError."""
    _call("prctl", _SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    with open(_LAST_CAPABILITY) as file:
        last = int(file.read())
    for number in range(last + 1):
        _call("prctl", _DROP_FROM_BOUNDING_SET, number, 0, 0, 0)
    if leave_groups:
        os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    _call("capset", ctypes.byref(header), ctypes.byref(none))
    # That was a change of user, which forgets it.
    die_with_parent()


def limit(memory_bytes: int, processes: int, open_files: int) -> None:
    """Bounds of each process; ``processes`` (and threads) of the sandbox's user together."""
    bounds = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_FSIZE: memory_bytes,
        resource.RLIMIT_NPROC: processes,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_MEMLOCK: 2**16,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for which, wanted in bounds.items():
        _, most = resource.getrlimit(which)
        value = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(which, (value, value))
