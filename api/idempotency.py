"""A change that is asked for twice under one ``Idempotency-Key`` happens once: the second asker gets the first answer.

The key is reserved in the transaction of the effect, so a failure forgets it and a crash cannot keep one without the
other. Two at once meet at the primary key: the later one waits, then finds the answer. A handler that opens transactions of its own
has the key reserved before it: the later of two is then told to repeat its request
(https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header).
"""

from __future__ import annotations

from typing import Any

import psycopg
from fastapi import Request, Response
from psycopg.types.json import Jsonb

from actors.securityvault.models import Scope
from actors.securityvault.service import Pepper
from aidos.errors import InvalidRequest
from api.errors import IdempotencyKeyReused, RequestInProgress
from cluster.db import Connection, load_queries

Q = load_queries("cluster")
LONGEST_KEY = 200
_KEPT_HEADERS = ("content-type", "location", "etag")


class RememberedAnswer:
    """The answer to one key of one caller. It is stored encrypted, for some answers hold a secret that is shown once.

    After ``limit_s`` without an answer the request has ended, whatever became of it, and the key may be reserved anew.
    """

    def __init__(self, scope: Scope, key: str, request: Request, pepper: Pepper, limit_s: float) -> None:
        if not 1 <= len(key) <= LONGEST_KEY or not key.isascii():
            raise InvalidRequest(reason=f"The Idempotency-Key must have 1 to {LONGEST_KEY} ASCII characters.")
        self.key, self.request, self.pepper = key, request, pepper
        self.row: dict[str, Any] = {"org_id": scope.org_id, "principal": scope.actor, "key": key, "limit_s": limit_s}
        self.target = f"{request.method} {request.scope['path']}?{request.scope['query_string']!r} {scope.project_id}\n"

    async def find(self, conn: Connection) -> Response | None:
        """The first answer, or None with the key now reserved. Raises: IdempotencyKeyReused, RequestInProgress."""
        body = await self.request.body()
        self.row["request_sha256"] = self.pepper.of_request(self.target.encode("utf-8", "surrogateescape") + body)
        try:
            reserved = await (await conn.execute(Q.reserve_answer, self.row)).fetchone()
        except psycopg.errors.LockNotAvailable as error:
            raise RequestInProgress(key=self.key) from error
        if reserved:
            return None
        known = await (await conn.execute(Q.find_answer, self.row)).fetchone()
        if known is None or known["status"] == 0:
            raise RequestInProgress(key=self.key)
        if bytes(known["request_sha256"]) != self.row["request_sha256"]:
            raise IdempotencyKeyReused(key=self.key)
        content = self.pepper.decrypt(bytes(known["body"]))
        return Response(content, status_code=known["status"], headers={**known["headers"], "idempotency-replayed": "true"})

    async def forget(self, conn: Connection) -> None:
        """Give the key back, of a request that failed."""
        await conn.execute(Q.forget_answer, self.row)

    async def keep(self, conn: Connection, response: Response) -> None:
        """Remember the answer, in the transaction of its effect where that has one."""
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        body = self.pepper.encrypt(bytes(response.body))
        await conn.execute(Q.keep_answer, {**self.row, "status": response.status_code, "headers": Jsonb(headers), "body": body})
