"""Runs side by side: a query chooses them, what differs between them stands out, and a view keeps the question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from actors.modelhub.comparison import policy, store
from actors.modelhub.comparison.errors import ViewNotFound
from actors.modelhub.comparison.models import Comparison, Costs, PricedRun, View
from actors.modelhub.errors import RunNotFound
from actors.modelhub.search.language import parse_query
from actors.modelhub.search.models import Condition
from actors.securityvault.models import Scope
from cluster.db import Connection, new_id
from cluster.events import Event, publish

MOST_RUNS = 500
"""Runs of one comparison."""


async def query_runs(
    conn: Connection, scope: Scope, condition: Condition | None, costs: Costs, before: UUID | None, limit: int
) -> list[PricedRun]:
    """Newest first; ``costs`` decide what ``cost_usd`` means."""
    return await store.query_runs(conn, scope.project, condition, costs, before=before, limit=limit)


async def find_runs(conn: Connection, scope: Scope, ids: Sequence[UUID], costs: Costs) -> list[PricedRun]:
    """In the order of ``ids``, each once. Raises: RunNotFound."""
    wanted = list(dict.fromkeys(ids))
    found = {each.run.id: each for each in await store.query_runs(conn, scope.project, None, costs, ids=wanted, limit=len(wanted))}
    for id in wanted:
        if id not in found:
            raise RunNotFound(run_id=id)
    return [found[id] for id in wanted]


async def compare(conn: Connection, scope: Scope, runs: Sequence[PricedRun], metrics: Sequence[str] | None, points: int) -> Comparison:
    """At most ``MOST_RUNS`` of the runs. ``metrics``: those with curves, of at most ``points`` each; None chooses some."""
    kept = tuple(runs[:MOST_RUNS])
    ids = [each.run.id for each in kept]
    inputs: dict[UUID, dict[str, str]] = defaultdict(dict)
    for run_id, dataset, commit in await store.list_inputs(conn, scope.project, ids):
        inputs[run_id][dataset] = f"{inputs[run_id][dataset]} {commit}" if dataset in inputs[run_id] else commit
    alike, facts = policy.split([policy.describe(each.run, inputs[each.run.id]) for each in kept])
    keys = policy.choose_metrics([each.run for each in kept]) if metrics is None else metrics
    drawn = sum(key in each.run.metrics for each in kept for key in keys)
    curves = await store.list_curves(conn, scope.project, ids, keys, policy.choose_buckets(drawn, points)) if drawn else []
    return Comparison(kept, facts, alike, tuple(curves), len(runs) > len(kept))


async def set_view(
    conn: Connection, scope: Scope, name: str, query: str, columns: Sequence[str], charts: Sequence[Mapping[str, Any]]
) -> View:
    """Make the view of this name, or make it say something else. Raises: InvalidQuery."""
    if query:
        parse_query(query)
    values = {"id": new_id(), "project_id": scope.project, "name": name, "query": query, "created_by": scope.actor}
    view = await store.set_view(conn, {**values, "columns": list(columns), "charts": charts})
    await _emit(conn, scope, "view.set", view)
    return view


async def get_view(conn: Connection, scope: Scope, name: str) -> View:
    """Raises: ViewNotFound."""
    if found := await store.find_view(conn, scope.project, name):
        return found
    raise ViewNotFound(name=name)


async def list_views(conn: Connection, scope: Scope, after: str | None, limit: int) -> list[View]:
    """By name."""
    return await store.list_views(conn, scope.project, after, limit)


async def delete_view(conn: Connection, scope: Scope, name: str) -> None:
    """Raises: ViewNotFound."""
    view = await get_view(conn, scope, name)
    await store.delete_view(conn, scope.project, name)
    await _emit(conn, scope, "view.deleted", view)


async def _emit(conn: Connection, scope: Scope, change: str, view: View) -> None:
    event = Event(f"modelhub.{change}", str(view.id), scope.org_id, scope.project_id, scope.actor, {"name": view.name})
    await publish(conn, event)
