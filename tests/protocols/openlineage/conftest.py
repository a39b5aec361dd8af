"""The unmodified client of OpenLineage over real HTTP, with an API key."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport

from cluster.settings import Settings
from tests.dataforge.imports.conftest import OPEN, lake
from tests.support.tenant import admin_key, client, conn, objects, other_scope, scope, url

__all__ = ["admin_key", "client", "conn", "lake", "objects", "other_scope", "scope", "url"]


@pytest.fixture(scope="session")
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"import_buckets": OPEN})


@pytest.fixture
def teller(url: str, admin_key: str) -> OpenLineageClient:
    """What a scheduler or a Spark listener has in it."""
    return OpenLineageClient(transport=HttpTransport(HttpConfig(url=url, auth=ApiKeyTokenProvider({"apiKey": admin_key}))))


@pytest.fixture
def namespace(settings: Settings) -> str:
    """The default project's."""
    return f"aidos://{urlsplit(settings.url).netloc}/default"
