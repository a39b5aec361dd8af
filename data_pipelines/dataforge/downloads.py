"""Bytes on their way out: presigned URLs of a commit's files, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors.securityvault.models import Scope
from aidos.schemas.dataforge.versions import is_in_place
from cluster.buckets import Buckets
from cluster.db import Connection
from cluster.objects import Objects, blob_key
from data_pipelines.dataforge import store, trees
from data_pipelines.dataforge.errors import FileNotFound
from data_pipelines.dataforge.models import Download, Downloads, Place, StoredBlob
from data_pipelines.dataforge.nodes import Entry
from data_pipelines.dataforge.places import find_places
from data_pipelines.dataforge.refs import get_commit


async def create_downloads(conn: Connection, scope: Scope, objects: Objects, dataset: str, ref: str, paths: Sequence[str]) -> Downloads:
    """Presigned URLs for files of a commit. Raises: DatasetNotFound, RefNotFound, FileNotFound, BucketNotAllowed."""
    commit = await get_commit(conn, scope, dataset, ref)
    found = await trees.find(conn, scope, commit.tree, paths)
    for path in paths:
        if path not in found:
            raise FileNotFound(dataset=dataset, commit=commit.id, path=path)
    contents = {entry.digest.hex() for entry in found.values()}
    stored = await store.find_blobs(conn, scope.project, contents)
    placed = await find_places(conn, scope, filter(is_in_place, contents))
    sources: dict[str, int] = {}
    files = tuple(_download(path, found[path], stored, placed, sources) for path in dict.fromkeys(paths))
    buckets = Buckets(objects)
    urls = (_presign(buckets, placed[id]) if id in placed else objects.presign_get(blob_key(scope.project, id)) for id in sources)
    return Downloads(commit.id, files, tuple(urls))


def _download(path: str, entry: Entry, stored: Mapping[str, StoredBlob], placed: Mapping[str, Place], sources: dict[str, int]) -> Download:
    sha256 = entry.digest.hex()
    blob = stored.get(sha256, StoredBlob(sha256, entry.size_bytes))
    source = sources.setdefault(blob.pack_sha256 or sha256, len(sources)) if entry.size_bytes else None
    return Download(path, sha256, entry.size_bytes, source, blob.offset_bytes, placed.get(sha256))


def _presign(buckets: Buckets, place: Place) -> str:
    return buckets.presign(place.bucket, place.key, place.headers, place.version_id)
