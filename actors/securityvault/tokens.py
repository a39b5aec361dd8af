"""Signed tokens: JWTs (RFC 9068 ``at+jwt``, and ``job+jwt`` for user code), Ed25519 and nothing else.

A token is read strictly before its signature is looked at: compact form, canonical base64url, and a header of exactly
``alg``, ``typ`` and ``kid``. What RFC 8725 warns of (``none``, key confusion, ``jku``, ``crit``, JSON serialisation) is
therefore refused by form, and joserfc verifies what is left with one pinned algorithm.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from typing import Any, NoReturn
from uuid import UUID, uuid4

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from actors.securityvault.errors import CredentialInvalid
from actors.securityvault.keyring import SigningKeys

ALGORITHM = "Ed25519"  # RFC 9864: the fully specified name of what RFC 8037 called EdDSA
ACCESS, JOB = "at+jwt", "job+jwt"
AUDIENCE = "aidos"
LONGEST_CHARACTERS = 4096
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_CLAIMS: dict[str, dict[str, type]] = {
    ACCESS: {"iss": str, "aud": str, "sub": str, "org": str, "sid": str, "jti": str, "iat": int, "exp": int},
    JOB: {"iss": str, "aud": str, "sub": str, "org": str, "project": str, "scopes": list, "epoch": int, "jti": str, "iat": int, "exp": int},
}
_LEEWAY_S = 5


class TokenSigner:
    """Issues and reads tokens of one installation."""

    def __init__(self, keys: SigningKeys, issuer: str) -> None:
        self._keys, self._issuer = keys, issuer

    def issue_access_token(self, *, account_id: UUID, org_id: UUID, session_id: UUID, ttl_s: int) -> str:
        return self._issue(ACCESS, ttl_s, sub=str(account_id), org=str(org_id), sid=str(session_id))

    def issue_job_token(self, *, job_id: UUID, org_id: UUID, project_id: UUID, scopes: frozenset[str], epoch: int, ttl_s: int) -> str:
        return self._issue(
            JOB, min(ttl_s, 3600), sub=str(job_id), org=str(org_id), project=str(project_id), scopes=sorted(scopes), epoch=epoch
        )

    def _issue(self, kind: str, ttl_s: int, **claims: Any) -> str:
        now = int(time.time())
        claims = {"iss": self._issuer, "aud": AUDIENCE, **claims, "jti": uuid4().hex, "iat": now, "exp": now + ttl_s}
        header = {"alg": ALGORITHM, "typ": kind, "kid": self._keys.kid}
        return jwt.encode(header, claims, self._keys.first, algorithms=[ALGORITHM])

    def read(self, token: str) -> tuple[str, dict[str, Any]]:
        """Kind and claims of a good token. Raises: CredentialInvalid, saying nothing of why."""
        kind, key = self._read_header(token)
        try:
            claims = jwt.decode(token, key, algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError):
            _refuse()
        self._check(kind, claims)
        return kind, claims

    def _read_header(self, token: str) -> tuple[str, OKPKey]:
        if len(token) > LONGEST_CHARACTERS or not _COMPACT.fullmatch(token):
            _refuse()
        header, *rest = [_decode(part) for part in token.split(".")]
        for part in (header, rest[0]):
            _load(part)
        values = _load(header)
        kind, kid = values.get("typ"), values.get("kid")
        if set(values) != {"alg", "typ", "kid"} or values["alg"] != ALGORITHM or not isinstance(kind, str) or not isinstance(kid, str):
            _refuse()
        key = self._keys.by_id.get(kid)
        if kind not in _CLAIMS or key is None:
            _refuse()
        return kind, key

    def _check(self, kind: str, claims: dict[str, Any]) -> None:
        expected = _CLAIMS[kind]
        # A bool is an int to Python, and an unknown claim (nbf, cnf…) could be a condition that we do not keep.
        if set(claims) != set(expected) or any(type(claims[name]) is not kind_of for name, kind_of in expected.items()):
            _refuse()
        now = time.time()
        if claims["iss"] != self._issuer or claims["aud"] != AUDIENCE or claims["exp"] <= now or claims["iat"] > now + _LEEWAY_S:
            _refuse()
        if claims["exp"] - claims["iat"] > 86400 or not all(isinstance(scope, str) for scope in claims.get("scopes", ())):
            _refuse()


def _decode(part: str) -> bytes:
    """base64url without padding, in its one canonical spelling: otherwise a token could be changed and stay good."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (ValueError, binascii.Error):
        _refuse()
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        _refuse()
    return decoded


def _load(part: bytes) -> dict[str, Any]:
    try:
        value = json.loads(part, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        _refuse()
    if not isinstance(value, dict):
        _refuse()
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a member stands twice")
    return values


def _refuse() -> NoReturn:
    raise CredentialInvalid
