"""The only SQL of TrainOS: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from cluster.db import Connection, load_queries
from tune.trainos.models import Checkpoint, CheckpointFile, Input, Job, JobSpec, JobState, LogChunk, LogEnd, Origin, Resources, Submitter
from tune.trainos.policy import Leased

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


async def list_jobs(conn: Connection, project_id: UUID, state: str | None, before: UUID | None, limit: int) -> list[Job]:
    values = {"project_id": project_id, "state": state, "before": before, "limit": limit}
    return [_job(row) for row in await (await conn.execute(Q.list_jobs, values)).fetchall()]


async def list_submissions(conn: Connection, submission_ids: Sequence[str]) -> set[str]:
    """Which of these Ray submissions are known jobs, of any project."""
    rows = await (await conn.execute(Q.list_submissions, {"submission_ids": list(submission_ids)})).fetchall()
    return {row["submission_id"] for row in rows}


async def list_leased(conn: Connection, settle_s: float) -> list[Leased]:
    """What all admitted jobs hold; settled those whose driver has run longer than ``settle_s``."""
    rows = await (await conn.execute(Q.list_leased, {"settle_s": settle_s})).fetchall()
    return [Leased(Resources(row["cpu"], row["gpu"], row["memory_gib"]), row["settled"]) for row in rows]


async def count_live_jobs(conn: Connection) -> dict[str, int]:
    return {row["state"]: row["jobs"] for row in await (await conn.execute(Q.count_live_jobs)).fetchall()}


async def cancel_job(conn: Connection, project_id: UUID, job_id: UUID, reason: str) -> Job | None:
    """None when it has ended or is being cancelled already."""
    row = await (await conn.execute(Q.cancel_job, {"project_id": project_id, "id": job_id, "reason": reason})).fetchone()
    return _job(row) if row else None


async def claim_job(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[Job]:
    """Lock up to ``limit`` jobs that are due. Of those that wait only the head of the queue is ever claimed."""
    rows = await (await conn.execute(Q.claim_job, {"token": token, "lock_s": lock_s, "limit": limit})).fetchall()
    return [_job(row) for row in rows]


async def apply_job(conn: Connection, values: Mapping[str, Any]) -> Job | None:
    """Write what a step came to and unlock; None when the claim was lost. A cancellation that came meanwhile stays."""
    row = await (await conn.execute(Q.apply_job, values)).fetchone()
    return _job(row) if row else None


async def wake_queue(conn: Connection) -> None:
    """Look at the head of the queue again now."""
    await conn.execute(Q.wake_queue)


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
