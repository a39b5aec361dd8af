"""What runs read, where DataForge and ModelHub meet: the run must be there, and the lineage graph gets its edge."""

from __future__ import annotations

from uuid import UUID

from actors.modelhub import service as modelhub
from actors.modelhub.models import Node, NodeKind
from actors.securityvault.models import Scope
from aidos.schemas.dataforge.reads import ReadsRecord
from cluster.db import Connection
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.reads import service as reads
from data_pipelines.dataforge.reads.models import Read, ReadsSpec


async def record_reads(conn: Connection, scope: Scope, body: ReadsRecord) -> None:
    """Add to what a run has read; the first time the commit becomes an input of the run.

    Raises: RunNotFound, DatasetNotFound, RefNotFound, ReadSourceNotFound, ReadsOutside.
    """
    run = await modelhub.get_run(conn, scope, body.run)
    commit = await dataforge.get_commit(conn, scope, body.dataset, str(body.commit))
    ranges = tuple((first, last) for first, last in body.ranges)
    if await reads.record_reads(conn, scope, ReadsSpec(run.id, body.source, commit.dataset, commit.id, ranges)):
        source = Node(NodeKind.COMMIT, str(commit.id), f"{commit.dataset}@{commit.id}")
        await modelhub.add_edge(conn, scope, source, Node(NodeKind.RUN, str(run.id), run.name), "input")


async def list_reads(conn: Connection, scope: Scope, run_id: UUID, after: tuple[UUID, str, int] | None, limit: int) -> list[Read]:
    """What a run has read, file by file. Raises: RunNotFound."""
    await modelhub.get_run(conn, scope, run_id)
    return await reads.list_reads_of_run(conn, scope, run_id, after, limit)
