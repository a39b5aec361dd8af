"""DVC, the peer of push and pull: a repository without Git whose remote is the benchmark's S3, by the commands that a user types.

It is installed into ``build/dvc`` on first use and is no dependency of the project. Nothing is set but where the remote is, and
that it neither reports its use nor looks for a newer version of itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from cluster.objects import Objects

REQUIREMENT = "dvc[s3]==3.67.*"
_HOME = Path(__file__).resolve().parents[1] / "build" / "dvc"
_PROGRAM = _HOME / "bin" / "dvc"
_DATA = "data"


class Repository:
    """A folder under DVC; ``data`` in it is what is pushed and pulled."""

    def __init__(self, root: Path, objects: Objects, name: str) -> None:
        install()
        self._root, self.data = root, root / _DATA
        root.mkdir(parents=True)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DVC_"))},
            "HOME": str(root.parent),
            "AWS_ACCESS_KEY_ID": objects.settings.s3_access_key.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": objects.settings.s3_secret_key.get_secret_value(),
            "AWS_DEFAULT_REGION": objects.settings.s3_region,
        }
        self._dvc("init", "--no-scm")
        for option in ("core.analytics=false", "core.check_update=false", f"core.site_cache_dir={root / 'site'}"):
            self._dvc("config", *option.split("=", 1))
        self._dvc("remote", "add", "--default", "storage", f"s3://{objects.bucket}/dvc-{name}")
        self._dvc("remote", "modify", "storage", "endpointurl", objects.settings.s3_endpoint)

    def push(self) -> None:
        """Version what is in ``data``, and send what the remote lacks."""
        self._dvc("add", _DATA)
        self._dvc("push")

    def pull(self, of: Repository) -> None:
        """The data of another repository of the same remote, with nothing of it here."""
        shutil.copy(of._root / f"{_DATA}.dvc", self._root)
        self._dvc("pull")

    def _dvc(self, *arguments: str) -> None:
        run([_PROGRAM, *arguments, "--quiet"], self._environment, self._root)


def install() -> None:
    """DVC in a virtual environment of its own, once."""
    if not _PROGRAM.exists():
        venv.create(_HOME, with_pip=True, clear=True)
        run([_HOME / "bin" / "pip", "install", "--quiet", REQUIREMENT], dict(os.environ))


def run(command: list[str | Path], environment: dict[str, str], cwd: Path | None = None) -> None:
    """Raises: SystemExit with what the command said when it fails."""
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed: {done.stderr or done.stdout}")
