"""Envelope encryption of the projects' secrets: AES-256-GCM (NIST SP 800-38D) under a key of the value's own, which a master key wraps.

Both are bound to the project and the name, so a row that is moved to another is refused. The file ``aidos_secret_keys`` has a master key
a line, in hexadecimal: the first wraps, all unwrap. So a master key is rotated by putting a new one in front.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from uuid import UUID

from cryptography.exceptions import InvalidTag

from actors.securityvault.errors import SecretUnreadable, VaultLocked
from actors.securityvault.keyring import SECRET_KEYS, decrypt, encrypt, secret_key_id
from actors.securityvault.models import Sealed, SealedSecret
from cluster.settings import Settings

_KEY_BYTES = 32


class MasterKeys:
    """Those of the installation, by id. ``first`` wraps."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise ValueError("a master key has 256 bits")
        self._by_id = {secret_key_id(key): key for key in keys}
        self.first = secret_key_id(keys[0])

    def seal(self, value: bytes, project_id: UUID, name: str) -> Sealed:
        """Encrypt a secret's value."""
        own, about = secrets.token_bytes(_KEY_BYTES), _about(project_id, name)
        return Sealed(self.first, encrypt(self._by_id[self.first], own, about), encrypt(own, value, about))

    def open(self, secret: SealedSecret) -> bytes:
        """Its value. Raises: SecretUnreadable."""
        own, about = self._unwrap(secret), _about(secret.project_id, secret.name)
        return _decrypt(own, secret.sealed.content, about, secret.name)

    def rewrap(self, secret: SealedSecret) -> SealedSecret:
        """The same value, its key wrapped by the first master key. Raises: SecretUnreadable."""
        wrapped = encrypt(self._by_id[self.first], self._unwrap(secret), _about(secret.project_id, secret.name))
        return replace(secret, sealed=replace(secret.sealed, key_id=self.first, wrapped_key=wrapped))

    def _unwrap(self, secret: SealedSecret) -> bytes:
        key = self._by_id.get(secret.sealed.key_id)
        if key is None:
            raise SecretUnreadable(name=secret.name, reason=f"aidos_{SECRET_KEYS} lacks the master key {secret.sealed.key_id}")
        return _decrypt(key, secret.sealed.wrapped_key, _about(secret.project_id, secret.name), secret.name)


def read_master_keys(settings: Settings) -> MasterKeys:
    """As the file is now. Raises: VaultLocked."""
    try:
        return MasterKeys([bytes.fromhex(line) for line in settings.secret(SECRET_KEYS).split()])
    except (OSError, ValueError) as error:
        raise VaultLocked(name=settings.secret_path(SECRET_KEYS).name, retry_after_s=10) from error


def _about(project_id: UUID, name: str) -> bytes:
    return f"securityvault.secrets {project_id} {name}".encode()


def _decrypt(key: bytes, sealed: bytes, about: bytes, name: str) -> bytes:
    try:
        return decrypt(key, sealed, about)
    except InvalidTag as error:
        raise SecretUnreadable(name=name, reason="its row was changed, or is another secret's or project's") from error
