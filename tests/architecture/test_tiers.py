"""The tiers hold: a plain test cannot start Ray, a postgres test leaves nothing behind."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import ray

from cluster.db import Database, new_id
from tests.architecture.source import ROOT
from tests.conftest import RayInPlainTest
from tests.support import platform
from tests.support.platform import find_free_ports

INSERT = "INSERT INTO cluster.leases (name, holder, epoch, expires_at) VALUES ('x', 'me', 1, now())"
COUNT = "SELECT count(*) AS n FROM cluster.leases"


@pytest.mark.plain
class TestPlain:
    def test_cannot_start_ray(self) -> None:
        with pytest.raises(RayInPlainTest):
            ray.init(address="local")

    def test_cannot_start_ray_by_using_it(self) -> None:
        with pytest.raises(RayInPlainTest):
            ray.put(1)


@pytest.mark.plain
class TestPorts:
    def test_are_given_to_one_process_only_also_while_nothing_listens_there(self) -> None:
        first = find_free_ports(9)
        code = f"from tests.support.platform import reserve; print(reserve({first}, 1), reserve({first + 8}, 1))"
        asked = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert asked.stdout.split() == ["False", "False"]

    def test_those_beside_a_busy_one_stay_to_be_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = itertools.chain(itertools.repeat(False, 100), itertools.repeat(True))
        monkeypatch.setattr(platform, "_is_free", lambda _port: next(answers))
        before = set(platform._taken)
        first = find_free_ports(160)
        assert platform._taken - before == set(range(first, first + 160))


@pytest.mark.postgres
class TestPostgres:
    @pytest.mark.parametrize("attempt", [1, 2])
    async def test_starts_without_the_rows_of_the_test_before(self, database: Database, attempt: int) -> None:
        async with database.platform() as conn:
            assert (await (await conn.execute(COUNT)).fetchone() or {})["n"] == 0
            await conn.execute(INSERT)

    async def test_the_owner_sees_nothing_without_a_role(self, database: Database) -> None:
        async with database.platform() as conn:
            await conn.execute(INSERT)
            await conn.execute("RESET ROLE")
            assert (await (await conn.execute(COUNT)).fetchone() or {})["n"] == 0

    async def test_a_tenant_sees_nothing_of_the_substrate(self, database: Database) -> None:
        async with database.platform() as conn:
            await conn.execute(INSERT)
        async with database.tenant(org_id=new_id(), project_id=new_id()) as conn:
            assert (await (await conn.execute(COUNT)).fetchone() or {})["n"] == 0
