"""The searches' SQL: a function a named query, its conditions put together from ``conditions``.

Each returns one row more than the page has, where there is one: so that its caller knows whether to offer a next page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import LiteralString
from uuid import UUID

from actors.modelhub.models import Experiment, Run
from actors.modelhub.search.conditions import Statement, Table
from actors.modelhub.search.models import Entity, Search
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.search")

EXPERIMENTS = Table(
    "e",
    {
        "name": "e.name",
        "experiment_id": "replace(e.id::text, '-', '')",
        "creation_time": "floor(extract(epoch FROM e.created_at) * 1000)",
        "last_update_time": "floor(extract(epoch FROM e.updated_at) * 1000)",
    },
    {Entity.TAG: "modelhub.experiment_tags x WHERE x.experiment_id = e.id"},
    newest="e.created_at DESC, e.id DESC",
)
_DATASET: Mapping[str, LiteralString] = {"name": "x.name", "digest": "x.digest", "context": "x.tags ->> 'mlflow.data.context'"}
RUNS = Table(
    "r",
    {
        "run_id": "replace(r.id::text, '-', '')",
        "run_name": "r.name",
        "status": "r.state",
        "experiment_id": "replace(r.experiment_id::text, '-', '')",
        "artifact_uri": "'mlflow-artifacts:/runs/' || replace(r.id::text, '-', '') || '/artifacts'",
        "user_id": "coalesce((SELECT u.value FROM modelhub.run_tags u WHERE u.run_id = r.id AND u.key = 'mlflow.user'), r.created_by)",
        "start_time": "floor(extract(epoch FROM r.started_at) * 1000)",
        "end_time": "floor(extract(epoch FROM r.ended_at) * 1000)",
    },
    {
        Entity.METRIC: "modelhub.metrics x WHERE x.run_id = r.id",
        Entity.PARAM: "modelhub.run_params x WHERE x.run_id = r.id",
        Entity.TAG: "modelhub.run_tags x WHERE x.run_id = r.id",
    },
    {Entity.DATASET: ("modelhub.run_datasets x WHERE x.run_id = r.id", _DATASET)},
    newest="r.started_at DESC, r.id DESC",
)


async def search_experiments(conn: Connection, project_id: UUID, search: Search, ids: Sequence[UUID] | None = None) -> list[Experiment]:
    statement = Statement(EXPERIMENTS, project_id=project_id, limit=search.limit + 1, offset=search.offset)
    if ids is not None:
        statement.require("e.id = ANY({value})", list(ids))
    statement.restrict(search.comparisons, search.lifecycle)
    cursor = await conn.execute(statement.compose(Q.search_experiments, search.order), statement.values)
    return [Experiment(**row) for row in await cursor.fetchall()]


async def search_runs(
    conn: Connection, project_id: UUID, search: Search, *, experiments: Sequence[UUID] | None = None, ids: Sequence[UUID] | None = None
) -> list[Run]:
    statement = Statement(RUNS, project_id=project_id, limit=search.limit + 1, offset=search.offset)
    if experiments is not None:
        statement.require("r.experiment_id = ANY({value})", list(experiments))
    if ids is not None:
        statement.require("r.id = ANY({value})", list(ids))
    statement.restrict(search.comparisons, search.lifecycle)
    cursor = await conn.execute(statement.compose(Q.search_runs, search.order), statement.values)
    return [Run.from_row(row) for row in await cursor.fetchall()]
