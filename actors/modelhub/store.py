"""ModelHub's SQL: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from actors.modelhub.models import (
    Artifact,
    Experiment,
    Finding,
    Model,
    ModelFile,
    ModelVersion,
    Point,
    Run,
    RunFilter,
    RunState,
    VersionState,
)
from cluster.db import Connection, load_queries, one

Q = load_queries(__package__ or "actors.modelhub")
Row = Mapping[str, Any]


async def insert_experiment(conn: Connection, experiment: Row) -> Experiment | None:
    """The new experiment; None where the name is taken."""
    return one(Experiment, await (await conn.execute(Q.insert_experiment, experiment)).fetchone())


async def find_experiment(conn: Connection, project_id: UUID, name: str) -> Experiment | None:
    """By name or id."""
    return one(Experiment, await (await conn.execute(Q.find_experiment, {"project_id": project_id, "name": name})).fetchone())


async def list_experiments(conn: Connection, project_id: UUID, before: UUID | None, limit: int) -> list[Experiment]:
    cursor = await conn.execute(Q.list_experiments, {"project_id": project_id, "before": before, "limit": limit})
    return [Experiment(**row) for row in await cursor.fetchall()]


async def delete_experiment(conn: Connection, project_id: UUID, id: UUID) -> bool:
    return await (await conn.execute(Q.delete_experiment, {"project_id": project_id, "id": id})).fetchone() is not None


async def insert_run(conn: Connection, run: Row, experiment: str, params: Mapping[str, str], tags: Mapping[str, str]) -> Run | None:
    """The run, new, with its params and tags; None where its id is taken."""
    pairs = {"param_keys": list(params), "param_values": list(params.values()), "tag_keys": list(tags), "tag_values": list(tags.values())}
    row = await (await conn.execute(Q.insert_run, {**run, **pairs})).fetchone()
    return Run(**row, experiment=experiment, state=RunState.RUNNING, ended_at=None, params=dict(params), tags=dict(tags)) if row else None


async def find_run(conn: Connection, project_id: UUID, id: UUID) -> Run | None:
    row = await (await conn.execute(Q.find_run, {"project_id": project_id, "id": id})).fetchone()
    return Run.from_row(row) if row else None


async def list_runs(conn: Connection, project_id: UUID, wanted: RunFilter, before: UUID | None, limit: int) -> list[Run]:
    cursor = await conn.execute(
        Q.list_runs,
        {
            "project_id": project_id,
            "before": before,
            "limit": limit,
            "experiment_id": wanted.experiment_id,
            "state": wanted.state,
            "job_id": wanted.job_id,
        },
    )
    return [Run.from_row(row) for row in await cursor.fetchall()]


async def lock_run(conn: Connection, project_id: UUID, id: UUID) -> RunState | None:
    """The state, which nobody else can change in this transaction."""
    return _to_state(await (await conn.execute(Q.lock_run, {"project_id": project_id, "id": id})).fetchone())


async def share_run(conn: Connection, project_id: UUID, id: UUID) -> RunState | None:
    """The state, which stays for this transaction; others may log at the same time."""
    return _to_state(await (await conn.execute(Q.share_run, {"project_id": project_id, "id": id})).fetchone())


async def update_run(
    conn: Connection, project_id: UUID, id: UUID, *, name: str | None, state: RunState | None, ended_at: datetime | None = None
) -> None:
    """``ended_at``: None is now, where the state ends the run."""
    await conn.execute(Q.update_run, {"project_id": project_id, "id": id, "name": name, "state": state, "ended_at": ended_at})


async def delete_run(conn: Connection, project_id: UUID, id: UUID) -> bool:
    return await (await conn.execute(Q.delete_run, {"project_id": project_id, "id": id})).fetchone() is not None


async def set_params(conn: Connection, project_id: UUID, run_id: UUID, params: Mapping[str, str]) -> Row | None:
    """Set those that are new; the first (``key, stored, wanted``) that stands with another value, if any."""
    return await (await conn.execute(Q.set_params, _pairs(project_id, run_id, params))).fetchone()


async def set_tags(conn: Connection, project_id: UUID, run_id: UUID, tags: Mapping[str, str]) -> None:
    await conn.execute(Q.set_tags, _pairs(project_id, run_id, tags))


async def delete_tags(conn: Connection, project_id: UUID, run_id: UUID, keys: Sequence[str]) -> None:
    await conn.execute(Q.delete_tags, {"project_id": project_id, "run_id": run_id, "keys": list(keys)})


async def count_params(conn: Connection, project_id: UUID, run_id: UUID) -> Row:
    """How many ``params`` and ``tags`` the run has."""
    row = await (await conn.execute(Q.count_params, {"project_id": project_id, "run_id": run_id})).fetchone()
    assert row is not None
    return row


async def list_points(
    conn: Connection, project_id: UUID, run_id: UUID, key: str, after: tuple[int, datetime, float] | None, limit: int
) -> list[Point]:
    step, at, value = after or (None, None, None)
    cursor = await conn.execute(
        Q.list_points,
        {
            "project_id": project_id,
            "run_id": run_id,
            "key": key,
            "after_step": step,
            "after_at": at,
            "after_value": value,
            "limit": limit,
        },
    )
    return [Point(**row) for row in await cursor.fetchall()]


async def downsample_points(conn: Connection, project_id: UUID, run_id: UUID, key: str, buckets: int) -> list[Point]:
    """At most two points a bucket."""
    cursor = await conn.execute(Q.downsample_points, {"project_id": project_id, "run_id": run_id, "key": key, "buckets": buckets})
    return [Point(**row) for row in await cursor.fetchall()]


async def insert_artifacts(conn: Connection, project_id: UUID, run_id: UUID, files: Sequence[Row]) -> list[Artifact]:
    """The artifacts of these paths: new ones, and those that the run had already."""
    cursor = await conn.execute(
        Q.insert_artifacts,
        {
            "project_id": project_id,
            "run_id": run_id,
            "ids": [file["id"] for file in files],
            "paths": [file["path"] for file in files],
            "keys": [file["key"] for file in files],
            "sha256s": [file["sha256"] for file in files],
            "sizes_bytes": [file["size_bytes"] for file in files],
        },
    )
    return [Artifact(**row) for row in await cursor.fetchall()]


async def find_artifacts(conn: Connection, project_id: UUID, run_id: UUID, paths: Sequence[str]) -> list[Artifact]:
    """Those of ``paths`` that were announced, by path."""
    cursor = await conn.execute(Q.find_artifacts, {"project_id": project_id, "run_id": run_id, "paths": list(paths)})
    return [Artifact(**row) for row in await cursor.fetchall()]


async def complete_artifacts(conn: Connection, project_id: UUID, run_id: UUID, ids: Sequence[UUID]) -> list[Artifact]:
    cursor = await conn.execute(Q.complete_artifacts, {"project_id": project_id, "run_id": run_id, "ids": list(ids)})
    return [Artifact(**row) for row in await cursor.fetchall()]


async def list_artifacts(conn: Connection, project_id: UUID, run_id: UUID, prefix: str, after: str | None, limit: int) -> list[Artifact]:
    cursor = await conn.execute(
        Q.list_artifacts, {"project_id": project_id, "run_id": run_id, "prefix": prefix, "after": after, "limit": limit}
    )
    return [Artifact(**row) for row in await cursor.fetchall()]


async def insert_model(conn: Connection, model: Row) -> bool:
    """False where the name is taken."""
    return await (await conn.execute(Q.insert_model, model)).fetchone() is not None


async def find_model(conn: Connection, project_id: UUID, name: str) -> Model | None:
    row = await (await conn.execute(Q.find_model, {"project_id": project_id, "name": name})).fetchone()
    return _to_model(row) if row else None


async def list_models(conn: Connection, project_id: UUID, before: UUID | None, limit: int) -> list[Model]:
    cursor = await conn.execute(Q.list_models, {"project_id": project_id, "before": before, "limit": limit})
    return [_to_model(row) for row in await cursor.fetchall()]


async def delete_model(conn: Connection, project_id: UUID, id: UUID) -> bool:
    return await (await conn.execute(Q.delete_model, {"project_id": project_id, "id": id})).fetchone() is not None


async def next_version(conn: Connection, project_id: UUID, id: UUID) -> int | None:
    row = await (await conn.execute(Q.next_version, {"project_id": project_id, "id": id})).fetchone()
    return row["last_version"] if row else None


async def insert_version(conn: Connection, version: Row, files: Sequence[ModelFile]) -> None:
    await conn.execute(
        Q.insert_version,
        {
            **version,
            "paths": [file.path for file in files],
            "keys": [file.key for file in files],
            "sizes_bytes": [file.size_bytes for file in files],
            "sha256s": [file.sha256 for file in files],
        },
    )


async def find_version(conn: Connection, project_id: UUID, model: str, *, number: int | None, alias: str | None) -> ModelVersion | None:
    cursor = await conn.execute(Q.find_version, {"project_id": project_id, "model": model, "number": number, "alias": alias})
    row = await cursor.fetchone()
    return ModelVersion.from_row(row) if row else None


async def list_versions(conn: Connection, project_id: UUID, model_id: UUID, before: int | None, limit: int) -> list[ModelVersion]:
    cursor = await conn.execute(Q.list_versions, {"project_id": project_id, "model_id": model_id, "before": before, "limit": limit})
    return [ModelVersion.from_row(row) for row in await cursor.fetchall()]


async def lock_version(conn: Connection, project_id: UUID, id: UUID) -> bool:
    """False where it is gone."""
    return await (await conn.execute(Q.lock_version, {"project_id": project_id, "id": id})).fetchone() is not None


async def delete_version(conn: Connection, project_id: UUID, id: UUID) -> None:
    await conn.execute(Q.delete_version, {"project_id": project_id, "id": id})


async def claim_version(conn: Connection, token: UUID, lock_s: float, limit: int) -> list[ModelVersion]:
    cursor = await conn.execute(Q.claim_version, {"token": token, "lock_s": lock_s, "limit": limit})
    return [ModelVersion.from_row(row) for row in await cursor.fetchall()]


async def apply_version(
    conn: Connection,
    id: UUID,
    token: UUID,
    state: VersionState,
    reason: str,
    signature: Row | None,
    keys: Mapping[str, str],
    findings: Sequence[Finding],
    described: Mapping[str, Any],
) -> bool:
    """False where the claim was lost. ``keys``: the new S3 key by path; ``described``: what the files say of the version."""
    cursor = await conn.execute(
        Q.apply_version,
        {
            "id": id,
            "token": token,
            "state": state,
            "reason": reason,
            "signature": Jsonb(signature) if signature is not None else None,
            **{name: described.get(name) for name in ("card", "licence", "requirements")},
            "input_example": Jsonb(described["input_example"]) if described.get("input_example") is not None else None,
            "findings": Jsonb([vars(finding) for finding in findings]),
            "paths": list(keys),
            "keys": list(keys.values()),
        },
    )
    return await cursor.fetchone() is not None


def _pairs(project_id: UUID, run_id: UUID, pairs: Mapping[str, str]) -> dict[str, Any]:
    return {"project_id": project_id, "run_id": run_id, "keys": list(pairs), "values": list(pairs.values())}


def _to_state(row: Row | None) -> RunState | None:
    return RunState(row["state"]) if row else None


def _to_model(row: Row) -> Model:
    return Model(**{**row, "aliases": row["aliases"] or {}})
