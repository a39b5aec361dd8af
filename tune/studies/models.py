"""Studies and their trials."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from aidos.schemas.studies import StudyCreate


class StudyState(enum.StrEnum):
    """Where a study is. All but RUNNING can be resumed."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"


_ENDS = frozenset({StudyState.STOPPED, StudyState.FINISHED, StudyState.FAILED})
STUDY_TRANSITIONS: Mapping[StudyState, frozenset[StudyState]] = {
    StudyState.RUNNING: _ENDS,
    **dict.fromkeys(_ENDS, frozenset({StudyState.RUNNING})),
}


class TrialState(enum.StrEnum):
    """Where a trial is. WAITING: it was interrupted, and begins again with the same parameters in the same run."""

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAILED = "FAILED"

    @property
    def final(self) -> bool:
        return self not in {TrialState.RUNNING, TrialState.WAITING}


@dataclass(frozen=True)
class Study:
    """A study as it is stored; its spec is what was asked for, with the space and the budget as they are now."""

    id: UUID
    org_id: UUID
    project_id: UUID
    name: str
    spec: StudyCreate
    space_version: int
    state: StudyState
    reason: str
    job_ids: tuple[UUID, ...]
    restarts: int
    time_s: float
    trials: Mapping[str, int]
    traceparent: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    attempts: int = 0

    @property
    def job_id(self) -> UUID | None:
        """The job that drives it."""
        return self.job_ids[-1] if self.job_ids else None


@dataclass(frozen=True)
class Trial:
    """A trial as it is stored. ``values``: each metric at its last step, once it has ended."""

    number: int
    state: TrialState
    params: Mapping[str, Any]
    values: Mapping[str, float]
    step: int | None
    stop_step: int | None
    reason: str
    attempt: int
    run_id: UUID
    started_at: datetime
    finished_at: datetime | None
    member: int | None = None
    parent: int | None = None


@dataclass(frozen=True)
class Peer:
    """What a trial of the study had measured when it had come as far as the one in question."""

    number: int
    state: TrialState
    value: float


@dataclass(frozen=True)
class Ended:
    """How a trial came out."""

    state: TrialState
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the reconciler came to: the study's state, whether its job is begun again, and when to look again."""

    state: StudyState
    reason: str = ""
    begin_again: bool = False
    again_s: float = 2.0
