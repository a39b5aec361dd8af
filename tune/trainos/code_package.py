"""A job's code package: a zip file that is checked before Ray unpacks it on a node."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path, PurePosixPath

MAX_FILES = 20_000
MAX_UNPACKED_BYTES = 500_000_000
# Ray puts the package first on the path of every worker, and the worker's first import is tune.trainos.worker.
_HIDING_NAMES = frozenset({"tune", "tune.py", "ray", "ray.py"})


class BadPackage(Exception):
    """The package is not one that may be unpacked; the text says why."""


def check_package(path: Path, sha256: str | None) -> None:
    """Raises: BadPackage unless it is what was announced, if anything was: a zip of plain files that stay inside their directory, not
    absurdly many or large."""
    if sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise BadPackage("the code package in the store is not the one that was announced: its SHA-256 differs")
    try:
        with zipfile.ZipFile(path) as package:
            members = package.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:  # a future version, a name that is no UTF-8
        raise BadPackage(f"the code package is not a zip file: {error}") from error
    if len(members) > MAX_FILES:
        raise BadPackage(f"the code package has {len(members)} files; {MAX_FILES} is the limit")
    if (size := sum(member.file_size for member in members)) > MAX_UNPACKED_BYTES:
        raise BadPackage(f"the code package unpacks to {size} bytes; {MAX_UNPACKED_BYTES} is the limit")
    for member in members:
        _check_member(member)


def _check_member(member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in member.filename or not name.parts:
        raise BadPackage(f"the code package has a file outside of its directory: {member.filename!r}")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadPackage(f"the code package has something that is not a plain file: {member.filename!r}")
    if name.parts[0] in _HIDING_NAMES:
        raise BadPackage(f"{name.parts[0]!r} at the top of the code hides the platform's package of that name: rename it")
