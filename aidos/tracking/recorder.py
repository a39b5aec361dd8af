"""Where what is logged goes: to the platform, or, while that cannot be reached, into a journal on this machine."""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from aidos.client import Client
from aidos.config import offline_directory
from aidos.errors import AidosError, Conflict, Unavailable
from aidos.http.operation import checked
from aidos.schemas.modelhub import ArtifactAnnounce, ArtifactRead, ParamsLog, PointLog, RunCreate, RunRead, RunState, TagsSet
from aidos.tracking.journal import Begin, Journal
from aidos.tracking.syncing import bring, is_outage, upload
from aidos.transfers.local_files import sha256_of

T = TypeVar("T")


class Recorder:
    """Takes what a run logs, from any thread. ``offline``: True stays with the journal, False never begins one, None as it comes."""

    def __init__(
        self, client: Client, run: RunCreate | RunRead, *, ends: bool, offline: bool | None = False, journal: Journal | None = None
    ) -> None:
        assert run.id is not None
        self.client, self.run_id, self.name, self.experiment = client, run.id, run.name, run.experiment
        self._ends, self._offline, self._journal = ends, offline, journal
        self._lock = threading.RLock()
        known = {key: latest.step + 1 for key, latest in run.metrics.items()} if isinstance(run, RunRead) else {}
        self._next_steps = dict(journal.record.next_steps) if journal else known

    def next_step(self, key: str) -> int:
        """Steps of a metric whose caller counts none; they go on where the run stood."""
        with self._lock:
            step = self._next_steps.get(key, 0)
            self._next_steps[key] = step + 1
            return step

    def log_metrics(self, points: Sequence[PointLog]) -> None:
        self._record(lambda: self.client.runs.log_metrics(str(self.run_id), points=points), lambda journal: journal.append_points(points))

    def log_params(self, params: Mapping[str, str]) -> None:
        """Raises: ParamChanged; offline Conflict."""

        def keep(journal: Journal) -> None:
            journal.record.check_params(params)
            journal.append(params=dict(params))

        checked(ParamsLog, {"params": params})
        self._record(lambda: self.client.runs.log_params(str(self.run_id), params=dict(params)), keep)

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        checked(TagsSet, {"tags": tags})
        self._record(lambda: self.client.runs.set_tags(str(self.run_id), tags=dict(tags)), lambda journal: journal.append(tags=dict(tags)))

    def store(self, files: Mapping[str, Path]) -> list[ArtifactRead]:
        """Artifacts by their path. Raises: ArtifactExists; offline Conflict."""

        def keep(journal: Journal) -> list[ArtifactRead]:
            kept = [journal.keep(path, file) for path, file in files.items()]
            journal.append(artifacts=[file.model_dump(mode="json") for file in kept])
            now = datetime.now(UTC)
            return [ArtifactRead(**file.model_dump(), stored=False, created_at=now) for file in kept]

        return self._record(lambda: upload(self.client, str(self.run_id), announce(files), files), keep)

    def require_platform(self, reason: str) -> None:
        """Raises: Unavailable with the reason while the run is kept here."""
        if self._journal:
            raise Unavailable(reason=reason, retry_after_s=60)

    def end(self, state: RunState) -> None:
        """End the run; what was kept here because of an outage is brought over if that is over."""

        def update() -> None:
            if self._ends:
                self.client.runs.update(str(self.run_id), state=state)

        self._record(update, lambda journal: journal.append(state=state))
        if self._journal:
            self._leave(self._journal)

    def _leave(self, journal: Journal) -> None:
        kept = f"run {self.name or self.run_id} is kept in {journal.path}: `aidos run sync` brings it to the platform."
        try:
            if self._offline:
                tell(kept)
            else:
                bring(self.client, journal)
        except AidosError as error:
            tell(f"{error} So {kept}")
        finally:
            journal.close()

    def _record(self, online: Callable[[], T], offline: Callable[[Journal], T]) -> T:
        if self._journal is None:
            try:
                return online()
            except AidosError as error:
                if self._offline is False or not is_outage(error):
                    raise
                self._turn(error)
        with self._lock:
            assert self._journal is not None
            return offline(self._journal)

    def _turn(self, error: AidosError) -> None:
        """From here on into a journal."""
        with self._lock:
            if self._journal is None:
                known = RunCreate(id=self.run_id)  # the platform has the rest
                self._journal = _begin_journal(self.client, known, made=True, ends=self._ends, next_steps=self._next_steps)
                tell(f"{error} Run {self.name or self.run_id} goes on and is kept in {self._journal.path}.")


def begin(client: Client, asked: RunCreate, *, attached: bool, ends: bool, offline: bool | None) -> Recorder:
    """Begin the run, or go on with it where it is ``attached``. Raises: as ``aidos.run``."""
    assert asked.id is not None
    journal = Journal.open(offline_directory() / str(asked.id)) if attached else None
    if offline is not True:
        try:
            if journal:
                bring(client, journal)
            return Recorder(client, _begin_online(client, asked, attached, ends), ends=ends, offline=offline)
        except AidosError as error:
            if offline is False or not is_outage(error) or (attached and journal is None):
                if journal:
                    journal.close()
                raise
            tell(f"{error} Run {asked.name or asked.id} is kept on this machine.")
    if journal:
        _resume(journal, asked)
    else:
        # The machine's own clock: the platform's is asked where there is one.
        begun = asked.model_copy(update={"started_at": datetime.now(UTC)})
        journal = _begin_journal(client, begun, made=attached, ends=ends)
    return Recorder(client, journal.record.begin.run, ends=ends, offline=offline, journal=journal)


def _begin_online(client: Client, asked: RunCreate, attached: bool, ends: bool) -> RunRead:
    if not attached:
        return client.runs.create(asked)
    run_id = str(asked.id)
    read = client.runs.get(run_id)
    if ends and read.state in {RunState.FAILED, RunState.KILLED}:
        read = client.runs.update(run_id, state=RunState.RUNNING)
    client.runs.set_tags(run_id, tags=dict(asked.tags))
    if asked.params:
        client.runs.log_params(run_id, params=asked.params)
    return read


def _begin_journal(client: Client, run: RunCreate, *, made: bool, ends: bool, next_steps: Mapping[str, int] | None = None) -> Journal:
    project = client.transport.converser.project
    return Journal.create(offline_directory(), Begin(run=run, made=made, ends=ends, project=project, next_steps=dict(next_steps or {})))


def _resume(journal: Journal, asked: RunCreate) -> None:
    try:
        if journal.record.state is RunState.FINISHED:
            raise Conflict(reason=f"Run '{asked.id}' is FINISHED and takes nothing more: begin another.")
        journal.record.check_params(asked.params)
        journal.append(params=asked.params, tags=asked.tags, state=None)
    except BaseException:
        journal.close()
        raise


def announce(files: Mapping[str, Path]) -> list[ArtifactAnnounce]:
    return [
        checked(ArtifactAnnounce, {"path": path, "sha256": sha256_of(file), "size_bytes": file.stat().st_size})
        for path, file in files.items()
    ]


def new_id() -> UUID:
    """A UUID of version 7: it begins with the milliseconds since 1970 (RFC 9562, 5.7)."""
    return UUID(int=time.time_ns() // 1_000_000 << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))


def tell(text: str) -> None:
    """A line for the person at the terminal: a training is not stopped for it."""
    sys.stderr.write(f"aidos: {text}\n")
