"""A run on its way to the platform: an append-only file, and beside it the bytes of its artifacts.

``DIRECTORY/<run id>/journal.jsonl`` has an entry a line, each behind its CRC-32, and ``files/<sha256>`` the artifacts. An entry is on
the disk (``fsync``) when ``append`` returns. A crash can tear the last line; that line is as if it had never been written. Who reads
or writes holds the lock of the file, which ends with the process. A journal that the platform has got is removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from aidos.errors import Conflict
from aidos.http.operation import checked
from aidos.schemas.modelhub import ArtifactAnnounce, MetricsLog, PointLog, RunCreate, RunState

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # absent there

NAME = "journal.jsonl"


class JournalInUse(Conflict):
    title = "The run is being written"
    detail = "Something else writes or syncs the run in {path}. Wait until it has ended."


class JournalDamaged(Conflict):
    title = "The journal is damaged"
    detail = (
        "Line {line} of {path} is not as it was written, and lines follow it. Restore the file, or delete the directory to give the run up."
    )


class Begin(BaseModel):
    """The first entry: which run, and whether it is for this journal to make it and to end it."""

    run: RunCreate
    made: bool
    """The platform knew the run before this journal began."""
    ends: bool
    """Whether the end of the journal is the end of the run; a job's run ends with the job."""
    project: str | None = None
    next_steps: dict[str, int] = {}
    """By metric, of a run that had begun."""


@dataclass
class Record:
    """What the entries come to. A tag that is None is to be removed."""

    begin: Begin
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)
    artifacts: dict[str, ArtifactAnnounce] = field(default_factory=dict)
    state: RunState | None = None
    last_at: datetime | None = None
    next_steps: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.next_steps = dict(self.begin.next_steps)

    def check_params(self, params: Mapping[str, str]) -> None:
        """Raises: Conflict when one was set to another value."""
        known = self.begin.run.params | self.params
        for key, value in params.items():
            if known.get(key, value) != value:
                raise Conflict(reason=f"Parameter '{key}' is '{known[key]}' and cannot become '{value}': use a tag for what changes.")

    def check_artifact(self, file: ArtifactAnnounce) -> None:
        """Raises: Conflict when the path has other bytes."""
        if self.artifacts.get(file.path, file) != file:
            raise Conflict(reason=f"The run already has an artifact '{file.path}' with other bytes. Choose another path.")

    def take(self, entry: Mapping[str, Any]) -> None:
        """Count an entry in."""
        self.last_at = datetime.fromisoformat(entry["at"])
        self.params |= entry.get("params", {})
        self.tags |= entry.get("tags", {})
        for file in entry.get("artifacts", ()):
            self.artifacts[file["path"]] = ArtifactAnnounce.model_validate(file)
        for point in entry.get("points", ()):
            self.next_steps[point["key"]] = max(self.next_steps.get(point["key"], 0), point["step"] + 1)
        if "state" in entry:
            self.state = RunState(entry["state"]) if entry["state"] else None


class Journal:
    """An open journal, locked. Not for several threads at once but ``append``, which the caller guards."""

    def __init__(self, path: Path, descriptor: int, record: Record) -> None:
        self.path, self.record = path, record
        self._descriptor: int | None = descriptor

    @classmethod
    def create(cls, directory: Path, begin: Begin) -> Journal:
        """A new one in ``directory/<run id>``. Raises: JournalInUse; Conflict when the run has one."""
        path = directory / str(begin.run.id)
        while (descriptor := _lock(path, os.O_CREAT)) is None:
            continue  # another process removed it between two calls
        if os.fstat(descriptor).st_size:
            os.close(descriptor)
            raise Conflict(reason=f"There is a journal in {path}: go on with aidos.run(resume='{begin.run.id}').")
        journal = cls(path, descriptor, Record(begin))
        journal.append(begin=begin.model_dump(mode="json"))
        _sync_directory(path)
        _sync_directory(directory)
        return journal

    @classmethod
    def open(cls, path: Path) -> Journal | None:
        """Go on with the one in ``path``; None where there is none, or none that got as far as its first entry.

        Raises: JournalInUse, JournalDamaged.
        """
        descriptor = _lock(path)
        if descriptor is None:
            return None
        try:
            record, whole_bytes = _read(path / NAME)
            if record is None:
                shutil.rmtree(path, ignore_errors=True)
                return None
            os.ftruncate(descriptor, whole_bytes)
            journal = cls(path, descriptor, record)
            descriptor = None
            return journal
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def append(self, **entry: Any) -> None:
        """Write an entry (``params``, ``tags``, ``points``, ``artifacts``, ``state``: JSON values) and have it on the disk."""
        assert self._descriptor is not None, "the journal is closed"
        entry = {"at": datetime.now(UTC).isoformat(), **entry}
        line, end = _line(entry), os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)  # half a line would spoil those behind it
            raise
        self.record.take(entry)

    def append_points(self, points: Iterable[PointLog]) -> None:
        """Write points, as ``append``."""
        self.append(points=[point.model_dump(mode="json") for point in points])

    def points(self) -> Iterator[list[PointLog]]:
        """The points in the batches that they were written in: few in memory."""
        for entry, _ in _entries(self.path / NAME):
            if entry.get("points"):
                yield MetricsLog.model_validate({"points": entry["points"]}).points

    def keep(self, path: str, file: Path) -> ArtifactAnnounce:
        """Copy an artifact: the same bytes lie here once. Raises: InvalidPayload; Conflict when ``path`` has other bytes."""
        folder = self.file("")
        folder.mkdir(mode=0o700, exist_ok=True)
        digest, part = hashlib.sha256(), folder / f"{uuid4().hex}.part"
        with open(file, "rb") as source, open(part, "wb") as copy:
            while block := source.read(2**20):
                digest.update(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
        kept: ArtifactAnnounce = checked(ArtifactAnnounce, {"path": path, "sha256": digest.hexdigest(), "size_bytes": part.stat().st_size})
        part.replace(self.file(kept.sha256))
        _sync_directory(folder)
        self.record.check_artifact(kept)
        return kept

    def file(self, sha256: str) -> Path:
        """Where the bytes of an artifact lie."""
        return self.path / "files" / sha256

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Delete what the platform has got. The journal goes last, so that a crash leaves one that can be synced again."""
        shutil.rmtree(self.path / "files", ignore_errors=True)
        (self.path / NAME).unlink(missing_ok=True)
        self.close()
        with contextlib.suppress(OSError):  # the run may have begun another one meanwhile
            self.path.rmdir()


def _lock(path: Path, create: int = 0) -> int | None:
    """A descriptor that appends to the journal in ``path``, locked; None when it is not, or no longer, there. Raises: JournalInUse."""
    if create:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path / NAME, os.O_RDWR | os.O_APPEND | create, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path / NAME)):
            return descriptor
    except FileNotFoundError:
        pass  # whoever had the lock has synced and removed it
    except OSError:
        os.close(descriptor)
        raise JournalInUse(path=str(path)) from None
    os.close(descriptor)
    return None


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(file: Path) -> tuple[Record | None, int]:
    """What the entries come to, and how many bytes of the file are whole lines."""
    record, whole_bytes = None, 0
    for entry, end in _entries(file):
        if record is None:
            record = Record(Begin.model_validate(entry["begin"]))
        record.take(entry)
        whole_bytes = end
    return record, whole_bytes


def _entries(file: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each entry, and where its line ends. Raises: JournalDamaged where a line is broken that is not the last."""
    end = broken = 0
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if broken:
                raise JournalDamaged(line=broken, path=str(file))
            crc, _, text = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or crc != b"%08x" % zlib.crc32(text):
                broken = number
                continue
            end += len(line)
            yield json.loads(text), end


def _sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk; where directories cannot be opened (Windows) the system does it."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
