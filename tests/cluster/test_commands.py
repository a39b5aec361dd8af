"""The operator's commands, run as the operator runs them: in a process of their own, with nothing but ``AIDOS_HOME``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.securityvault import service as securityvault
from aidos.errors import Unauthenticated
from cluster import boot, embedded
from cluster.db import Database
from cluster.migrate import migrate
from cluster.settings import Settings
from tests.support.platform import start_storage
from tests.support.running import Ran, RunningPlatform

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def own() -> Iterator[Settings]:
    """Storage of an installation of its own."""
    home = Path(tempfile.mkdtemp(prefix="aidos-operator-"))
    settings = start_storage(home)
    yield settings
    embedded.stop(settings)
    shutil.rmtree(home)


def aidos(settings: Settings, *arguments: str) -> Ran:
    return RunningPlatform.at(settings.home).aidos(
        *arguments, AIDOS_POSTGRES_PORT=str(settings.postgres_port), AIDOS_S3_PORT=str(settings.s3_port)
    )


class TestAdminKey:
    async def test_a_new_key_works_and_the_one_before_has_ended(self, own: Settings) -> None:
        migrate(own, boot.SCHEMAS)
        async with Database(own) as db:
            lost = await securityvault.bootstrap(db, own)
            found = aidos(own, "admin-key", "--json")
            assert found.code == 0, found.err
            vault = securityvault.Authenticator(db, own)
            principal = await vault.resolve(found.json["key"])
            assert (await vault.scope(principal, None)).principal.operator
            with pytest.raises(Unauthenticated):
                await vault.resolve(str(lost))

    def test_the_key_alone_is_on_standard_output(self, own: Settings) -> None:
        found = aidos(own, "admin-key")
        assert found.code == 0, found.err
        assert found.out.startswith("aidos_live_")
        assert len(found.out.splitlines()) == 1
        assert "shown once" in found.err


class TestRotateSecretKey:
    async def test_wraps_the_secrets_of_all_projects_by_a_new_key(self, own: Settings) -> None:
        migrate(own, boot.SCHEMAS)
        async with Database(own) as db:
            await securityvault.bootstrap(db, own)
            async with db.platform() as conn:
                scope = await securityvault.default_scope(conn)
                await securityvault.set_secret(conn, scope, own, "db", "hunter2")
            found = aidos(own, "rotate-secret-key", "--json")
            assert found.code == 0 and found.json == {"secrets": 1}, found.err
            assert len(own.secret("secret_keys").split()) == 2
            with ThreadPoolExecutor(2) as both:  # two operators at once
                assert [ran.code for ran in both.map(lambda _: aidos(own, "rotate-secret-key"), range(2))] == [0, 0]
            async with db.platform() as conn:
                assert (await securityvault.open_secrets(conn, scope, own, ["db"]))["db"].value == "hunter2"


class TestWithoutADatabase:
    def test_an_admin_key_says_what_to_start(self, tmp_path: Path) -> None:
        found = RunningPlatform.at(tmp_path).aidos("admin-key", AIDOS_DATABASE_URL="postgresql://aidos@127.0.0.1:1/aidos")
        assert found.code == 7
        assert "aidos up --only postgres" in found.err
