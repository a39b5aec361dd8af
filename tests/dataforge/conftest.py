"""A project, its S3, and the API over HTTP for the real client."""

from __future__ import annotations

from tests.support.tenant import admin_key, as_job, client, conn, objects, other_scope, scope, url

__all__ = ["admin_key", "as_job", "client", "conn", "objects", "other_scope", "scope", "url"]
