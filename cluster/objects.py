"""S3: bytes by presigned URL straight between clients and the store; keys are made here, never by users.

Keys are ``<project>/<kind>/…`` with parts that this module builds, so no user string reaches a path (SECURITY I5).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from urllib.parse import quote, urlsplit
from uuid import UUID

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.error import S3Error

from aidos.errors import Unavailable
from cluster.settings import Settings, get_settings

PART_BYTES, PARTS_AT_A_TIME = 8 * 2**20, 3
"""A stream is stored in such parts: S3 takes 10,000 of at least 5 MiB."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ObjectInfo:
    """Size and ETag of a stored object; of one that was listed, also when it was stored."""

    key: str
    size_bytes: int
    etag: str
    modified_at: datetime | None = None


def blob_key(project_id: UUID, sha256: str) -> str:
    """Key of the content-addressed blob. Raises: ValueError unless ``sha256`` is 64 lower-case hex digits."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"not a SHA-256 digest: {sha256!r}")
    return f"{blobs_prefix(project_id)}{sha256[:2]}/{sha256}"


def blobs_prefix(project_id: UUID) -> str:
    """What the keys of all blobs of the project begin with."""
    return f"{project_id}/blobs/"


def prefix_key(project_id: UUID, kind: str, owner_id: UUID, name: str = "") -> str:
    """Key under ``<project>/<kind>/<owner>/``; ``name`` is a relative path that the caller has normalised."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"not a relative path: {name!r}")
    return f"{project_id}/{kind}/{owner_id}/{name}"


class Objects:
    """The platform's bucket. Methods that touch the network run in a thread."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or get_settings()
        endpoint = urlsplit(self.settings.s3_endpoint)
        self.bucket = self.settings.s3_bucket
        self.client = Minio(
            endpoint.netloc,
            access_key=self.settings.s3_access_key.get_secret_value(),
            secret_key=self.settings.s3_secret_key.get_secret_value(),
            secure=endpoint.scheme == "https",
            region=self.settings.s3_region,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=5, read=60),
                maxsize=16,
                retries=urllib3.Retry(total=6, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504], allowed_methods=None),
            ),
        )

    def presign_get(self, key: str, expiry_s: int | None = None, filename: str | None = None) -> str:
        """A URL that downloads the object; browsers save it under ``filename`` (RFC 6266) and show nothing of it."""
        headers = {"response-content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"} if filename else None
        return self.client.get_presigned_url(
            "GET", self.bucket, key, expires=timedelta(seconds=expiry_s or self.settings.presign_expiry_s), response_headers=headers
        )

    def presign_put(self, key: str, expiry_s: int | None = None) -> str:
        """A URL that uploads the object in one PUT."""
        return self.client.get_presigned_url("PUT", self.bucket, key, expires=timedelta(seconds=expiry_s or self.settings.presign_expiry_s))

    def presign_blob(self, project_id: UUID, sha256: str) -> tuple[str, dict[str, str]]:
        """A URL that uploads a blob in one PUT, with headers that must be sent: S3 refuses any other content than ``sha256``."""
        key = blob_key(project_id, sha256)
        headers = {"x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(sha256)).decode()}
        return self.presign_with_headers("PUT", self.bucket, key, headers), headers

    def presign_with_headers(self, method: str, bucket: str, key: str, headers: Mapping[str, str], version_id: str | None = None) -> str:
        """Signature Version 4 in the query over headers too, which minio's signer leaves out.

        https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
        """
        endpoint, now = urlsplit(self.settings.s3_endpoint), datetime.now(UTC)
        signed = {"host": endpoint.netloc, **{name.lower(): value for name, value in headers.items()}}
        day, names = f"{now:%Y%m%d}", ";".join(sorted(signed))
        scope = f"{day}/{self.settings.s3_region}/s3/aws4_request"
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self.settings.s3_access_key.get_secret_value()}/{scope}",
            "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
            "X-Amz-Expires": str(self.settings.presign_expiry_s),
            "X-Amz-SignedHeaders": names,
            **({"versionId": version_id} if version_id else {}),
        }
        path = quote(f"{endpoint.path}/{bucket}/{key}", safe="/-_.~")
        encoded = "&".join(f"{name}={quote(query[name], safe='-_.~')}" for name in sorted(query))
        listed = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        asked = "\n".join([method, path, encoded, listed, names, "UNSIGNED-PAYLOAD"])
        to_sign = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashlib.sha256(asked.encode()).hexdigest()])
        secret = f"AWS4{self.settings.s3_secret_key.get_secret_value()}".encode()
        for part in (day, self.settings.s3_region, "s3", "aws4_request", to_sign):
            secret = hmac.digest(secret, part.encode(), "sha256")
        return f"{endpoint.scheme}://{endpoint.netloc}{path}?{encoded}&X-Amz-Signature={secret.hex()}"

    def presign_part(self, key: str, upload_id: str, part_number: int) -> str:
        """A URL that uploads part ``part_number`` (from 1) of a multipart upload."""
        return self.client.get_presigned_url(
            "PUT",
            self.bucket,
            key,
            expires=timedelta(seconds=self.settings.presign_expiry_s),
            extra_query_params={"partNumber": str(part_number), "uploadId": upload_id},
        )

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Ask the store for anything, once and briefly. Raises: Unavailable."""

        def ask() -> None:
            with urllib3.PoolManager(timeout=timeout_s, retries=False) as pool:
                answer = pool.request("HEAD", f"{self.settings.s3_endpoint}/{self.bucket}")
            if answer.status >= 500:
                raise ConnectionError(f"S3 answered {answer.status}")

        await self._call(ask)

    async def start_multipart(self, key: str) -> str:
        """Begin a multipart upload; its id."""
        return await self._call(lambda: self.client._create_multipart_upload(self.bucket, key, {}))

    async def find_parts(self, key: str, upload_id: str) -> dict[int, int] | None:
        """Sizes of the parts that were uploaded, by number; None when there is no such upload (any more)."""

        def parts() -> dict[int, int] | None:
            try:
                found = self.client._list_parts(self.bucket, key, upload_id, max_parts=10_000).parts
            except S3Error as error:
                if error.code == "NoSuchUpload":
                    return None
                raise
            return {part.part_number: part.size or 0 for part in found}

        return await self._call(parts)

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Drop an upload with its parts."""
        await self._call(lambda: self.client._abort_multipart_upload(self.bucket, key, upload_id))

    async def finish_multipart(self, key: str, upload_id: str) -> ObjectInfo:
        """Join the parts that were uploaded."""

        def finish() -> None:
            parts = self.client._list_parts(self.bucket, key, upload_id, max_parts=10_000).parts
            self.client._complete_multipart_upload(self.bucket, key, upload_id, parts)

        await self._call(finish)
        info = await self.find(key)
        assert info is not None
        return info

    async def find(self, key: str) -> ObjectInfo | None:
        """What is stored under ``key``, or None."""

        def stat() -> ObjectInfo | None:
            try:
                found = self.client.stat_object(self.bucket, key)
            except S3Error as error:
                if error.code in {"NoSuchKey", "NoSuchObject", "NotFound"}:
                    return None
                raise
            return ObjectInfo(key, found.size or 0, (found.etag or "").strip('"'))

        return await self._call(stat)

    async def list_prefix(self, prefix: str) -> list[ObjectInfo]:
        """Everything under ``prefix``, sorted by key."""
        return await self.list_page(prefix, limit=None)

    async def list_page(self, prefix: str, after: str = "", limit: int | None = 1000) -> list[ObjectInfo]:
        """The next objects under ``prefix`` whose keys come after ``after``, sorted by key."""

        def listed() -> list[ObjectInfo]:
            found = self.client.list_objects(self.bucket, prefix=prefix, recursive=True, start_after=after or None)
            return [ObjectInfo(o.object_name or "", o.size or 0, (o.etag or "").strip('"'), o.last_modified) for o in islice(found, limit)]

        return await self._call(listed)

    async def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
        """Store small data that the platform itself made."""
        done = await self._call(lambda: self.client.put_object(self.bucket, key, io.BytesIO(data), len(data), content_type=content_type))
        return ObjectInfo(key, len(data), done.etag or "")

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Store what comes in, its first parts while the next still come; where the stream breaks off, nothing is stored.

        At most ``PARTS_AT_A_TIME + 1`` parts are in memory.
        """
        parts = _cut(chunks, PART_BYTES)
        first = await anext(parts, b"")
        if len(first) < PART_BYTES:
            await self.put(key, first)
            return
        upload_id = await self.start_multipart(key)
        under_way: deque[asyncio.Task[Part]] = deque([asyncio.create_task(self._put_part(key, upload_id, 1, first))])
        try:
            stored: list[Part] = []
            async for part in parts:
                if len(under_way) == PARTS_AT_A_TIME:
                    stored.append(await under_way.popleft())
                under_way.append(asyncio.create_task(self._put_part(key, upload_id, len(stored) + len(under_way) + 1, part)))
            stored += [await task for task in under_way]
            await self._call(lambda: self.client._complete_multipart_upload(self.bucket, key, upload_id, stored))
        except BaseException:
            await asyncio.gather(*under_way, return_exceptions=True)
            await self.abort_multipart(key, upload_id)
            raise

    async def _put_part(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        return Part(number, await self._call(lambda: self.client._upload_part(self.bucket, key, data, None, upload_id, number)))

    async def put_blob(self, project_id: UUID, data: bytes) -> str:
        """Store content-addressed; its SHA-256. Storing the same content again changes nothing."""
        sha256 = hashlib.sha256(data).hexdigest()
        key = blob_key(project_id, sha256)
        if await self.find(key) is None:
            await self.put(key, data)
        return sha256

    async def get(self, key: str, offset: int = 0, length: int = 0) -> bytes:
        """Read an object (or a range of it) that the platform needs itself."""

        def read() -> bytes:
            response = self.client.get_object(self.bucket, key, offset=offset, length=length)
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

        return await self._call(read)

    async def download(self, key: str, path: str) -> None:
        """Write the object to a local file."""
        await self._call(lambda: self.client.fget_object(self.bucket, key, path))

    async def upload(self, key: str, path: str) -> None:
        """Store a local file."""
        await self._call(lambda: self.client.fput_object(self.bucket, key, path))

    async def remove(self, keys: Iterator[str] | list[str]) -> None:
        """Delete the objects; those that are not there are no error."""

        def delete() -> None:
            for key in keys:
                self.client.remove_object(self.bucket, key)

        await self._call(delete)

    async def ensure_bucket(self) -> None:
        """Make the bucket if it is not there."""

        def make() -> None:
            if not self.client.bucket_exists(self.bucket):
                self.client.make_bucket(self.bucket)

        await self._call(make)

    async def _call(self, work):  # type: ignore[no-untyped-def]  # the lambda's type is the result's
        try:
            return await asyncio.to_thread(work)
        except (urllib3.exceptions.HTTPError, ConnectionError) as error:
            raise Unavailable(reason="The object store cannot be reached.", retry_after_s=3) from error


async def _cut(chunks: AsyncIterator[bytes], size_bytes: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of this size; the last is smaller, unless nothing is left."""
    held: list[bytes] = []
    held_bytes = 0
    async for chunk in chunks:
        held.append(chunk)
        held_bytes += len(chunk)
        if held_bytes >= size_bytes:
            whole = b"".join(held)
            cut = held_bytes - held_bytes % size_bytes
            for start in range(0, cut, size_bytes):
                yield whole[start : start + size_bytes]
            held, held_bytes = [whole[cut:]], held_bytes - cut
    if held_bytes:
        yield b"".join(held)
