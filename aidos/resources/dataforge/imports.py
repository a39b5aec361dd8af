"""Imports in place, as the client sees them: part of ``client.datasets``."""

from __future__ import annotations

from aidos.http.operation import operation
from aidos.resources.dataforge.storage import Storage
from aidos.schemas.dataforge.imports import ImportCreate, ImportRead

_ALL = "/v1/dataforge/datasets/{dataset}/imports"
_ONE = f"{_ALL}/{{import_id}}"


class Imports(Storage):
    """Folders of buckets that become commits as they lie."""

    import_ = operation(
        "POST", _ALL, body=ImportCreate, returns=ImportRead, positional=("source",), help="Make a branch equal to a folder of a bucket."
    )
    imports = operation("GET", _ALL, returns=ImportRead, paged=True, help="Imports into a dataset, newest first.")
    get_import = operation("GET", _ONE, returns=ImportRead, query={"wait": str}, help="One; --wait 30s answers once it has ended.")
    cancel_import = operation("POST", f"{_ONE}/cancel", returns=ImportRead, help="End an import before it has made its commit.")
