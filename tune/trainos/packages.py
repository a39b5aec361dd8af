"""The packages that a job asks for, installed over the platform's in an environment that is made once a node.

Not Ray's ``pip`` and ``uv``: those copy the whole virtual environment of the platform (3 GB) for each list of packages, and the resolver's
words end in the log of an agent. What Ray and the client need keeps its version, since a Ray worker has loaded it before.

A job's driver comes here by ``python -I -m tune.trainos.packages REQUIREMENTS -- COMMAND…``, its workers by ``packaged_worker.setup``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from aidos.config import cache_directory
from tune.trainos.job_environment import build_packaged_environment

NOT_FOUND, NOT_INSTALLED = 127, 121
_FIXED = ("ray", "aidos")
_DONE = "installed"
# What such a line names lies outside of the file, and the environment is known by the file's content alone.
_ELSEWHERE = re.compile(r"(-r|-c|-e|--requirement|--constraint|--editable|\.{0,2}/|file:)", re.IGNORECASE)


class NotInstallable(Exception):
    """The requirements cannot be installed; the text says why, in the resolver's words."""


def main(arguments: Sequence[str]) -> int:
    """Install, then become the command; returns only where that failed."""
    requirements, _, *command = arguments
    try:
        folder = install(Path(requirements))
        os.execvpe(command[0], command, build_packaged_environment(folder, requirements))
    except NotInstallable as error:
        sys.stderr.write(f"aidos: {error}\n")
        return NOT_INSTALLED
    except OSError as error:
        sys.stderr.write(f"aidos: {command[0]!r} cannot be run: {error.strerror}\n")
        return NOT_FOUND


def install(requirements: Path) -> Path:
    """The environment with these packages; the resolver's output goes to standard error. Raises: NotInstallable."""
    try:
        content = requirements.read_text()
    except (OSError, UnicodeError) as error:
        raise NotInstallable(f"{requirements} cannot be read: {error}") from error
    for line in content.splitlines():
        if _ELSEWHERE.match(line.strip()):
            raise NotInstallable(f"{requirements} has {line.strip()!r}: only packages can be named, by name and version")
    root = cache_directory() / "packages"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = hashlib.sha256("\n".join([content, sys.version, sys.prefix, *_constraints()]).encode()).hexdigest()[:16]
    with filelock.FileLock(root / f"{key}.lock"):
        if not (root / key / _DONE).exists():
            _build(root / key, requirements)
    return root / key


def _build(folder: Path, requirements: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    own, platform = _site_packages(folder), sysconfig.get_path("purelib")
    (own / "platform.pth").write_text(f"import site; site.addsitedir({platform!r})\n")
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(_constraints()))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-input", "--progress-bar", "off"]
    options = ["--disable-pip-version-check", "--requirement", str(requirements), "--constraint", str(constraints)]
    said: list[str] = []
    with subprocess.Popen([*pip, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            sys.stderr.write(line)
            said.append(line.strip())
    if process.returncode:
        first = next((number for number, line in enumerate(said) if line.startswith("ERROR:")), -1)
        raise NotInstallable(f"{requirements} cannot be installed: {' '.join(filter(None, said[first:]))}")
    (folder / _DONE).touch()


def _constraints() -> list[str]:
    """What may not change: Ray, the client, and what they need."""
    names = {
        re.split(r"[\s<>=!~;\[]", need)[0]
        for fixed in _FIXED
        for need in importlib.metadata.requires(fixed) or ()
        if "extra ==" not in need
    }
    return sorted(_versions({"ray", *names}))


def _versions(names: set[str]) -> Iterator[str]:
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name}=={importlib.metadata.version(name)}"


def _site_packages(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))


def use(folder: Path) -> None:
    """Put the environment's packages on this process's path: before the platform's, behind the job's code."""
    sys.path.insert(sys.path.index(sysconfig.get_path("purelib")), str(_site_packages(folder)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
