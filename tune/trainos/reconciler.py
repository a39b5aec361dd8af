"""Brings admitted jobs to their end on Ray: submit, follow, keep the log, end. One short step at a time.

A step looks at Ray, keeps what the job printed, decides (``policy.decide``) and writes the outcome under its lock. So a killed
process loses nothing: the next one takes the same step again. The submission id is made of job and attempt, the log's offset is
written with each piece of it.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from actors.securityvault import service as securityvault
from actors.securityvault.models import platform_scope
from cluster import metrics, telemetry
from cluster.db import Connection, Database
from cluster.events import Topics
from cluster.host import Host
from cluster.objects import Objects, prefix_key
from cluster.reconciler import LostClaim, Reconciler
from cluster.settings import Settings, networks
from tune.trainos import policy, service, store
from tune.trainos.code_package import BadPackage, check_package
from tune.trainos.git_code import fetch_commit
from tune.trainos.job_environment import build_job_environment
from tune.trainos.job_token import code_key, notice_key, token_key
from tune.trainos.models import GitCode, Job, JobState, Origin, Outcome, RayJob, Trust
from tune.trainos.ray_cluster import JobCluster, RayCluster
from tune.trainos.secret_use import find_gone_secret

CHUNK_BYTES = 2**20
CHUNKS_A_STEP = 8
GIVE_UP_ATTEMPTS = 10
_FOLLOW_S = 1.0
_ADOPT_S = 5.0

log = telemetry.get_logger(__name__)


class JobReconciler(Reconciler[Job]):
    """Claims every admitted job once a second; who is admitted is the queue's to say (``queue/reconciler.py``)."""

    name: ClassVar[str] = "trainos.jobs"
    table: ClassVar[tuple[str, str]] = ("trainos", "jobs")
    topics: ClassVar[Topics] = ("trainos.",)
    concurrency: ClassVar[int] = 16
    lock_s: ClassVar[float] = 15.0
    poll_s: ClassVar[float] = 1.0
    backoff_cap_s: ClassVar[float] = 15.0

    def __init__(self, db: Database, objects: Objects, settings: Settings, ray: JobCluster) -> None:
        super().__init__(db)
        self.objects, self.settings, self.ray = objects, settings, ray

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Job]:
        return await store.claim_job(conn, token, lock_s, limit)

    async def process(self, item: Job) -> Outcome:
        with telemetry.bind(project_id=item.project_id, job_id=item.id):
            return await self._step(item)

    async def apply(self, conn: Connection, item: Job, token: UUID, outcome: Outcome) -> bool:
        return await service.apply_outcome(conn, platform_scope(item.org_id, item.project_id), item, token, outcome)

    def is_news(self, item: Job, outcome: Outcome) -> bool:
        return bool(outcome.changes) or super().is_news(item, outcome)

    async def give_up(self, conn: Connection, item: Job, token: UUID, error: BaseException) -> bool:
        if item.state is not JobState.STARTING or item.attempts < GIVE_UP_ATTEMPTS:
            return False
        return await self.apply(conn, item, token, Outcome(JobState.FAILED, f"could not be started: {error}"))

    async def _step(self, job: Job) -> Outcome:
        assert job.submission_id is not None
        ray_job = await self.ray.find(job.submission_id)
        session = self.ray.session()
        drained = await self._keep_log(job, ray_job)
        saved, grace_s = await self._has_saved_since_asked(job), self.settings.preemption_grace_s
        step = policy.decide(job, ray_job, session.name, datetime.now(UTC), saved, grace_s)
        if step.action == policy.SUBMIT:
            return await self._submit(job)
        if step.action == policy.STOP:
            await self.ray.stop(job.submission_id)
            return Outcome(step.state, step.reason, again_s=0.5)
        if not drained:
            return Outcome(job.state, job.reason, again_s=0)
        if step.action == policy.FOLLOW:
            return await self._follow(job, step)
        for key in (token_key, notice_key, code_key):
            await self.ray.drop_note(key(str(job.id), job.attempt))
        changes: dict[str, object] = {"due_at": datetime.now(UTC) + timedelta(seconds=step.pause_s)}
        if step.action == policy.GIVE_WAY:
            changes["preemptions"] = job.preemptions + 1
        elif step.action == policy.RESTART:
            changes["restarts"] = job.restarts + 1
        return Outcome(step.state, step.reason, step.exit_code, changes)

    async def _has_saved_since_asked(self, job: Job) -> bool:
        if job.state is not JobState.PREEMPTING or job.preempted_at is None:
            return False
        async with self.db.platform() as conn:
            return await service.has_saved_since(conn, job, job.preempted_at)

    async def _submit(self, job: Job) -> Outcome:
        with telemetry.span("trainos.submit", aidos__job=job.name, aidos__attempt=job.attempt):
            session = self.ray.session()
            if gone := await self._find_gone(job):
                return Outcome(JobState.FAILED, gone)
            job = job if job.run_id is not None else await self._begin_run(job)
            await self._renew_token(job)
            # What the job's code asks of the platform is the submit's child in the trace.
            traced = replace(job, traceparent=telemetry.current_traceparent())
            environment = build_job_environment(traced, self.settings.url, self.settings.s3_endpoint, self.settings.free_disk_bytes)
            with tempfile.TemporaryDirectory(prefix="aidos-code-") as folder:
                try:
                    package = await self._fetch_package(job, Path(folder))
                except BadPackage as bad:
                    return Outcome(JobState.FAILED, str(bad))
                if package is not None and job.spec.trust is Trust.UNTRUSTED:
                    # Python runs what lies in Ray's working directory under names that it knows: nothing of it may lie there.
                    await self.ray.put_note(code_key(str(job.id), job.attempt), self.objects.presign_get(_package_key(job)))
                    package = None
                await self.ray.submit(job, package, environment)
        changes = {"ray_session": session.name, "log_directory": session.log_directory, "token_renewed_at": datetime.now(UTC)}
        return Outcome(JobState.STARTING, job.reason, changes=changes, again_s=0.3)

    async def _find_gone(self, job: Job) -> str | None:
        async with self.db.platform() as conn:
            return await find_gone_secret(conn, job)

    async def _begin_run(self, job: Job) -> Job:
        async with self.db.platform() as conn:
            begun = await service.begin_run(conn, job)
            if begun is None:
                raise LostClaim(job.name)
            return begun

    async def _fetch_package(self, job: Job, folder: Path) -> Path | None:
        path = folder / "code.zip"
        if job.spec.code is not None:
            await self._fetch_git(_package_key(job), job.spec.code, path)
        elif job.spec.code_sha256 is not None:
            await self._fetch_upload(_package_key(job), job.spec.code_sha256, path)
        else:
            return None
        await asyncio.to_thread(check_package, path, job.spec.code_sha256)
        return path

    async def _fetch_upload(self, key: str, sha256: str, path: Path) -> None:
        if await self.objects.find(key) is None:
            raise BadPackage(f"the code package {sha256} was never uploaded: PUT it to the URL that POST /v1/trainos/code gives")
        await self.objects.download(key, str(path))

    async def _fetch_git(self, key: str, code: GitCode, path: Path) -> None:
        """From the repository once; then what it was is kept, whatever becomes of the repository."""
        if await self.objects.find(key) is not None:
            await self.objects.download(key, str(path))
            return
        await asyncio.to_thread(fetch_commit, code.git, code.commit, path, networks(self.settings.git_networks))
        await self.objects.put(key, await asyncio.to_thread(path.read_bytes), "application/zip")

    async def _follow(self, job: Job, step: policy.Step) -> Outcome:
        changes: dict[str, object] = {}
        if step.state is JobState.RUNNING and job.started_at is None:
            changes["started_at"] = datetime.now(UTC)
        if job.log_directory is None:
            session = self.ray.session()
            changes |= {"ray_session": session.name, "log_directory": session.log_directory}
        if step.state is JobState.PREEMPTING:
            await self.ray.put_note(notice_key(str(job.id), job.attempt), str(job.preempted_for))
        if self._renewal_due(job):
            await self._renew_token(job)
            changes["token_renewed_at"] = datetime.now(UTC)
        return Outcome(step.state, step.reason, changes=changes, again_s=_FOLLOW_S)

    def _renewal_due(self, job: Job) -> bool:
        if job.origin is Origin.RAY:
            return False
        # Without a date TrainOS was killed between the submission and its record.
        life = timedelta(seconds=self.settings.job_token_ttl_s)
        return job.token_renewed_at is None or datetime.now(UTC) > job.token_renewed_at + life / 3

    async def _renew_token(self, job: Job) -> None:
        async with self.db.platform() as conn:
            token = await service.issue_token(conn, job, self.settings)
        await self.ray.put_note(token_key(str(job.id), job.attempt), token)

    async def _keep_log(self, job: Job, ray_job: RayJob | None) -> bool:
        """Store what the driver printed since the last look, up to a bound; whether the end of its file was reached."""
        directory = job.log_directory or (self.ray.session().log_directory if ray_job is not None else None)
        if directory is None or job.submission_id is None or job.lock_token is None:
            return True
        scope = platform_scope(job.org_id, job.project_id)
        async with self.db.platform() as conn:
            end = await service.get_log_end(conn, scope, job)
        for _ in range(CHUNKS_A_STEP):
            node_id = ray_job.node_id if ray_job else None
            data = await self.ray.read_log(directory, job.submission_id, node_id, end.attempt_offset_bytes, CHUNK_BYTES)
            if not data:
                return True
            full = len(data) == CHUNK_BYTES
            if full and (cut := data.rfind(b"\n") + 1):
                data = data[:cut]
            # The name has the claim's token: of two writers after a lost claim neither touches the other's piece.
            key = prefix_key(job.project_id, "logs", job.id, f"{end.seq + 1:08d}-{job.lock_token.hex[:12]}")
            await self.objects.put(key, data, "text/plain; charset=utf-8")
            async with self.db.platform() as conn:
                if not await service.keep_chunk(conn, job, job.lock_token, end, key, len(data)):
                    raise LostClaim(job.name)  # whoever has the claim now does the work
                end = await service.get_log_end(conn, scope, job)
            if not full:
                return True
        return False


async def reconcile_jobs(host: Host) -> None:
    """A loop of the named actor ``trainos``."""
    await JobReconciler(host.db, host.objects, host.settings, RayCluster(host.settings)).run(host.holder, host.wakeup)


async def report_jobs(host: Host) -> None:
    """How many jobs there are in each state, for the dashboards."""
    await host.report(metrics.JOBS, [state for state in JobState if not state.final], service.count_live_jobs)


def _package_key(job: Job) -> str:
    if job.spec.code is not None:
        return service.git_key(job.project_id, job.spec.code)
    return service.code_key(job.project_id, str(job.spec.code_sha256))


async def adopt_ray_jobs(host: Host) -> None:
    """The other loop of that actor."""
    await adopt_for_ever(host.db, RayCluster(host.settings))


async def adopt_for_ever(db: Database, ray: JobCluster) -> None:
    """What an operator submits to Ray itself appears in the default project."""
    while True:
        try:
            await adopt_once(db, ray)
        except Exception as error:
            log.warning("trainos.adoption_failed", error=str(error))
        await asyncio.sleep(_ADOPT_S)


async def adopt_once(db: Database, ray: JobCluster) -> int:
    """Adopt every submission that came past TrainOS; how many there were."""
    foreign = [job for job in await ray.list_jobs() if not job.submission_id.startswith(service.SUBMISSION_PREFIX)]
    if not foreign:
        return 0
    async with db.platform() as conn:
        known = await service.list_submissions(conn, [job.submission_id for job in foreign])
        strangers = [job for job in foreign if job.submission_id not in known]
        if not strangers:
            return 0
        scope = await securityvault.default_scope(conn)
        for job in strangers:
            await service.adopt_job(conn, scope, job)
    return len(strangers)
