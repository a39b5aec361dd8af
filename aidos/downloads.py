"""Files behind presigned URLs, written to a directory and checked by their SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from aidos.client import Client
from aidos.errors import AidosError, InvalidRequest
from aidos.schemas.modelhub import FileDownload


class DownloadDamaged(AidosError):
    status = 502
    title = "Download is damaged"
    detail = "'{path}' has SHA-256 {actual}, and {expected} is recorded. Nothing was written for it; try again."


def write_files(client: Client, files: Iterable[FileDownload], folder: Path, on_file: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Download each to its path under ``folder``. A file is there whole or not at all. Raises: DownloadDamaged."""
    written = []
    for file in files:
        relative = PurePosixPath(file.path)
        if relative.is_absolute() or ".." in relative.parts:
            raise InvalidRequest(reason=f"'{file.path}' leads out of {folder}.")
        data = client.get_presigned(file.url).content
        actual = hashlib.sha256(data).hexdigest()
        if actual != file.sha256:
            raise DownloadDamaged(path=file.path, actual=actual, expected=file.sha256)
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(data)
        part.replace(target)
        written.append(target)
        on_file(file.path)
    return written
