"""Tables and images of a commit, as the client sees them. ``aidos dataset head`` and ``query`` build on these."""

from __future__ import annotations

from typing import Any

from aidos.http.operation import Resource, operation
from aidos.schemas.dataforge.tables import QueryCreate, QueryRead, RowDiffRead, RowsRead, SchemaRead

_ONE = "/v1/dataforge/datasets/{dataset}"
_FILE: dict[str, Any] = {"path": (str, ...), "ref": (str, "main")}


class Tables(Resource):
    """What is in the files of a commit: pages, queries, thumbnails."""

    noun = "table"

    schema = operation("GET", f"{_ONE}/schema", returns=SchemaRead, query=_FILE, help="Columns, types and number of rows.")
    rows = operation(
        "GET",
        f"{_ONE}/rows",
        returns=RowsRead,
        query={
            **_FILE,
            "columns": list[str],
            "filter": (str, ""),
            "sort": list[str],
            "limit": (int, 100),
            "offset": (int, 0),
            "cursor": str,
        },
        help="A page of rows, filtered and sorted.",
    )
    query = operation(
        "POST", f"{_ONE}/query", body=QueryCreate, returns=QueryRead, positional=("sql",), help="Answer one SELECT over files."
    )
    diff = operation(
        "GET",
        f"{_ONE}/diff/rows",
        returns=RowDiffRead,
        query={"path": (str, ...), "base": (str, ...), "head": (str, ...), "key": list[str], "most": (int, 10)},
        help="Rows that differ between two commits; --key id: those of one id are the same row.",
    )
    thumbnail = operation(
        "GET", f"{_ONE}/thumbnail", returns=bytes, query={**_FILE, "size": (int, 256)}, headers={"if_none_match": "If-None-Match"},
        help="A small WebP of an image.",
    )  # fmt: skip
