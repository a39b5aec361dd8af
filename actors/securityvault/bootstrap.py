"""The first start: secrets, the organisation and project ``default``, and the operator with a key that is shown once."""

from __future__ import annotations

from collections.abc import Callable

from actors.securityvault import store
from actors.securityvault.audit import write_audit
from actors.securityvault.credentials import new_key
from actors.securityvault.keyring import make_secrets, read_pepper
from actors.securityvault.models import Account, AuditEntry, Grade, Organisation, Principal, PrincipalKind, Scope
from aidos.errors import Conflict
from cluster.db import Connection, Database, new_id, unique
from cluster.settings import Settings

OPERATOR, ADMIN_KEY = "operator", "admin"


class _Done(Exception):
    """Another process made the organisation at this moment."""


async def bootstrap(db: Database, settings: Settings, keep: Callable[[str], None] | None = None) -> str | None:
    """Make what every installation has. Returns the administrator's key the first time, None ever after.

    ``keep`` gets the key before it becomes valid: a crash at any moment leaves no installation whose only key nobody has seen.
    """
    make_secrets(settings)
    async with db.platform() as conn:
        if await store.find_organisation(conn, "default") is not None:
            return None
    try:
        async with db.platform() as conn:
            with unique("organisation_name", _Done()):
                organisation = await store.create_organisation(conn, new_id(), "default")
            key = await _furnish(conn, settings, organisation)
            if keep is not None:
                keep(key)
        return key
    except _Done:
        return None


async def _furnish(conn: Connection, settings: Settings, organisation: Organisation) -> str:
    await store.create_project(
        conn, id=new_id(), org_id=organisation.id, name="default", description="The first project.", rate_limit_per_minute=None
    )
    account = await store.create_account(
        conn, id=new_id(), org_id=organisation.id, kind=PrincipalKind.SERVICE_ACCOUNT, name=OPERATOR, org_admin=True, operator=True
    )
    return await _admin_key(conn, settings, account, "bootstrap")


async def _admin_key(conn: Connection, settings: Settings, account: Account, action: str) -> str:
    id = new_id()
    text, secret = new_key(id)
    await store.create_key(
        conn,
        secret_hmac=read_pepper(settings).of_key(secret),
        id=id,
        org_id=account.org_id,
        project_id=None,
        account_id=account.id,
        name=ADMIN_KEY,
        grade=Grade.OPERATOR,
        scopes=None,
        rate_limit_per_minute=None,
        expires_at=None,
    )
    platform = Principal(PrincipalKind.PLATFORM, account.id, "platform", account.org_id)
    await write_audit(conn, Scope(platform, account.org_id, None), AuditEntry(action, f"/v1/securityvault/keys/{id}"))
    return text


async def replace_admin_key(db: Database, settings: Settings) -> str:
    """A new administrator's key for who has the machine but lost the key; the old one is revoked.

    Raises: Conflict before the first bootstrap.
    """
    async with db.platform() as conn:
        organisation = await store.find_organisation(conn, "default")
        account = await store.find_account(conn, organisation.id, OPERATOR) if organisation else None
        if organisation is None or account is None:
            raise Conflict(reason="The platform was never started. 'aidos up' makes the first key.")
        known = await store.find_key(conn, organisation.id, None, ADMIN_KEY, everywhere=True)
        if known is not None:
            await store.revoke_key(conn, organisation.id, known.id)
            await store.announce(conn, f"key:{known.id}")
        return await _admin_key(conn, settings, account, "replace_admin_key")
