"""S3: content-addressed, presigned, multipart; keys that no user string can bend."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator

import httpx
import pytest

from cluster.db import new_id
from cluster.objects import PART_BYTES, Objects, blob_key, prefix_key
from cluster.settings import Settings
from tests.support.waiting import wait_until_async


class TestKeys:
    @pytest.mark.parametrize("digest", ["", "ab", "A" * 64, "../" + "a" * 61, "g" * 64, "a" * 63 + "\n"])
    def test_only_a_digest_makes_a_blob_key(self, digest: str) -> None:
        with pytest.raises(ValueError, match="SHA-256"):
            blob_key(new_id(), digest)

    @pytest.mark.parametrize("name", ["/etc/passwd", "../other", "a/../../b", "a/.."])
    def test_no_name_leaves_its_prefix(self, name: str) -> None:
        with pytest.raises(ValueError, match="relative"):
            prefix_key(new_id(), "artifacts", new_id(), name)


@pytest.fixture
async def objects(settings: Settings) -> Objects:
    made = Objects(settings)
    await made.ensure_bucket()
    return made


async def pieces(data: bytes, size_bytes: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size_bytes):
        yield data[start : start + size_bytes]


def list_uploads(objects: Objects, key: str) -> list[str]:
    """Uploads in parts that were begun and neither completed nor dropped."""
    return [str(upload.upload_id) for upload in objects.client._list_multipart_uploads(objects.bucket, prefix=key).uploads]


@pytest.mark.postgres
class TestObjects:
    async def test_the_same_content_is_stored_once(self, objects: Objects) -> None:
        project = new_id()
        assert await objects.put_blob(project, b"same") == await objects.put_blob(project, b"same")
        assert len(await objects.list_prefix(f"{project}/")) == 1
        assert await objects.get(blob_key(project, hashlib.sha256(b"same").hexdigest())) == b"same"

    async def test_a_client_moves_bytes_without_our_keys(self, objects: Objects) -> None:
        key = prefix_key(new_id(), "artifacts", new_id(), "weights.bin")
        async with httpx.AsyncClient() as client:
            put = await client.put(objects.presign_put(key), content=b"x" * 1000)
            got = await client.get(objects.presign_get(key), headers={"Range": "bytes=10-19"})
        assert (put.status_code, got.status_code, got.content) == (200, 206, b"x" * 10)
        info = await objects.find(key)
        assert info is not None and info.size_bytes == 1000

    async def test_a_url_for_one_object_opens_no_other(self, objects: Objects) -> None:
        mine, other = (prefix_key(new_id(), "artifacts", new_id(), "a") for _ in range(2))
        await objects.put(other, b"secret")
        bent = objects.presign_get(mine).replace(mine, other)
        async with httpx.AsyncClient() as client:
            assert (await client.get(bent)).status_code == 403
            assert (await client.get(bent.split("?")[0])).status_code == 403

    async def test_parts_become_one_object(self, objects: Objects) -> None:
        key, part = prefix_key(new_id(), "checkpoints", new_id(), "big"), os.urandom(5 * 1024 * 1024)
        upload = await objects.start_multipart(key)
        async with httpx.AsyncClient(timeout=60) as client:
            for number, data in ((1, part), (2, b"end")):
                assert (await client.put(objects.presign_part(key, upload, number), content=data)).status_code == 200
        assert (await objects.finish_multipart(key, upload)).size_bytes == len(part) + 3
        assert await objects.get(key, offset=len(part)) == b"end"

    @pytest.mark.parametrize("size_bytes", [0, 1, PART_BYTES - 1, PART_BYTES, 5 * PART_BYTES + 1])
    async def test_a_stream_is_stored_as_it_came(self, objects: Objects, size_bytes: int) -> None:
        key, data = prefix_key(new_id(), "artifacts", new_id(), "stream"), os.urandom(size_bytes)
        await objects.put_stream(key, pieces(data, 3 * 2**20 + 7))
        assert await objects.get(key) == data if size_bytes else (await objects.find(key)) is not None

    async def test_a_stream_is_stored_while_it_comes(self, objects: Objects) -> None:
        key, part = prefix_key(new_id(), "artifacts", new_id(), "stream"), os.urandom(PART_BYTES)

        async def chunks() -> AsyncIterator[bytes]:
            yield part
            yield b"e"
            (upload,) = list_uploads(objects, key)
            await wait_until_async(lambda: objects.find_parts(key, upload), within_s=30)
            yield b"nd"

        await objects.put_stream(key, chunks())
        assert await objects.get(key, offset=PART_BYTES) == b"end"

    async def test_a_stream_that_breaks_off_leaves_nothing(self, objects: Objects) -> None:
        key = prefix_key(new_id(), "artifacts", new_id(), "stream")

        async def chunks() -> AsyncIterator[bytes]:
            yield os.urandom(2 * PART_BYTES)
            raise ConnectionResetError("the client is gone")

        with pytest.raises(ConnectionResetError, match="the client is gone"):
            await objects.put_stream(key, chunks())
        assert await objects.find(key) is None and list_uploads(objects, key) == []

    async def test_what_is_not_there_is_none_and_may_be_removed(self, objects: Objects) -> None:
        key = prefix_key(new_id(), "artifacts", new_id(), "none")
        assert await objects.find(key) is None
        await objects.remove([key])
