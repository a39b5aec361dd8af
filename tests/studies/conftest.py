"""A tenant that exists, the API over HTTP, and clients with the tokens of jobs."""

from tests.support.tenant import admin_key, as_job, client, objects, url

__all__ = ["admin_key", "as_job", "client", "objects", "url"]
