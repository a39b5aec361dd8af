"""Who the client acts as: an API key, a token in a file that somebody renews, or the sign-in of ``aidos login``."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

try:
    import fcntl
except ImportError:  # Windows: two commands that refresh in the same instant may have to sign in again
    fcntl = None  # type: ignore[assignment]  # absent there

from aidos.config import ClientConfig

RENEW_AHEAD_S = 30.0


class Credential(Protocol):
    """``token`` and ``renew`` may block on a file or a call; the asynchronous client runs them in a thread."""

    @property
    def ready(self) -> bool:
        """Whether ``token`` answers from memory now."""

    def token(self) -> str | None:
        """What to send as ``Authorization: Bearer``; None: nothing."""

    def renew(self, refused: str | None) -> bool:
        """After a 401 on ``refused``: whether there is another token to try."""


@dataclass(frozen=True)
class StaticKey:
    """An API key, which nothing renews; without one, calls go out unsigned."""

    key: str | None = field(default=None, repr=False)
    ready: ClassVar[bool] = True

    def token(self) -> str | None:
        return self.key

    def renew(self, refused: str | None) -> bool:
        return False


class TokenFile:
    """A job's token: the platform replaces the file before the old token ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token: str | None = None

    @property
    def ready(self) -> bool:
        return self._token is not None

    def token(self) -> str | None:
        if self._token is None:
            with contextlib.suppress(OSError):
                self._token = self.path.read_text().strip() or None
        return self._token

    def renew(self, refused: str | None) -> bool:
        self._token = None
        return self.token() not in (None, refused)


@dataclass(frozen=True)
class SignIn:
    """What ``aidos login`` got for one platform; without a refresh token, an API key that it was given."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float
    """Unix time in seconds."""
    email: str = ""
    project: str | None = None


class SignIns:
    """The sign-ins of this user, by platform URL, in one file of mode 0600."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "credentials.json"

    def find(self, url: str) -> SignIn | None:
        """The sign-in for ``url``; None too for one that another version of the client wrote in another way."""
        try:
            return SignIn(**self._load()[url])
        except (KeyError, TypeError):
            return None

    def save(self, url: str, sign_in: SignIn | None) -> None:
        """Keep the sign-in for ``url``, or forget it. Readers see the old file or the new one, never half of it."""
        known = self._load()
        known.pop(url, None)
        if sign_in:
            known[url] = asdict(sign_in)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.path.with_suffix(f".{secrets.token_hex(8)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(known, file, indent=1)
        fresh.replace(self.path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file against other processes: a refresh token that two of them use revokes the whole sign-in."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.with_suffix(".lock").open("w") as lock:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self.path.read_text()))
        except (FileNotFoundError, TypeError, ValueError):
            return {}


Refresh = Callable[[str], SignIn]
"""Changes a refresh token into a new sign-in. Raises: AidosError when it is no longer good."""


class StoredSignIn:
    """The sign-in for ``url``, refreshed ahead of its end and written back for the commands that follow."""

    def __init__(self, store: SignIns, url: str, refresh: Refresh) -> None:
        self._store, self._url, self._refresh = store, url, refresh
        self._current = store.find(url)

    @property
    def project(self) -> str | None:
        """The project that ``aidos login`` chose."""
        return self._current.project if self._current else None

    @property
    def ready(self) -> bool:
        current = self._current
        return current is None or not current.refresh_token or current.expires_at - RENEW_AHEAD_S >= time.time()

    def token(self) -> str | None:
        if self._current and not self.ready:
            self.renew(self._current.access_token)
        return self._current.access_token if self._current else None

    def renew(self, refused: str | None) -> bool:
        if self._current is None:
            return False
        with self._store.locked():
            stored = self._store.find(self._url)
            if stored and stored.access_token != refused:
                self._current = stored  # another process was quicker
                return True
            if stored is None or not stored.refresh_token:
                self._current = stored
                return False
            fresh = self._refresh(stored.refresh_token)
            self._current = replace(fresh, email=stored.email, project=stored.project)
            self._store.save(self._url, self._current)
        return True


def find_credential(config: ClientConfig, refresh: Refresh) -> Credential:
    """The first of: the API key, the token file, the sign-in. Without any, calls go out unsigned."""
    if config.api_key:
        return StaticKey(config.api_key)
    if config.token_file:
        return TokenFile(config.token_file)
    return StoredSignIn(SignIns(config.directory), config.url, refresh)
