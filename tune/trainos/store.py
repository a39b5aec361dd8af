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
    """Of an array only itself."""
    values = {"project_id": project_id, "state": state, "before": before, "limit": limit}
    return [_job(row) for row in await (await conn.execute(Q.list_jobs, values)).fetchall()]


async def list_members(conn: Connection, project_id: UUID, array_id: UUID, state: str | None, before: UUID | None, limit: int) -> list[Job]:
    """The jobs of an array, the highest index first."""
    values = {"project_id": project_id, "array_id": array_id, "state": state, "before": before, "limit": limit}
    return [_job(row) for row in await (await conn.execute(Q.list_members, values)).fetchall()]


async def count_members(conn: Connection, project_id: UUID, array_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """How many jobs of each array are in each state."""
    rows = await (await conn.execute(Q.count_members, {"project_id": project_id, "array_ids": list(array_ids)})).fetchall()
    counts: dict[UUID, dict[str, int]] = {id: {} for id in array_ids}
    for row in rows:
        counts[row["array_id"]][row["state"]] = row["jobs"]
    return counts


async def insert_members(conn: Connection, array_id: UUID, ids: Sequence[UUID], indices: Sequence[int], at_once: int | None) -> None:
    """The jobs of an array, as it says; ``at_once`` of them in the queue."""
    await conn.execute(Q.insert_members, {"array_id": array_id, "ids": list(ids), "indices": list(indices), "at_once": at_once})


async def list_submissions(conn: Connection, submission_ids: Sequence[str]) -> set[str]:
    """Which of these Ray submissions are known jobs, of any project."""
    rows = await (await conn.execute(Q.list_submissions, {"submission_ids": list(submission_ids)})).fetchall()
    return {row["submission_id"] for row in rows}


async def count_live_jobs(conn: Connection) -> dict[str, int]:
    return {row["state"]: row["jobs"] for row in await (await conn.execute(Q.count_live_jobs)).fetchall()}


async def cancel_job(conn: Connection, project_id: UUID, job_id: UUID, reason: str) -> list[Job]:
    """It and, of an array, its jobs; not those that have ended or are being cancelled already."""
    rows = await (await conn.execute(Q.cancel_job, {"project_id": project_id, "id": job_id, "reason": reason})).fetchall()
    return [_job(row) for row in rows]


async def fail_waiting(conn: Connection, job_id: UUID, reason: str) -> list[Job]:
    """End a job that waits and, of an array, its jobs; those that wait."""
    rows = await (await conn.execute(Q.fail_waiting, {"id": job_id, "reason": reason})).fetchall()
    return [_job(row) for row in rows]


async def hold_job(conn: Connection, project_id: UUID, job_id: UUID, held_by: str | None) -> list[Job]:
    """Keep it back, or with None let it go; an array that has not ended, and of its jobs and else those that wait."""
    rows = await (await conn.execute(Q.hold_job, {"project_id": project_id, "id": job_id, "held_by": held_by})).fetchall()
    return [_job(row) for row in rows]


async def set_priority(conn: Connection, project_id: UUID, job_id: UUID, priority: int) -> list[Job]:
    """It and, of an array, its jobs; those that have not ended."""
    rows = await (await conn.execute(Q.set_priority, {"project_id": project_id, "id": job_id, "priority": priority})).fetchall()
    return [_job(row) for row in rows]


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


async def begin_arrays(conn: Connection, ids: Collection[UUID]) -> list[Job]:
    """Those of these arrays of which nothing had begun. One that somebody changes now is left out, and told of the next time."""
    return [_job(row) for row in await (await conn.execute(Q.begin_arrays, {"ids": list(ids)})).fetchall()]


async def list_ended_arrays(conn: Connection) -> list[tuple[UUID, JobState, dict[JobState, int]]]:
    """Arrays all of whose jobs have ended and that have not: their state, and how many of their jobs are in each."""
    rows = await (await conn.execute(Q.list_ended_arrays)).fetchall()
    return [(row["id"], JobState(row["state"]), {JobState(state): jobs for state, jobs in row["counts"].items()}) for row in rows]


async def end_array(conn: Connection, array_id: UUID, state: JobState, reason: str) -> Job | None:
    """None when it has ended already."""
    row = await (await conn.execute(Q.end_array, {"id": array_id, "state": state, "reason": reason})).fetchone()
    return _job(row) if row else None


async def admit_members(conn: Connection) -> None:
    """Let as many jobs of each array into the queue as may be there at once."""
    await conn.execute(Q.admit_members)


async def set_run(conn: Connection, job_id: UUID, token: UUID | None, run_id: UUID) -> Job | None:
    """None when the claim was lost."""
    row = await (await conn.execute(Q.set_run, {"id": job_id, "token": token, "run_id": run_id})).fetchone()
    return _job(row) if row else None


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
