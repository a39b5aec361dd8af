"""The root that a sandbox sees: the system and Python read-only, and one bounded filesystem in memory for all that it writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cluster.sandbox import kernel

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64")
_CONFIGURATION = ("alternatives", "ca-certificates", "ld.so.cache", "localtime", "mime.types", "pki", "ssl")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
EXCHANGE = "/run/exchange"
"""A folder that the outside reads and writes too, by its descriptor."""
_WRITABLE = ("job", "tmp", "dev/shm", EXCHANGE[1:])
_BYTES_AN_INODE = 2**14
_FILES = {
    "etc/passwd": "root:x:0:0::/:/bin/false\njob:x:{user}:{user}::/job:/bin/sh\n",
    "etc/group": "root:x:0:\njob:x:{user}:\n",
    "etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "etc/nsswitch.conf": "hosts: files\n",
}


def build_root(place: str, shown: Mapping[str, str], size_bytes: int, user: int) -> None:
    """Mount it at ``place``: ``shown`` are host paths and where they are seen, read-only. For a process of the new namespaces, whose
    ``/proc`` it gets. Raises: OSError."""
    os.umask(0o022)
    kernel.keep_mounts_private()
    bounds = f"mode=755,size={size_bytes},nr_inodes={size_bytes // _BYTES_AN_INODE}"
    kernel.mount("tmpfs", place, kernel.NO_SETUID | kernel.NO_DEVICES, bounds)
    root = Path(place)
    for name in _WRITABLE:
        folder = root / name
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
        kernel.bind(str(folder), str(folder), 0)
    for name in _SYSTEM:
        _show_system(root, Path("/", name))
    for name in _CONFIGURATION:
        _show(root, Path("/etc", name), Path("/etc", name))
    for source, target in sorted(shown.items()):
        _show(root, Path(source), Path(target))
    for name in _DEVICES:
        (root / "dev" / name).touch()
        kernel.bind(f"/dev/{name}", str(root / "dev" / name), kernel.NO_SETUID | kernel.NO_EXECUTION)
    for name, target in _LINKS.items():
        (root / "dev" / name).symlink_to(target)
    for name, text in _FILES.items():
        (root / name).write_text(text.format(user=user))
    (root / "proc").mkdir()
    kernel.mount("proc", str(root / "proc"), kernel.NO_SETUID | kernel.NO_DEVICES | kernel.NO_EXECUTION, "")
    kernel.set_attributes(place, kernel.READ_ONLY)


def _show_system(root: Path, path: Path) -> None:
    if path.is_symlink():
        (root / path.name).symlink_to(path.readlink())
    else:
        _show(root, path, path)


def _show(root: Path, source: Path, target: Path) -> None:
    """What is not there is left out, and what lies in a folder that is shown is."""
    there = root / target.relative_to("/")
    if not source.exists() or there.exists():
        return
    if source.is_dir():
        there.mkdir(parents=True)
    else:
        there.parent.mkdir(parents=True, exist_ok=True)
        there.touch()
    kernel.bind(str(source), str(there), kernel.READ_ONLY | kernel.NO_SETUID | kernel.NO_DEVICES)
