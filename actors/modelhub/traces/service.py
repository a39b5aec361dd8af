"""Verbs of traces and assessments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.models import Experiment
from actors.modelhub.search import service as search
from actors.modelhub.traces import store
from actors.modelhub.traces.errors import AssessmentNotFound, InvalidDeletion, TraceNotFound
from actors.modelhub.traces.models import Assessment, Trace, TraceSpec
from actors.modelhub.tracking.errors import TagNotFound
from actors.securityvault.models import Scope
from cluster.db import Connection, new_id


async def put_trace(conn: Connection, scope: Scope, experiment: Experiment, spec: TraceSpec) -> Trace:
    """A trace that is sent again is changed to what is sent."""
    await store.put_trace(conn, scope.project, experiment.id, spec)
    return await get_trace(conn, scope, spec.trace_id)


async def get_trace(conn: Connection, scope: Scope, trace_id: str) -> Trace:
    """Raises: TraceNotFound."""
    if found := await search.find_traces(conn, scope, [trace_id]):
        return found[0]
    raise TraceNotFound(trace_id=trace_id[:200])


async def require_trace(conn: Connection, scope: Scope, id: UUID) -> None:
    """By the id that its files have. Raises: TraceNotFound."""
    if not await search.find_traces_by_id(conn, scope, [id]):
        raise TraceNotFound(trace_id=str(id))


async def change_tags(conn: Connection, scope: Scope, trace_id: str, tags: Mapping[str, str | None]) -> None:
    """None removes one. Raises: TraceNotFound, TagNotFound."""
    trace = await get_trace(conn, scope, trace_id)
    if gone := [key for key, value in tags.items() if value is None and key not in trace.tags]:
        raise TagNotFound(key=gone[0], owner=f"trace {trace_id}")
    await store.change_tags(conn, scope.project, trace.id, tags)


async def link_traces(conn: Connection, scope: Scope, trace_ids: Sequence[str], run_id: UUID) -> None:
    """The run is where the traces come from. Raises: RunNotFound."""
    run = await service.get_run(conn, scope, run_id)
    await store.link_traces(conn, scope.project, trace_ids, run.id.hex)


async def delete_traces(
    conn: Connection, scope: Scope, experiment: Experiment, trace_ids: Sequence[str], before: datetime | None, limit: int | None
) -> int:
    """Those named, or the oldest up to a time; with their files. How many there were. Raises: InvalidDeletion."""
    if bool(trace_ids) == (before is not None):
        raise InvalidDeletion
    return await store.delete_traces(conn, scope.project, experiment.id, trace_ids or None, before, limit)


async def create_assessment(conn: Connection, scope: Scope, trace_id: str, body: Mapping[str, Any]) -> Assessment:
    """One that overrides another makes that invalid. Raises: TraceNotFound, AssessmentNotFound."""
    trace, id = await get_trace(conn, scope, trace_id), new_id()
    if overridden := body.get("overrides"):
        await _change(conn, scope, trace, str(overridden), {"valid": False})
    await store.insert_assessment(conn, scope.project, trace.id, id, {"valid": True, **body})
    return await get_assessment(conn, scope, trace_id, f"a-{id.hex}")


async def get_assessment(conn: Connection, scope: Scope, trace_id: str, assessment_id: str) -> Assessment:
    """Raises: TraceNotFound, AssessmentNotFound."""
    trace, id = await get_trace(conn, scope, trace_id), _to_id(trace_id, assessment_id)
    for found in trace.assessments:
        if found.id == id:
            return found
    raise AssessmentNotFound(assessment_id=assessment_id, trace_id=trace_id)


async def change_assessment(conn: Connection, scope: Scope, trace_id: str, assessment_id: str, changes: Mapping[str, Any]) -> Assessment:
    """What ``changes`` names takes its value. Raises: TraceNotFound, AssessmentNotFound."""
    await _change(conn, scope, await get_trace(conn, scope, trace_id), assessment_id, changes)
    return await get_assessment(conn, scope, trace_id, assessment_id)


async def _change(conn: Connection, scope: Scope, trace: Trace, assessment_id: str, changes: Mapping[str, Any]) -> None:
    id = _to_id(trace.trace_id, assessment_id)
    if not await store.change_assessment(conn, scope.project, trace.id, id, changes):
        raise AssessmentNotFound(assessment_id=assessment_id, trace_id=trace.trace_id)


async def delete_assessment(conn: Connection, scope: Scope, trace_id: str, assessment_id: str) -> None:
    """Raises: TraceNotFound, AssessmentNotFound."""
    trace, id = await get_trace(conn, scope, trace_id), _to_id(trace_id, assessment_id)
    if not await store.delete_assessment(conn, scope.project, trace.id, id):
        raise AssessmentNotFound(assessment_id=assessment_id, trace_id=trace_id)


def _to_id(trace_id: str, assessment_id: str) -> UUID:
    try:
        return UUID(assessment_id.removeprefix("a-"))
    except ValueError:
        raise AssessmentNotFound(assessment_id=assessment_id[:100], trace_id=trace_id[:200]) from None
