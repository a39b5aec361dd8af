"""What a name means in a git repository now."""

from __future__ import annotations

import re
import subprocess

from aidos.errors import InvalidRequest

_LISTING_S = 60.0


def resolve_commit(git: str, name: str) -> str:
    """The commit of a branch, a tag or ``HEAD``; a commit's full id is itself. Raises: InvalidRequest."""
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name):
        return name
    try:
        listed = subprocess.run(["git", "ls-remote", "--", git], capture_output=True, text=True, timeout=_LISTING_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InvalidRequest(reason=f"git could not be asked what {name!r} means in {git}: {error}. Give --commit the full id.") from None
    if listed.returncode:
        raise InvalidRequest(reason=f"git could not read {git}: {' '.join(listed.stderr.split())}")
    commits = {ref: commit for commit, ref in (line.split("\t") for line in listed.stdout.splitlines())}
    # An annotated tag is an object of its own; what it names is listed as TAG^{} (git-ls-remote(1)).
    for ref in (name, f"refs/heads/{name}", f"refs/tags/{name}^{{}}", f"refs/tags/{name}"):
        if ref in commits:
            return commits[ref]
    raise InvalidRequest(reason=f"{git} has no branch or tag {name!r}; of a commit the full id is needed.")
