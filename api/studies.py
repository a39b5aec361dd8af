"""What studies cost, where they and CostOptimizer meet; and how they are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from actors.costoptimizer import service as costoptimizer
from actors.securityvault.models import Scope
from aidos.schemas.studies import SpentRead, StudyRead, TrialBegin, TrialRead
from cluster.db import Connection
from tune.studies import policy, service
from tune.studies.models import Study, Trial, TrialState


async def sum_costs(conn: Connection, scope: Scope, study: Study) -> int:
    """Millionths of a dollar that the study's jobs have cost up to now."""
    return await costoptimizer.sum_owner_costs(conn, scope, "job", [str(job_id) for job_id in study.job_ids])


async def get_study(conn: Connection, scope: Scope, name: str) -> StudyRead:
    """With what it has cost. Raises: StudyNotFound."""
    study = await service.get_study(conn, scope, name)
    return read_study(study, await sum_costs(conn, scope, study))


async def begin_trial(conn: Connection, scope: Scope, name: str, body: TrialBegin) -> TrialRead:
    """Within the budget, also in money. Raises: as ``tune.studies.service.begin_trial``."""
    study = await service.get_study(conn, scope, name)
    micro_usd = await sum_costs(conn, scope, study) if study.spec.budget.usd is not None else 0
    return read_trial(study, await service.begin_trial(conn, scope, name, body, micro_usd))


def read_study(study: Study, micro_usd: int | None = None) -> StudyRead:
    """A study as it is sent."""
    spent = SpentRead(
        trials=sum(study.trials.values()),
        failures=study.trials.get(TrialState.FAILED, 0),
        time_s=round(study.time_s, 3),
        usd=None if micro_usd is None else micro_usd / 1e6,
    )
    own: dict[str, Any] = {name: getattr(study, name) for name in StudyRead.model_fields if hasattr(study, name)}
    asked = {name: getattr(study.spec, name) for name in StudyRead.model_fields if hasattr(study.spec, name)}
    return StudyRead.model_validate({**asked, **own, "spent": spent, "trials": dict(study.trials)})


def read_trial(study: Study, trial: Trial) -> TrialRead:
    """A trial as it is sent."""
    return TrialRead.model_validate({**trial.__dict__, "feasible": policy.is_feasible(study.spec, trial.values)})


async def list_trials(conn: Connection, scope: Scope, name: str, state: TrialState | None, after: int, limit: int) -> list[TrialRead]:
    """By number. Raises: StudyNotFound."""
    study = await service.get_study(conn, scope, name)
    return read_trials(study, await service.list_trials(conn, scope, study, state, after, limit))


def read_trials(study: Study, trials: Sequence[Trial]) -> list[TrialRead]:
    """Trials as they are sent."""
    return [read_trial(study, trial) for trial in trials]


async def list_studies(conn: Connection, scope: Scope, state: str | None, before: UUID | None, limit: int) -> list[StudyRead]:
    """Newest first."""
    return [read_study(study) for study in await service.list_studies(conn, scope, state, before, limit)]
