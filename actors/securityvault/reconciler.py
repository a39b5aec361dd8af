"""What SecurityVault does by itself: sign, every minute and every 500 records, where each audit chain ends; wrap secrets anew."""

from __future__ import annotations

import asyncio
import contextlib

from actors.securityvault import audit
from actors.securityvault.keyring import AUDIT_KEYS, read_signing_keys
from actors.securityvault.project_secrets import rewrap_secrets
from aidos.errors import AidosError
from cluster import telemetry
from cluster.db import Database
from cluster.host import Host
from cluster.settings import Settings

CHANNEL = "aidos_seal"
SEAL_EVERY_S = WRAP_EVERY_S = 60.0
_log = telemetry.get_logger("securityvault")


async def seal_audit(host: Host) -> None:
    """Loop of the actor ``securityvault``. A second copy signs the same heads, which does no harm."""
    await seal_for_ever(host.db, host.settings)


async def seal_for_ever(db: Database, settings: Settings, every_s: float = SEAL_EVERY_S) -> None:
    """Seal all chains every ``every_s``, and whenever one has grown by 500 records."""
    due = asyncio.Event()

    async def listen() -> None:
        async for _payload in db.listen(CHANNEL):
            due.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listen())
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(due.wait(), every_s)
            due.clear()
            try:
                keys = read_signing_keys(settings, AUDIT_KEYS)
                async with db.platform() as conn:
                    await audit.seal(conn, keys)
            except AidosError as error:
                _log.warning("audit chains could not be sealed", error=str(error))


async def wrap_secrets(host: Host) -> None:
    """Loop of the same actor: whatever master key stands first in its file, a minute later it wraps all secrets."""
    while True:
        try:
            if count := await rewrap_secrets(host.db, host.settings):
                _log.info("secrets were wrapped by another master key", count=count)
        except AidosError as error:
            _log.warning("secrets could not be wrapped anew", error=str(error))
        await asyncio.sleep(WRAP_EVERY_S)
