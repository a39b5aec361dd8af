"""``aidos run sync``: runs that were kept on this machine become runs of the platform, each once.

Everything is sent so that sending it again changes nothing: the run under the id that was chosen when it began, params and tags as
the journal ends with them, points by key, step, time and value, artifacts by path and SHA-256, the end last. So a sync may be cut
off anywhere, and the next one begins from the start; a journal is removed when all of it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aidos.client import Client
from aidos.config import offline_directory
from aidos.errors import AidosError, Conflict
from aidos.schemas.modelhub import ArtifactAnnounce, ArtifactRead, RunRead, RunState
from aidos.tracking.journal import Journal, Record
from aidos.transfers.concurrent import batches

_BATCH_FILES = 200
_BATCH_TEXTS = 100
_STORED = "aidos.journal"
"""Tag: when the last entry of the journal was written that is stored."""
_RESUMABLE = (RunState.FAILED, RunState.KILLED)


class Synced(NamedTuple):
    """What became of a journal; ``reason``: why it is still here."""

    path: Path
    run: RunRead | None
    reason: str = ""


def sync_runs(directory: str | Path | None = None, *, client: Client | None = None) -> list[Synced]:
    """Bring over all runs in ``directory`` (``AIDOS_OFFLINE_DIR``), or the one run whose journal lies in it.

    A run that is being written, or that the platform refuses, stays and says why. One that was never ended becomes KILLED.
    Raises: Unavailable, with all that is not synced still here.
    """
    opened = client or Client()
    try:
        done = [_sync(opened, path) for path in _journals(Path(directory) if directory else offline_directory())]
        return [synced for synced in done if synced]
    finally:
        if client is None:
            opened.close()


def _journals(directory: Path) -> list[Path]:
    found = sorted(path.parent for path in directory.glob("*/journal.jsonl"))
    return [directory] if (directory / "journal.jsonl").exists() else found


def _sync(client: Client, path: Path) -> Synced | None:
    """None where somebody else has synced it meanwhile."""
    try:
        journal = Journal.open(path)
        if journal is None:
            return None
        try:
            return Synced(path, bring(client, journal))
        finally:
            journal.close()
    except AidosError as error:
        if is_outage(error):
            raise
        return Synced(path, None, str(error))


def bring(client: Client, journal: Journal) -> RunRead:
    """Store what the journal has and remove it. Raises: what the platform refuses or cannot do; the journal is then as it was."""
    record = journal.record
    run_id = str(record.begin.run.id)
    if record.begin.project:
        client = client.with_options(headers={"X-Aidos-Project": record.begin.project})
    read = client.runs.get(run_id) if record.begin.made else client.runs.create(record.begin.run)
    if not _is_stored(read, record):
        _send(client, run_id, journal, read)
        # Written last of all but the end: whoever finds it need not send again what the end has closed.
        client.runs.set_tags(run_id, tags={_STORED: str(record.last_at)})
        read = _end(client, run_id, record)
    journal.remove()
    return read


def _is_stored(read: RunRead, record: Record) -> bool:
    ended = not record.begin.ends or read.state is (record.state or RunState.KILLED)
    return ended and read.tags.get(_STORED) == str(record.last_at)


def _send(client: Client, run_id: str, journal: Journal, read: RunRead) -> None:
    record = journal.record
    if read.state is RunState.FINISHED:
        raise Conflict(reason=f"Run '{run_id}' was ended on the platform as FINISHED, and takes nothing more.")
    if read.state in _RESUMABLE and record.begin.ends:
        client.runs.update(run_id, state=RunState.RUNNING)
    for params in batches(list(record.params.items()), _BATCH_TEXTS):
        client.runs.log_params(run_id, params=dict(params))
    for tags in batches(list(record.tags.items()), _BATCH_TEXTS):
        client.runs.set_tags(run_id, tags=dict(tags))
    for points in journal.points():
        client.runs.log_metrics(run_id, points=points)
    for files in batches(list(record.artifacts.values()), _BATCH_FILES):
        upload(client, run_id, files, {file.path: journal.file(file.sha256) for file in files})


def _end(client: Client, run_id: str, record: Record) -> RunRead:
    if not record.begin.ends:
        return client.runs.get(run_id)
    return client.runs.update(run_id, state=record.state or RunState.KILLED, ended_at=record.last_at)


def upload(client: Client, run_id: str, announced: Sequence[ArtifactAnnounce], files: Mapping[str, Path]) -> list[ArtifactRead]:
    """Announce, PUT what is not stored yet, complete. Raises: RunEnded, ArtifactExists, UploadIncomplete."""
    for target in client.runs.announce(run_id, files=list(announced)).files:
        if target.upload_url is not None:
            client.put_presigned(target.upload_url, files[target.path].read_bytes())
    return client.runs.complete(run_id, paths=[file.path for file in announced]).files


def is_outage(error: Exception) -> bool:
    """Whether the platform or the object store was not reached: the same may succeed later."""
    return isinstance(error, AidosError) and error.status in {502, 503, 504}
