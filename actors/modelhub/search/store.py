"""The searches' SQL: a function a named query, its conditions put together from ``conditions``.

Each returns one row more than the page has, where there is one: so that its caller knows whether to offer a next page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from actors.modelhub.evaluation.models import EvaluationDataset
from actors.modelhub.logged.models import LoggedModel
from actors.modelhub.models import Experiment, Model, ModelVersion, Run
from actors.modelhub.search.conditions import Statement, Table
from actors.modelhub.search.models import Entity, Search
from actors.modelhub.traces.models import Trace
from cluster.db import Connection, load_queries

Q = load_queries(__package__ or "actors.modelhub.search")


def _ms(column: LiteralString) -> LiteralString:
    return f"floor(extract(epoch FROM {column}) * 1000)"


# Valid assessments of a trace by name, their values as text.
_FEEDBACK: LiteralString = (
    "(SELECT a.body ->> 'assessment_name' AS key, a.body #>> '{feedback,value}' AS value FROM modelhub.assessments a"
    " WHERE a.trace = t.id AND a.body ? 'feedback' AND a.body -> 'valid' <> 'false') x WHERE true"
)
_EXPECTATION: LiteralString = (
    "(SELECT a.body ->> 'assessment_name' AS key, a.body #>> '{expectation,value}' AS value FROM modelhub.assessments a"
    " WHERE a.trace = t.id AND a.body ? 'expectation' AND a.body -> 'valid' <> 'false') x WHERE true"
)
EXPERIMENTS = Table(
    "e",
    {
        "name": "e.name",
        "experiment_id": "replace(e.id::text, '-', '')",
        "creation_time": _ms("e.created_at"),
        "last_update_time": _ms("e.updated_at"),
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
        "start_time": _ms("r.started_at"),
        "end_time": _ms("r.ended_at"),
    },
    {
        Entity.METRIC: "modelhub.metrics x WHERE x.run_id = r.id",
        Entity.PARAM: "modelhub.run_params x WHERE x.run_id = r.id",
        Entity.TAG: "modelhub.run_tags x WHERE x.run_id = r.id",
    },
    {Entity.DATASET: ("modelhub.run_datasets x WHERE x.run_id = r.id", _DATASET)},
    newest="r.started_at DESC, r.id",
)

MODELS = Table(
    "m",
    {"name": "m.name", "creation_timestamp": _ms("m.created_at"), "last_updated_timestamp": _ms("m.updated_at")},
    {Entity.TAG: "modelhub.model_tags x WHERE x.model_id = m.id"},
    newest="m.name, m.id",
)
VERSIONS = Table(
    "v",
    {
        "name": "m.name",
        "run_id": "replace(v.run_id::text, '-', '')",
        "source_path": "v.source",
        "current_stage": "v.stage",
        "version_number": "v.version",
        "creation_timestamp": _ms("v.created_at"),
        "last_updated_timestamp": _ms("v.updated_at"),
    },
    {Entity.TAG: "modelhub.version_tags x WHERE x.version_id = v.id"},
    newest="v.updated_at DESC, m.name, v.version DESC",
)
LOGGED_MODELS = Table(
    "l",
    {
        "name": "l.name",
        "model_id": "'m-' || replace(l.id::text, '-', '')",
        "model_type": "l.model_type",
        "status": "l.state",
        "source_run_id": "replace(l.run_id::text, '-', '')",
        "experiment_id": "replace(l.experiment_id::text, '-', '')",
        "creation_timestamp": _ms("l.created_at"),
        "last_updated_timestamp": _ms("l.updated_at"),
    },
    {
        Entity.METRIC: "modelhub.logged_model_metrics x WHERE x.model_id = l.id",
        Entity.PARAM: "modelhub.logged_model_texts x WHERE x.model_id = l.id AND x.kind = 'param'",
        Entity.TAG: "modelhub.logged_model_texts x WHERE x.model_id = l.id AND x.kind = 'tag'",
    },
    newest="l.created_at DESC, l.id DESC",
    repeated=frozenset({Entity.METRIC}),
)

EVALUATION_DATASETS = Table(
    "d",
    {
        "name": "d.name",
        "created_by": "d.created_by",
        "last_updated_by": "d.updated_by",
        "created_time": _ms("d.created_at"),
        "last_update_time": _ms("d.updated_at"),
    },
    {Entity.TAG: "jsonb_each_text(d.tags) x WHERE true"},
    newest="d.created_at DESC, d.id DESC",
    keeps_deleted=False,
)

TRACES = Table(
    "t",
    {
        "request_id": "t.trace_id",
        "client_request_id": "t.client_request_id",
        "name": "t.tags ->> 'mlflow.traceName'",
        "run_id": "t.metadata ->> 'mlflow.sourceRun'",
        "status": "t.state",
        "experiment_id": "replace(t.experiment_id::text, '-', '')",
        "timestamp_ms": _ms("t.requested_at"),
        "execution_time_ms": "t.duration_ms",
        "end_time_ms": _ms("t.requested_at") + " + t.duration_ms",
    },
    {
        Entity.TAG: "jsonb_each_text(t.tags) x WHERE true",
        Entity.METADATA: "jsonb_each_text(t.metadata) x WHERE true",
        Entity.FEEDBACK: _FEEDBACK,
        Entity.EXPECTATION: _EXPECTATION,
    },
    newest="t.requested_at DESC, t.id DESC",
    keeps_deleted=False,
)


async def _search(
    conn: Connection, query: LiteralString, table: Table, project_id: UUID, search: Search, required: Mapping[LiteralString, Any]
) -> list[dict[str, Any]]:
    """``required``: clauses of one ``{value}`` with their values; None asks for nothing."""
    statement = Statement(table, project_id=project_id, limit=search.limit + 1, offset=search.offset)
    for clause, value in required.items():
        if value is not None:
            statement.require(clause, value)
    statement.datasets = search.datasets
    statement.restrict(search.comparisons, search.lifecycle)
    # A filter is planned for its values each time, a millisecond: the plan that is kept for any values takes three times as long.
    prepare = False if search.comparisons else None
    cursor = await conn.execute(statement.compose(query, search.order), statement.values, prepare=prepare)
    return await cursor.fetchall()


async def search_experiments(conn: Connection, project_id: UUID, search: Search, ids: Sequence[UUID] | None = None) -> list[Experiment]:
    rows = await _search(conn, Q.search_experiments, EXPERIMENTS, project_id, search, {"e.id = ANY({value})": ids})
    return [Experiment(**row) for row in rows]


async def search_runs(
    conn: Connection, project_id: UUID, search: Search, *, experiments: Sequence[UUID] | None = None, ids: Sequence[UUID] | None = None
) -> list[Run]:
    required: dict[LiteralString, Any] = {"r.experiment_id = ANY({value})": experiments, "r.id = ANY({value})": ids}
    if experiments is not None and len(experiments) == 1:  # as an equation, so that its index gives the newest first
        required = {"r.experiment_id = {value}": experiments[0], "r.id = ANY({value})": ids}
    return [Run.from_row(row) for row in await _search(conn, Q.search_runs, RUNS, project_id, search, required)]


async def search_models(conn: Connection, project_id: UUID, search: Search, names: Sequence[str] | None = None) -> list[Model]:
    rows = await _search(conn, Q.search_models, MODELS, project_id, search, {"m.name = ANY({value})": names})
    return [Model(**row) for row in rows]


async def search_versions(
    conn: Connection, project_id: UUID, search: Search, *, ids: Sequence[UUID] | None = None, newest_of: Sequence[UUID] | None = None
) -> list[ModelVersion]:
    """``newest_of``: of these models the newest version in each stage. Without their files."""
    newest: LiteralString = (
        "v.model_id = ANY({value}) AND v.version = (SELECT max(w.version) FROM modelhub.versions w"
        " WHERE w.model_id = v.model_id AND w.stage = v.stage AND w.deleted_at IS NULL)"
    )
    rows = await _search(conn, Q.search_versions, VERSIONS, project_id, search, {"v.id = ANY({value})": ids, newest: newest_of})
    return [ModelVersion.from_row(row) for row in rows]


async def search_logged_models(
    conn: Connection, project_id: UUID, search: Search, *, experiments: Sequence[UUID] | None = None, ids: Sequence[UUID] | None = None
) -> list[LoggedModel]:
    required: dict[LiteralString, Any] = {"l.experiment_id = ANY({value})": experiments, "l.id = ANY({value})": ids}
    return [LoggedModel.from_row(row) for row in await _search(conn, Q.search_logged_models, LOGGED_MODELS, project_id, search, required)]


async def search_evaluation_datasets(
    conn: Connection, project_id: UUID, search: Search, *, experiments: Sequence[UUID] | None = None, ids: Sequence[UUID] | None = None
) -> list[EvaluationDataset]:
    required: dict[LiteralString, Any] = {"d.experiment_ids && {value}": experiments, "d.id = ANY({value})": ids}
    rows = await _search(conn, Q.search_evaluation_datasets, EVALUATION_DATASETS, project_id, search, required)
    return [EvaluationDataset.from_row(row) for row in rows]


async def search_traces(
    conn: Connection,
    project_id: UUID,
    search: Search,
    *,
    experiments: Sequence[UUID] | None = None,
    trace_ids: Sequence[str] | None = None,
    ids: Sequence[UUID] | None = None,
) -> list[Trace]:
    required: dict[LiteralString, Any] = {
        "t.experiment_id = ANY({value})": experiments,
        "t.trace_id = ANY({value})": trace_ids,
        "t.id = ANY({value})": ids,
    }
    return [Trace.from_row(row) for row in await _search(conn, Q.search_traces, TRACES, project_id, search, required)]
