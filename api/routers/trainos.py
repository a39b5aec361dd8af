"""Jobs over HTTP."""

from __future__ import annotations

import codecs
import math
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from actors.securityvault.policy import require
from aidos.schemas.checkpoints import CheckpointCreate, CheckpointUpload, CheckpointUploadRead, JobCheckpointRead
from aidos.schemas.common import PageOf
from aidos.schemas.queue import AmountsRead, CoverageRead, HistoryRead, QueueRead, QuotaBody, QuotaRead
from aidos.schemas.trainos import (
    CodeUpload,
    CodeUploadRead,
    JobChange,
    JobCreate,
    JobOutlook,
    JobRead,
    JobResume,
    JobSecretsRead,
    LogChunkRead,
    LogRead,
    LogText,
)
from api.deps import ApiRoute, PageDep, Session, SessionDep, TxDep, WaitS, needs
from api.forecasts import foretell, read_jobs
from api.log_search import find_lines
from api.pages import id_of, key_of, page_of, whole_below
from api.sockets import add_socket
from api.sse import HEARTBEAT_S, Batch, LastEventId, StreamEvent, follow
from api.tunnels import enter_job
from cluster.db import Connection
from tune.trainos import admission, service
from tune.trainos.log_search import LogSearch
from tune.trainos.models import CheckpointFile, CheckpointSpec, Job, JobSpec, LogChunk, Resources, Retention, Trust
from tune.trainos.queue import forecasts
from tune.trainos.queue import service as queue
from tune.trainos.queue.models import Quota
from tune.trainos.queue.trace import to_quota
from tune.trainos.secret_use import read_secrets
from tune.trainos.tunnel import PERMISSION as TUNNEL_PERMISSION

_STREAM_BATCH = 100
router = APIRouter(prefix="/v1/trainos", tags=["trainos"], route_class=ApiRoute)
add_socket(router, "/jobs/{job}/tunnel", TUNNEL_PERMISSION, enter_job)

JobName = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", description="Id of the job, or a name: then its newest job.")]
CheckpointName = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", description="`latest`, a step or an id.")]
After = Annotated[int, Query(ge=0, le=2**31 - 2, description="`last_seq` of the page before.")]
Array = Annotated[
    str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="Of this array the jobs, in place of all arrays as one job.")
]
Word = Annotated[str, Query(max_length=1000, description="All lines where it is empty.")]
Rank = Annotated[int | None, Query(ge=0, le=10_000, description="Only what the training's worker of this rank printed.")]
Follow = Annotated[bool, Query(description="Go on until the job has ended.")]
State = Annotated[str | None, Query(max_length=20, pattern=r"^[A-Z]+$", description="Only jobs in this state.")]


@router.post("/code", openapi_extra=needs("trainos:sandbox", transaction=False))
async def upload_code(body: CodeUpload, session: SessionDep) -> CodeUploadRead:
    """Where to PUT a packed code directory; no URL when it is there."""
    url = await service.find_code_upload(session.edge.objects, session.scope, body.sha256, body.size_bytes)
    return CodeUploadRead(sha256=body.sha256, upload_url=url)


@router.post("/jobs", status_code=201, openapi_extra=needs("trainos:sandbox", limit="submit_limit_per_minute"))
async def create_job(body: JobCreate, tx: TxDep) -> JobRead:
    """Queue a job; follow it with `GET …?wait=30s` and its logs. One that is not untrusted needs `trainos:write`."""
    spec = JobSpec.from_json(body.model_dump())
    if spec.trust is Trust.TRUSTED:
        require(tx.scope, "trainos:write")
    return await _changed(tx, await service.submit_job(tx.conn, tx.scope, spec))


async def _changed(tx: TxDep, job: Job) -> JobRead:
    """A job as it was just changed; an array with how many of its jobs are in which state."""
    return (await read_jobs(tx.conn, tx.scope, [job]))[0] if job.is_array else JobRead.model_validate(job)


@router.post("/jobs/outlook", openapi_extra=needs("trainos:read", transaction=False, audit=False, limit="submit_limit_per_minute"))
async def foretell_job(body: JobCreate, session: SessionDep) -> JobOutlook:
    """When a job would start and end if it were submitted now; nothing is queued."""
    return await foretell(session.edge.db, session.scope, JobSpec.from_json(body.model_dump()))


@router.get("/jobs", openapi_extra=needs("trainos:read"))
async def list_jobs(tx: TxDep, page: PageDep, state: State = None, array: Array = None) -> PageOf[JobRead]:
    """The project's jobs, newest first: an array as one, or with `array` the jobs of one."""
    found = await service.list_jobs(tx.conn, tx.scope, state, id_of(page.cursor), page.limit, array)
    reads = page_of(JobRead, found, page.limit, "id")
    reads.items = await read_jobs(tx.conn, tx.scope, found)
    return reads


@router.get("/jobs/{job}", openapi_extra=needs("trainos:read", transaction=False))
async def get_job(job: JobName, session: SessionDep, wait: WaitS) -> JobRead:
    """A job; with `wait`, once it has ended."""
    found = await session.wait_until(
        lambda conn: service.get_job(conn, session.scope, job), lambda now: wait == 0 or now.state.final, wait, ("trainos.job.",)
    )
    async with session.transaction() as conn:
        return (await read_jobs(conn, session.scope, [found]))[0]


@router.post("/jobs/{job}/cancel", status_code=202, openapi_extra=needs("trainos:write"))
async def cancel_job(job: JobName, tx: TxDep) -> JobRead:
    """End a job: at once while it waits, else as soon as Ray has stopped it."""
    return await _changed(tx, await service.cancel_job(tx.conn, tx.scope, job))


@router.patch("/jobs/{job}", openapi_extra=needs("trainos:write"))
async def change_job(job: JobName, body: JobChange, tx: TxDep) -> JobRead:
    """Give a job another priority among those of its project."""
    return await _changed(tx, await admission.set_priority(tx.conn, tx.scope, job, body.priority))


@router.post("/jobs/{job}/hold", openapi_extra=needs("trainos:write"))
async def hold_job(job: JobName, tx: TxDep) -> JobRead:
    """Keep a job that waits from starting, in its place."""
    return await _changed(tx, await admission.hold_job(tx.conn, tx.scope, job))


@router.post("/jobs/{job}/release", openapi_extra=needs("trainos:write"))
async def release_job(job: JobName, tx: TxDep) -> JobRead:
    """Let a job that was held start in its turn."""
    return await _changed(tx, await admission.release_job(tx.conn, tx.scope, job))


@router.get("/queue", openapi_extra=needs("trainos:read"))
async def get_queue(tx: TxDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> QueueRead:
    """The project's jobs that hold resources, then those that wait, each with the reason why."""
    jobs = await admission.list_queue(tx.conn, tx.scope, limit)
    coverage = CoverageRead.model_validate(await forecasts.measure_coverage(tx.conn, tx.scope))
    return QueueRead(items=await read_jobs(tx.conn, tx.scope, jobs), coverage=coverage)


@router.get("/queue/history", openapi_extra=needs("trainos:read"))
async def get_history(
    tx: TxDep, days: Annotated[int, Query(ge=1, le=3650)] = 30, limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000
) -> HistoryRead:
    """The project's jobs of so many days that have ended, the oldest first, as a trace to replay."""
    return HistoryRead(items=await queue.list_history(tx.conn, tx.scope, days, limit))


@router.get("/quota", openapi_extra=needs("trainos:read"))
async def get_quota(tx: TxDep) -> QuotaRead:
    """What the project may hold at once."""
    return _quota_read(await queue.get_quota(tx.conn, tx.scope))


@router.put("/quota", openapi_extra=needs("platform:operate"))
async def set_quota(body: QuotaBody, tx: TxDep) -> QuotaRead:
    """Say what the project may hold at once: for operators, since it is taken from what others have."""
    return _quota_read(await queue.set_quota(tx.conn, tx.scope, to_quota(body)))


def _quota_read(quota: Quota) -> QuotaRead:
    amounts = {name: _amounts(getattr(quota, name)) for name in ("nominal", "limit", "user_limit")}
    return QuotaRead(**amounts, weight=quota.weight)


def _amounts(resources: Resources) -> AmountsRead:
    return AmountsRead(**{name: amount if math.isfinite(amount) else None for name, amount in resources.__dict__.items()})


@router.post("/jobs/{job}/resume", status_code=201, openapi_extra=needs("trainos:write", limit="submit_limit_per_minute"))
async def resume_job(job: JobName, body: JobResume, tx: TxDep) -> JobRead:
    """Queue a job that goes on from a checkpoint of one that has ended, on the same code and commits."""
    return JobRead.model_validate(await service.resume_job(tx.conn, tx.scope, job, body.step, body.workers))


@router.post("/jobs/{job}/secrets", openapi_extra=needs("securityvault:self", transaction=False))
async def read_job_secrets(job: JobName, session: SessionDep) -> JobSecretsRead:
    """Values of the job's secrets, for its own token until it has ended; to everyone else there is no such job."""
    async with session.transaction() as conn:
        values, versions = await read_secrets(conn, session.scope, session.edge.vault.settings, job)
        await session.audit(conn, secrets=versions)
    return JobSecretsRead(environment=values)


@router.get("/jobs/{job}/logs", openapi_extra=needs("trainos:read", transaction=False))
async def get_job_logs(
    job: JobName, session: SessionDep, wait: WaitS, after: After = 0, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> LogRead:
    """Where the log's pieces after `after` are stored; with `wait`, once there is one or the job has ended."""
    return await session.wait_until(
        lambda conn: _read_log(conn, session, job, after, limit), lambda log: wait == 0 or bool(log.items) or log.complete, wait
    )


@router.get("/jobs/{job}/logs/stream", openapi_extra=needs("trainos:read", transaction=False), response_class=EventSourceResponse)
async def stream_job_logs(job: JobName, session: SessionDep, last_event_id: LastEventId = None) -> EventSourceResponse:
    """The log as server-sent events of `{"seq", "text"}`, from its beginning (or after `Last-Event-ID`) to the job's end."""
    return EventSourceResponse(_texts(session, job, last_event_id), ping=HEARTBEAT_S, headers={"Cache-Control": "no-store"})


@router.get("/jobs/{job}/logs/search", openapi_extra=needs("trainos:read", transaction=False), response_class=EventSourceResponse)
async def search_job_logs(
    job: JobName, session: SessionDep, word: Word = "", rank: Rank = None, follow: Follow = False, last_event_id: LastEventId = None
) -> EventSourceResponse:
    """The lines of the log with `word` in them, upper or lower case, as server-sent events of `{"number", "rank", "text"}`."""
    lines = find_lines(session, job, LogSearch(word, rank), follow, _sequence(last_event_id))
    return EventSourceResponse(lines, ping=HEARTBEAT_S, headers={"Cache-Control": "no-store"})


@router.post("/jobs/{job}/checkpoints/uploads", openapi_extra=needs("trainos:save", transaction=False))
async def upload_checkpoint(job: JobName, body: CheckpointUpload, session: SessionDep) -> CheckpointUploadRead:
    """Where to PUT the files of a checkpoint; those that are stored already have no URL."""
    async with session.transaction() as conn:
        owner = await service.get_running_job(conn, session.scope, job)
    measured = await service.measure_checkpoints(session.edge.objects, owner)
    return CheckpointUploadRead(upload_urls=service.find_uploads(session.edge.objects, owner, _files(body), measured))


@router.post("/jobs/{job}/checkpoints", status_code=201, openapi_extra=needs("trainos:save", transaction=False))
async def create_checkpoint(job: JobName, body: CheckpointCreate, session: SessionDep) -> JobCheckpointRead:
    """List a checkpoint whose files are all uploaded; before that nobody sees it. Repeating it changes nothing."""
    async with session.transaction() as conn:
        owner = await service.get_running_job(conn, session.scope, job)
    measured = await service.measure_checkpoints(session.edge.objects, owner)
    spec, keep = CheckpointSpec(body.step, _files(body), body.metrics), Retention(**body.keep.model_dump()) if body.keep else None
    async with session.change() as conn:
        made = await service.create_checkpoint(conn, session.scope, owner, spec, measured)
        gone = await service.expire_checkpoints(conn, session.scope, owner, keep, measured) if keep else []
    await session.edge.objects.remove(gone)
    return JobCheckpointRead.model_validate(made)


@router.get("/jobs/{job}/checkpoints", openapi_extra=needs("trainos:read"))
async def list_checkpoints(job: JobName, tx: TxDep, page: PageDep) -> PageOf[JobCheckpointRead]:
    """The complete checkpoints of a job, the highest step first."""
    before = key_of(page.cursor, whole_below(2**63))
    owner = await service.get_job(tx.conn, tx.scope, job)
    found = await service.list_checkpoints(tx.conn, tx.scope, owner, before, page.limit)
    return page_of(JobCheckpointRead, found, page.limit, "step")


@router.get("/jobs/{job}/checkpoints/{checkpoint}", openapi_extra=needs("trainos:read"))
async def get_checkpoint(job: JobName, checkpoint: CheckpointName, tx: TxDep) -> JobCheckpointRead:
    """One checkpoint, with a URL for each of its files."""
    owner = await service.get_job(tx.conn, tx.scope, job)
    read = JobCheckpointRead.model_validate(await service.get_checkpoint(tx.conn, tx.scope, owner, checkpoint))
    for file in read.files:
        file.url = tx.objects.presign_get(service.checkpoint_key(owner, CheckpointFile(file.path, file.sha256, file.size_bytes)))
    return read


def _files(body: CheckpointUpload) -> tuple[CheckpointFile, ...]:
    return tuple(CheckpointFile(**file.model_dump()) for file in body.files)


async def _read_log(conn: Connection, session: Session, name: str, after: int, limit: int) -> LogRead:
    job = await service.get_job(conn, session.scope, name)
    chunks = await service.list_chunks(conn, session.scope, job, after, limit)
    end = await service.get_log_end(conn, session.scope, job)
    items = [LogChunkRead(**_without_key(chunk), url=session.edge.objects.presign_get(chunk.key)) for chunk in chunks]
    last = items[-1].seq if items else after
    return LogRead(items=items, last_seq=last, size_bytes=end.size_bytes, complete=job.state.final and last >= end.seq)


def _without_key(chunk: LogChunk) -> dict[str, int]:
    return {"seq": chunk.seq, "attempt": chunk.attempt, "offset_bytes": chunk.offset_bytes, "size_bytes": chunk.size_bytes}


async def _texts(session: Session, name: str, last_event_id: str | None) -> AsyncIterator[ServerSentEvent]:
    """The rows come from transactions of ``follow``; the bytes are read outside of them, one piece at a time."""

    async def read(conn: Connection, after: str | None) -> Batch:
        job: Job = await service.get_job(conn, session.scope, name)
        chunks = await service.list_chunks(conn, session.scope, job, _sequence(after), _STREAM_BATCH)
        events = [StreamEvent(str(chunk.seq), chunk.key) for chunk in chunks]
        return Batch(events, more=len(chunks) == _STREAM_BATCH, done=job.state.final and len(chunks) < _STREAM_BATCH)

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async for event in follow(session, read, last_event_id):
        if event.event == "message":
            text = decoder.decode(await session.edge.objects.get(str(event.data)))
            yield ServerSentEvent(LogText(seq=_sequence(event.id), text=text).model_dump_json(), id=event.id)
        else:
            yield event


def _sequence(text: str | None) -> int:
    """A sequence number from outside; whatever is none reads from the beginning."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else 0
