"""The SQL of comparisons and views: a function a named query; the conditions of ``query_runs`` are put together in ``search``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from actors.modelhub.comparison.models import Costs, Curve, PricedRun, View
from actors.modelhub.models import Run
from actors.modelhub.search.conditions import Statement, Table
from actors.modelhub.search.models import Condition, Entity
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.comparison")
_TAG: LiteralString = "(SELECT u.value FROM modelhub.run_tags u WHERE u.run_id = r.id AND u.key = "
_DATA: LiteralString = (
    "(SELECT regexp_replace(g.source_label, '@[^@]*$', '') AS dataset, g.source_id AS commit FROM modelhub.edges g"
    " WHERE g.project_id = r.project_id AND g.target_kind = 'run' AND g.target_id = r.id::text AND g.source_kind = 'commit'"
    " UNION ALL SELECT d.name, d.digest FROM modelhub.run_datasets d WHERE d.run_id = r.id) x WHERE true"
)
RUNS = Table(
    "r",
    {
        "id": "r.id::text",
        "name": "r.name",
        "experiment": "e.name",
        "experiment_id": "r.experiment_id::text",
        "state": "r.state",
        "created_by": "r.created_by",
        "job_id": "r.job_id::text",
        "started_at": "r.started_at",
        "ended_at": "r.ended_at",
        "duration_s": "extract(epoch FROM coalesce(r.ended_at, now()) - r.started_at)::float8",
        "cost_usd": "costs.usd",
        "git.commit": "coalesce(" + _TAG + "'aidos.git_commit'), " + _TAG + "'mlflow.source.git.commit'))",
        "git.branch": "coalesce(" + _TAG + "'aidos.git_branch'), " + _TAG + "'mlflow.source.git.branch'))",
        "git.dirty": "coalesce(" + _TAG + "'aidos.git_dirty'), " + _TAG + "'mlflow.source.git.dirty'))",
    },
    {
        Entity.METRIC: "modelhub.metrics x WHERE x.run_id = r.id",
        Entity.PARAM: "modelhub.run_params x WHERE x.run_id = r.id",
        Entity.TAG: "modelhub.run_tags x WHERE x.run_id = r.id",
    },
    {Entity.DATA: (_DATA, {"dataset": "x.dataset", "commit": "x.commit"})},
    newest="r.id DESC",
)


async def query_runs(
    conn: Connection,
    project_id: UUID,
    condition: Condition | None,
    costs: Costs,
    *,
    ids: Sequence[UUID] | None = None,
    before: UUID | None = None,
    limit: int,
) -> list[PricedRun]:
    """Newest first."""
    statement = Statement(RUNS, project_id=project_id, limit=limit, jobs=list(costs), micro_usd=list(costs.values()))
    if ids is not None:
        statement.require("r.id = ANY({value})", list(ids))
    if before is not None:
        statement.require("r.id < {value}", before)
    statement.restrict([condition] if condition else [])
    # Planned for its values each time, as searches are.
    cursor = await conn.execute(statement.compose(Q.query_runs, ()), statement.values, prepare=False)
    return [PricedRun(Run.from_row(row), cost_usd) for row in await cursor.fetchall() for cost_usd in [row.pop("cost_usd")]]


async def list_inputs(conn: Connection, project_id: UUID, run_ids: Sequence[UUID]) -> list[tuple[UUID, str, str]]:
    """Run, dataset and commit of each input."""
    cursor = await conn.execute(Q.list_inputs, {"project_id": project_id, "run_ids": [str(id) for id in run_ids]})
    return [(UUID(row["run_id"]), row["dataset"], row["commit"]) for row in await cursor.fetchall()]


async def list_curves(conn: Connection, project_id: UUID, run_ids: Sequence[UUID], keys: Sequence[str], buckets: int) -> list[Curve]:
    """At most two points a bucket of each series, by key and run."""
    asked = {"project_id": project_id, "run_ids": list(run_ids), "keys": list(keys), "buckets": buckets}
    cursor = await conn.execute(Q.list_curves, asked)
    return [Curve(**row) for row in await cursor.fetchall()]


async def set_view(conn: Connection, values: Mapping[str, Any]) -> View:
    cursor = await conn.execute(Q.set_view, {**values, "charts": Jsonb(list(values["charts"]))})
    return View(**await cursor.fetchone() or {})


async def find_view(conn: Connection, project_id: UUID, name: str) -> View | None:
    row = await (await conn.execute(Q.find_view, {"project_id": project_id, "name": name})).fetchone()
    return View(**row) if row else None


async def list_views(conn: Connection, project_id: UUID, after: str | None, limit: int) -> list[View]:
    cursor = await conn.execute(Q.list_views, {"project_id": project_id, "after": after, "limit": limit})
    return [View(**row) for row in await cursor.fetchall()]


async def delete_view(conn: Connection, project_id: UUID, name: str) -> bool:
    cursor = await conn.execute(Q.delete_view, {"project_id": project_id, "name": name})
    return await cursor.fetchone() is not None
