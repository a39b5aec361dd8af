"""Files behind presigned URLs, written to a directory and checked by their SHA-256."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from aidos.client import Client
from aidos.errors import AidosError, InvalidRequest


class Stored(Protocol):
    """A file as the platform gives it out: where it goes, what it must be, and a presigned URL."""

    path: str
    sha256: str
    url: Any


class DownloadDamaged(AidosError):
    status = 502
    title = "Download is damaged"
    detail = "'{path}' has SHA-256 {actual}, and {expected} is recorded. Nothing was written for it; try again."


def write_files(client: Client, files: Iterable[Stored], folder: Path, on_file: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Download each to its path under ``folder``. A file is there whole or not at all. Raises: DownloadDamaged, InvalidRequest."""
    written = []
    for file in files:
        target = _target(folder, file.path)
        data = client.get_presigned(file.url).content
        actual = hashlib.sha256(data).hexdigest()
        if file.sha256 and actual != file.sha256:
            raise DownloadDamaged(path=file.path, actual=actual, expected=file.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.unlink(missing_ok=True)  # it could be a link, and would be written through
        part.write_bytes(data)
        part.replace(target)
        written.append(target)
        on_file(file.path)
    return written


def pull_model(client: Client, model: str, version: str, folder: Path, on_file: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Write a version's files under ``folder``; a warning tells of one that is deprecated. Raises: DownloadDamaged, InvalidRequest."""
    given = client.models.downloads(model, version)
    if given.warning:
        warnings.warn(given.warning, stacklevel=2)
    return write_files(client, given.files, folder, on_file)


def _target(folder: Path, path: str) -> Path:
    """Where a file goes: below ``folder``, and not through a symbolic link that leads out. Raises: InvalidRequest."""
    relative = PurePosixPath(path)
    target = folder / relative
    outside = relative.is_absolute() or ".." in relative.parts or not relative.parts or "\x00" in path
    if outside or not target.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidRequest(reason=f"'{path}' is not written: it would lead out of {folder}. Download into an empty directory.")
    return target
