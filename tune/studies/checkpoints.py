"""What a trial of a population leaves for the next: artifacts of its run, so that following another copies nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aidos.client import Client
from aidos.tracking.recorder import announce
from aidos.tracking.syncing import upload
from aidos.transfers.artifacts import write_files

_BATCH = 200


def checkpoint_prefix(attempt: int) -> str:
    """Where in a run an attempt's checkpoint is: one that was killed half way never meets the next."""
    return f"checkpoint/{attempt}/"


def fetch_checkpoint(client: Client, origin: tuple[str, str] | None, folder: Path) -> None:
    """Lay the files of ``(run, prefix)`` into the folder. Raises: DownloadDamaged."""
    if origin is None:
        return
    run, prefix = origin
    paths = [artifact.path for artifact in client.runs.artifacts(run, prefix=prefix)]
    with tempfile.TemporaryDirectory(prefix=".fetched-", dir=folder.parent) as fetched:
        for start in range(0, len(paths), _BATCH):
            write_files(client, client.runs.downloads(run, paths=paths[start : start + _BATCH]).files, Path(fetched))
        if paths:
            (Path(fetched) / prefix).rename(folder)


def keep_checkpoint(client: Client, config: Mapping[str, Any], folder: Path) -> None:
    """Keep the files that the trial left in the folder."""
    prefix = checkpoint_prefix(config["attempt"])
    files = {prefix + path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    names = list(files)
    for start in range(0, len(names), _BATCH):
        batch = {name: files[name] for name in names[start : start + _BATCH]}
        upload(client, config["run"], announce(batch), batch)
