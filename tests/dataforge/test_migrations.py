"""What a migration makes of the rows that are there already."""

from __future__ import annotations

from importlib.resources import files

import psycopg
import pytest

from actors.securityvault.models import Scope
from cluster.db import Database
from cluster.settings import Settings
from data_pipelines.dataforge import service, store
from data_pipelines.dataforge.models import CommitSpec, File, StoredBlob
from tests.dataforge.test_service import file

pytestmark = pytest.mark.postgres
MANY = 3000  # more than a node holds
PLACES = "SELECT project_id, encode(sha256, 'hex'), path FROM dataforge.content_paths ORDER BY project_id, sha256, path COLLATE \"C\""


def places(conn: psycopg.Connection) -> list[tuple[object, ...]]:
    """All rows, of whatever project."""
    conn.execute("SET LOCAL ROLE aidos_platform")
    rows = conn.execute(PLACES).fetchall()
    conn.execute("RESET ROLE")
    return rows


class TestContentPaths:
    async def commit(self, database: Database, scope: Scope) -> None:
        """Two commits: files in several nodes, one content at two places, one place with two contents, an empty file, other alphabets."""
        many = tuple(file(f"many/{number:05}", str(number)) for number in range(MANY))
        first = (*many, file("a"), file("copy of a"), file("leer zeichen/日本語 🙂.txt", "u"), File("empty", file("", "").sha256, 0))
        changed = file("a", "y"), file("many/00007", "x")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await store.record_blobs(conn, scope.project, [StoredBlob(each.sha256, each.size_bytes) for each in (*first, *changed)])
            await service.create_dataset(conn, scope, "digits")
            head = await service.create_commit(conn, scope, "digits", CommitSpec("main", "", None, first))
            await service.create_commit(conn, scope, "digits", CommitSpec("main", "", head.id, changed, ("copy of a",)))

    async def test_of_trees_from_before_are_those_that_commits_would_have_written(
        self, database: Database, settings: Settings, scope: Scope, other_scope: Scope
    ) -> None:
        for each in (scope, other_scope):
            await self.commit(database, each)
        migration = files("data_pipelines.dataforge").joinpath("migrations/0008_content_paths.sql").read_text()
        with psycopg.connect(settings.database_url.get_secret_value()) as conn:
            written = places(conn)
            conn.execute("DROP TABLE dataforge.content_paths")
            conn.execute(migration)
            found = places(conn)
            conn.rollback()
        assert len(written) == 2 * (MANY + 4 + 2) and found == written
