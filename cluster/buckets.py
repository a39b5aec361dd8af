"""Other buckets of the same S3, read as they lie: only those that the administrator named, never the platform's own, never written."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import urllib3
from minio.error import S3Error

from aidos.errors import Conflict, Forbidden, Unavailable
from cluster.objects import Objects

PAGE = 1000
"""Objects that S3 lists at a time."""
_BLOCK = 2**20
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BucketNotAllowed(Forbidden):
    title = "The bucket is not open to imports"
    detail = "'{uri}' may not be read: projects import only from what the administrator named in AIDOS_IMPORT_BUCKETS."


class BucketUnreadable(Conflict):
    title = "The bucket cannot be read"
    detail = "'{uri}' cannot be read with the platform's S3 key: {reason}. Ask the administrator for the bucket and its policy."


@dataclass(frozen=True)
class ObjectVersion:
    """An object as a listing showed it; ``version_id`` where its bucket keeps versions."""

    bucket: str
    key: str
    size_bytes: int
    etag: str
    version_id: str | None = None


class Seen(NamedTuple):
    """What was read of an object: its SHA-256 and bytes; without one it is another object now, or has ``vanished``."""

    sha256: str | None
    size_bytes: int = 0
    vanished: bool = False


class Buckets:
    """What may be imported in place, through the client of the platform's own bucket."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.named = [entry.strip().rstrip("/") + "/" for entry in objects.settings.import_buckets.split(",") if entry.strip()]

    @functools.cached_property
    def _http(self) -> urllib3.PoolManager:
        again = urllib3.Retry(total=6, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504])
        return urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=60), maxsize=16, retries=again)

    def refuse_unlisted(self, bucket: str, key: str) -> None:
        """``key`` is an object's, or a folder's with a slash at its end (or empty). Raises: BucketNotAllowed."""
        # Stores that clean paths would take '..' out of the bucket.
        odd = not _NAME.fullmatch(bucket) or {"..", "."} & set(key.split("/"))
        listed = any(f"{bucket}/{key}".startswith(entry) for entry in self.named)
        if odd or not listed or bucket == self.objects.bucket:
            raise BucketNotAllowed(uri=f"s3://{bucket}/{key}")

    def presign(self, bucket: str, key: str, headers: Mapping[str, str], version_id: str | None) -> str:
        """A URL of an object or a version of it, to be asked with ``headers``, which are signed. Raises: BucketNotAllowed."""
        self.refuse_unlisted(bucket, key)
        return self.objects.presign_with_headers("GET", bucket, key, headers, version_id)

    async def pages(self, bucket: str, prefix: str, after: str | None = None) -> AsyncGenerator[list[ObjectVersion], None]:
        """The objects whose keys begin with ``prefix`` by key, those later than ``after``, a page at a time; the next is fetched meanwhile.

        Raises: BucketNotAllowed, BucketUnreadable, Unavailable.
        """
        self.refuse_unlisted(bucket, prefix)
        listing = self._list(bucket, prefix, after)
        fetch = functools.partial(self._call, bucket, prefix, lambda: list(islice(listing, PAGE)))
        following = asyncio.create_task(fetch())
        try:
            while page := await following:
                following = asyncio.create_task(fetch())
                yield page
        finally:
            if not following.cancel():
                following.exception()  # it is told, or of no interest any more

    def _list(self, bucket: str, prefix: str, after: str | None) -> Iterator[ObjectVersion]:
        versioned = self._keeps_versions(bucket)
        listed = self.objects.client.list_objects(bucket, prefix=prefix, recursive=True, start_after=after, include_version=versioned)
        for found in listed:
            if found.is_delete_marker or (versioned and str(found.is_latest).lower() != "true"):
                continue
            # "null" is the version of what was written while none were kept: it may be written again.
            version_id = found.version_id if found.version_id != "null" else None
            yield ObjectVersion(bucket, found.object_name or "", found.size or 0, (found.etag or "").strip('"'), version_id)

    def _keeps_versions(self, bucket: str) -> bool:
        try:
            return self.objects.client.get_bucket_versioning(bucket).status == "Enabled"
        except S3Error as error:
            if error.code in {"AccessDenied", "NotImplemented"}:
                return False
            raise

    async def look(self, bucket: str, key: str, headers: Mapping[str, str], version_id: str | None) -> Seen:
        """Read all of an object under the condition in ``headers``. Raises: BucketNotAllowed, BucketUnreadable, Unavailable."""
        url = self.presign(bucket, key, headers, version_id)
        return await self._call(bucket, key, lambda: self._look(url, headers, f"s3://{bucket}/{key}"))

    async def look_at_own(self, key: str) -> Seen:
        """Read all of an object of the platform's own bucket. Raises: BucketUnreadable, Unavailable."""
        url = self.objects.presign_get(key)
        return await self._call(self.objects.bucket, key, lambda: self._look(url, {}, f"s3://{self.objects.bucket}/{key}"))

    def _look(self, url: str, headers: Mapping[str, str], uri: str) -> Seen:
        digest, size_bytes = hashlib.sha256(), 0
        answer = self._http.request("GET", url, headers=dict(headers), preload_content=False)
        try:
            if answer.status in {404, 412}:
                return Seen(None, vanished=answer.status == 404)
            if answer.status != 200:
                raise BucketUnreadable(uri=uri, reason=f"S3 answered {answer.status}")
            for block in answer.stream(_BLOCK):
                digest.update(block)
                size_bytes += len(block)
        finally:
            answer.close()
        return Seen(digest.hexdigest(), size_bytes)

    @staticmethod
    async def _call(bucket, key, work):  # type: ignore[no-untyped-def]  # the lambda's type is the result's
        try:
            return await asyncio.to_thread(work)
        except S3Error as error:
            raise BucketUnreadable(uri=f"s3://{bucket}/{key}", reason=error.message or error.code) from error
        except (urllib3.exceptions.HTTPError, ConnectionError) as error:
            raise Unavailable(reason="The object store cannot be reached.", retry_after_s=3) from error
