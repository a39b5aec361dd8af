"""The verbs of TrainOS: write what is wanted; the reconciler makes it so on Ray."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.errors import RunNotFound, WrongRunState
from actors.modelhub.models import Node, NodeKind, RunSpec, RunState
from actors.securityvault import service as securityvault
from actors.securityvault.models import Principal, PrincipalKind, Role, Scope
from actors.securityvault.policy import JOB_SCOPES, SANDBOXED_JOB_SCOPES
from aidos.schemas.job_arrays import parse_array
from cluster.db import Connection, new_id
from cluster.events import Event, publish, publish_all
from cluster.objects import Objects, prefix_key
from cluster.settings import Settings
from cluster.telemetry import current_traceparent
from data_pipelines.dataforge import service as dataforge
from tune.trainos import store
from tune.trainos.announcements import lease_event, state_event
from tune.trainos.errors import CheckpointExists, CheckpointIncomplete, CheckpointNotFound, JobEnded, JobIsArray, JobNotEnded, JobNotFound
from tune.trainos.models import (
    Checkpoint,
    CheckpointFile,
    CheckpointSpec,
    GitCode,
    Input,
    Job,
    JobSpec,
    JobState,
    LogChunk,
    LogEnd,
    Origin,
    Outcome,
    RayJob,
    Retention,
    Submitter,
    Trust,
)
from tune.trainos.policy import decayed_use, find_expired, split_reference
from tune.trainos.queue.capacity import check_fits
from tune.trainos.secret_use import check_secrets
from tune.trainos.trust import fit_sandbox

SUBMISSION_PREFIX = "aidos-"
_PLATFORM = f"{PrincipalKind.PLATFORM}:{UUID(int=0)}"
HOLDING = frozenset({JobState.STARTING, JobState.RUNNING, JobState.PREEMPTING, JobState.CANCELLING})
_FINAL_RUN_STATES = {JobState.SUCCEEDED: RunState.FINISHED, JobState.FAILED: RunState.FAILED, JobState.CANCELLED: RunState.KILLED}


def code_key(project_id: UUID, sha256: str) -> str:
    """Where a code package lies; content-addressed, so packing the same directory twice uploads nothing."""
    return prefix_key(project_id, "code", project_id, f"{sha256}.zip")


def git_key(project_id: UUID, code: GitCode) -> str:
    """Where the package of a commit is kept once it was fetched. No client is given a URL to write there."""
    return prefix_key(project_id, "code", project_id, f"git/{hashlib.sha256(f'{code.git} {code.commit}'.encode()).hexdigest()}.zip")


async def find_code_upload(objects: Objects, scope: Scope, sha256: str, size_bytes: int) -> str | None:
    """A URL to PUT the package to, or None when it is there."""
    key = code_key(scope.project, sha256)
    known = await objects.find(key)
    return None if known is not None and known.size_bytes == size_bytes else objects.presign_put(key)


async def submit_job(conn: Connection, scope: Scope, spec: JobSpec) -> Job:
    """Queue a job: its datasets become commits now, its run is begun and the lineage written.

    Raises: SandboxUnfit, JobTooLarge, DatasetReferenceInvalid, DatasetNotFound, RefNotFound, JobNotFound for one that it depends on.
    """
    spec = fit_sandbox(spec)
    await check_fits(conn, spec)
    after = sorted({(await get_job(conn, scope, name)).id for name in spec.after})
    return await submit_pinned(conn, scope, spec, [await _resolve(conn, scope, reference) for reference in spec.datasets], after)


async def submit_again(conn: Connection, job: Job, scope: Scope | None = None) -> Job:
    """Queue another job like this one, on the same commits: for ``scope``, or for whoever submitted it with the rights they had then."""
    return await submit_pinned(conn, scope or _submitter_scope(job), job.spec, job.inputs)


async def submit_pinned(conn: Connection, scope: Scope, spec: JobSpec, inputs: Sequence[Input], after: Sequence[UUID] = ()) -> Job:
    """Queue a job on commits that are known, whatever its references mean now. It waits for the jobs ``after``, and for none that an
    earlier job of this spec waited for. Raises: SecretUnknown, Forbidden."""
    await check_secrets(conn, scope, spec)
    job_id, spec = new_id(), spec if after else replace(spec, after=())
    row = _row(scope, job_id, spec) | {"inputs": inputs}
    if spec.array is None:
        row["run_id"] = await _create_run(conn, scope, job_id, spec, inputs)
    job = await store.insert_job(conn, row)
    assert job is not None
    if after:
        await store.insert_dependencies(conn, scope.project, job.id, after)
    if spec.array is not None:
        indices = parse_array(spec.array).indices
        ids = sorted(new_id() for _ in indices)
        await store.insert_members(conn, job.id, ids, indices, 0 if after else job.array_limit)
    await _publish(conn, job, scope.actor)
    return job


async def _create_run(conn: Connection, scope: Scope, job_id: UUID, spec: JobSpec, inputs: Sequence[Input]) -> UUID:
    nodes = tuple(Node(NodeKind.COMMIT, str(item.commit_id), item.reference) for item in inputs)
    run = await modelhub.create_run(
        conn, scope, RunSpec(experiment=spec.experiment or spec.name, name=spec.name, job_id=job_id, inputs=nodes)
    )
    await modelhub.add_edge(conn, scope, Node(NodeKind.JOB, str(job_id), spec.name), Node(NodeKind.RUN, str(run.id), run.name), "ran as")
    return run.id


async def begin_run(conn: Connection, job: Job) -> Job | None:
    """The job with a run, which a job of an array has only from its first start on; None when the claim on it was lost."""
    scope = submitter_scope(job.org_id, job.project_id, job.project_name, job.submitter, job.created_by)
    return await store.set_run(conn, job.id, job.lock_token, await _create_run(conn, scope, job.id, job.spec, job.inputs))


async def _resolve(conn: Connection, scope: Scope, reference: str) -> Input:
    commit = await dataforge.get_commit(conn, scope, *split_reference(reference))
    return Input(reference, commit.dataset, commit.id)


def _row(scope: Scope, job_id: UUID, spec: JobSpec) -> dict[str, Any]:
    array = None if spec.array is None else parse_array(spec.array)
    return {
        "id": job_id,
        "org_id": scope.org_id,
        "project_id": scope.project,
        "project_name": scope.project_name or str(scope.project),
        "name": spec.name,
        "origin": Origin.AIDOS,
        "spec": spec,
        "inputs": [],
        "state": JobState.QUEUED,
        "run_id": None,
        "attempt": 0,
        "submission_id": None,
        "started_at": None,
        "priority": spec.priority,
        # An array never enters the queue: its jobs do.
        "waits": bool(spec.after) or array is not None,
        "is_array": array is not None,
        "array_size": len(array.indices) if array else None,
        "array_limit": array.at_once if array else None,
        "created_by": scope.actor,
        "submitter": submitter_of(scope),
        "traceparent": current_traceparent(),
    }


def submitter_of(scope: Scope) -> Submitter:
    """What who acts may do, to be kept."""
    scopes = None if scope.principal.scopes is None else tuple(sorted(scope.principal.scopes))
    return Submitter(scope.role, scopes, scope.principal.user_id)


async def adopt_job(conn: Connection, scope: Scope, ray: RayJob) -> Job | None:
    """Take a job that an operator submitted to Ray itself into the list; None when it is known."""
    spec = JobSpec(name=ray.submission_id[:100], command=(ray.entrypoint[:10_000],), workers=0, max_retries=0)
    changes = {
        "origin": Origin.RAY,
        "state": JobState.RUNNING,
        "submission_id": ray.submission_id,
        "attempt": 1,
        "started_at": ray.started_at or datetime.now(UTC),
    }
    job = await store.insert_job(conn, _row(scope, new_id(), spec) | changes)
    if job is not None:
        await _publish(conn, job, scope.actor)
    return job


async def list_submissions(conn: Connection, submission_ids: Sequence[str]) -> set[str]:
    """Which of these Ray submissions are known."""
    return await store.list_submissions(conn, submission_ids)


async def get_job(conn: Connection, scope: Scope, name: str) -> Job:
    """By id, or the newest of that name. Raises: JobNotFound."""
    job = await store.find_job(conn, scope.project, name)
    if job is None:
        raise JobNotFound(name=name)
    return job


async def find_jobs(conn: Connection, scope: Scope, ids: Collection[UUID]) -> list[Job]:
    """Those of these ids that are there."""
    return await store.find_jobs(conn, scope.project, ids)


async def list_jobs(
    conn: Connection, scope: Scope, state: str | None, before: UUID | None, limit: int, array: str | None = None
) -> list[Job]:
    """Newest first: of arrays only themselves, or the jobs of one ``array``. Raises: JobNotFound."""
    if array is None:
        return await store.list_jobs(conn, scope.project, state, before, limit)
    return await store.list_members(conn, scope.project, (await get_job(conn, scope, array)).id, state, before, limit)


async def count_members(conn: Connection, scope: Scope, jobs: Sequence[Job]) -> dict[UUID, dict[str, int]]:
    """Of those that are arrays: how many of their jobs are in each state."""
    arrays = [job.id for job in jobs if job.is_array]
    return await store.count_members(conn, scope.project, arrays) if arrays else {}


async def cancel_job(conn: Connection, scope: Scope, name: str) -> Job:
    """Ask for its end; asking twice is no error. Raises: JobNotFound, JobEnded."""
    job = await get_job(conn, scope, name)
    if job.state is JobState.CANCELLING:
        return job
    cancelled = await store.cancel_job(conn, scope.project, job.id, f"cancelled by {scope.actor}")
    now = next((each for each in cancelled if each.id == job.id), None)
    if now is None:
        now = await get_job(conn, scope, str(job.id))
        if now.state is JobState.CANCELLING:
            return now
        raise JobEnded(job=now.name, state=now.state)
    await tell_changes(conn, scope, cancelled, scope.actor)
    return now


async def tell_changes(conn: Connection, scope: Scope, jobs: Sequence[Job], actor: str) -> None:
    """The events of jobs that ``actor`` brought into their states, and what the end of those that have ended brings with it."""
    told = [job for job in jobs if job.is_told]
    await publish_all(conn, [state_event(job, actor) for job in told])
    for job in told:
        if job.state.final:
            await end_job(conn, scope, job)


async def count_live_jobs(conn: Connection) -> dict[str, int]:
    """Of all projects, by state."""
    return await store.count_live_jobs(conn)


def _submitter_scope(job: Job) -> Scope:
    return submitter_scope(job.org_id, job.project_id, job.project_name, job.submitter)


def submitter_scope(org_id: UUID, project_id: UUID, project_name: str, by: Submitter, actor: str = _PLATFORM) -> Scope:
    """The platform, in place of who submitted it and with the rights they had then; ``actor`` is on the record for it."""
    kind, _, id = actor.partition(":")
    scopes = None if by.scopes is None else frozenset(by.scopes)
    principal = Principal(PrincipalKind(kind), UUID(id), "platform", org_id, scopes=scopes, user_id=by.account_id)
    return Scope(principal, org_id, project_id, project_name, Role(by.role) if by.role else None)


async def issue_token(conn: Connection, job: Job, settings: Settings) -> str:
    """A token for the code of the job's present attempt, no stronger than who submitted it. Raises: JobIsOver."""
    scopes = SANDBOXED_JOB_SCOPES if job.spec.trust is Trust.UNTRUSTED else JOB_SCOPES
    return await securityvault.issue_job_token(conn, _submitter_scope(job), job.id, job.attempt, settings=settings, scopes=scopes)


async def apply_outcome(conn: Connection, scope: Scope, job: Job, token: UUID, outcome: Outcome) -> bool:
    """Write what a step came to, with its events, lease, run and tokens; False when the claim was lost."""
    now = datetime.now(UTC)
    holds = outcome.state in HOLDING
    lease_id = (job.lease_id or new_id()) if holds else None
    values = {
        "id": job.id,
        "token": token,
        "state": outcome.state,
        "reason": outcome.reason[:2000],
        "exit_code": outcome.exit_code,
        "attempt": job.attempt,
        "submission_id": job.submission_id,
        "ray_session": job.ray_session,
        "log_directory": job.log_directory,
        "lease_id": lease_id,
        "started_at": job.started_at,
        "finished_at": now if outcome.state.final else None,
        "token_renewed_at": job.token_renewed_at,
        "due_at": job.due_at,
        "preemptions": job.preemptions,
        "restarts": job.restarts,
        "again_s": outcome.again_s,
        **outcome.changes,
    }
    applied = await store.apply_job(conn, values)
    if applied is None:
        return False
    if lease_id != job.lease_id:
        await publish(conn, lease_event(job, scope.actor, lease_id or job.lease_id, "opened" if lease_id else "closed", now))
    if lease_id is None and job.admitted_at is not None:
        held_s = (now - job.admitted_at).total_seconds()
        await store.charge_usage(conn, job.project_id, decayed_use(job.resources, held_s), now)
    if applied.state is not job.state:
        await _publish(conn, applied, scope.actor)
    if applied.state.final:
        await end_job(conn, scope, applied)
    return True


async def end_job(conn: Connection, scope: Scope, job: Job) -> None:
    """What the end of a job brings with it: its tokens are dead, its run is over."""
    await securityvault.revoke_job_tokens(conn, job.id)
    if job.run_id is not None:
        # The job's code may have ended or deleted its run itself.
        with contextlib.suppress(WrongRunState, RunNotFound):
            await modelhub.finish_run(conn, scope, job.run_id, _FINAL_RUN_STATES[job.state])


async def _publish(conn: Connection, job: Job, actor: str) -> None:
    await publish(conn, state_event(job, actor))


async def get_log_end(conn: Connection, scope: Scope, job: Job) -> LogEnd:
    """How much of the job's log is kept."""
    return await store.log_end(conn, scope.project, job.id, job.attempt)


async def keep_chunk(conn: Connection, job: Job, token: UUID, end: LogEnd, key: str, size_bytes: int) -> bool:
    """Append a stored piece of log after ``end``; False when the claim on the job was lost."""
    values = {
        "job_id": job.id,
        "token": token,
        "seq": end.seq + 1,
        "attempt": job.attempt,
        "key": key,
        "offset_bytes": end.size_bytes,
        "attempt_offset_bytes": end.attempt_offset_bytes,
        "size_bytes": size_bytes,
    }
    return await store.insert_chunk(conn, values)


async def list_chunks(conn: Connection, scope: Scope, job: Job, after: int, limit: int) -> list[LogChunk]:
    """The log's pieces after number ``after``. Raises: JobIsArray."""
    if job.is_array:
        raise JobIsArray(job=job.name)
    return await store.list_chunks(conn, scope.project, job.id, after, limit)


def checkpoint_key(job: Job, file: CheckpointFile) -> str:
    """Where a checkpoint's file lies; the same content in two checkpoints of a job is stored once."""
    return prefix_key(job.project_id, "checkpoints", job.id, file.sha256)


async def measure_checkpoints(objects: Objects, job: Job) -> dict[str, int]:
    """Sizes of the files that are stored for the job, by key. Network: call it outside any transaction."""
    return {info.key: info.size_bytes for info in await objects.list_prefix(prefix_key(job.project_id, "checkpoints", job.id))}


def find_uploads(objects: Objects, job: Job, files: Sequence[CheckpointFile], measured: Mapping[str, int]) -> list[str | None]:
    """For each file a URL to PUT it to, None where it is stored."""
    keys = [checkpoint_key(job, file) for file in files]
    return [None if measured.get(key) == file.size_bytes else objects.presign_put(key) for key, file in zip(keys, files, strict=True)]


async def create_checkpoint(
    conn: Connection, scope: Scope, job: Job, checkpoint: CheckpointSpec, measured: Mapping[str, int]
) -> Checkpoint:
    """List a checkpoint, all of whose files are stored. Saving the same once more changes nothing.

    Raises: CheckpointIncomplete, CheckpointExists.
    """
    for file in checkpoint.files:
        actual = measured.get(checkpoint_key(job, file))
        if actual != file.size_bytes:
            raise CheckpointIncomplete(path=file.path, actual=actual or 0, expected=file.size_bytes)
    values = {
        "id": new_id(),
        "project_id": scope.project,
        "job_id": job.id,
        "step": checkpoint.step,
        "files": list(checkpoint.files),
        "size_bytes": sum(file.size_bytes for file in checkpoint.files),
        "metrics": dict(checkpoint.metrics),
        "attempt": job.attempt,
    }
    made = await store.insert_checkpoint(conn, values)
    if made is None:
        known = await get_checkpoint(conn, scope, job, str(checkpoint.step))
        if set(known.files) != set(checkpoint.files):
            raise CheckpointExists(job=job.name, step=checkpoint.step)
        return known
    data = {"name": job.name, "step": made.step, "size_bytes": made.size_bytes}
    event = Event(
        type="trainos.checkpoint.created",
        subject=str(job.id),
        org_id=scope.org_id,
        project_id=scope.project,
        actor=scope.actor,
        data=data,
    )
    await publish(conn, event)
    return made


async def expire_checkpoints(conn: Connection, scope: Scope, job: Job, keep: Retention, measured: Mapping[str, int]) -> list[str]:
    """Delete the checkpoints that are not to be kept; the keys of the files that none of the others has, to be removed after the transaction.

    Among them are files that a killed save left. ``measured`` are the job's stored files, looked at when the caller's own were all there.
    """
    known = await store.list_checkpoints(conn, scope.project, job.id, None, None)
    expired = find_expired(known, keep)
    if expired:
        await store.delete_checkpoints(conn, scope.project, job.id, [each.step for each in expired])
        data = {"name": job.name, "steps": [each.step for each in expired]}
        await publish(conn, Event("trainos.checkpoint.deleted", str(job.id), scope.org_id, scope.project, scope.actor, data))
    gone = {each.step for each in expired}
    used = {checkpoint_key(job, file) for each in known if each.step not in gone for file in each.files}
    return [key for key in measured if key not in used]


async def resume_job(conn: Connection, scope: Scope, name: str, step: int | None, workers: int | None) -> Job:
    """Queue a job like one that has ended, on the same code and commits, that begins with its checkpoint.

    Raises: JobNotFound, JobNotEnded, CheckpointNotFound, SandboxUnfit, JobTooLarge.
    """
    job = await get_job(conn, scope, name)
    if not job.state.final:
        raise JobNotEnded(job=job.name, state=job.state)
    await get_checkpoint(conn, scope, job, "latest" if step is None else str(step))
    begin = str(job.id) if step is None else f"{job.id}@{step}"
    spec = fit_sandbox(replace(job.spec, resume_from=begin, workers=job.spec.workers if workers is None else workers))
    await check_fits(conn, spec)
    resumed = await submit_pinned(conn, scope, spec, job.inputs)
    before, after = (Node(NodeKind.JOB, str(each.id), each.name) for each in (job, resumed))
    await modelhub.add_edge(conn, scope, before, after, "resumed as")
    return resumed


async def get_running_job(conn: Connection, scope: Scope, name: str) -> Job:
    """The job, where the caller may save into it: user code only into its own. Raises: JobNotFound, JobEnded."""
    job = await get_job(conn, scope, name)
    if scope.principal.job_id is not None and scope.principal.job_id != job.id:
        raise JobNotFound(name=name)
    if job.state.final:
        raise JobEnded(job=job.name, state=job.state)
    return job


async def get_checkpoint(conn: Connection, scope: Scope, job: Job, name: str) -> Checkpoint:
    """By ``latest``, step or id. Raises: CheckpointNotFound."""
    checkpoint = await store.find_checkpoint(conn, scope.project, job.id, name)
    if checkpoint is None:
        raise CheckpointNotFound(job=job.name, name=name)
    return checkpoint


async def has_saved_since(conn: Connection, job: Job, since: datetime) -> bool:
    """Whether it has listed a checkpoint after that moment."""
    return await store.has_saved_since(conn, job.project_id, job.id, since)


async def list_checkpoints(conn: Connection, scope: Scope, job: Job, before: int | None, limit: int) -> list[Checkpoint]:
    """The highest step first."""
    return await store.list_checkpoints(conn, scope.project, job.id, before, limit)
