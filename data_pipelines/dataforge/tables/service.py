"""What the viewer answers: where files are is read in a transaction, what is in them after it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from actors.securityvault.models import Scope
from cluster.db import Connection
from cluster.objects import Objects
from data_pipelines.dataforge import service as dataforge
from data_pipelines.dataforge.models import ChangeKind
from data_pipelines.dataforge.tables.models import Answer, Located, RowChange, RowDiff, RowsSpec
from data_pipelines.dataforge.tables.policy import build_diff
from data_pipelines.dataforge.tables.viewer import Viewer


async def locate(conn: Connection, scope: Scope, objects: Objects, dataset: str, ref: str, paths: Sequence[str]) -> list[Located]:
    """Files of a commit, in the order of ``paths``. Raises: DatasetNotFound, RefNotFound, FileNotFound."""
    found = await dataforge.create_downloads(conn, scope, objects, dataset, ref, paths)
    files = {
        file.path: Located(
            scope.project, found.commit_id, file.path, file.sha256, file.size_bytes,
            None if file.source is None else found.sources[file.source], file.offset_bytes, file.place,
        )
        for file in found.files
    }  # fmt: skip
    return [files[path] for path in paths]


async def get_schema(viewer: Viewer, file: Located) -> Answer:
    """Columns, types and the number of rows. Raises: NoTable, FileUnreadable, FileTooLarge, FileChanged, TooMuchWork, ViewerBusy."""
    return await viewer.ask_table([file], {"kind": "schema", "head": _head(file)})


async def list_rows(viewer: Viewer, file: Located, spec: RowsSpec) -> Answer:
    """A page of rows. Raises: as ``get_schema``; QueryRefused, QueryFailed for the filter or a column."""
    return await viewer.ask_table([file], {"kind": "rows", "asked": spec.__dict__, "head": _head(file)})


async def run_query(viewer: Viewer, tables: Mapping[str, Located], sql: str, limit: int, *, arrow: bool) -> Answer:
    """One SELECT over files by the names of tables; JSON, or an Arrow IPC stream. Raises: as ``list_rows``."""
    files = list(tables.values())
    question = {"kind": "query", "tables": list(tables), "sql": sql, "limit": limit, "arrow": arrow}
    return await viewer.ask_table(files, {**question, "head": {"commit_id": str(files[0].commit_id)}})


async def compare_rows(viewer: Viewer, base: Located, head: Located, key: Sequence[str], most: int) -> RowDiff:
    """Which rows of a table differ between two commits; ``most`` of each kind are named. Raises: as ``list_rows``."""
    tables = {"base": base, "head": head}
    answer = await run_query(viewer, tables, build_diff(key, most), 3 * most, arrow=False)
    rows = json.loads(answer.body)["rows"]
    totals = {change: int(total) for change, _, _, total in rows}
    return RowDiff(totals, tuple(RowChange(ChangeKind(change), old, new) for change, old, new, _ in rows))


async def get_thumbnail(viewer: Viewer, file: Located, size: int) -> bytes:
    """An image as WebP within ``size`` pixels each way. Raises: as ``get_schema``."""
    return await viewer.ask_thumbnail(file, size)


def _head(file: Located) -> dict[str, Any]:
    return {"commit_id": str(file.commit_id), "path": file.path}
