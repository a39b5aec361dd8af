"""Where a run's code stood: commit, changes, program, Python and the packages that it has loaded, as tags."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

_GIT_TIMEOUT_S = 5
_MOST_CHARACTERS = 6000


def describe() -> dict[str, str]:
    """Tags ``aidos.*``; those that cannot be told are left out."""
    found = {
        "aidos.python": platform.python_version(),
        "aidos.platform": platform.platform(),
        "aidos.program": Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "",
        "aidos.packages": _packages(),
        "aidos.git_commit": _git("rev-parse", "HEAD"),
        "aidos.git_branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
    }
    if found["aidos.git_commit"]:
        found["aidos.git_dirty"] = "yes" if _git("status", "--porcelain", "--untracked-files=no") else "no"
    return {key: value[:_MOST_CHARACTERS] for key, value in found.items() if value}


def _packages() -> str:
    """``numpy==2.3.1 torch==2.13.0 …`` of what is loaded: importing nothing, asking no installer."""
    # By vars(): a module's own __getattr__ may warn, or import something.
    versions = {name: vars(module).get("__version__") for name, module in list(sys.modules.items()) if "." not in name and module}
    standard = sys.stdlib_module_names
    return " ".join(f"{name}=={version}" for name, version in sorted(versions.items()) if isinstance(version, str) and name not in standard)


def _git(*words: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    try:
        done = subprocess.run([git, *words], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
