"""Looks after the jobs of studies that run: one that was killed or lost is begun again, any other end is the study's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from actors.securityvault.models import platform_scope
from cluster.db import Connection
from cluster.events import Topics
from cluster.host import Host
from cluster.reconciler import Reconciler
from tune.studies import policy, service, store
from tune.studies.models import Outcome, Study
from tune.trainos import service as trainos
from tune.trainos.models import Job


class StudyReconciler(Reconciler[Study]):
    """Claims running studies that are due to be looked at."""

    name: ClassVar[str] = "studies.studies"
    table: ClassVar[tuple[str, str]] = ("studies", "studies")
    topics: ClassVar[Topics] = ("studies.study.", "trainos.job.")

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Study]:
        return await store.claim_study(conn, token, lock_s, limit)

    async def process(self, item: Study) -> tuple[Job, Outcome]:
        scope = platform_scope(item.org_id, item.project_id)
        async with self.db.platform() as conn:
            job = await trainos.get_job(conn, scope, str(item.job_id))
        return job, policy.after_job(job, item.restarts)

    def is_news(self, item: Study, outcome: tuple[Job, Outcome]) -> bool:
        return outcome[1].state is not item.state or outcome[1].begin_again

    async def apply(self, conn: Connection, item: Study, token: UUID, outcome: tuple[Job, Outcome]) -> bool:
        job, decided = outcome
        return await service.apply_outcome(conn, platform_scope(item.org_id, item.project_id), item, token, job, decided)


async def reconcile_studies(host: Host) -> None:
    """A loop of the named actor ``trainos``."""
    await StudyReconciler(host.db).run(host.holder, host.wakeup)
