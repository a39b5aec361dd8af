"""Checkpoints of a job, from inside it: ``aidos.save_checkpoint(folder, step=…)`` and ``aidos.load_checkpoint(folder)``.

Files go by presigned URL straight to the object store; a checkpoint is listed only when all of them are there, so a killed save
leaves nothing that could be loaded. Outside of a job both do nothing, and the same script runs on a laptop.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from aidos.client import Client
from aidos.config import job as read_job
from aidos.errors import InvalidRequest, NotFound
from aidos.http.conversation import StorageRefused
from aidos.schemas.checkpoints import CheckpointFileBody, CheckpointRetention, JobCheckpointRead
from aidos.transfers.artifacts import DownloadDamaged, write_files
from aidos.transfers.local_files import sha256_of

log = logging.getLogger("aidos.checkpoints")


def save_checkpoint(
    folder: str | Path, *, step: int, metrics: Mapping[str, float] | None = None, keep: CheckpointRetention | None = None
) -> JobCheckpointRead | None:
    """Save the files in ``folder`` as this job's checkpoint of ``step``; call it in one worker only.

    Saving a step again with the same content changes nothing. ``keep``: which of the job's checkpoints stay, once this one is whole.
    Returns None outside of a job.
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
        return client.checkpoints.create(job.id, step=step, files=files, metrics=dict(metrics or {}), keep=keep)


def load_checkpoint(folder: str | Path, step: int | None = None) -> int | None:
    """Fetch this job's latest undamaged checkpoint into ``folder``; its step, or None where there is nothing to go on from.

    A job that was resumed from another begins where that one was. ``step``: this one and no other, as ranks of one training need.
    Raises: for a step that was chosen, here or when the job was resumed, what is wrong with it.
    """
    job = read_job()
    if job.id is None:
        return None
    with Client() as client:
        if step is not None:
            own = step in (found.step for found in client.checkpoints.list(job.id))
            _fetch(client, job.id if own else job.resumed_job or job.id, step, Path(folder))
            return step
        if (found := _load_latest(client, job.id, Path(folder))) is not None or job.resumed_job is None:
            return found
        if job.resumed_step is None:
            return _load_latest(client, job.resumed_job, Path(folder))
        _fetch(client, job.resumed_job, job.resumed_step, Path(folder))
        return job.resumed_step


def _load_latest(client: Client, job_id: str, folder: Path) -> int | None:
    for listed in client.checkpoints.list(job_id):
        try:
            _fetch(client, job_id, listed.step, folder)
            return listed.step
        except (DownloadDamaged, InvalidRequest, NotFound, StorageRefused) as error:
            if isinstance(error, StorageRefused) and error.fields["status"] != 404:
                raise
            log.warning("checkpoint of step %s is passed over: %s", listed.step, error)
    return None


def _fetch(client: Client, job_id: str, step: int, folder: Path) -> None:
    write_files(client, client.checkpoints.get(job_id, str(step)).files, folder)


class Checkpointer:
    """Saves while the training goes on: files are written in the loop and uploaded behind it, one checkpoint at a time.

    Use it in a ``with`` block, in one worker only; leaving the block waits for the upload. The newest ``keep_last`` checkpoints of the job
    are kept, and beside them the ``keep_best`` for the lowest (``mode="max"``: highest) ``metric`` of those that they were saved with.
    """

    def __init__(
        self, *, keep_last: int | None = None, keep_best: int = 0, metric: str | None = None, mode: Literal["min", "max"] = "min"
    ) -> None:
        self._keep = CheckpointRetention(last=keep_last, best=keep_best, metric=metric, mode=mode) if keep_last is not None else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aidos-checkpoint")
        self._upload: Future[None] | None = None

    def save(self, write: Callable[[Path], None], *, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Have ``write`` put the files into a folder now, and upload them behind the loop, when the upload before has ended.

        Raises: what ``write`` raises, and what the upload before failed with.
        """
        self.wait()
        folder = tempfile.TemporaryDirectory(prefix="aidos-checkpoint-")
        write(Path(folder.name))
        self._upload = self._thread.submit(self._send, folder, step, dict(metrics or {}))

    def wait(self) -> None:
        """Until what was saved is listed. Raises: what the upload failed with."""
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.result()

    def _send(self, folder: tempfile.TemporaryDirectory[str], step: int, metrics: Mapping[str, float]) -> None:
        with folder:
            save_checkpoint(folder.name, step=step, metrics=metrics, keep=self._keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown()
