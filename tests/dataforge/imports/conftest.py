"""A lake: a bucket beside the platform's own on the same SeaweedFS, open to imports."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from minio import Minio
from minio.commonconfig import ENABLED
from minio.versioningconfig import VersioningConfig

from cluster.objects import Objects
from cluster.settings import Settings

OPEN = "lake,parts/open,versioned"


@pytest.fixture(scope="session")
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"import_buckets": OPEN})


@dataclass(frozen=True)
class Lake:
    """A folder of a bucket that another program writes."""

    s3: Minio
    bucket: str
    folder: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.folder}"

    def key(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def put(self, *names: str, data: bytes | None = None) -> None:
        """Objects that hold their own names, or ``data``."""
        for name in names:
            content = name.encode() if data is None else data
            self.s3.put_object(self.bucket, self.key(name), io.BytesIO(content), len(content))

    def remove(self, name: str) -> None:
        self.s3.remove_object(self.bucket, self.key(name))

    def read(self, name: str) -> bytes:
        answer = self.s3.get_object(self.bucket, self.key(name))
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()


@pytest.fixture
def lake(objects: Objects) -> Iterator[Lake]:
    made = Lake(objects.client, "lake", uuid4().hex)
    _ensure(made)
    yield made
    _empty(made)


@pytest.fixture
def versioned(objects: Objects) -> Iterator[Lake]:
    """One in a bucket that keeps versions."""
    made = Lake(objects.client, "versioned", uuid4().hex)
    _ensure(made)
    objects.client.set_bucket_versioning("versioned", VersioningConfig(ENABLED))
    yield made
    _empty(made)


def _ensure(lake: Lake) -> None:
    if not lake.s3.bucket_exists(lake.bucket):
        lake.s3.make_bucket(lake.bucket)


def _empty(lake: Lake) -> None:
    for found in lake.s3.list_objects(lake.bucket, prefix=lake.folder, recursive=True):
        lake.s3.remove_object(lake.bucket, found.object_name or "")
