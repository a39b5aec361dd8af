"""The audit log shows every change that was made to it afterwards, and names the first."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from actors.securityvault import audit, service
from actors.securityvault.audit import ChainWalk, build_record, chain_hash
from actors.securityvault.errors import AuditUnwritable
from actors.securityvault.models import AuditEntry, AuditHead, AuditRecord, AuditVerdict, Principal, PrincipalKind, Scope
from actors.securityvault.reconciler import seal_for_ever
from cluster.events import Event, publish
from tests.securityvault.conftest import Vault
from tests.support.waiting import wait_until_async

ORG = UUID(int=42)
SCOPE = Scope(Principal(PrincipalKind.USER, UUID(int=1), "ada", ORG), ORG, UUID(int=2))
LOG = "securityvault.audit_log"


def entry(number: int, **data: object) -> AuditEntry:
    return AuditEntry("create_run", f"/v1/modelhub/runs/{number}", "192.0.2.1", f"request-{number}", {"status": 201, **data})


def record_after(head: AuditHead, entry: AuditEntry) -> AuditRecord:
    placed = replace(build_record(SCOPE, entry, datetime.now(UTC)), seq=head.seq + 1, prev_hash=head.hash)
    return replace(placed, hash=chain_hash(placed))


def chain(length: int) -> list[AuditRecord]:
    head, records = AuditHead(ORG, 0, audit.GENESIS), []
    for number in range(1, length + 1):
        records.append(record_after(head, entry(number)))
        head = AuditHead(ORG, number, records[-1].hash)
    return records


class TestRecord:
    def test_every_field_is_under_the_hash(self) -> None:
        record = chain(2)[1]
        changed: dict[str, object] = {
            "org_id": UUID(int=9), "seq": 3, "at": datetime(2020, 1, 1, tzinfo=UTC), "actor": "user:x", "action": "delete_run", "resource": "/",
            "project_id": None, "client_ip": "198.51.100.1", "request_id": "other", "data": "{}", "prev_hash": bytes(32),
        }  # fmt: skip
        assert set(changed) | {"hash"} == set(AuditRecord.__dataclass_fields__)
        for name, value in changed.items():
            assert chain_hash(AuditRecord(**{**vars(record), name: value})) != record.hash, name

    def test_fields_do_not_run_into_each_other(self) -> None:
        one, two = (AuditRecord(**{**vars(chain(1)[0]), "action": a, "resource": r}) for a, r in (("ab", "c"), ("a", "bc")))
        assert chain_hash(one) != chain_hash(two)

    def test_what_cannot_be_stored_is_written_otherwise(self) -> None:
        record = build_record(SCOPE, AuditEntry("a\x00b", "/\ud800", data={"x": "\ud800"}), datetime.now(UTC))
        assert "\x00" not in record.action and record.resource.encode() and record.data.encode()


class TestChainWalk:
    def walk(self, records: list[AuditRecord], head: AuditHead, known: dict[int, bytes] | None = None) -> tuple[int, str] | None:
        walk = ChainWalk(ORG, known or {})
        return walk.follow(records) or walk.finish(head)

    def test_a_whole_chain_is_good(self) -> None:
        records = chain(20)
        assert self.walk(records, AuditHead(ORG, 20, records[-1].hash), {7: records[6].hash}) is None

    @pytest.mark.parametrize("at", [1, 7, 20])
    def test_an_edited_row_is_named(self, at: int) -> None:
        records = chain(20)
        head = AuditHead(ORG, 20, records[-1].hash)
        records[at - 1] = AuditRecord(**{**vars(records[at - 1]), "actor": "user:mallory"})
        assert self.walk(records, head) == (at, "the row was edited")

    @pytest.mark.parametrize("at", [1, 7, 20])
    def test_an_edited_row_with_its_hash_made_anew_is_named(self, at: int) -> None:
        records = chain(20)
        head = AuditHead(ORG, 20, records[-1].hash)
        forged = AuditRecord(**{**vars(records[at - 1]), "actor": "user:mallory"})
        records[at - 1] = AuditRecord(**{**vars(forged), "hash": chain_hash(forged)})
        found = self.walk(records, head)
        assert found is not None and found[0] == at

    @pytest.mark.parametrize("at", [1, 7, 19])
    def test_a_removed_row_is_named(self, at: int) -> None:
        records = chain(20)
        head = AuditHead(ORG, 20, records[-1].hash)
        del records[at - 1]
        assert self.walk(records, head) == (at, "the row was removed")

    def test_a_tail_that_was_cut_is_noticed_by_the_head_and_by_what_was_sealed(self) -> None:
        records = chain(20)
        assert (self.walk(records[:15], AuditHead(ORG, 20, records[-1].hash)) or (0,))[0] == 16
        assert (self.walk(records[:15], AuditHead(ORG, 15, records[14].hash), {18: records[17].hash}) or (0,))[0] == 16

    def test_a_thousand_tamperings_at_random_are_all_found(self) -> None:
        whole, chance = chain(40), random.Random(7)
        head, known = AuditHead(ORG, 40, whole[-1].hash), {40: whole[-1].hash, 20: whole[19].hash}
        missed = []
        for number in range(1000):
            records, at = list(whole), chance.randrange(40)
            match number % 5:
                case 0:
                    field = chance.choice(["actor", "action", "resource", "client_ip", "request_id", "data"])
                    records[at] = AuditRecord(**{**vars(records[at]), field: f"{chance.random()}"})
                case 1:
                    del records[at]
                case 2:
                    other = (at + chance.randrange(1, 40)) % 40
                    records[at], records[other] = records[other], records[at]
                case 3:
                    del records[at:]
                case _:
                    forged = AuditRecord(**{**vars(records[at]), "actor": "user:mallory"})
                    records[at] = AuditRecord(**{**vars(forged), "hash": chain_hash(forged)})
            if self.walk(records, head, known) is None:
                missed.append((number, at))
        assert not missed

    def test_a_history_rewritten_from_a_row_on_contradicts_what_was_sealed(self) -> None:
        records, forged = chain(20), chain(5)
        head = AuditHead(ORG, 5, forged[-1].hash)
        for number in range(6, 21):
            forged.append(record_after(head, entry(number, forged=True)))
            head = AuditHead(ORG, number, forged[-1].hash)
        found = self.walk(forged, head, {10: records[9].hash})
        assert found is not None and found[0] == 10


async def write(vault: Vault, count: int) -> None:
    for number in range(count):
        async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
            await service.write_audit(conn, vault.scope, entry(number))


async def verify(vault: Vault, anchors: dict[int, bytes] | None = None) -> AuditVerdict:
    async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
        return await service.verify_chain(conn, vault.authenticator.audit_keys, vault.scope.org_id, anchors)


async def seal(vault: Vault) -> None:
    async with vault.db.platform() as conn:
        await service.seal(conn, vault.authenticator.audit_keys)


@pytest.mark.postgres
class TestLog:
    async def test_writers_at_once_make_one_chain(self, vault: Vault) -> None:
        await asyncio.gather(*(write(vault, 20) for _ in range(6)))
        verdict = await verify(vault)
        assert verdict.valid and verdict.rows == 121, verdict  # the first is the bootstrap's

    async def test_whatever_a_record_says_it_stands_as_it_was_hashed(self, vault: Vault) -> None:
        for text in ('"', "\\", "\n\x00\x1f\x7f", "ä€😀", "\ud800", "%b%(seq)s", "'; --"):
            async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
                await service.write_audit(conn, vault.scope, AuditEntry(text, text, text, text, {text: text}))
        verdict = await verify(vault)
        assert verdict.valid and verdict.rows == 8, verdict

    async def test_a_change_that_fails_leaves_no_record(self, vault: Vault) -> None:
        class Failed(Exception):
            pass

        with pytest.raises(Failed):
            async with vault.db.tenant(org_id=vault.scope.org_id, project_id=None) as conn:
                await service.write_audit(conn, vault.scope, entry(1))
                raise Failed
        assert (await verify(vault)).rows == 1

    @pytest.mark.parametrize("role", ["aidos_app", "aidos_platform"])
    @pytest.mark.parametrize("table", [LOG, "securityvault.audit_checkpoints"])
    @pytest.mark.parametrize("attack", ["UPDATE {} SET seq = seq", "DELETE FROM {}", "TRUNCATE {}"])
    async def test_the_platform_itself_cannot_change_it(self, vault: Vault, role: str, table: str, attack: str) -> None:
        await write(vault, 1)
        opened = vault.db.platform() if role == "aidos_platform" else vault.db.tenant(org_id=vault.scope.org_id, project_id=None)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with opened as conn:
                await conn.execute(attack.format(table))

    async def test_no_record_no_change(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        """When the log cannot be written, the change it would record is not made, and the answer is 503."""
        await root.execute(f"REVOKE INSERT ON {LOG} FROM aidos_app")
        try:
            with pytest.raises(AuditUnwritable) as refusal:
                async with vault.db.tenant(org_id=vault.scope.org_id, project_id=vault.scope.project_id) as conn:
                    await publish(conn, Event("test.thing.made", "x", vault.scope.org_id, vault.scope.project_id, vault.scope.actor, {}))
                    await service.write_audit(conn, vault.scope, entry(1))
            assert refusal.value.status == 503
            row = await (await root.execute("SELECT count(*) FROM cluster.events WHERE type = 'test.thing.made'")).fetchone()
            assert row == (0,)
        finally:
            await root.execute(f"GRANT INSERT ON {LOG} TO aidos_app")

    async def test_another_organisation_sees_none_of_it(self, vault: Vault) -> None:
        await write(vault, 3)
        async with vault.db.tenant(org_id=ORG, project_id=None) as conn:
            assert await service.list_audit(conn, vault.scope.org_id, None, 10) == []

    async def test_every_500_records_and_on_demand_the_end_is_signed(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        task = asyncio.create_task(seal_for_ever(vault.db, vault.settings, every_s=3600))

        async def listening() -> bool:
            found = await root.execute(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN aidos_seal%' AND datname = current_database()"
            )
            return await found.fetchone() is not None

        async def sealed() -> bool:
            return await (await root.execute("SELECT 1 FROM securityvault.audit_checkpoints WHERE seq = 500")).fetchone() is not None

        try:
            await wait_until_async(listening)
            async with vault.db.platform() as conn:
                for number in range(499):
                    await service.write_audit(conn, vault.scope, entry(number))
            await wait_until_async(sealed)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


Tampering = Callable[[psycopg.AsyncConnection, random.Random, int], Awaitable[int]]


async def edit(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    at = chance.randint(1, last)
    column = chance.choice(["actor", "action", "resource", "client_ip", "request_id", "data"])
    await root.execute(f"UPDATE {LOG} SET {column} = {column} || 'x' WHERE seq = %s", (at,))
    return at


async def back_date(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    at = chance.randint(1, last)
    await root.execute(f"UPDATE {LOG} SET at = at - interval '1 microsecond' WHERE seq = %s", (at,))
    return at


async def delete(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    at = chance.randint(1, last)
    await root.execute(f"DELETE FROM {LOG} WHERE seq = %s", (at,))
    return at


async def close_up(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    """Remove a row and move the later ones up, so that no number is missing."""
    at = chance.randint(1, last - 1)
    await root.execute(f"DELETE FROM {LOG} WHERE seq = %s", (at,))
    await root.execute(f"UPDATE {LOG} SET seq = -seq WHERE seq > %s", (at,))
    await root.execute(f"UPDATE {LOG} SET seq = -seq - 1 WHERE seq < 0")
    await root.execute("UPDATE securityvault.audit_heads SET seq = seq - 1")
    return at


async def swap(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    one, two = sorted(chance.sample(range(1, last + 1), 2))
    for was, becomes in ((one, -1), (two, one), (-1, two)):
        await root.execute(f"UPDATE {LOG} SET seq = %s WHERE seq = %s", (becomes, was))
    return one


async def cut(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    at = chance.randint(1, last)
    await root.execute(f"DELETE FROM {LOG} WHERE seq >= %s", (at,))
    return at


async def cut_and_cover(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    """Cut the tail and set the head back to where the log now ends; the checkpoint of the last row stays."""
    at = await cut(root, chance, last)
    found = await (await root.execute(f"SELECT seq, hash FROM {LOG} ORDER BY seq DESC LIMIT 1")).fetchone()
    await root.execute("UPDATE securityvault.audit_heads SET seq = %s, hash = %s", found or (0, audit.GENESIS))
    return at


async def insert(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    columns = "at, actor, action, resource, project_id, client_ip, request_id, data, prev_hash, hash"
    await root.execute(
        f"INSERT INTO {LOG} (org_id, seq, {columns}) SELECT org_id, %s, {columns} FROM {LOG} WHERE seq = %s", (last + 1, last)
    )
    return last + 1


async def reattribute(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    """Give a row to somebody else and make its own hash anew."""
    at = chance.randint(1, last)
    found = await root.execute(f"SELECT * FROM {LOG} WHERE seq = %s", (at,))
    names = [column.name for column in found.description or ()]
    record = AuditRecord(**{**dict(zip(names, await found.fetchone() or (), strict=True)), "actor": "user:mallory"})
    await root.execute(f"UPDATE {LOG} SET actor = %s, hash = %s WHERE seq = %s", (record.actor, chain_hash(record), at))
    return at


async def fork(root: psycopg.AsyncConnection, chance: random.Random, last: int) -> int:
    """Write all rows from one on anew, with hashes that fit; only what was sealed tells."""
    at = chance.randint(1, last)
    found = await root.execute(f"SELECT * FROM {LOG} WHERE seq >= %s ORDER BY seq", (at - 1,))
    names = [column.name for column in found.description or ()]
    previous = audit.GENESIS
    for values in await found.fetchall():
        record = AuditRecord(**dict(zip(names, values, strict=True)))
        if record.seq >= at:
            record = AuditRecord(**{**vars(record), "actor": "user:mallory", "prev_hash": previous})
            record = AuditRecord(**{**vars(record), "hash": chain_hash(record)})
            await root.execute(
                f"UPDATE {LOG} SET actor = %s, prev_hash = %s, hash = %s WHERE seq = %s", (record.actor, previous, record.hash, record.seq)
            )
        previous = record.hash
    await root.execute("UPDATE securityvault.audit_heads SET hash = %s", (previous,))
    return last  # the only row that a checkpoint vouches for


TAMPERINGS: list[Tampering] = [edit, back_date, delete, close_up, swap, cut, cut_and_cover, insert, reattribute, fork]


@pytest.mark.postgres
class TestTampering:
    ROWS = 30

    @pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda each: each.__name__)
    async def test_is_found_and_the_row_is_named(self, vault: Vault, root: psycopg.AsyncConnection, tampering: Tampering) -> None:
        async with vault.db.platform() as conn:
            for number in range(self.ROWS - 1):
                await service.write_audit(conn, vault.scope, entry(number))
        await seal(vault)
        assert (await verify(vault)).valid
        for seed in range(10):
            async with root.transaction(force_rollback=False):
                await root.execute(f"CREATE TEMP TABLE kept AS TABLE {LOG}")
                await root.execute("CREATE TEMP TABLE kept_head AS TABLE securityvault.audit_heads")
            at = await tampering(root, random.Random(seed), self.ROWS)
            verdict = await verify(vault)
            assert not verdict.valid and verdict.finding, (seed, at)
            assert verdict.first_bad_seq == at, (seed, at, verdict)
            await root.execute(f"TRUNCATE {LOG}, securityvault.audit_heads")
            await root.execute(f"INSERT INTO {LOG} TABLE kept")
            await root.execute("INSERT INTO securityvault.audit_heads TABLE kept_head")
            await root.execute("DROP TABLE kept, kept_head")
            assert (await verify(vault)).valid, "the log was put back as it was"

    async def test_a_checkpoint_cannot_be_forged(self, vault: Vault, root: psycopg.AsyncConnection) -> None:
        await write(vault, 5)
        await seal(vault)
        await root.execute("UPDATE securityvault.audit_checkpoints SET hash = %s", (bytes(32),))
        verdict = await verify(vault)
        assert not verdict.valid and "signature" in verdict.finding

    async def test_what_was_noted_outside_tells_of_a_log_that_was_wholly_replaced(
        self, vault: Vault, root: psycopg.AsyncConnection
    ) -> None:
        await write(vault, 5)
        async with vault.db.platform() as conn:
            noted = (await service.list_audit(conn, vault.scope.org_id, None, 1))[0]
        await root.execute(f"TRUNCATE {LOG}, securityvault.audit_heads, securityvault.audit_checkpoints")
        await write(vault, 8)
        assert (await verify(vault)).valid
        verdict = await verify(vault, {noted.seq: noted.hash})
        assert not verdict.valid and verdict.first_bad_seq == noted.seq
