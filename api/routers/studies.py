"""/v1/studies: searches for hyperparameters and their trials."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from aidos.schemas.common import PageOf
from aidos.schemas.studies import (
    ImportanceRead,
    MetricName,
    ReportRead,
    StudyCreate,
    StudyFinish,
    StudyRead,
    StudyUpdate,
    TrialBegin,
    TrialFinish,
    TrialRead,
    TrialReport,
)
from api import studies
from api.deps import ApiRoute, PageDep, SessionDep, TxDep, WaitS, needs
from api.pages import id_of, key_of, page_of, whole_below
from tune.studies import importance, service
from tune.studies.models import StudyState, TrialState

router = APIRouter(prefix="/v1/studies", tags=["trainos"], route_class=ApiRoute)
READ, WRITE = needs("trainos:read"), needs("trainos:write")
QUIET = needs("trainos:write", audit=False)

StudyName = Annotated[str, Path(max_length=100, pattern=r"^[^\x00]*$", description="Name or id of the study.")]
Number = Annotated[int, Path(ge=0, le=2**31 - 1, description="Number of the trial in its study, from 0.")]
Metric = Annotated[MetricName | None, Query(description="An objective; the first where none is named.")]


@router.post("", status_code=201, openapi_extra=WRITE)
async def create_study(body: StudyCreate, tx: TxDep) -> StudyRead:
    """Begin a search for good parameters: a job drives it, each trial is a run."""
    return studies.read_study(await service.create_study(tx.conn, tx.scope, body), 0)


@router.get("", openapi_extra=READ)
async def list_studies(tx: TxDep, page: PageDep, state: StudyState | None = None) -> PageOf[StudyRead]:
    """The project's studies, newest first."""
    found = await studies.list_studies(tx.conn, tx.scope, state, id_of(page.cursor), page.limit)
    return page_of(StudyRead, found, page.limit, "id")


@router.get("/{study}", openapi_extra=needs("trainos:read", transaction=False))
async def get_study(study: StudyName, session: SessionDep, wait: WaitS) -> StudyRead:
    """A study; with `wait`, once it no longer runs."""
    return await session.wait_until(
        lambda conn: studies.get_study(conn, session.scope, study),
        lambda now: wait == 0 or now.state != StudyState.RUNNING,
        wait,
        ("studies.study.",),
    )


@router.patch("/{study}", openapi_extra=WRITE)
async def update_study(study: StudyName, body: StudyUpdate, tx: TxDep) -> StudyRead:
    """Another space or budget, also while it runs: the next trial is chosen from it. A parameter keeps its kind."""
    await service.update_study(tx.conn, tx.scope, study, body.space, body.budget)
    return await studies.get_study(tx.conn, tx.scope, study)


@router.delete("/{study}", status_code=204, openapi_extra=needs("trainos:manage"))
async def delete_study(study: StudyName, tx: TxDep) -> None:
    """Delete a study that does not run, with its trials; their runs stay."""
    await service.delete_study(tx.conn, tx.scope, study)


@router.post("/{study}/stop", openapi_extra=WRITE)
async def stop_study(study: StudyName, tx: TxDep) -> StudyRead:
    """End the search now. Trials that run begin again when it is resumed; those that ended stay."""
    return studies.read_study(await service.stop_study(tx.conn, tx.scope, study))


@router.post("/{study}/resume", openapi_extra=WRITE)
async def resume_study(study: StudyName, tx: TxDep) -> StudyRead:
    """Go on with a search that was stopped, failed, or has a larger budget now."""
    return studies.read_study(await service.resume_study(tx.conn, tx.scope, study))


@router.post("/{study}/start", openapi_extra=WRITE)
async def start_study(study: StudyName, tx: TxDep) -> StudyRead:
    """Told by the study's own job when it begins: trials that its last attempt left behind will begin again."""
    return studies.read_study(await service.start_study(tx.conn, tx.scope, study))


@router.post("/{study}/finish", openapi_extra=WRITE)
async def finish_study(study: StudyName, body: StudyFinish, tx: TxDep) -> StudyRead:
    """Told by the study's own job when nothing is left to try."""
    return studies.read_study(await service.finish_study(tx.conn, tx.scope, study, body.reason))


@router.get("/{study}/best", openapi_extra=READ)
async def list_best_trials(study: StudyName, tx: TxDep, page: PageDep) -> PageOf[TrialRead]:
    """The best trial that keeps all constraints; of several objectives, the Pareto front by number."""
    after = key_of(page.cursor, whole_below(2**31))
    found, trials = await service.best_trials(tx.conn, tx.scope, study)
    rest = [trial for trial in trials if after is None or trial.number > after]
    return page_of(TrialRead, studies.read_trials(found, rest[: page.limit]), page.limit, "number")


@router.get("/{study}/importance", openapi_extra=needs("trainos:read", transaction=False))
async def get_study_importance(study: StudyName, session: SessionDep, metric: Metric = None) -> ImportanceRead:
    """How much of an objective's variance each parameter explains, by functional ANOVA over the newest completed trials."""
    async with session.transaction() as conn:
        found = await service.get_study(conn, session.scope, study)
        trials = await service.list_trials(conn, session.scope, found, TrialState.COMPLETE)
    chosen = service.choose_metric(found, metric)
    shares = await importance.compute(found.spec.space, chosen, trials)
    return ImportanceRead(metric=chosen, trials=len(trials), shares=shares)


@router.post("/{study}/trials", status_code=201, openapi_extra=QUIET)
async def begin_trial(study: StudyName, body: TrialBegin, tx: TxDep) -> TrialRead:
    """Begin a trial with a run of its own, or an interrupted one again; only the study's own job may."""
    return await studies.begin_trial(tx.conn, tx.scope, study, body)


@router.get("/{study}/trials", openapi_extra=READ)
async def list_trials(study: StudyName, tx: TxDep, page: PageDep, state: TrialState | None = None) -> PageOf[TrialRead]:
    """A study's trials by number."""
    after = key_of(page.cursor, whole_below(2**31))
    found = await studies.list_trials(tx.conn, tx.scope, study, state, -1 if after is None else after, page.limit)
    return page_of(TrialRead, found, page.limit, "number")


@router.get("/{study}/trials/{number}", openapi_extra=READ)
async def get_trial(study: StudyName, number: Number, tx: TxDep) -> TrialRead:
    """One trial."""
    found = await service.get_study(tx.conn, tx.scope, study)
    return studies.read_trial(found, await service.get_trial(tx.conn, tx.scope, found, number))


@router.post("/{study}/trials/{number}/reports", openapi_extra=QUIET)
async def report_trial(study: StudyName, number: Number, body: TrialReport, tx: TxDep) -> ReportRead:
    """What the trial measured, by step, and whether it is to end now; only the study's own job may."""
    stop = await service.report_trial(tx.conn, tx.scope, study, number, body.attempt, body.measured)
    return ReportRead(stop=stop)


@router.post("/{study}/trials/{number}/finish", openapi_extra=QUIET)
async def finish_trial(study: StudyName, number: Number, body: TrialFinish, tx: TxDep) -> TrialRead:
    """How the trial's program ended; only the study's own job may. The first word stays."""
    found, trial = await service.finish_trial(tx.conn, tx.scope, study, number, body)
    return studies.read_trial(found, trial)
