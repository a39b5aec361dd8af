"""Questions about runs, where ModelHub meets CostOptimizer, which knows what they cost, and DataForge, which knows what a ref names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from actors.costoptimizer import service as costoptimizer
from actors.costoptimizer.models import GroupBy
from actors.modelhub import service as modelhub
from actors.modelhub.comparison import service
from actors.modelhub.comparison.models import Comparison, Costs, Facts, PricedRun
from actors.modelhub.models import Run, RunFilter
from actors.modelhub.search.language import comparisons, parse_query
from actors.modelhub.search.models import Combination, Condition, Entity
from actors.modelhub.search.models import Comparison as Compared
from actors.securityvault.models import Scope
from aidos.errors import InvalidPayload
from aidos.schemas.comparisons import ComparedRun, ComparisonCreate, ComparisonRead, CurveRead, FactsRead
from cluster.db import Connection
from data_pipelines.dataforge import service as dataforge

_MOST_JOBS = 100_000


async def list_runs(conn: Connection, scope: Scope, wanted: RunFilter, query: str | None, before: UUID | None, limit: int) -> Sequence[Run]:
    """Newest first. Raises: InvalidQuery, DatasetNotFound, RefNotFound."""
    if query is None or not query.strip():
        return await modelhub.list_runs(conn, scope, wanted, before, limit)
    condition = await _read(conn, scope, query, wanted)
    return [each.run for each in await service.query_runs(conn, scope, condition, await _costs(conn, scope, condition), before, limit)]


async def compare(conn: Connection, scope: Scope, asked: ComparisonCreate) -> ComparisonRead:
    """Raises: InvalidPayload, InvalidQuery, RunNotFound, DatasetNotFound, RefNotFound."""
    if bool(asked.runs) is (asked.query is not None):
        raise InvalidPayload(reason="A comparison names its runs or asks for them by a query, one of the two.")
    costs = await sum_job_costs(conn, scope)
    if asked.query is None:
        runs = await service.find_runs(conn, scope, asked.runs, costs)
    else:
        condition = await _read(conn, scope, asked.query, RunFilter()) if asked.query.strip() else None
        runs = await service.query_runs(conn, scope, condition, costs, None, service.MOST_RUNS + 1)
    return _to_wire(await service.compare(conn, scope, runs, asked.metrics, asked.points))


async def sum_job_costs(conn: Connection, scope: Scope) -> Costs:
    """Millionths of a dollar that each job of the project has cost up to now."""
    bill = await costoptimizer.get_bill(conn, scope, datetime.fromtimestamp(0, UTC), None, GroupBy.OWNER, _MOST_JOBS)
    return {UUID(cost.owner_id): cost.micro_usd for cost in bill.costs if cost.owner_kind == "job" and cost.owner_id}


async def _costs(conn: Connection, scope: Scope, condition: Condition) -> Costs:
    asked = any((each.entity, each.key) == (Entity.ATTRIBUTE, "cost_usd") for each in comparisons(condition))
    return await sum_job_costs(conn, scope) if asked else {}


async def _read(conn: Connection, scope: Scope, query: str, wanted: RunFilter) -> Condition:
    """The query, with what else is wanted of the runs, and with commits in the place of ``dataset@ref``."""
    condition = await _resolve(conn, scope, parse_query(query))
    job_id = str(wanted.job_id) if wanted.job_id else None
    exact = {"experiment_id": str(wanted.experiment_id) if wanted.experiment_id else None, "state": wanted.state, "job_id": job_id}
    others = tuple(Compared(Entity.ATTRIBUTE, key, "=", str(value)) for key, value in exact.items() if value is not None)
    return Combination("AND", (condition, *others)) if others else condition


async def _resolve(conn: Connection, scope: Scope, condition: Condition) -> Condition:
    if isinstance(condition, Combination):
        return replace(condition, parts=tuple([await _resolve(conn, scope, part) for part in condition.parts]))
    if (condition.entity, condition.key) != (Entity.DATA, "commit") or condition.operator not in ("=", "!=", "IN", "NOT IN"):
        return condition
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    found = tuple([await _commit(conn, scope, str(value)) for value in values])
    return replace(condition, value=found if isinstance(condition.value, tuple) else found[0])


async def _commit(conn: Connection, scope: Scope, named: str) -> str:
    dataset, at, ref = named.rpartition("@")
    return str((await dataforge.get_commit(conn, scope, dataset, ref)).id) if at else named


def _to_wire(found: Comparison) -> ComparisonRead:
    runs = [_run(priced, facts) for priced, facts in zip(found.runs, found.facts, strict=True)]
    curves = [CurveRead.model_validate(curve) for curve in found.curves]
    return ComparisonRead(runs=runs, alike=_facts(found.alike), curves=curves, truncated=found.truncated)


def _run(priced: PricedRun, facts: Facts) -> ComparedRun:
    run = priced.run
    own: dict[str, Any] = {name: getattr(run, name) for name in ComparedRun.model_fields if hasattr(run, name)}
    duration_s = ((run.ended_at or datetime.now(UTC)) - run.started_at).total_seconds()
    return ComparedRun(**own, duration_s=duration_s, cost_usd=priced.cost_usd, facts=_facts(facts))


def _facts(facts: Facts) -> FactsRead:
    return FactsRead(**{section: dict(values) for section, values in facts.items()})
