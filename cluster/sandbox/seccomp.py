"""Which system calls a sandbox may not make: those that reach kernel code which no training needs (seccomp(2), by libseccomp).

All others are allowed: what they reach is bounded by namespaces, the private root and missing capabilities.
"""

from __future__ import annotations

import ctypes
import errno
import os

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL, _GREATER, _MASKED_EQUAL = 4, 6, 7
_NEW_USER = 0x10000000
_FAKE_INPUT, _LINUX_CONSOLE = 0x5412, 0x541C  # ioctls TIOCSTI and TIOCLINUX
_LOCAL, _INTERNET, _INTERNET6, _NETLINK = 1, 2, 10, 16

_DENIED = (
    # other namespaces, roots and mounts
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "open_by_handle_at", "name_to_handle_at", "quotactl", "swapon", "swapoff"),
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise", "move_pages", "migrate_pages"),
    # keys, and memory or files that are counted nowhere
    *("add_key", "request_key", "keyctl", "memfd_create", "memfd_secret", "shmget", "shmat"),
    # the machine: its modules, clock, log and power
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "acct", "syslog"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm", "vhangup"),
    # large parts of the kernel where most ways out were found
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "fanotify_init", "lookup_dcookie"),
)


class _Compared(ctypes.Structure):
    """``struct scmp_arg_cmp``: an argument of the call against one or two numbers."""

    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64))


def deny_system_calls() -> None:
    """From here on, in this process and all that it begins. Raises: OSError where libseccomp or the kernel does not take it."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    filter = ctypes.c_void_p(library.seccomp_init(_ALLOW))

    def deny(name: str, *compared: tuple[int, int, int, int], answer: int = errno.EPERM) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:  # newer than this libseccomp
            return
        conditions = (_Compared * len(compared))(*(_Compared(*each) for each in compared))
        _check(library.seccomp_rule_add_array(filter, _ERRNO | answer, number, len(compared), conditions))

    for name in _DENIED:
        deny(name)
    deny("clone", (0, _MASKED_EQUAL, _NEW_USER, _NEW_USER))
    # Its flags lie in memory, where no filter sees them; the C library then calls clone.
    deny("clone3", answer=errno.ENOSYS)
    for request in (_FAKE_INPUT, _LINUX_CONSOLE):
        deny("ioctl", (1, _MASKED_EQUAL, 0xFFFFFFFF, request))
    # Sockets of other kinds are in no network namespace (AF_VSOCK reaches the host of a virtual machine), or of no use.
    for family in set(range(_NETLINK)) - {_LOCAL, _INTERNET, _INTERNET6}:
        deny("socket", (0, _EQUAL, family, 0), answer=errno.EAFNOSUPPORT)
    deny("socket", (0, _GREATER, _NETLINK, 0), answer=errno.EAFNOSUPPORT)
    # Protocol 0 tells which interfaces there are, which gloo asks; the others configure the firewall and its like.
    deny("socket", (0, _EQUAL, _NETLINK, 0), (2, _GREATER, 0, 0), answer=errno.EAFNOSUPPORT)
    _check(library.seccomp_load(filter))
    library.seccomp_release(filter)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"seccomp: {os.strerror(-result)}")
