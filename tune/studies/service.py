"""The verbs of studies. A study's job drives it (``run.py``); what it decides with stands here, in PostgreSQL."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.errors import RunNotFound
from actors.modelhub.models import Point, RunSpec, RunState
from actors.securityvault.models import Scope
from aidos.schemas.studies import Budget, Measured, Space, StudyCreate, TrialBegin, TrialFinish, check_search
from cluster.db import Connection, new_id, unique
from cluster.events import Event, publish
from cluster.telemetry import current_traceparent
from tune.studies import policy, store
from tune.studies.errors import (
    BudgetSpent,
    MetricNotSearched,
    ParametersOutside,
    SpaceChanged,
    SpaceInvalid,
    StudyExists,
    StudyNotFound,
    StudyNotRunning,
    StudyOfAnotherJob,
    StudyRuns,
    TrialNotFound,
    TrialNotRunning,
)
from tune.studies.models import Outcome, Study, StudyState, Trial, TrialState
from tune.trainos import service as trainos
from tune.trainos.errors import JobEnded
from tune.trainos.models import Job, JobSpec
from tune.trainos.reproduction.models import Part

# The package's files must not hide the platform's; and nobody reads the CSV, JSON and TensorBoard files that Tune writes for each trial.
COMMAND = ("env", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1", "python", "-I", "-m", "tune.studies.run")
DRIVER_CPUS = 0.25
ALL = 1_000_000
_RUN_STATES = {TrialState.COMPLETE: RunState.FINISHED, TrialState.PRUNED: RunState.KILLED, TrialState.FAILED: RunState.FAILED}


async def create_study(conn: Connection, scope: Scope, spec: StudyCreate) -> Study:
    """Begin a search: its job is queued in the same transaction. Raises: StudyExists, DatasetNotFound, RefNotFound."""
    study_id = new_id()
    values = {"id": study_id, "org_id": scope.org_id, "project_id": scope.project, "name": spec.name, "spec": spec}
    with unique("studies_name", StudyExists(name=spec.name)):
        await store.insert_study(conn, values | {"traceparent": current_traceparent(), "created_by": scope.actor})
    study = await get_study(conn, scope, str(study_id))
    job = await trainos.submit_job(conn, scope, _build_job(study))
    await store.add_job(conn, study, job.id, 0)
    await _publish(conn, scope, study, "study.created")
    return await get_study(conn, scope, str(study_id))


def _build_job(study: Study) -> JobSpec:
    """A recipe: platform code that searches, the trials' own command in its workers."""
    spec = study.spec
    return JobSpec(
        name=spec.name,
        command=(*COMMAND, str(study.id)),
        code_sha256=spec.code_sha256,
        datasets=tuple(spec.datasets),
        workers=spec.parallelism,
        cpus_per_worker=spec.cpus_per_trial,
        gpus_per_worker=spec.gpus_per_trial,
        memory_gib_per_worker=spec.memory_gib_per_trial,
        driver_cpus=DRIVER_CPUS,
        experiment=spec.name,
    )


async def get_study(conn: Connection, scope: Scope, name: str) -> Study:
    """By name or id. Raises: StudyNotFound."""
    study = await store.find_study(conn, scope.project, name)
    if study is None:
        raise StudyNotFound(name=name)
    return study


async def list_studies(conn: Connection, scope: Scope, state: str | None, before: UUID | None, limit: int) -> list[Study]:
    """Newest first."""
    return await store.list_studies(conn, scope.project, state, before, limit)


async def _lock(conn: Connection, scope: Scope, name: str) -> Study:
    await store.lock_study(conn, scope.project, name)
    return await get_study(conn, scope, name)


async def stop_study(conn: Connection, scope: Scope, name: str) -> Study:
    """End the search now; its running trials begin again when it is resumed. Raises: StudyNotFound, StudyNotRunning."""
    study = await _lock(conn, scope, name)
    if study.state is not StudyState.RUNNING:
        raise StudyNotRunning(name=study.name, state=study.state)
    await _end(conn, scope, study, StudyState.STOPPED, f"stopped by {scope.actor}")
    with contextlib.suppress(JobEnded):  # it ended while this was asked
        await trainos.cancel_job(conn, scope, str(study.job_id))
    return await get_study(conn, scope, str(study.id))


async def resume_study(conn: Connection, scope: Scope, name: str) -> Study:
    """Go on, with a job of the caller. Raises: StudyNotFound, StudyRuns, BudgetSpent."""
    study = await _lock(conn, scope, name)
    if study.state is StudyState.RUNNING:
        raise StudyRuns(name=study.name)
    if not study.trials.get(TrialState.WAITING) and (reason := policy.spent_budget(study.spec, study.trials, study.time_s, 0)):
        raise BudgetSpent(name=study.name, reason=reason)
    await store.set_state(conn, study, StudyState.RUNNING, "")
    before = await trainos.get_job(conn, scope, str(study.job_id))
    await store.add_job(conn, study, (await trainos.submit_again(conn, before, scope)).id, 0)
    await _publish(conn, scope, study, "study.resumed")
    return await get_study(conn, scope, str(study.id))


async def update_study(conn: Connection, scope: Scope, name: str, space: Space | None, budget: Budget | None) -> Study:
    """Another space or budget, also while it runs: the next trial is chosen from it. Raises: StudyNotFound, SpaceInvalid."""
    study = await _lock(conn, scope, name)
    spec, version = study.spec, study.space_version
    if budget is not None:
        spec = spec.model_copy(update={"budget": budget})
    if space is not None and space != spec.space:
        if reason := policy.changed_kind(spec.space, space):
            raise SpaceInvalid(reason=reason)
        try:
            check_search(space, spec)
        except ValueError as error:
            raise SpaceInvalid(reason=str(error)) from error
        spec, version = spec.model_copy(update={"space": space}), version + 1
    await store.set_spec(conn, study, spec, version)
    await _publish(conn, scope, study, "study.updated")
    return await get_study(conn, scope, str(study.id))


async def delete_study(conn: Connection, scope: Scope, name: str) -> None:
    """With its trials; their runs stay. Raises: StudyNotFound, StudyRuns."""
    study = await _lock(conn, scope, name)
    if study.state is StudyState.RUNNING:
        raise StudyRuns(name=study.name)
    await store.delete_study(conn, study)
    await _publish(conn, scope, study, "study.deleted")


async def _end(conn: Connection, scope: Scope, study: Study, state: StudyState, reason: str) -> None:
    await store.set_state(conn, study, state, reason)
    for trial in await store.interrupt_trials(conn, study):
        await modelhub.finish_run(conn, scope, trial.run_id, RunState.KILLED)
    await _publish(conn, scope, study, f"study.{state.lower()}")


async def _get_own(conn: Connection, scope: Scope, name: str, *, lock: bool = False) -> Study:
    study = await (_lock if lock else get_study)(conn, scope, name)
    if study.job_id is None or scope.principal.job_id != study.job_id:
        raise StudyOfAnotherJob(name=study.name)
    return study


async def start_study(conn: Connection, scope: Scope, name: str) -> Study:
    """Told by the job when it begins: trials that its last attempt left behind wait. Raises: StudyNotFound, StudyOfAnotherJob."""
    study = await _get_own(conn, scope, name, lock=True)
    await store.interrupt_trials(conn, study)
    return await get_study(conn, scope, str(study.id))


async def finish_study(conn: Connection, scope: Scope, name: str, reason: str) -> Study:
    """Told by the job when nothing is left to try. Raises: StudyNotFound, StudyOfAnotherJob."""
    study = await _get_own(conn, scope, name, lock=True)
    if study.state is StudyState.RUNNING:
        failed = study.trials.get(TrialState.FAILED, 0) >= study.spec.budget.failures
        await _end(conn, scope, study, StudyState.FAILED if failed else StudyState.FINISHED, reason)
    return await get_study(conn, scope, str(study.id))


async def begin_trial(conn: Connection, scope: Scope, name: str, asked: TrialBegin, micro_usd: int) -> Trial:
    """A new trial with a run of its own, or the interrupted one ``asked.number`` again. ``micro_usd``: what the study has cost.

    Raises: StudyOfAnotherJob, StudyNotRunning, BudgetSpent, SpaceChanged, ParametersOutside, TrialNotFound, TrialNotRunning.
    """
    study = await _get_own(conn, scope, name, lock=True)
    if study.state is not StudyState.RUNNING:
        raise StudyNotRunning(name=study.name, state=study.state)
    if asked.number is not None:
        return await _begin_again(conn, scope, study, asked.number, asked.lost)
    if reason := policy.spent_budget(study.spec, study.trials, study.time_s, micro_usd):
        raise BudgetSpent(name=study.name, reason=reason)
    if asked.space_version != study.space_version:
        raise SpaceChanged(name=study.name, version=study.space_version, chosen_from=asked.space_version)
    if wrong := policy.wrong_parameter(study.spec.space, asked.params):
        raise ParametersOutside(parameter=wrong[0], reason=wrong[1])
    if asked.parent is not None:
        await get_trial(conn, scope, study, asked.parent)
    number = sum(study.trials.values())
    job = await trainos.get_job(conn, scope, str(study.job_id))
    run = await modelhub.create_run(conn, scope, _build_run(study, job, number, asked.params))
    trial = await store.insert_trial(conn, study, number, run.id, asked)
    await _publish(conn, scope, study, "trial.started", number=number)
    return trial


def _build_run(study: Study, job: Job, number: int, params: Mapping[str, Any]) -> RunSpec:
    tags = {"aidos.study": study.name, "aidos.trial": str(number), "mlflow.parentRunId": str(job.run_id)}
    return RunSpec(study.name, f"{study.name}-{number}", params={key: str(value) for key, value in params.items()}, tags=tags)


async def _begin_again(conn: Connection, scope: Scope, study: Study, number: int, lost: int | None) -> Trial:
    if not await store.begin_again(conn, study, number, lost):
        trial = await get_trial(conn, scope, study, number)
        raise TrialNotRunning(name=study.name, number=number, state=trial.state, attempt=trial.attempt, actual=lost or trial.attempt)
    await store.delete_reports(conn, study, number)
    trial = await get_trial(conn, scope, study, number)
    await modelhub.update_run(conn, scope, trial.run_id, state=RunState.RUNNING, reopen=True)
    return trial


async def get_trial(conn: Connection, scope: Scope, study: Study, number: int) -> Trial:
    """Raises: TrialNotFound."""
    trial = await store.find_trial(conn, study, number)
    if trial is None:
        raise TrialNotFound(name=study.name, number=number)
    return trial


async def find_part(conn: Connection, scope: Scope, run_id: UUID) -> Part | None:
    """What a trial's run did, as a job; None where the run is no trial's. Raises: RunNotReproducible."""
    found = await store.find_trial_of_run(conn, scope.project, run_id)
    if found is None:
        return None
    study = await get_study(conn, scope, str(found[0]))
    return policy.build_part(study, await get_trial(conn, scope, study, found[1]))


async def list_trials(
    conn: Connection, scope: Scope, study: Study, state: str | None = None, after: int = -1, limit: int = ALL
) -> list[Trial]:
    """By number."""
    return await store.list_trials(conn, study, state, after, limit)


async def _lock_trial(conn: Connection, study: Study, number: int) -> Trial:
    trial = await store.lock_trial(conn, study, number)
    if trial is None:
        raise TrialNotFound(name=study.name, number=number)
    return trial


def _require_running(study: Study, trial: Trial, attempt: int) -> None:
    if trial.state is not TrialState.RUNNING or trial.attempt != attempt:
        raise TrialNotRunning(name=study.name, number=trial.number, state=trial.state, attempt=trial.attempt, actual=attempt)


async def report_trial(conn: Connection, scope: Scope, name: str, number: int, attempt: int, measured: Sequence[Measured]) -> bool:
    """Keep what the trial measured, also as metrics of its run; whether it is to end now.

    Raises: StudyOfAnotherJob, TrialNotFound, TrialNotRunning, RunEnded.
    """
    study = await _get_own(conn, scope, name)
    trial = await _lock_trial(conn, study, number)
    _require_running(study, trial, attempt)
    await _keep(conn, scope, study, trial, measured)
    stop = trial.stop_step is not None or await _judge(conn, study, trial, measured)
    step = max(each.step for each in measured)
    await store.note_step(conn, study, number, step, step if stop else None)
    return stop


async def _keep(conn: Connection, scope: Scope, study: Study, trial: Trial, measured: Sequence[Measured], *, late: bool = False) -> None:
    await store.insert_reports(conn, study, trial.number, measured)
    now = datetime.now(UTC)
    points = [Point(key, value, each.step, now) for each in measured for key, value in each.values.items()]
    await modelhub.log_metrics(conn, scope, trial.run_id, points, late=late)


async def _judge(conn: Connection, study: Study, trial: Trial, measured: Sequence[Measured]) -> bool:
    objective, pruner = study.spec.objectives[0], study.spec.pruner
    step = max((each.step for each in measured if objective.metric in each.values), default=None)
    if step is None or (rung := policy.find_rung(pruner, trial.step, step)) is None:
        return False
    own = await store.list_values(conn, study, trial.number, objective.metric)
    return policy.should_stop(pruner, objective, trial.number, own, await store.list_peers(conn, study, objective.metric, rung))


async def finish_trial(conn: Connection, scope: Scope, name: str, number: int, asked: TrialFinish) -> tuple[Study, Trial]:
    """Its program has ended. Told again of one that has, nothing changes.

    Raises: StudyOfAnotherJob, TrialNotFound, TrialNotRunning.
    """
    study = await _get_own(conn, scope, name)
    trial = await _lock_trial(conn, study, number)
    if trial.state.final and trial.attempt == asked.attempt:
        return study, trial
    _require_running(study, trial, asked.attempt)
    if asked.measured:
        with contextlib.suppress(RunNotFound):  # its user has deleted it
            await _keep(conn, scope, study, trial, asked.measured, late=True)
        await store.note_step(conn, study, number, max(each.step for each in asked.measured), None)
    values = await store.last_values(conn, study, number)
    ended = policy.judge_trial(study.spec, asked.exit_code, asked.last_line, values, trial.stop_step)
    finite = {metric: value for metric, value in values.items() if math.isfinite(value)}
    finished = await store.finish_trial(conn, study, number, ended.state, ended.reason, finite)
    await store.clear_restarts(conn, study)
    await modelhub.finish_run(conn, scope, trial.run_id, _RUN_STATES[ended.state])
    await _publish(conn, scope, study, f"trial.{ended.state.lower()}", number=number)
    return study, finished


async def best_trials(conn: Connection, scope: Scope, name: str) -> tuple[Study, list[Trial]]:
    """The study with its best trial, or its Pareto front. Raises: StudyNotFound."""
    study = await get_study(conn, scope, name)
    return study, policy.best_trials(study.spec, await list_trials(conn, scope, study, TrialState.COMPLETE))


def choose_metric(study: Study, metric: str | None) -> str:
    """The objective of that name, the first where none is named. Raises: MetricNotSearched."""
    known = [objective.metric for objective in study.spec.objectives]
    if metric is not None and metric not in known:
        raise MetricNotSearched(name=study.name, metric=metric, objectives=", ".join(known))
    return metric or known[0]


async def apply_outcome(conn: Connection, scope: Scope, study: Study, token: UUID, job: Job, outcome: Outcome) -> bool:
    """Write what the reconciler came to; False when the claim was lost."""
    current = await store.release_study(conn, study, token, outcome.reason, outcome.again_s)
    if current and outcome.state is not StudyState.RUNNING:
        await _end(conn, scope, study, outcome.state, outcome.reason)
    elif current and outcome.begin_again:
        again = await trainos.submit_again(conn, job)
        await store.add_job(conn, study, again.id, 1)
    return current is not None


async def _publish(conn: Connection, scope: Scope, study: Study, what: str, **data: Any) -> None:
    about = {"name": study.name, **data}
    event = Event(f"studies.{what}", str(study.id), study.org_id, study.project_id, scope.actor, about, traceparent=study.traceparent)
    await publish(conn, event)
