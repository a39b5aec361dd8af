"""The only SQL of TrainOS: a function a named query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from cluster.db import Connection, load_queries, new_id
from tune.trainos.models import Checkpoint, CheckpointFile, Input, Job, JobSpec, JobState, LogChunk, LogEnd, Origin, Resources, Submitter

Q = load_queries(__package__)


def _job(row: Mapping[str, Any]) -> Job:
    inputs = tuple(Input(item["reference"], item["dataset"], UUID(item["commit_id"])) for item in row["inputs"])
    typed = {
        "spec": JobSpec.from_json(row["spec"]),
        "inputs": inputs,
        "state": JobState(row["state"]),
        "origin": Origin(row["origin"]),
        "submitter": Submitter.from_json(row["submitter"]),
    }
    return Job(**{**row, **typed})


def _checkpoint(row: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(**{**row, "files": tuple(CheckpointFile(**file) for file in row["files"])})


async def insert_job(conn: Connection, values: Mapping[str, Any]) -> Job | None:
    """None where a job with this ``submission_id`` is known already."""
    spec: JobSpec = values["spec"]
    inputs: Sequence[Input] = values["inputs"]
    row = {
        **values,
        **spec.resources.__dict__,
        "spec": Jsonb(spec.to_json()),
        "submitter": Jsonb(values["submitter"].to_json()),
        "inputs": Jsonb([{**item.__dict__, "commit_id": str(item.commit_id)} for item in inputs]),
    }
    found = await (await conn.execute(Q.insert_job, row)).fetchone()
    return _job(found) if found else None


async def find_job(conn: Connection, project_id: UUID, name: str) -> Job | None:
    """By id, or the newest of that name."""
    row = await (await conn.execute(Q.find_job, {"project_id": project_id, "name": name})).fetchone()
    return _job(row) if row else None


async def find_jobs(conn: Connection, project_id: UUID, ids: Collection[UUID]) -> list[Job]:
    """Those of these ids that are there."""
    return [_job(row) for row in await (await conn.execute(Q.find_jobs, {"project_id": project_id, "ids": list(ids)})).fetchall()]


async def list_jobs(conn: Connection, project_id: UUID, state: str | None, before: UUID | None, limit: int) -> list[Job]:
    values = {"project_id": project_id, "state": state, "before": before, "limit": limit}
    return [_job(row) for row in await (await conn.execute(Q.list_jobs, values)).fetchall()]


async def list_submissions(conn: Connection, submission_ids: Sequence[str]) -> set[str]:
    """Which of these Ray submissions are known jobs, of any project."""
    rows = await (await conn.execute(Q.list_submissions, {"submission_ids": list(submission_ids)})).fetchall()
    return {row["submission_id"] for row in rows}


async def count_live_jobs(conn: Connection) -> dict[str, int]:
    return {row["state"]: row["jobs"] for row in await (await conn.execute(Q.count_live_jobs)).fetchall()}


async def cancel_job(conn: Connection, project_id: UUID, job_id: UUID, reason: str) -> Job | None:
    """None when it has ended or is being cancelled already."""
    row = await (await conn.execute(Q.cancel_job, {"project_id": project_id, "id": job_id, "reason": reason})).fetchone()
    return _job(row) if row else None


async def fail_waiting(conn: Connection, job_id: UUID, reason: str) -> Job | None:
    """End a job that waits; None when it does not."""
    row = await (await conn.execute(Q.fail_waiting, {"id": job_id, "reason": reason})).fetchone()
    return _job(row) if row else None


async def hold_job(conn: Connection, project_id: UUID, job_id: UUID, held_by: str | None) -> Job | None:
    """Keep it back, or with None let it go; None when it does not wait."""
    row = await (await conn.execute(Q.hold_job, {"project_id": project_id, "id": job_id, "held_by": held_by})).fetchone()
    return _job(row) if row else None


async def set_priority(conn: Connection, project_id: UUID, job_id: UUID, priority: int) -> Job | None:
    """None when it has ended."""
    row = await (await conn.execute(Q.set_priority, {"project_id": project_id, "id": job_id, "priority": priority})).fetchone()
    return _job(row) if row else None


async def list_queue(conn: Connection, project_id: UUID, limit: int) -> list[Job]:
    """What holds resources, then what waits in the project's own order, then what is held back or waits for others."""
    return [_job(row) for row in await (await conn.execute(Q.list_queue, {"project_id": project_id, "limit": limit})).fetchall()]


async def admit_jobs(conn: Connection, prefix: str, placements: Mapping[UUID, Sequence[tuple[str, int]]]) -> list[Job]:
    """Start their next attempts, each with a lease; those that were cancelled or held meanwhile are left out."""
    values = {
        "prefix": prefix,
        "ids": list(placements),
        "lease_ids": [new_id() for _ in placements],
        "placements": [Jsonb(placement) for placement in placements.values()],
    }
    return [_job(row) for row in await (await conn.execute(Q.admit_jobs, values)).fetchall()]


async def preempt_jobs(conn: Connection, names: Mapping[UUID, str]) -> list[Job]:
    """Ask these to give way to who is named; those that ended meanwhile are left out."""
    values = {"ids": list(names), "for_names": list(names.values())}
    return [_job(row) for row in await (await conn.execute(Q.preempt_jobs, values)).fetchall()]


async def note_reasons(conn: Connection, reasons: Mapping[UUID, str]) -> None:
    """Why these wait."""
    await conn.execute(Q.note_reasons, {"ids": list(reasons), "reasons": list(reasons.values())})


async def end_waits(conn: Connection, ids: Sequence[UUID]) -> None:
    """All that they depended on has succeeded."""
    await conn.execute(Q.end_waits, {"ids": list(ids)})


async def claim_job(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[Job]:
    """Lock up to ``limit`` admitted jobs that are due; those that wait are the queue's."""
    rows = await (await conn.execute(Q.claim_job, {"token": token, "lock_s": lock_s, "limit": limit})).fetchall()
    return [_job(row) for row in rows]


async def apply_job(conn: Connection, values: Mapping[str, Any]) -> Job | None:
    """Write what a step came to and unlock; None when the claim was lost. A cancellation or preemption that came meanwhile stays."""
    row = await (await conn.execute(Q.apply_job, values)).fetchone()
    return _job(row) if row else None


async def charge_usage(conn: Connection, project_id: UUID, used: Resources, at: datetime) -> None:
    """Add resource-seconds, decayed to ``at``, to what the project used of late."""
    await conn.execute(Q.charge_usage, {"project_id": project_id, **used.__dict__, "at": at})


async def has_saved_since(conn: Connection, project_id: UUID, job_id: UUID, since: datetime) -> bool:
    """Whether the job has a checkpoint that is younger."""
    row = await (await conn.execute(Q.has_saved_since, {"project_id": project_id, "job_id": job_id, "since": since})).fetchone()
    return row is not None and bool(row["saved"])


async def insert_dependencies(conn: Connection, project_id: UUID, job_id: UUID, on_ids: Sequence[UUID]) -> None:
    """The job begins once all of these have succeeded."""
    await conn.execute(Q.insert_dependencies, {"project_id": project_id, "job_id": job_id, "on_ids": list(on_ids)})


async def log_end(conn: Connection, project_id: UUID, job_id: UUID, attempt: int) -> LogEnd:
    row = await (await conn.execute(Q.log_end, {"project_id": project_id, "job_id": job_id, "attempt": attempt})).fetchone()
    return LogEnd(**row) if row else LogEnd()


async def insert_chunk(conn: Connection, values: Mapping[str, Any]) -> bool:
    """False when the claim on the job was lost. Raises: UniqueViolation when the sequence number is taken."""
    return await (await conn.execute(Q.insert_chunk, values)).fetchone() is not None


async def list_chunks(conn: Connection, project_id: UUID, job_id: UUID, after: int, limit: int) -> list[LogChunk]:
    values = {"project_id": project_id, "job_id": job_id, "after": after, "limit": limit}
    return [LogChunk(**row) for row in await (await conn.execute(Q.list_chunks, values)).fetchall()]


async def insert_checkpoint(conn: Connection, values: Mapping[str, Any]) -> Checkpoint | None:
    """None when the job has a checkpoint of that step already."""
    files: Sequence[CheckpointFile] = values["files"]
    row = {**values, "files": Jsonb([file.__dict__ for file in files]), "metrics": Jsonb(values["metrics"])}
    found = await (await conn.execute(Q.insert_checkpoint, row)).fetchone()
    return _checkpoint(found) if found else None


async def find_checkpoint(conn: Connection, project_id: UUID, job_id: UUID, name: str) -> Checkpoint | None:
    """By ``latest``, step or id."""
    row = await (await conn.execute(Q.find_checkpoint, {"project_id": project_id, "job_id": job_id, "name": name})).fetchone()
    return _checkpoint(row) if row else None


async def list_checkpoints(conn: Connection, project_id: UUID, job_id: UUID, before: int | None, limit: int | None) -> list[Checkpoint]:
    """The newest step first; all of them where there is no limit."""
    values = {"project_id": project_id, "job_id": job_id, "before": before, "limit": limit}
    return [_checkpoint(row) for row in await (await conn.execute(Q.list_checkpoints, values)).fetchall()]


async def delete_checkpoints(conn: Connection, project_id: UUID, job_id: UUID, steps: Sequence[int]) -> None:
    await conn.execute(Q.delete_checkpoints, {"project_id": project_id, "job_id": job_id, "steps": list(steps)})
