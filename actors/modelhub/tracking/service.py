"""Experiments and runs as clients of MLflow's protocol know them: they are found when deleted, come back, and end as the client says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.errors import ExperimentExists, ExperimentNotFound, RunNotFound
from actors.modelhub.models import DatasetInput, Experiment, Point, Run, RunSpec
from actors.modelhub.search import service as search
from actors.modelhub.tracking import store
from actors.modelhub.tracking.errors import (
    BatchTooLarge,
    DeletedExperimentExists,
    DuplicateParams,
    ExperimentDeleted,
    InvalidParameterValue,
    RunDeleted,
    TagNotFound,
)
from actors.securityvault.models import Scope
from cluster.db import Connection, unique

DEFAULT = "Default"
"""The experiment of who names none, made when it is first asked for; its id is ``0``."""
RUN_NAME, USER, MODEL_HISTORY = search.RUN_NAME, "mlflow.user", "mlflow.log-model.history"
MOST = {"metrics": 1000, "params": 100, "tags": 100}
MOST_TOGETHER = 1000
MOST_DATASETS = 1000


def to_id(text: str) -> UUID | None:
    """The id, with or without hyphens; None where it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


async def create_experiment(conn: Connection, scope: Scope, name: str, tags: Mapping[str, str]) -> Experiment:
    """A deleted experiment keeps its name. Raises: ExperimentExists, DeletedExperimentExists."""
    await _require_free(conn, scope, name)
    made = await service.create_experiment(conn, scope, name)
    await store.set_experiment_tags(conn, scope.project, made.id, tags)
    return made


async def _require_free(conn: Connection, scope: Scope, name: str) -> None:
    if found := await search.find_experiments_by_name(conn, scope, name):
        live = any(experiment.deleted_at is None for experiment in found)
        raise ExperimentExists(name=name) if live else DeletedExperimentExists(name=name)


async def get_experiment(conn: Connection, scope: Scope, id: str) -> Experiment:
    """By id, deleted ones too. Raises: ExperimentNotFound."""
    if id == "0":
        return await service.get_or_create_experiment(conn, scope, DEFAULT)
    if (known := to_id(id)) and (found := await search.find_experiments(conn, scope, [known])):
        return found[0]
    raise ExperimentNotFound(name=id)


async def get_experiment_by_name(conn: Connection, scope: Scope, name: str) -> Experiment:
    """The one that is not deleted, else the newest that is. Raises: ExperimentNotFound."""
    found = await search.find_experiments_by_name(conn, scope, name)
    if not found and name == DEFAULT:
        return await service.get_or_create_experiment(conn, scope, DEFAULT)
    if not found:
        raise ExperimentNotFound(name=name)
    return next((experiment for experiment in found if experiment.deleted_at is None), found[0])


async def resolve_experiments(conn: Connection, scope: Scope, ids: Sequence[str]) -> list[UUID]:
    """The ids that can be ids; ``0`` is the default experiment, where there is one."""
    known = [found for text in ids if (found := to_id(text))]
    if "0" in ids:
        known += [found.id for found in await search.find_experiments_by_name(conn, scope, DEFAULT)]
    return known


async def rename_experiment(conn: Connection, scope: Scope, id: str, name: str) -> None:
    """Raises: ExperimentNotFound, ExperimentExists, DeletedExperimentExists."""
    experiment = await get_experiment(conn, scope, id)
    if name != experiment.name:
        await _require_free(conn, scope, name)
    with unique("experiments_name", ExperimentExists(name=name)):
        if not await store.rename_experiment(conn, scope.project, experiment.id, name):
            raise ExperimentNotFound(name=id)


async def delete_experiment(conn: Connection, scope: Scope, id: str) -> None:
    """With its runs. Raises: ExperimentNotFound."""
    await service.delete_experiment(conn, scope, str((await get_experiment(conn, scope, id)).id))


async def restore_experiment(conn: Connection, scope: Scope, id: str) -> None:
    """With the runs that were deleted with it. Raises: ExperimentNotFound, ExperimentExists when the name was taken since."""
    experiment = await get_experiment(conn, scope, id)
    with unique("experiments_name", ExperimentExists(name=experiment.name)):
        if not await store.restore_experiment(conn, scope.project, experiment.id):
            raise ExperimentNotFound(name=id)


async def set_experiment_tag(conn: Connection, scope: Scope, id: str, key: str, value: str) -> None:
    """Raises: ExperimentNotFound."""
    await store.set_experiment_tags(conn, scope.project, (await _live(conn, scope, id)).id, {key: value})


async def delete_experiment_tag(conn: Connection, scope: Scope, id: str, key: str) -> None:
    """Raises: ExperimentNotFound, TagNotFound."""
    experiment = await _live(conn, scope, id)
    if not await store.delete_experiment_tag(conn, scope.project, experiment.id, key):
        raise TagNotFound(key=key, owner=f"experiment {id}")


async def _live(conn: Connection, scope: Scope, id: str) -> Experiment:
    experiment = await get_experiment(conn, scope, id)
    if experiment.deleted_at is not None:
        raise ExperimentDeleted(experiment_id=id)
    return experiment


async def create_run(conn: Connection, scope: Scope, experiment_id: str, spec: RunSpec) -> Run:
    """``spec.experiment`` is put in here. The tag ``mlflow.runName`` is the run's name.

    Raises: ExperimentNotFound, ExperimentDeleted, InvalidParameterValue.
    """
    experiment = await _live(conn, scope, experiment_id)
    tagged = spec.tags.get(RUN_NAME, "")
    if spec.name and tagged and spec.name != tagged:
        reason = f"Both 'run_name' argument and '{RUN_NAME}' tag are specified, but with different values ('{spec.name}', '{tagged}')"
        raise InvalidParameterValue(parameter="run_name", reason=reason)
    name = spec.name or tagged
    tags = {key: value for key, value in spec.tags.items() if key != RUN_NAME}
    return await service.create_run(conn, scope, RunSpec(experiment.name, name, tags=tags, started_at=spec.started_at), experiment)


async def get_run(conn: Connection, scope: Scope, id: str) -> Run:
    """Deleted ones too. Raises: RunNotFound."""
    if (known := to_id(id)) and (found := await search.find_runs(conn, scope, [known])):
        return found[0]
    raise RunNotFound(run_id=id)


def run_id(id: str) -> UUID:
    """Raises: RunNotFound where it can be none's."""
    if (known := to_id(id)) is None:
        raise RunNotFound(run_id=id)
    return known


async def refuse_deleted(conn: Connection, scope: Scope, id: str) -> None:
    """For who wants to change a run that was not found. Raises: RunDeleted."""
    if (known := to_id(id)) and await search.find_runs(conn, scope, [known]):
        raise RunDeleted(run_id=known.hex)


async def restore_run(conn: Connection, scope: Scope, id: str) -> None:
    """Raises: RunNotFound."""
    run = await get_run(conn, scope, id)
    if run.deleted_at is not None:
        await store.restore_run(conn, scope.project, run.id)


async def log_batch(
    conn: Connection, scope: Scope, id: str, points: Sequence[Point], params: Sequence[tuple[str, str]], tags: Mapping[str, str]
) -> None:
    """All of it or nothing, to ended runs too. Raises: RunNotFound, BatchTooLarge, DuplicateParams, ParamChanged, TooManyParams."""
    check_batch({"metrics": len(points), "params": len(params), "tags": len(tags)})
    keys = [key for key, _ in params]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise DuplicateParams(keys=repeated)
    run = run_id(id)
    if params or not (points or tags):
        await service.set_params(conn, scope, run, dict(params), late=True)
    if points:
        await service.log_metrics(conn, scope, run, points, late=True)
    if tags:
        await set_tags(conn, scope, id, tags)


def check_batch(counts: Mapping[str, int]) -> None:
    """How many ``metrics``, ``params`` and ``tags`` a request may hold. Raises: BatchTooLarge."""
    for what, count in counts.items():
        if count > MOST[what]:
            raise BatchTooLarge(limit=MOST[what], what=what, count=count)
    if sum(counts.values()) > MOST_TOGETHER:
        raise BatchTooLarge(limit=MOST_TOGETHER, what="metrics, params, and tags", count=sum(counts.values()))


async def set_tags(conn: Connection, scope: Scope, id: str, tags: Mapping[str, str]) -> None:
    """The tag ``mlflow.runName`` names the run. Raises: RunNotFound, TooManyParams."""
    run = run_id(id)
    if name := tags.get(RUN_NAME):
        await service.update_run(conn, scope, run, name=name)
    if others := {key: value for key, value in tags.items() if key != RUN_NAME}:
        await service.set_tags(conn, scope, run, others)


async def add_model_history(conn: Connection, scope: Scope, id: str, model_json: str) -> None:
    """What clients before MLflow 3 say of a model that they logged. Raises: RunNotFound, InvalidParameterValue."""
    try:
        model = json.loads(model_json)
    except ValueError:
        raise InvalidParameterValue(parameter="model_json", reason="it is no JSON") from None
    known = json.loads((await get_run(conn, scope, id)).tags.get(MODEL_HISTORY, "[]"))
    await set_tags(conn, scope, id, {MODEL_HISTORY: json.dumps([*known, model])})


async def delete_tag(conn: Connection, scope: Scope, id: str, key: str) -> None:
    """Raises: RunNotFound, RunDeleted, TagNotFound."""
    run = await get_run(conn, scope, id)
    if run.deleted_at is not None:
        raise RunDeleted(run_id=run.id.hex)
    if key not in run.tags:
        raise TagNotFound(key=key, owner=f"run with id {id}")
    await service.set_tags(conn, scope, run_id(id), {key: None})


async def log_datasets(conn: Connection, scope: Scope, id: str, datasets: Sequence[DatasetInput]) -> None:
    """Inputs of a run; one that it has stays as it is. Raises: RunNotFound, BatchTooLarge."""
    if len(datasets) > MOST_DATASETS:
        raise BatchTooLarge(limit=MOST_DATASETS, what="datasets", count=len(datasets))
    run = await service.get_run(conn, scope, run_id(id))
    if datasets:
        await store.insert_datasets(conn, scope.project, run.id, datasets)


async def list_datasets(conn: Connection, scope: Scope, runs: Sequence[Run]) -> dict[UUID, list[DatasetInput]]:
    """Inputs by run."""
    return await store.list_datasets(conn, scope.project, [run.id for run in runs]) if runs else {}


async def list_dataset_names(conn: Connection, scope: Scope, experiment_ids: Sequence[str]) -> list[dict[str, Any]]:
    """``experiment_id, name, digest, context`` of the inputs of the runs."""
    known = await resolve_experiments(conn, scope, experiment_ids)
    return await store.list_dataset_names(conn, scope.project, known, MOST_DATASETS)


async def list_history(conn: Connection, scope: Scope, id: str, key: str, limit: int | None, page_token: str) -> tuple[list[Point], str]:
    """A series in the order of time, whole without ``limit``, and the token of the next page. Raises: RunNotFound, InvalidPageToken."""
    run = await get_run(conn, scope, id)
    question = search.Question(key, page_token=page_token, limit=limit or 0)
    asked = search.Search(limit=limit or 0, offset=search.offset(question, run.id))
    found = await store.list_history(conn, scope.project, run.id, key, limit and limit + 1, asked.offset)
    return search.cut(question, asked, found, run.id) if limit else (found, "")


async def list_histories(conn: Connection, scope: Scope, ids: Sequence[str], key: str, limit: int) -> list[tuple[UUID, Point]]:
    """The first ``limit`` points of the series of the runs, one after the other. Raises: RunNotFound."""
    found: list[tuple[UUID, Point]] = []
    for id in sorted({run_id(id) for id in ids}):
        if left := limit - len(found):
            found += [(id, point) for point in await store.list_history(conn, scope.project, id, key, left, 0)]
    return found


async def sample_histories(
    conn: Connection, scope: Scope, ids: Sequence[str], key: str, steps: tuple[int | None, int | None], points: int
) -> list[tuple[UUID, Point]]:
    """At most ``points`` of the series of each run, the first and last among them."""
    return await store.sample_histories(conn, scope.project, [run_id(id) for id in ids], key, steps, points)
