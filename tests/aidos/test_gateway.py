"""The client and the command against the real gateway, over a real socket and a real database."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner, Result

from actors.securityvault import service as securityvault
from aidos.cli.root import app
from aidos.client import AsyncClient, Client
from aidos.errors import Conflict, Forbidden, NotFound, Unauthenticated
from aidos.http.credentials import SignIns
from cluster.db import Database
from cluster.objects import Objects
from cluster.settings import Settings
from tests.api.live import Server, serve
from tests.support.database import make_database

pytestmark = pytest.mark.postgres
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def gateway(storage: Settings) -> Iterator[tuple[Server, str]]:
    """A gateway, and the key of its first administrator."""
    settings = make_database(storage, "client").model_copy(update={"s3_bucket": "client"})

    async def begin() -> str:
        await Objects(settings).ensure_bucket()
        async with Database(settings) as db:
            return await securityvault.bootstrap(db, settings) or await securityvault.replace_admin_key(db, settings)

    admin_key = asyncio.run(begin())
    # The gateway's log lines would stand among what a command in the same process prints.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with serve(settings) as server:
        yield server, admin_key
    structlog.reset_defaults()


@pytest.fixture
def admin(gateway: tuple[Server, str]) -> Iterator[Client]:
    with Client(gateway[0].url, gateway[1], "default") as client:
        yield client


@pytest.fixture
def aidos(gateway: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIDOS_URL", gateway[0].url)

    def run(*args: str, input: str | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(args), input=input)
        assert result.exit_code == code, result.output
        return result

    return run


class TestClient:
    def test_knows_who_it_is(self, admin: Client) -> None:
        me = admin.sessions.whoami()
        assert me.operator and me.organisation == "default" and me.project == "default"

    def test_creates_lists_and_deletes(self, admin: Client) -> None:
        names = [f"walk-{number}" for number in range(5)]
        for name in names:
            assert admin.datasets.create(name).name == name
        pages = list(admin.datasets.with_options(headers={"x-note": "paged"}).list(limit=5).pages())
        assert [dataset.name for page in pages for dataset in page.items] == names[::-1]
        for name in names:
            admin.datasets.delete(name)
        with pytest.raises(NotFound, match=r"walk-0.*\(request "):
            admin.datasets.get("walk-0")

    def test_follows_the_pages_of_a_real_list(self, admin: Client) -> None:
        for number in range(7):
            admin.projects.create(f"page-{number}")
        request = admin.projects.list.operation.build((), {}).at(limit="2")
        seen = []
        for page in admin.transport.pages(request, admin.projects.list.operation.read, limit=None).pages():
            seen += [project.name for project in page.items]
        assert {f"page-{number}" for number in range(7)} < set(seen) and len(seen) == len(set(seen))

    def test_a_change_repeated_under_one_key_is_made_once(self, admin: Client) -> None:
        repeated = admin.with_options(idempotency_key=f"once-{time.time_ns()}")
        first = repeated.datasets.create("once")
        assert repeated.datasets.create("once") == first
        with pytest.raises(Conflict):
            admin.datasets.create("once")

    def test_raises_the_declared_kind(self, gateway: tuple[Server, str], admin: Client) -> None:
        viewer = admin.keys.create("viewer", role="viewer", project="default").key
        with Client(gateway[0].url, viewer) as client, pytest.raises(Forbidden, match="dataforge:write"):
            client.datasets.create("forbidden")
        with Client(gateway[0].url, "aidos_live_nonsense") as client, pytest.raises(Unauthenticated):
            client.datasets.get("x")

    def test_a_strange_name_is_one_name(self, admin: Client) -> None:
        for name in ("a b?c#d", "%2e%2e", "ü", "a;b", "a%00b"):
            with pytest.raises(Exception, match=r"request|name|dataset") as caught:
                admin.datasets.get(name)
            assert getattr(caught.value, "status", 500) in {400, 404, 422}

    def test_hears_events_as_they_happen(self, admin: Client) -> None:
        heard = threading.Event()

        def create_until_heard() -> None:
            for number in itertools.count():
                admin.datasets.create(f"live-{number}")
                if heard.wait(0.2):
                    return

        creator = threading.Thread(target=create_until_heard)
        creator.start()
        try:
            event = next(iter(admin.events.stream(type="dataforge.dataset")))
        finally:
            heard.set()
            creator.join(10)
        assert event.type == "aidos.dataforge.dataset.created" and admin.datasets.get(event.data["name"]).name.startswith("live-")

    async def test_asynchronously_too(self, gateway: tuple[Server, str]) -> None:
        async with AsyncClient(gateway[0].url, gateway[1], "default") as client:
            made = await asyncio.gather(*(client.datasets.create(f"async-{number}") for number in range(8)))
            assert {dataset.name for dataset in made} <= {dataset.name async for dataset in client.datasets.list()}

    def test_bytes_go_by_presigned_url(self, admin: Client) -> None:
        content = os.urandom(1000)
        asked = admin.jobs.upload(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        assert asked.upload_url is not None
        assert admin.put_presigned(asked.upload_url, content).status == 200
        assert admin.jobs.upload(sha256=asked.sha256, size_bytes=len(content)).upload_url is None


class TestCommand:
    def test_the_first_steps_of_a_user(
        self, aidos: Any, gateway: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AIDOS_API_KEY", gateway[1])
        aidos("project", "create", "vision")
        user = json.loads(aidos("user", "create", "ada@example.org", "--password", PASSWORD, "--json").stdout)
        aidos("member", "put", user["id"], "owner", "--project", "vision")
        monkeypatch.delenv("AIDOS_API_KEY")

        aidos("whoami", code=4)
        aidos("login", "--email", "ada@example.org", "--password-stdin", "--project", "vision", input="wrong\n", code=4)
        aidos("login", "--email", "ada@example.org", "--password-stdin", "--project", "vision", input=f"{PASSWORD}\n")
        file = tmp_path / "config" / "credentials.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 and PASSWORD not in file.read_text()
        me = json.loads(aidos("whoami", "--json").stdout)
        assert (me["name"], me["project"], me["role"]) == ("ada@example.org", "vision", "owner")

        key = json.loads(aidos("key", "create", "ci", "--role", "developer", "--json").stdout)["key"]
        assert key.startswith("aidos_") and json.loads(aidos("key", "list", "--json").stdout)[0]["name"] == "ci"

        aidos("logout")
        aidos("whoami", code=4)

    def test_a_sign_in_outlives_its_access_token(
        self, aidos: Any, gateway: tuple[Server, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AIDOS_API_KEY", gateway[1])
        aidos("user", "create", "bob@example.org", "--password", PASSWORD)
        monkeypatch.delenv("AIDOS_API_KEY")
        aidos("login", "--email", "bob@example.org", "--password-stdin", input=f"{PASSWORD}\n")
        store = SignIns(tmp_path / "config")
        first = store.find(gateway[0].url)
        assert first is not None
        store.save(gateway[0].url, type(first)("expired.token.text", first.refresh_token, time.time() - 1, first.email, first.project))
        aidos("session", "list")
        second = store.find(gateway[0].url)
        assert second is not None and second.refresh_token != first.refresh_token and second.email == "bob@example.org"

    def test_an_api_key_can_be_kept(self, aidos: Any, gateway: tuple[Server, str]) -> None:
        aidos("login", "--key", input="aidos_live_nonsense\n", code=4)
        aidos("login", "--key", input=f"{gateway[1]}\n")
        assert json.loads(aidos("whoami", "--json").stdout)["operator"] is True
        aidos("logout")

    def test_tables_and_exit_codes(self, aidos: Any, gateway: tuple[Server, str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_API_KEY", gateway[1])
        aidos("dataset", "create", "digits")
        assert "digits" in aidos("dataset", "list").stdout
        aidos("dataset", "create", "digits", code=5)
        aidos("dataset", "get", "nothing", code=3)
        aidos("dataset", "create", "..", code=2)
        aidos("job", "get", "nothing", code=3)
        aidos("lineage", "nothing", code=3)
        aidos("lineage", "colour:red", code=2)
        assert "$0.00" in aidos("cost").stdout
        assert json.loads(aidos("platform", "ready", "--json").stdout)["ready"] is True
