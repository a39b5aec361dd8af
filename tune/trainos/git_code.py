"""A job's code from a git repository: the files of one commit, fetched without any credential, as a package like any other."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from cluster.settings import inherited_environment
from tune.trainos.code_package import MAX_UNPACKED_BYTES, BadPackage

_FETCH_S = 300.0


def fetch_commit(git: str, commit: str, package: Path) -> None:
    """Write the commit's files to ``package``, a zip file; submodules and files of Git LFS stay pointers.

    Raises: BadPackage, in git's words, where it cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="aidos-git-") as folder:
        for arguments in (
            ("init", "--quiet", "--bare"),
            ("fetch", "--quiet", "--depth=1", "--no-tags", "--", git, commit),
            ("archive", "--format=zip", f"--output={package}", commit),
        ):
            try:
                done = _run(folder, *arguments)
            except subprocess.TimeoutExpired:
                raise BadPackage(f"commit {commit} of {git} took longer than {_FETCH_S:g} s to fetch") from None
            if done.returncode:
                words = " ".join(done.stderr.split()) or f"git {arguments[0]} ended with {done.returncode}"
                raise BadPackage(f"commit {commit} of {git} cannot be fetched: {words}")


def _run(folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = inherited_environment() | {
        "HOME": folder,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:git",
    }
    # In blocks of 512 bytes (POSIX ulimit): a repository may not fill the platform's disk.
    limited = ("sh", "-c", f'ulimit -f {MAX_UNPACKED_BYTES // 512}; exec git "$@"', "git", *arguments)
    return subprocess.run(limited, cwd=folder, env=environment, capture_output=True, text=True, timeout=_FETCH_S, check=False)
