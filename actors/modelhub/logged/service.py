"""Verbs of logged models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from actors.modelhub import service
from actors.modelhub.logged import store
from actors.modelhub.logged.errors import LoggedModelNotFound
from actors.modelhub.logged.models import LoggedModel, LoggedModelSpec, LoggedModelState, ModelMetric, Role
from actors.modelhub.models import Experiment, Run
from actors.modelhub.search import service as search
from actors.modelhub.tracking.errors import TagNotFound
from actors.securityvault.models import Scope
from cluster.db import Connection, new_id

Link = tuple[UUID, UUID, Role, int]
"""Run, model, role, step."""


def to_id(text: str) -> UUID:
    """Of ``m-<32 hexadecimal digits>``. Raises: LoggedModelNotFound where it can be none's."""
    try:
        return UUID(text.removeprefix("m-"))
    except ValueError:
        raise LoggedModelNotFound(model_id=text[:100]) from None


async def create_model(conn: Connection, scope: Scope, experiment: Experiment, spec: LoggedModelSpec) -> LoggedModel:
    """PENDING until its files are there. Raises: RunNotFound when it is said to be of a run that is none."""
    if spec.run_id:
        await service.get_run(conn, scope, spec.run_id)
    id = new_id()
    row = {"id": id, "project_id": scope.project, "experiment_id": experiment.id, "run_id": spec.run_id, "model_type": spec.model_type}
    await store.insert_model(conn, {**row, "name": spec.name or f"model-{id.hex[-6:]}", "created_by": scope.actor})
    await store.set_texts(conn, scope.project, id, "param", spec.params)
    await store.set_texts(conn, scope.project, id, "tag", spec.tags)
    return await get_model(conn, scope, id)


async def get_model(conn: Connection, scope: Scope, id: UUID) -> LoggedModel:
    """Raises: LoggedModelNotFound."""
    if found := await search.find_logged_models(conn, scope, [id]):
        return found[0]
    raise LoggedModelNotFound(model_id=f"m-{id.hex}")


async def _touch(conn: Connection, scope: Scope, id: UUID, state: LoggedModelState | None = None) -> None:
    if not await store.touch_model(conn, scope.project, id, state):
        raise LoggedModelNotFound(model_id=f"m-{id.hex}")


async def finish_model(conn: Connection, scope: Scope, id: UUID, state: LoggedModelState) -> LoggedModel:
    """Its files are there, or will never be. Raises: LoggedModelNotFound."""
    await _touch(conn, scope, id, state)
    return await get_model(conn, scope, id)


async def delete_model(conn: Connection, scope: Scope, id: UUID) -> None:
    """Raises: LoggedModelNotFound."""
    if not await store.delete_model(conn, scope.project, id):
        raise LoggedModelNotFound(model_id=f"m-{id.hex}")


async def set_params(conn: Connection, scope: Scope, id: UUID, params: Mapping[str, str]) -> None:
    """Raises: LoggedModelNotFound."""
    await _touch(conn, scope, id)
    await store.set_texts(conn, scope.project, id, "param", params)


async def set_tags(conn: Connection, scope: Scope, id: UUID, tags: Mapping[str, str]) -> LoggedModel:
    """Raises: LoggedModelNotFound."""
    await _touch(conn, scope, id)
    await store.set_texts(conn, scope.project, id, "tag", tags)
    return await get_model(conn, scope, id)


async def delete_tag(conn: Connection, scope: Scope, id: UUID, key: str) -> None:
    """Raises: LoggedModelNotFound, TagNotFound."""
    await _touch(conn, scope, id)
    if not await store.delete_tag(conn, scope.project, id, key):
        raise TagNotFound(key=key, owner=f"logged model m-{id.hex}")


async def log_metrics(conn: Connection, scope: Scope, run_id: UUID, metrics: Sequence[tuple[UUID, ModelMetric]]) -> None:
    """What a run measured on models; models that are not there are passed over."""
    if metrics:
        await store.insert_metrics(conn, scope.project, run_id, metrics)


async def link_models(conn: Connection, scope: Scope, run_id: UUID, role: Role, models: Mapping[UUID, int]) -> None:
    """Models that went into a run, or came of it at a step. Raises: RunNotFound, LoggedModelNotFound."""
    if not models:
        return
    await service.get_run(conn, scope, run_id)
    for id in models:
        await get_model(conn, scope, id)
    await store.link_models(conn, scope.project, run_id, role, models)


async def list_links(conn: Connection, scope: Scope, runs: Sequence[Run]) -> dict[UUID, list[Link]]:
    """By run."""
    found: dict[UUID, list[Link]] = {}
    for link in await store.list_links(conn, scope.project, [run.id for run in runs]) if runs else ():
        found.setdefault(link[0], []).append(link)
    return found
