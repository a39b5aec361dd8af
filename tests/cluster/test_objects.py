"""S3: content-addressed, presigned, multipart; keys that no user string can bend."""

from __future__ import annotations

import hashlib
import os

import httpx
import pytest

from cluster.db import new_id
from cluster.objects import Objects, blob_key, prefix_key
from cluster.settings import Settings


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

    async def test_what_is_not_there_is_none_and_may_be_removed(self, objects: Objects) -> None:
        key = prefix_key(new_id(), "artifacts", new_id(), "none")
        assert await objects.find(key) is None
        await objects.remove([key])
