"""The platform's own secrets: Ed25519 keys that sign tokens and checkpoints, the pepper of stored credentials, master keys.

They are files of mode 0600 (``Settings.secret_path``), made once by ``bootstrap``. A signing file is a JWK set: its first
key signs, all of them verify, so that a key is rotated by putting a new one in front. The master keys of the projects' secrets stand
in ``aidos_secret_keys``, one a line (``sealing.py``).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import OKPKey

from actors.securityvault.errors import VaultLocked
from cluster.settings import Settings

TOKEN_KEYS, AUDIT_KEYS, PEPPER, SECRET_KEYS = "token_keys", "audit_keys", "key_pepper", "secret_keys"
_NONCE_BYTES = 12


class SigningKeys:
    """Ed25519 keys by key id. The first signs."""

    def __init__(self, keys: list[OKPKey]) -> None:
        self.by_id = {str(key.kid): key for key in keys}
        self.first = keys[0]
        self.kid = str(self.first.kid)

    def sign(self, message: bytes) -> tuple[str, bytes]:
        """The signing key's id and the signature."""
        key = self.first.get_op_key("sign")
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("the first key of the set is not a private Ed25519 key")
        return self.kid, key.sign(message)

    def verify(self, kid: str, signature: bytes, message: bytes) -> bool:
        key = self.by_id[kid].get_op_key("verify") if kid in self.by_id else None
        if not isinstance(key, Ed25519PublicKey):
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Pepper:
    """Keyed hashing of stored credentials: what is in the database is of no use without this file.

    A fast hash is right here, for what is hashed has 256 random bits (passwords go through argon2id instead).
    """

    def __init__(self, secret: bytes) -> None:
        self._key = {use: hmac.digest(secret, use.encode(), "sha256") for use in ("api key", "refresh token", "answer", "request")}

    def of_key(self, secret: str) -> bytes:
        """What is stored of an API key's secret."""
        return hmac.digest(self._key["api key"], secret.encode(), "sha256")

    def successor(self, refresh_token: str) -> str:
        """The refresh token that follows: derived, so that a repeated request gets the same one although only hashes are stored."""
        return _REFRESH_PREFIX + hmac.digest(self._key["refresh token"], refresh_token.encode(), "sha256").hex()

    def of_request(self, content: bytes) -> bytes:
        """What is stored to know a request again: it may hold a password or a secret that can be guessed."""
        return hmac.digest(self._key["request"], content, "sha256")

    def encrypt(self, plain: bytes) -> bytes:
        """AES-256-GCM, for answers that hold a secret and must be repeatable."""
        return encrypt(self._key["answer"], plain)

    def decrypt(self, sealed: bytes) -> bytes:
        """Raises: VaultLocked when the pepper is not the one that encrypted."""
        try:
            return decrypt(self._key["answer"], sealed)
        except InvalidTag as error:
            raise VaultLocked(name=PEPPER, retry_after_s=60) from error


def encrypt(key: bytes, plain: bytes, about: bytes | None = None) -> bytes:
    """AES-256-GCM (NIST SP 800-38D), the nonce in front. It is opened by the same key, and as being ``about`` the same."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, about)


def decrypt(key: bytes, sealed: bytes, about: bytes | None = None) -> bytes:
    """Raises: InvalidTag."""
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about)


_REFRESH_PREFIX = "aidos_refresh_"


def new_refresh_token() -> str:
    """256 random bits."""
    return _REFRESH_PREFIX + secrets.token_hex(32)


def fingerprint(token: str) -> bytes:
    """SHA-256: what is stored of a token that has 256 random bits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def read_signing_keys(settings: Settings, name: str) -> SigningKeys:
    """Raises: VaultLocked."""
    try:
        keys = [OKPKey.import_key(key) for key in json.loads(settings.secret(name))["keys"]]
    except (OSError, ValueError, KeyError) as error:
        raise VaultLocked(name=settings.secret_path(name).name, retry_after_s=10) from error
    return SigningKeys(keys)


def read_pepper(settings: Settings) -> Pepper:
    """Raises: VaultLocked."""
    try:
        return Pepper(bytes.fromhex(settings.secret(PEPPER)))
    except (OSError, ValueError) as error:
        raise VaultLocked(name=settings.secret_path(PEPPER).name, retry_after_s=10) from error


def make_secrets(settings: Settings) -> None:
    """Make the files that are not there yet; never changes one."""
    for name in (TOKEN_KEYS, AUDIT_KEYS):
        _write_once(settings.secret_path(name), json.dumps({"keys": [_new_signing_key()]}))
    for name in (PEPPER, SECRET_KEYS):
        _write_once(settings.secret_path(name), secrets.token_hex(32))


def rotate_token_keys(settings: Settings) -> str:
    """Put a new signing key in front; the one before stays valid for its tokens, older ones go. Returns the new key's id."""
    path = settings.secret_path(TOKEN_KEYS)
    key = _new_signing_key()
    keys = [key, *json.loads(path.read_text())["keys"][:1]]
    _write(path, json.dumps({"keys": keys}))
    return str(key["kid"])


def put_secret_key_first(settings: Settings, needed: Collection[str]) -> None:
    """Put a new master key of secrets in front. Of the others stay those that are ``needed``, by their ids, and the one that was first."""
    keys = settings.secret(SECRET_KEYS).split()
    kept = [key for key in keys if key == keys[0] or secret_key_id(bytes.fromhex(key)) in needed]
    _write(settings.secret_path(SECRET_KEYS), "\n".join([secrets.token_hex(32), *kept]))


def secret_key_id(key: bytes) -> str:
    """The name of a master key of secrets, of which nothing can be told of the key."""
    return hashlib.sha256(key).hexdigest()[:16]


def _new_signing_key() -> dict[str, str]:
    key = OKPKey.generate_key("Ed25519", private=True)
    return {**{name: str(value) for name, value in key.as_dict(private=True).items()}, "kid": key.thumbprint()}


def _write_once(path: Path, text: str) -> None:
    """Whole or not at all, also against another process that makes the same file."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _draft(path, text)
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()


def _write(path: Path, text: str) -> None:
    _draft(path, text).replace(path)


def _draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft
