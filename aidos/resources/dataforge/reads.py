"""What runs read, as the client sees it. ``to_torch`` and ``to_ray`` record it; ``aidos dataset seen-by`` asks by path."""

from __future__ import annotations

from aidos.http.operation import Resource, operation
from aidos.schemas.dataforge.reads import ReadRead, ReadSourceRead, ReadSourceSet, ReadsRecord

_ALL = "/v1/dataforge/reads"


class Reads(Resource):
    """What runs streamed: which run saw which file and which row."""

    noun = "read"

    record = operation("POST", _ALL, body=ReadsRecord, help="Record what a run has read; what is known already changes nothing.")
    describe = operation(
        "PUT", f"{_ALL}/sources/{{source}}", body=ReadSourceSet, returns=ReadSourceRead, help="Say which files a source's ordinals mean."
    )
    list = operation("GET", _ALL, returns=ReadRead, paged=True, query={"run": (str, ...)}, help="What a run has read, by file.")
    seen_by = operation(
        "GET",
        f"{_ALL}/files/{{sha256}}",
        returns=ReadRead,
        paged=True,
        query={"row": int},
        help="Which runs read a content, or a row of it.",
    )
