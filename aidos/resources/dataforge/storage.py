"""What is stored of datasets and for how long, as the client sees it: part of ``client.datasets``."""

from __future__ import annotations

from aidos.http.operation import operation
from aidos.resources.dataforge.history import History
from aidos.schemas.dataforge.storage import CollectionCreate, CollectionRead, RetentionRead, RetentionSet

_ALL = "/v1/dataforge/collections"
_RETENTION = "/v1/dataforge/datasets/{dataset}/retention"


class Storage(History):
    """Garbage collection and retention."""

    gc = operation(
        "POST",
        _ALL,
        body=CollectionCreate,
        returns=CollectionRead,
        query={"wait": str},
        help="Delete what no commit needs, in the background; --dry-run --wait 60s: say what.",
    )
    collections = operation("GET", _ALL, returns=CollectionRead, paged=True, help="Garbage collections of the project, newest first.")
    collection = operation(
        "GET", f"{_ALL}/{{collection}}", returns=CollectionRead, query={"wait": str}, help="One; --wait 30s answers once it has ended."
    )
    retention = operation("GET", _RETENTION, returns=RetentionRead, help="How long unreachable commits of a dataset stay.")
    set_retention = operation(
        "PUT", _RETENTION, body=RetentionSet, returns=RetentionRead, help="Say how long unreachable commits of a dataset stay."
    )
