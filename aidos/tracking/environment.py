"""What a run was made with: code, command, Python, packages and machine, as tags ``aidos.*`` and as files. Secrets stay out.

The tags are few and taken at once. ``environment.json`` has every installed package, ``diff.patch`` what differs from the commit in
files that git knows; of files that it does not know only the names are kept, and of the process's environment nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from aidos.config import job
from aidos.errors import AidosError, Conflict
from aidos.tracking import gpus
from aidos.tracking.recorder import Recorder, tell
from aidos.tracking.redaction import redact, redact_command

MOST_DIFF_BYTES = 2**20
_GIT_TIMEOUT_S = 5
_MOST_CHARACTERS = 6000
_MOST_WORD = 500
_MOST_UNTRACKED = 100
_RAY_WORKER = "ray/_private/workers/default_worker.py"
_PRIVATE = (".env*", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*credential*", "*secret*", "*password*", ".netrc", ".npmrc", ".pypirc",
            "*.tfvars", "*kubeconfig*")  # fmt: skip


def describe() -> dict[str, str]:
    """Tags ``aidos.*``; those that cannot be told are left out."""
    found = {
        "aidos.python": platform.python_version(),
        "aidos.platform": platform.platform(),
        "aidos.host": socket.gethostname(),
        "aidos.program": Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "",
        "aidos.command": " ".join(_command()),
        "aidos.packages": _loaded(),
        "aidos.job_id": job().id or "",
    }
    found |= dict(zip(("aidos.git_commit", "aidos.git_branch"), _git("rev-parse", "HEAD", "--abbrev-ref", "HEAD").split(), strict=False))
    return {key: value[:_MOST_CHARACTERS] for key, value in found.items() if value}


def keep(recorder: Recorder, diff: bool) -> None:
    """Store ``environment.json`` and ``diff.patch`` as artifacts of the run, and what they come to as tags.

    A run that goes on elsewhere, or with other code, has those of later times in ``resumed/<time>/``. A training does not fail for it.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            files, tags = write(Path(folder), diff=diff)
            if tags:
                recorder.set_tags(tags)
            try:
                recorder.store(files)
            except Conflict:
                later = datetime.now(UTC).strftime("resumed/%Y%m%dT%H%M%SZ")
                recorder.store({f"{later}/{name}": file for name, file in files.items()})
    except (AidosError, OSError) as error:
        tell(f"What the run is made with is not kept: {error}")


def write(folder: Path, *, diff: bool = True) -> tuple[dict[str, Path], dict[str, str]]:
    """``environment.json`` and, where there is a difference, ``diff.patch`` in ``folder``, by name; and the tags that tell about them.

    Both are the same bytes as long as what they tell of is the same.
    """
    tags, git = describe(), _changes()
    names = gpus.names()
    patch, truncated = _diff() if diff else (b"", False)
    if patch or truncated:
        git["diff"] = {"sha256": hashlib.sha256(patch).hexdigest(), "truncated": truncated}
    if patch:
        (folder / "diff.patch").write_bytes(patch)
    (folder / "environment.json").write_text(json.dumps(_document(tags, git, names), indent=1, sort_keys=True) + "\n")
    told: dict[str, str] = {"gpus": ", ".join(names), "diff_sha256": git.get("diff", {}).get("sha256", "")}
    told |= {f"git_{key}": git.get(key, "") for key in ("remote", "dirty")}
    return {file.name: file for file in sorted(folder.iterdir())}, {f"aidos.{key}": value for key, value in told.items() if value}


def _document(tags: Mapping[str, str], changes: Mapping[str, Any], gpu_names: list[str]) -> dict[str, Any]:
    git = {name: tags[f"aidos.git_{name}"] for name in ("commit", "branch") if f"aidos.git_{name}" in tags}
    return {
        "command": _command(),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "packages": _installed(),
        "machine": {"host": socket.gethostname(), "platform": platform.platform(), "cpus": os.cpu_count(), "gpus": gpu_names},
        "git": {**git, **changes} if git else {},
        "job_id": job().id,
    }


def _changes() -> dict[str, Any]:
    """What git says beside commit and branch; of files that it does not know the first names."""
    if not _git("rev-parse", "--git-dir"):
        return {}
    untracked = _git("ls-files", "--others", "--exclude-standard", "--full-name").splitlines()
    return {
        "remote": redact(_git("config", "--get", "remote.origin.url")),
        "directory": _git("rev-parse", "--show-prefix"),
        "dirty": "yes" if _git("status", "--porcelain", "--untracked-files=no") else "no",
        "untracked": untracked[:_MOST_UNTRACKED],
        "untracked_count": len(untracked),
    }


def _command() -> list[str]:
    """As it was started, but for the interpreter's own path. Nothing in a Ray worker: that was started by Ray, each time in other words."""
    words = [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]] if sys.orig_argv else sys.argv
    if any(word.endswith(_RAY_WORKER) for word in words):
        return []
    return [word[:_MOST_WORD] for word in redact_command(words)]


@functools.cache
def _installed() -> dict[str, str]:
    """Version by package: read once, for it takes a while."""
    return {found.name: found.version for found in metadata.distributions() if found.name}


def _loaded() -> str:
    """``numpy==2.3.1 torch==2.13.0 …`` of what is loaded: importing nothing, asking no installer."""
    # By vars(): a module's own __getattr__ may warn, or import something.
    versions = {name: vars(module).get("__version__") for name, module in list(sys.modules.items()) if "." not in name and module}
    standard = sys.stdlib_module_names
    return " ".join(f"{name}=={version}" for name, version in sorted(versions.items()) if isinstance(version, str) and name not in standard)


def _diff() -> tuple[bytes, bool]:
    """What differs from the commit, secrets hidden, and whether it was cut: behind the last whole file within the bound."""
    private = [f":(top,exclude,icase,glob)**/{pattern}" for pattern in _PRIVATE]
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
    found = _read_git("diff", "HEAD", *plain, "--", ":/", *private)
    truncated = len(found) > MOST_DIFF_BYTES
    if truncated:
        found = found[: max(found.rfind(b"\ndiff --git ", 0, MOST_DIFF_BYTES) + 1, 0)]
    return redact(found.decode(errors="surrogateescape")).encode(errors="surrogateescape"), truncated


def _git(*words: str) -> str:
    return _read_git(*words).decode(errors="replace").strip()


def _read_git(*words: str) -> bytes:
    """What git says, up to one byte more than the bound; nothing where it fails, is not there, or takes too long."""
    git = shutil.which("git")
    if git is None:
        return b""
    quiet = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
    try:
        process = subprocess.Popen([git, *quiet, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return b""
    limit = threading.Timer(_GIT_TIMEOUT_S, process.kill)
    limit.start()
    with process:
        assert process.stdout is not None
        said = process.stdout.read(MOST_DIFF_BYTES + 1)
        whole = len(said) <= MOST_DIFF_BYTES
        if not whole:
            process.kill()
    limit.cancel()
    return said if process.returncode == 0 or not whole else b""
