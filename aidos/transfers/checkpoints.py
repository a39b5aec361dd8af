"""Checkpoints of a job, from inside it: ``aidos.save_checkpoint(folder, step=…)`` and ``aidos.load_checkpoint(folder)``.

Files go by presigned URL straight to the object store; a checkpoint is listed only when all of them are there, so a killed save
leaves nothing that could be loaded. Outside of a job both do nothing, and the same script runs on a laptop.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from aidos.client import Client
from aidos.config import job as read_job
from aidos.errors import InvalidRequest, NotFound
from aidos.http.conversation import StorageRefused
from aidos.schemas.trainos import CheckpointFileBody, JobCheckpointRead
from aidos.transfers.artifacts import DownloadDamaged, write_files
from aidos.transfers.local_files import sha256_of

log = logging.getLogger("aidos.checkpoints")


def save_checkpoint(folder: str | Path, *, step: int, metrics: Mapping[str, float] | None = None) -> JobCheckpointRead | None:
    """Save the files in ``folder`` as this job's checkpoint of ``step``; call it in one worker only.

    Saving a step again with the same content changes nothing. Returns None outside of a job.
    Raises: InvalidRequest where there is no file, CheckpointExists where the step was saved with other content.
    """
    job = read_job()
    if job.id is None:
        return None
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    if not paths:
        raise InvalidRequest(reason=f"There is no file in {root}: write the checkpoint's files there, then save it.")
    files = [
        CheckpointFileBody(path=path.relative_to(root).as_posix(), sha256=sha256_of(path), size_bytes=path.stat().st_size) for path in paths
    ]
    with Client() as client:
        urls = client.checkpoints.upload(job.id, files=files).upload_urls
        for path, url in zip(paths, urls, strict=True):
            if url is not None:
                client.put_presigned(url, path.read_bytes())
        return client.checkpoints.create(job.id, step=step, files=files, metrics=dict(metrics or {}))


def load_checkpoint(folder: str | Path) -> int | None:
    """Fetch this job's latest undamaged checkpoint into ``folder``; its step, or None where there is nothing to go on from."""
    job = read_job()
    if job.id is None:
        return None
    with Client() as client:
        for listed in client.checkpoints.list(job.id):
            try:
                _fetch(client, job.id, listed.step, Path(folder))
                return listed.step
            except (DownloadDamaged, InvalidRequest, NotFound, StorageRefused) as error:
                if isinstance(error, StorageRefused) and error.fields["status"] != 404:
                    raise
                log.warning("checkpoint of step %s is passed over: %s", listed.step, error)
    return None


def _fetch(client: Client, job_id: str, step: int, folder: Path) -> None:
    write_files(client, client.checkpoints.get(job_id, str(step)).files, folder)
