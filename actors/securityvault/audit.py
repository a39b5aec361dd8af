"""The audit log: one hash chain an organisation, appended in the transaction of the change it records.

Each row's hash is SHA-256 over the canonical JSON of the row and of the hash before it (Schneier and Kelsey, 1999). An
edited, removed or swapped row breaks the chain at its place; a cut tail contradicts the head row, and a head row that was
set back as well contradicts the newest checkpoint, which is signed (Ed25519) and logged outside the database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg

from actors.securityvault import store
from actors.securityvault.errors import AuditUnwritable
from actors.securityvault.keyring import SigningKeys
from actors.securityvault.models import AuditCheckpoint, AuditEntry, AuditHead, AuditRecord, AuditVerdict, Scope
from cluster.db import Connection
from cluster.telemetry import get_logger

GENESIS = bytes(32)
SEAL_EVERY_EVENTS = 500
_PAGE_ROWS = 2000
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode
_log = get_logger("securityvault")


def canonical(value: Any) -> bytes:
    """One spelling for one value: keys sorted, no spaces, UTF-8."""
    return _encode(value).encode("utf-8", "backslashreplace")


def chain_hash(record: AuditRecord) -> bytes:
    """SHA-256 over all of the record but its own hash."""
    before, between = spell(record)
    return hashlib.sha256(b'%b%d%b%b"]' % (before, record.seq, between, record.prev_hash.hex().encode())).digest()


def spell(record: AuditRecord) -> tuple[bytes, bytes]:
    """The record's canonical JSON up to its number, and from there to the hash before it: both are known only under the head's lock."""
    fields = [
        record.at.astimezone(UTC).isoformat(timespec="microseconds"), record.actor, record.action, record.resource,
        str(record.project_id or ""), record.client_ip, record.request_id, record.data,
    ]  # fmt: skip
    return b'["%b",' % str(record.org_id).encode(), b',%b,"' % canonical(fields)[1:-1]


def build_record(scope: Scope, entry: AuditEntry, at: datetime) -> AuditRecord:
    """A record that has no place in the chain yet."""
    return AuditRecord(
        org_id=scope.org_id,
        seq=0,
        at=at,
        actor=scope.actor,
        action=_storable(entry.action),
        resource=_storable(entry.resource),
        project_id=scope.project_id,
        client_ip=_storable(entry.client_ip),
        request_id=_storable(entry.request_id),
        data=_storable(canonical(dict(entry.data)).decode(), 20_000),
        prev_hash=b"",
        hash=b"",
    )


def _storable(text: str, length: int = 2000) -> str:
    """PostgreSQL keeps neither NUL nor half of a surrogate pair; a path may hold both."""
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()[:length]


async def write_audit(conn: Connection, scope: Scope, entry: AuditEntry) -> None:
    """Append to the organisation's chain in the caller's transaction: as its last statement, for the head stays locked until commit.

    Raises: AuditUnwritable, so that no change is made without its record.
    """
    record = build_record(scope, entry, datetime.now(UTC))
    try:
        head = await store.append_audit(conn, record, *spell(record))
        if head is None:
            await store.create_audit_head(conn, scope.org_id, GENESIS)
            head = await store.append_audit(conn, record, *spell(record))
        if head is None:
            raise AuditUnwritable(retry_after_s=5)
        if head.seq % SEAL_EVERY_EVENTS == 0:
            await store.announce_seal(conn, str(scope.org_id))
    except psycopg.Error as error:
        _log.error("audit record was not written", action=entry.action, error=str(error))
        raise AuditUnwritable(retry_after_s=5) from error


async def seal(conn: Connection, keys: SigningKeys, org_id: UUID | None = None) -> int:
    """Sign where each chain (or one) ends; the number of new checkpoints. Also logged: the log is the anchor outside the database."""
    heads = await store.list_unsealed(conn, org_id)
    for head in heads:
        at = datetime.now(UTC)
        kid, signature = keys.sign(_statement(head.org_id, head.seq, head.hash, at))
        await store.create_checkpoint(conn, AuditCheckpoint(head.org_id, head.seq, head.hash, at, kid, signature))
        _log.info("audit checkpoint", org_id=str(head.org_id), seq=head.seq, hash=head.hash.hex(), signature=signature.hex())
    return len(heads)


def _statement(org_id: UUID, seq: int, digest: bytes, at: datetime) -> bytes:
    return canonical(["aidos audit checkpoint", str(org_id), seq, digest.hex(), at.astimezone(UTC).isoformat(timespec="microseconds")])


async def verify_chain(conn: Connection, keys: SigningKeys, org_id: UUID, anchors: Mapping[int, bytes] | None = None) -> AuditVerdict:
    """Walk the whole chain of an organisation. ``anchors``: hashes by seq that the caller kept elsewhere, to be held against it."""
    checkpoints = await store.list_checkpoints(conn, org_id)
    head = await store.find_audit_head(conn, org_id) or AuditHead(org_id, 0, GENESIS)
    known = dict(anchors or {})
    for checkpoint in checkpoints:
        if not keys.verify(checkpoint.kid, checkpoint.signature, _statement(org_id, checkpoint.seq, checkpoint.hash, checkpoint.at)):
            return AuditVerdict(False, 0, len(checkpoints), head.seq, checkpoint.seq, "a checkpoint carries no valid signature")
        known.setdefault(checkpoint.seq, checkpoint.hash)
    walk = ChainWalk(org_id, known)
    async for records in _pages(conn, org_id, head.seq):
        if (found := walk.follow(records)) is not None:
            return AuditVerdict(False, walk.seq, len(checkpoints), head.seq, found[0], found[1])
    if (found := walk.finish(head) or await _beyond(conn, head)) is not None:
        return AuditVerdict(False, walk.seq, len(checkpoints), head.seq, found[0], found[1])
    return AuditVerdict(True, walk.seq, len(checkpoints), head.seq)


async def _beyond(conn: Connection, head: AuditHead) -> tuple[int, str] | None:
    """A row that no head ever named. Rows are committed with their head, so the head is read after them."""
    rows = await store.scan_audit(conn, head.org_id, head.seq, 1)
    now = await store.find_audit_head(conn, head.org_id)
    if rows and rows[0].seq > (now.seq if now else 0):
        return rows[0].seq, "the row was put in behind the end of the chain"
    return None


async def _pages(conn: Connection, org_id: UUID, head_seq: int) -> AsyncIterator[list[AuditRecord]]:
    after = -(2**63)
    while records := await store.scan_audit(conn, org_id, after, _PAGE_ROWS):
        # Rows that were committed since the head was read are the next verifier's.
        yield [record for record in records if record.seq <= head_seq] if after < head_seq else []
        after = records[-1].seq
        if after >= head_seq:
            return


class ChainWalk:
    """Checks rows in order; knows no database."""

    def __init__(self, org_id: UUID, known: Mapping[int, bytes]) -> None:
        self.org_id, self.known = org_id, known
        self.seq, self.hash = 0, GENESIS

    def follow(self, records: Iterable[AuditRecord]) -> tuple[int, str] | None:
        """The first bad seq and what is wrong with it, or None."""
        for record in records:
            if (finding := self._check(record)) is not None:
                return finding
            self.seq, self.hash = record.seq, record.hash
        return None

    def _check(self, record: AuditRecord) -> tuple[int, str] | None:
        expected = self.seq + 1
        if record.seq != expected:
            return (expected, "the row was removed") if record.seq > expected else (record.seq, "a row was put in before the first one")
        intact = chain_hash(record) == record.hash
        if record.prev_hash != self.hash:
            # A row that still vouches for another predecessor than the one found, which nothing else vouches for, was not itself changed.
            if intact and self.seq and self.seq not in self.known:
                return self.seq, "the row was replaced: the one after it follows another"
            return record.seq, "the row does not follow the one before it: it was edited, moved or replaced"
        if not intact:
            return record.seq, "the row was edited"
        if self.known.get(record.seq, record.hash) != record.hash:
            return record.seq, "the row, or one before it, was rewritten after it was sealed"
        return None

    def finish(self, head: AuditHead) -> tuple[int, str] | None:
        """The tail: the chain must end where the head says, and not before what was sealed."""
        if head.seq != self.seq:
            return self.seq + 1, "the row, the last of the log, was removed"
        if head.hash != self.hash:
            return self.seq, "the last row was replaced: it is not the one that the head names"
        if (sealed := max(self.known, default=0)) > self.seq:
            return self.seq + 1, f"the log was cut: row {sealed} was sealed and is gone"
        return None
