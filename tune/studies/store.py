"""The only SQL of studies: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from aidos.schemas.studies import Measured, StudyCreate, TrialBegin
from cluster.db import Connection, load_queries
from tune.studies.models import Peer, Study, StudyState, Trial, TrialState

Q = load_queries(__package__)


def _study(row: Mapping[str, Any]) -> Study:
    typed = {"spec": StudyCreate.model_validate(row["spec"]), "state": StudyState(row["state"]), "job_ids": tuple(row["job_ids"])}
    return Study(**{**row, **typed})


def _trial(row: Mapping[str, Any]) -> Trial:
    return Trial(**{**row, "state": TrialState(row["state"])})


async def insert_study(conn: Connection, values: Mapping[str, Any]) -> None:
    """Raises: UniqueViolation of ``studies_name``."""
    await conn.execute(Q.insert_study, {**values, "spec": Jsonb(values["spec"].model_dump(mode="json"))})


async def find_study(conn: Connection, project_id: UUID, name: str) -> Study | None:
    """By name or id."""
    row = await (await conn.execute(Q.find_study, {"project_id": project_id, "name": name})).fetchone()
    return _study(row) if row else None


async def list_studies(conn: Connection, project_id: UUID, state: str | None, before: UUID | None, limit: int) -> list[Study]:
    values = {"project_id": project_id, "state": state, "before": before, "limit": limit}
    return [_study(row) for row in await (await conn.execute(Q.list_studies, values)).fetchall()]


async def lock_study(conn: Connection, project_id: UUID, name: str) -> UUID | None:
    """Keep others from changing it until the transaction ends."""
    row = await (await conn.execute(Q.lock_study, {"project_id": project_id, "name": name})).fetchone()
    return row["id"] if row else None


async def set_state(conn: Connection, study: Study, state: StudyState, reason: str) -> None:
    """A stretch of running begins or ends here."""
    await conn.execute(Q.set_state, {"project_id": study.project_id, "id": study.id, "state": state, "reason": reason})


async def set_spec(conn: Connection, study: Study, spec: StudyCreate, space_version: int) -> None:
    values = {"project_id": study.project_id, "id": study.id, "spec": Jsonb(spec.model_dump(mode="json")), "space_version": space_version}
    await conn.execute(Q.set_spec, values)


async def add_job(conn: Connection, study: Study, job_id: UUID, restarts: int) -> None:
    await conn.execute(Q.add_job, {"project_id": study.project_id, "id": study.id, "job_id": job_id, "restarts": restarts})


async def clear_restarts(conn: Connection, study: Study) -> None:
    await conn.execute(Q.clear_restarts, {"project_id": study.project_id, "id": study.id})


async def delete_study(conn: Connection, study: Study) -> None:
    """With its trials and reports."""
    await conn.execute(Q.delete_study, {"project_id": study.project_id, "id": study.id})


async def claim_study(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[Study]:
    rows = await (await conn.execute(Q.claim_study, {"token": token, "lock_s": lock_s, "limit": limit})).fetchall()
    return [_study(row) for row in rows]


async def release_study(conn: Connection, study: Study, token: UUID, reason: str, again_s: float) -> bool | None:
    """Whether it still runs under the job that was looked at; None when the claim was lost."""
    values = {"id": study.id, "token": token, "job_id": study.job_id, "reason": reason, "again_s": again_s}
    row = await (await conn.execute(Q.release_study, values)).fetchone()
    return bool(row["current"]) if row else None


async def insert_trial(conn: Connection, study: Study, number: int, run_id: UUID, asked: TrialBegin) -> Trial:
    values = {"project_id": study.project_id, "study_id": study.id, "number": number, "run_id": run_id}
    values |= {"params": Jsonb(asked.params), "member": asked.member, "parent": asked.parent}
    row = await (await conn.execute(Q.insert_trial, values)).fetchone()
    assert row is not None
    return _trial(row)


async def begin_again(conn: Connection, study: Study, number: int, lost: int | None) -> bool:
    """False unless it was interrupted, or its attempt ``lost`` runs."""
    cursor = await conn.execute(Q.begin_again, {"project_id": study.project_id, "study_id": study.id, "number": number, "lost": lost})
    return cursor.rowcount == 1


async def interrupt_trials(conn: Connection, study: Study) -> list[Trial]:
    """All that run wait from now on; which these were."""
    rows = await (await conn.execute(Q.interrupt_trials, {"project_id": study.project_id, "study_id": study.id})).fetchall()
    return [_trial(row) for row in rows]


async def find_trial(conn: Connection, study: Study, number: int) -> Trial | None:
    row = await (await conn.execute(Q.find_trial, {"project_id": study.project_id, "study_id": study.id, "number": number})).fetchone()
    return _trial(row) if row else None


async def find_trial_of_run(conn: Connection, project_id: UUID, run_id: UUID) -> tuple[UUID, int] | None:
    """The study and number of the trial that has the run."""
    row = await (await conn.execute(Q.find_trial_of_run, {"project_id": project_id, "run_id": run_id})).fetchone()
    return (row["study_id"], row["number"]) if row else None


async def lock_trial(conn: Connection, study: Study, number: int) -> Trial | None:
    row = await (await conn.execute(Q.lock_trial, {"project_id": study.project_id, "study_id": study.id, "number": number})).fetchone()
    return _trial(row) if row else None


async def list_trials(conn: Connection, study: Study, state: str | None, after: int, limit: int) -> list[Trial]:
    """By number."""
    values = {"project_id": study.project_id, "study_id": study.id, "state": state, "after": after, "limit": limit}
    return [_trial(row) for row in await (await conn.execute(Q.list_trials, values)).fetchall()]


async def insert_reports(conn: Connection, study: Study, number: int, measured: Sequence[Measured]) -> None:
    """A step that is reported again has its last values."""
    last = {(metric, each.step): value for each in measured for metric, value in each.values.items()}
    metrics, steps = zip(*last, strict=True)
    row = {"project_id": study.project_id, "study_id": study.id, "number": number}
    await conn.execute(Q.insert_reports, {**row, "metrics": list(metrics), "steps": list(steps), "values": list(last.values())})


async def delete_reports(conn: Connection, study: Study, number: int) -> None:
    await conn.execute(Q.delete_reports, {"project_id": study.project_id, "study_id": study.id, "number": number})


async def note_step(conn: Connection, study: Study, number: int, step: int, stop_step: int | None) -> None:
    """How far it is, and where the pruner ended it: the first word on that stays."""
    values = {"project_id": study.project_id, "study_id": study.id, "number": number, "step": step, "stop_step": stop_step}
    await conn.execute(Q.note_step, values)


async def list_values(conn: Connection, study: Study, number: int, metric: str) -> list[float]:
    """A trial's values of a metric, by step."""
    values = {"project_id": study.project_id, "study_id": study.id, "number": number, "metric": metric}
    return [row["value"] for row in await (await conn.execute(Q.list_values, values)).fetchall()]


async def list_peers(conn: Connection, study: Study, metric: str, step: int) -> list[Peer]:
    """What every trial had measured when it had come to the step."""
    values = {"project_id": study.project_id, "study_id": study.id, "metric": metric, "step": step}
    rows = await (await conn.execute(Q.list_peers, values)).fetchall()
    return [Peer(row["number"], TrialState(row["state"]), row["value"]) for row in rows]


async def last_values(conn: Connection, study: Study, number: int) -> dict[str, float]:
    """Each metric at its last step."""
    values = {"project_id": study.project_id, "study_id": study.id, "number": number}
    return {row["metric"]: row["value"] for row in await (await conn.execute(Q.last_values, values)).fetchall()}


async def finish_trial(conn: Connection, study: Study, number: int, state: TrialState, reason: str, values: Mapping[str, float]) -> Trial:
    """The trial as it ended."""
    row = {"project_id": study.project_id, "study_id": study.id, "number": number, "state": state, "reason": reason}
    ended = await (await conn.execute(Q.finish_trial, {**row, "values": Jsonb(dict(values))})).fetchone()
    assert ended is not None
    return _trial(ended)
