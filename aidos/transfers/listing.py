"""The files of a commit, fetched once: a commit never changes, so its listing is kept on the client's disk."""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from aidos.config import cache_directory, job
from aidos.schemas.dataforge.versions import FileRead, check_path

if TYPE_CHECKING:
    from aidos.client import Client

_KEPT = 20
_ALL = 2**62
Row = tuple[str, str, int]
"""Path, SHA-256 and bytes of a file."""


def read_listing(client: Client, dataset: str, commit_id: UUID) -> dict[str, FileRead]:
    """Files by path, in the order of their paths. Raises: ValueError for a path that no commit can hold."""
    rows = _read(client, dataset, commit_id)
    return {check_path(path): FileRead.model_construct(path=path, sha256=sha256, size_bytes=size) for path, sha256, size in rows}


def read_hashes(client: Client, dataset: str, commit_id: UUID) -> dict[str, str]:
    """The SHA-256 of each file by path, to compare with what is here: its paths are unchecked."""
    return {path: sha256 for path, sha256, _ in _read(client, dataset, commit_id)}


def _read(client: Client, dataset: str, commit_id: UUID) -> list[Row]:
    known = _load(_path(commit_id))
    if known is None:
        # A limit makes the pages as large as the platform gives them.
        files = client.datasets.files(dataset, ref=str(commit_id), limit=_ALL)
        known = [(file.path, file.sha256, file.size_bytes) for file in files]
        keep_listing(commit_id, known)
    return known


def keep_listing(commit_id: UUID, files: Iterable[Row]) -> None:
    """Put a listing into the cache. A cache that cannot be written only costs time."""
    path = _path(commit_id)
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            text = "".join(f"{sha256} {size_bytes} {name}\n" for name, sha256, size_bytes in files)
            file.write(gzip.compress(text.encode(), compresslevel=1))
        os.replace(file.name, path)
        for old in sorted(path.parent.glob("*.gz"), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)


def _load(path: Path) -> list[Row] | None:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]
        return [(name, sha256, int(size)) for sha256, size, name in (line.split(" ", 2) for line in lines)]
    except (OSError, ValueError, EOFError):
        return None


def _path(commit_id: UUID) -> Path:
    return cache_directory() / "commits" / f"{commit_id}.gz"


def pinned_ref(name: str, ref: str) -> str:
    """The ref to read: in a job, the commit that it meant when the job was submitted."""
    datasets = job().datasets
    return datasets.get(f"{name}@{ref}") or (datasets.get(name) if ref == "main" else None) or ref


def folders_of(files: Mapping[str, FileRead]) -> dict[str, list[str]]:
    """Names directly in each folder ('' is the root); a folder's own name ends with a slash."""
    folders: dict[str, dict[str, None]] = {"": {}}
    for path in files:
        folder, _, name = path.rpartition("/")
        while name not in folders.setdefault(folder, {}):
            folders[folder][name] = None
            if not folder:
                break
            folder, _, parent = folder.rpartition("/")
            name = f"{parent}/"
    return {folder: list(names) for folder, names in folders.items()}
