"""Contents that lie in place: objects of other buckets, named by what S3 says of them because nobody has read their bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.versions import IN_PLACE
from cluster.buckets import ObjectVersion
from cluster.db import Connection
from data_pipelines.dataforge import store
from data_pipelines.dataforge.models import Place
from data_pipelines.dataforge.policy import EMPTY_SHA256

_DIGEST_BYTES = 24


def to_place(found: ObjectVersion) -> Place:
    """Its id is ``in-place`` and 24 bytes of BLAKE2b over bucket, key, ETag, version and size: other bytes behind a key, another id.

    No SHA-256 of anything, so nobody can make a content that has it (docs/adr/0012).
    """
    identity = json.dumps([found.bucket, found.key, found.etag, found.version_id, found.size_bytes], ensure_ascii=False)
    digest = hashlib.blake2b(identity.encode(), digest_size=_DIGEST_BYTES, person=b"aidos.in-place")
    return Place(IN_PLACE + digest.hexdigest(), found.bucket, found.key, found.etag, found.version_id, found.size_bytes)


async def record_objects(conn: Connection, scope: Scope, found: Sequence[ObjectVersion]) -> list[str]:
    """The ids under which commits may name the objects from now on; an empty one is the empty content, wherever it lies."""
    places = [to_place(each) for each in found]
    await store.record_places(conn, scope.project, [place for place in places if place.size_bytes])
    return [place.id if place.size_bytes else EMPTY_SHA256 for place in places]


async def find_places(conn: Connection, scope: Scope, ids: Iterable[str], *, touch: bool = False) -> dict[str, Place]:
    """Where contents lie, by those of the ids that are known; ``touch``: they are not forgotten for a while."""
    wanted = list(ids)
    if wanted and touch:
        await store.touch_places(conn, scope.project, wanted)
    return await store.find_places(conn, scope.project, wanted) if wanted else {}


async def record_verified(conn: Connection, scope: Scope, sha256: Mapping[str, str]) -> None:
    """Remember the SHA-256 of contents in place, by their ids: from then on whoever reads them checks it."""
    await store.verify_places(conn, scope.project, sha256)
