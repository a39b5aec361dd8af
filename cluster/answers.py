"""Answers kept for an ``Idempotency-Key`` are forgotten after a day."""

from __future__ import annotations

from cluster.db import Connection, load_queries

Q = load_queries("cluster")


async def forget_answers(conn: Connection) -> None:
    """Delete the answers that nobody may ask for again."""
    await conn.execute(Q.forget_answers)
