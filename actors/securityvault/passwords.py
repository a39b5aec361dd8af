"""Passwords: argon2id in a few threads, so that a flood of sign-ins takes neither the event loop nor the memory."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from actors.securityvault.errors import SigningBusy

T = TypeVar("T")
_QUEUE_LIMIT = 16


class Passwords:
    """Hashes and checks. The cost is OWASP's minimum for argon2id: two passes over 19 MiB, one lane."""

    def __init__(self, threads: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1, type=Type.ID)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._most = threads + _QUEUE_LIMIT
        self._pending = 0
        self._dummy: str | None = None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Raises: SigningBusy."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is right. No stored hash costs as much time as a wrong password. Raises: SigningBusy."""
        if stored is None:
            if self._dummy is None:
                self._dummy = await self.hash(secrets.token_hex(16))
            await self._run(lambda: self._matches(self._dummy or "", password))
            return False
        return await self._run(lambda: self._matches(stored, password))

    def needs_rehash(self, stored: str) -> bool:
        """Whether the hash was made with weaker parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= self._most:
            raise SigningBusy(limit=self._most, subject="machine", retry_after_s=1)
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._pending -= 1
