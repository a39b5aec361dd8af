"""SQL of reviews, checks, protected aliases and their moves: a function a named query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from actors.modelhub.governance.models import AliasMove, Check, CheckSpec, Facts, Protection, ProtectionSpec, Review, Verdict
from cluster.db import Connection, load_queries, new_id

Q = load_queries(__package__ or "actors.modelhub.governance")


async def lock_model(conn: Connection, project_id: UUID, name: str) -> UUID | None:
    row = await (await conn.execute(Q.lock_model, {"project_id": project_id, "name": name})).fetchone()
    return row["id"] if row else None


async def set_review_rules(conn: Connection, project_id: UUID, model_id: UUID, *, self_approval: bool) -> None:
    await conn.execute(Q.set_review_rules, {"project_id": project_id, "model_id": model_id, "self_approval": self_approval})


async def find_alias(conn: Connection, project_id: UUID, model_id: UUID, alias: str) -> int | None:
    row = await (await conn.execute(Q.find_alias, {"project_id": project_id, "model_id": model_id, "alias": alias})).fetchone()
    return row["version"] if row else None


async def move_alias(conn: Connection, project_id: UUID, model_id: UUID, alias: str, version_id: UUID) -> None:
    await conn.execute(Q.move_alias, {"project_id": project_id, "model_id": model_id, "alias": alias, "version_id": version_id})


async def delete_alias(conn: Connection, project_id: UUID, model_id: UUID, alias: str) -> None:
    await conn.execute(Q.delete_alias, {"project_id": project_id, "model_id": model_id, "alias": alias})


async def insert_move(conn: Connection, project_id: UUID, model_id: UUID, move: Mapping[str, Any]) -> None:
    await conn.execute(Q.insert_move, {"id": new_id(), "project_id": project_id, "model_id": model_id, **move})


async def list_moves(conn: Connection, project_id: UUID, model_id: UUID, alias: str, before: UUID | None, limit: int) -> list[AliasMove]:
    values = {"project_id": project_id, "model_id": model_id, "alias": alias, "before": before, "limit": limit}
    return [AliasMove(**row) for row in await (await conn.execute(Q.list_moves, values)).fetchall()]


async def set_protection(conn: Connection, project_id: UUID, model_id: UUID, alias: str, spec: ProtectionSpec) -> Protection:
    values = {
        "project_id": project_id,
        "model_id": model_id,
        "alias": alias,
        "required_approvals": spec.required_approvals,
        "required_checks": list(spec.required_checks),
        "thresholds": [str(threshold) for threshold in spec.thresholds],
    }
    row = await (await conn.execute(Q.set_protection, values)).fetchone()
    assert row is not None
    return Protection.from_row(row)


async def list_protections(
    conn: Connection, project_id: UUID, model_id: UUID, after: str | None = None, limit: int | None = None
) -> list[Protection]:
    values = {"project_id": project_id, "model_id": model_id, "after": after, "limit": limit}
    return [Protection.from_row(row) for row in await (await conn.execute(Q.list_protections, values)).fetchall()]


async def delete_protection(conn: Connection, project_id: UUID, model_id: UUID, alias: str) -> bool:
    cursor = await conn.execute(Q.delete_protection, {"project_id": project_id, "model_id": model_id, "alias": alias})
    return await cursor.fetchone() is not None


async def insert_review(conn: Connection, project_id: UUID, version_id: UUID, review: Mapping[str, Any]) -> Review:
    row = await (
        await conn.execute(Q.insert_review, {"id": new_id(), "project_id": project_id, "version_id": version_id, **review})
    ).fetchone()
    assert row is not None
    return _to_review(row)


async def list_reviews(
    conn: Connection, project_id: UUID, version_id: UUID, after: UUID | None = None, limit: int | None = None
) -> list[Review]:
    """In the order in which they were given."""
    values = {"project_id": project_id, "version_id": version_id, "after": after, "limit": limit}
    return [_to_review(row) for row in await (await conn.execute(Q.list_reviews, values)).fetchall()]


async def set_check(conn: Connection, project_id: UUID, version_id: UUID, name: str, spec: CheckSpec, author: str) -> Check:
    metrics = Jsonb({key: str(value) for key, value in spec.metrics.items()})
    values = {"project_id": project_id, "version_id": version_id, "name": name, "author": author, **vars(spec), "metrics": metrics}
    row = await (await conn.execute(Q.set_check, values)).fetchone()
    assert row is not None
    return Check.from_row(row)


async def list_checks(
    conn: Connection, project_id: UUID, version_id: UUID, after: str | None = None, limit: int | None = None
) -> list[Check]:
    values = {"project_id": project_id, "version_id": version_id, "after": after, "limit": limit}
    return [Check.from_row(row) for row in await (await conn.execute(Q.list_checks, values)).fetchall()]


async def find_facts(conn: Connection, project_id: UUID, version_id: UUID) -> Facts:
    row = await (await conn.execute(Q.find_facts, {"project_id": project_id, "version_id": version_id})).fetchone()
    assert row is not None
    metrics = {key: float(value) for key, value in (row["run_metrics"] or {}).items()}
    reviews = tuple(await list_reviews(conn, project_id, version_id))
    checks = tuple(await list_checks(conn, project_id, version_id))
    return Facts(row["author_id"], row["self_approval"], row["deprecated"], reviews, checks, metrics)


async def set_deprecation(conn: Connection, project_id: UUID, version_id: UUID, deprecation: Mapping[str, Any] | None) -> None:
    stored = Jsonb(deprecation) if deprecation is not None else None
    await conn.execute(Q.set_deprecation, {"project_id": project_id, "version_id": version_id, "deprecation": stored})


def _to_review(row: Mapping[str, Any]) -> Review:
    return Review(**{**row, "verdict": Verdict(row["verdict"])})
