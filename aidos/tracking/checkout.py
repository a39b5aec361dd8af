"""The code of a run that was no job, put together again: its commit, and on it what differed.

Only what the run kept can come back. Files that git did not know, submodules and secrets are not kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aidos.errors import Conflict
from aidos.tracking.redaction import HIDDEN
from aidos.transfers.artifacts import write_files

if TYPE_CHECKING:
    from aidos.client import Client

DOCUMENT, PATCH = "environment.json", "diff.patch"
_KEPT = ("git_commit", "git_branch", "git_remote", "git_dirty", "diff_sha256")
_PYTHON = re.compile(r"python[0-9.]*")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
# An address comes from a run that anyone in the project has written: no helper program is started for it.
_PROTOCOLS = [word for name in ("https", "http", "ssh", "file") for word in ("-c", f"protocol.{name}.allow=always")]


class CodeNotKept(Conflict):
    title = "Run cannot be reproduced"
    detail = "Run '{run_id}' cannot be reproduced: {reason} {remedy}"


def check_out(client: Client, run_id: str, repository: Path, folder: Path) -> list[str]:
    """Write the run's code into ``folder / "code"``; the command that it ran there.

    The commit is taken from ``repository`` where that has it, else from the remote that the run noted. Raises: CodeNotKept.
    """
    kept = folder / "kept"
    document = _download(client, run_id, kept)
    git = document.get("git") or {}
    command = _read_command(run_id, document.get("command") or [], git.get("directory", ""))
    patch = _check_patch(run_id, git, kept / PATCH)
    code = folder / "code"
    _clone(run_id, git, repository, code)
    if patch and (failed := _git("-C", str(code), "apply", "--whitespace=nowarn", str(patch))):
        raise _refuse(run_id, f"its changes do not apply to commit {git['commit']}: {failed}", "Commit them, and begin a new run.")
    return command


def code_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """What the original run's tags say of the code that ``check_out`` has put together again."""
    return {key: tags[key] for key in (f"aidos.{name}" for name in _KEPT) if key in tags}


def _refuse(run_id: str, reason: str, remedy: str) -> CodeNotKept:
    return CodeNotKept(run_id=run_id, reason=reason, remedy=remedy)


def _download(client: Client, run_id: str, folder: Path) -> dict[str, Any]:
    paths = {artifact.path for artifact in client.runs.artifacts(run_id)}
    if DOCUMENT not in paths:
        raise _refuse(run_id, f"it kept no {DOCUMENT}.", "Submit its script as a job: 'aidos job submit'.")
    if any(re.fullmatch(rf"resumed/[^/]+/{DOCUMENT}", path) for path in paths):
        raise _refuse(run_id, "it went on with other code than it began with.", "Begin a new run.")
    folder.mkdir()
    write_files(client, client.runs.downloads(run_id, paths=sorted(paths & {DOCUMENT, PATCH})).files, folder, lambda _: None)
    return dict(json.loads((folder / DOCUMENT).read_text()))


def _read_command(run_id: str, words: list[str], directory: str) -> list[str]:
    submit = "Submit the script as a job: 'aidos job submit'."
    if any(HIDDEN in word for word in words):
        raise _refuse(run_id, "its command had a secret, which is not kept.", submit)
    if len(words) < 2 or not _PYTHON.fullmatch(words[0]) or "ipykernel_launcher" in words:
        raise _refuse(run_id, f"it was not started as a script (its command: {' '.join(words) or 'not known'}).", submit)
    if any(os.path.isabs(word) for word in words[1:]):
        raise _refuse(run_id, f"its command names a file of the machine it ran on: {' '.join(words)}.", submit)
    command = ["python", *words[1:]]
    return ["env", "-C", directory, *command] if directory else command


def _check_patch(run_id: str, git: Mapping[str, Any], patch: Path) -> Path | None:
    """The changes, where there were some."""
    again = "Commit the changes, and begin a new run."
    if not _COMMIT.fullmatch(git.get("commit") or ""):
        raise _refuse(run_id, "its code was not in a git repository with a commit.", "Submit it as a job: 'aidos job submit'.")
    if git.get("diff", {}).get("truncated") or (git.get("dirty") == "yes" and not patch.is_file()):
        raise _refuse(run_id, "its code differed from the commit, and the changes were not kept whole.", again)
    if not patch.is_file():
        return None
    if HIDDEN.encode() in patch.read_bytes():
        raise _refuse(run_id, "its changes had a secret, which is not kept.", again)
    return patch


def _clone(run_id: str, git: Mapping[str, Any], repository: Path, code: Path) -> None:
    commit, remote = git["commit"], git.get("remote", "")
    here = not _git("-C", str(repository), "cat-file", "-e", f"{commit}^{{commit}}")
    found = _git("-C", str(repository), "rev-parse", "--show-toplevel", answers=True) if here else remote
    name = f"Name a clone of it that has commit {commit}: --repository DIR."
    if not found or HIDDEN in found:
        raise _refuse(run_id, "its repository cannot be reached from here.", name)
    failed = _git("clone", "--quiet", "--no-checkout", "--", found, str(code))
    failed = failed or _git("-C", str(code), "-c", "core.hooksPath=/dev/null", "checkout", "--quiet", "--detach", commit)
    if failed:
        raise _refuse(run_id, f"commit {commit} cannot be had from {found}: {failed}", name)


def _git(*words: str, answers: bool = False) -> str:
    """What went wrong, nothing where nothing did; with ``answers`` what it says."""
    command = ["git", "-c", "protocol.allow=never", *_PROTOCOLS, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return "" if answers else str(error)
    if answers:
        return done.stdout.strip()
    return "" if done.returncode == 0 else done.stderr.strip() or f"git ended with {done.returncode}."
