"""Forged tokens: each is refused, and each differs from a good one in one thing only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.jwk import OKPKey

from actors.securityvault.errors import CredentialInvalid
from actors.securityvault.keyring import SigningKeys
from actors.securityvault.tokens import ACCESS, ALGORITHM, AUDIENCE, JOB, TokenSigner

ISSUER = "https://aidos.example"


def new_key(kid: str) -> OKPKey:
    return OKPKey.import_key({**OKPKey.generate_key("Ed25519").as_dict(private=True), "kid": kid})


KEY, NEXT, FOREIGN = new_key("one"), new_key("two"), new_key("one")
SIGNER = TokenSigner(SigningKeys([KEY]), ISSUER)


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    ids = {name: str(uuid4()) for name in ("sub", "org", "sid", "jti")}
    made = {"iss": ISSUER, "aud": AUDIENCE, **ids, "iat": now, "exp": now + 600, **changes}
    return {name: value for name, value in made.items() if value is not ...}


def header(**changes: Any) -> dict[str, Any]:
    made = {"alg": ALGORITHM, "typ": ACCESS, "kid": "one", **changes}
    return {name: value for name, value in made.items() if value is not ...}


def sign(head: dict[str, Any] | bytes, body: dict[str, Any] | bytes, key: OKPKey = KEY) -> str:
    """A token signed for real, whatever it says: the forger has a key of ours in the worst cases."""
    parts = [encode(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (head, body)]
    private = key.get_op_key("sign")
    assert isinstance(private, Ed25519PrivateKey)
    return ".".join([*parts, encode(private.sign(".".join(parts).encode()))])


def hmac_token(secret: bytes, algorithm: str = "HS256") -> str:
    signed = f"{encode(json.dumps(header(alg=algorithm)).encode())}.{encode(json.dumps(claims()).encode())}"
    return f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashlib.sha512))}"


def public_pem() -> bytes:
    return KEY.as_pem(private=False)


def raw_public() -> bytes:
    public = KEY.get_op_key("verify")
    assert isinstance(public, Ed25519PublicKey)
    return public.public_bytes_raw()


def other_algorithm(name: str, signature: bytes) -> str:
    return f"{encode(json.dumps(header(alg=name)).encode())}.{encode(json.dumps(claims()).encode())}.{encode(signature)}"


def json_serialised(flat: bool) -> str:
    head, body, signature = sign(header(), claims()).split(".")
    if flat:
        return json.dumps({"protected": head, "payload": body, "signature": signature})
    return json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]})


def respelled() -> str:
    """The same signature in another spelling: the last character of 86 carries four bits that say nothing."""
    token = sign(header(), claims())
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-1])
    return token[:-1] + alphabet[last ^ 1]


def swapped_payload() -> str:
    head, _, signature = sign(header(), claims()).split(".")
    return f"{head}.{encode(json.dumps(claims(sub='admin')).encode())}.{signature}"


NOW = int(time.time())
FORGERIES: dict[str, Callable[[], str]] = {
    "alg none, no signature": lambda: ".".join(sign(header(alg="none"), claims()).split(".")[:2]) + ".",
    "alg none, with signature": lambda: sign(header(alg="none"), claims()),
    "alg None in capitals": lambda: sign(header(alg="NONE"), claims()),
    "alg missing": lambda: sign(header(alg=...), claims()),
    "alg not a string": lambda: sign(header(alg=[ALGORITHM]), claims()),
    "alg by its old name": lambda: sign(header(alg="EdDSA"), claims()),
    "HMAC with the public key in PEM": lambda: hmac_token(public_pem()),
    "HMAC with the raw public key": lambda: hmac_token(raw_public()),
    "HMAC with the empty key": lambda: hmac_token(b""),
    "HMAC under our algorithm's name": lambda: hmac_token(raw_public(), ALGORITHM),
    "RSA": lambda: other_algorithm("RS256", rsa.generate_private_key(65537, 2048).sign(b"", padding.PKCS1v15(), hashes.SHA256())),
    "ECDSA with an all-zero signature": lambda: other_algorithm("ES256", bytes(64)),
    "Ed25519 with an all-zero signature": lambda: other_algorithm(ALGORITHM, bytes(64)),
    "Ed448": lambda: sign(header(alg="Ed448"), claims()),
    "another key under our id": lambda: sign(header(), claims(), FOREIGN),
    "an unknown key id": lambda: sign(header(kid="three"), claims()),
    "no key id": lambda: sign(header(kid=...), claims()),
    "a key id that walks a path": lambda: sign(header(kid="../../../../dev/null"), claims()),
    "a key id that is SQL": lambda: sign(header(kid="one' OR '1'='1"), claims()),
    "a key id that is no string": lambda: sign(header(kid=1), claims()),
    "jku": lambda: sign(header(jku="https://evil.example/keys.json"), claims(), FOREIGN),
    "jwk": lambda: sign(header(jwk=FOREIGN.as_dict(private=False)), claims(), FOREIGN),
    "x5u": lambda: sign(header(x5u="https://evil.example/cert.pem"), claims()),
    "x5c": lambda: sign(header(x5c=["MII"]), claims()),
    "crit": lambda: sign(header(crit=["exp"]), claims()),
    "crit of an unknown extension": lambda: sign(header(crit=["b64"], b64=False), claims()),
    "b64 switched off": lambda: sign(header(b64=False), claims()),
    "zip": lambda: sign(header(zip="DEF"), claims()),
    "cty nested token": lambda: sign(header(cty="JWT"), claims()),
    "typ JWT": lambda: sign(header(typ="JWT"), claims()),
    "typ missing": lambda: sign(header(typ=...), claims()),
    "a job's type on a person's claims": lambda: sign(header(typ=JOB), claims()),
    "a person's type on a job's claims": lambda: sign(header(), claims(sid=..., project="p", scopes=[], epoch=1)),
    "an audit checkpoint's type": lambda: sign(header(typ="checkpoint+jwt"), claims()),
    "flattened JSON serialisation": lambda: json_serialised(flat=True),
    "general JSON serialisation": lambda: json_serialised(flat=False),
    "expired": lambda: sign(header(), claims(iat=NOW - 700, exp=NOW - 100)),
    "expires this second": lambda: sign(header(), claims(exp=int(time.time()))),
    "no expiry": lambda: sign(header(), claims(exp=...)),
    "expiry as text": lambda: sign(header(), claims(exp=str(NOW + 600))),
    "expiry as a fraction": lambda: sign(header(), claims(exp=NOW + 600.5)),
    "expiry true": lambda: sign(header(), claims(exp=True)),
    "expiry infinite": lambda: sign(header(), json.dumps(claims(exp="@")).replace('"@"', "Infinity").encode()),
    "lives for years": lambda: sign(header(), claims(exp=NOW + 10**9)),
    "issued tomorrow": lambda: sign(header(), claims(iat=NOW + 86400, exp=NOW + 86400 + 600)),
    "not yet valid": lambda: sign(header(), claims(nbf=NOW + 300)),
    "another issuer": lambda: sign(header(), claims(iss="https://evil.example")),
    "no issuer": lambda: sign(header(), claims(iss=...)),
    "another audience": lambda: sign(header(), claims(aud="billing")),
    "audience as a list": lambda: sign(header(), claims(aud=[AUDIENCE, "billing"])),
    "no session": lambda: sign(header(), claims(sid=...)),
    "a role of its own": lambda: sign(header(), claims(role="owner")),
    "a claim twice": lambda: sign(header(), json.dumps(claims())[:-1].encode() + b',"sub":"admin"}'),
    "a header member twice": lambda: sign(json.dumps(header())[:-1].encode() + b',"alg":"none"}', claims()),
    "payload swapped under the signature": swapped_payload,
    "signature in another spelling": respelled,
    "signature cut": lambda: sign(header(), claims())[:-1],
    "signature doubled": lambda: sign(header(), claims()) + sign(header(), claims()).split(".")[2],
    "four parts": lambda: sign(header(), claims()) + ".AAAA",
    "padding kept": lambda: sign(header(), claims()) + "==",
    "a space in front": lambda: " " + sign(header(), claims()),
    "a line end behind": lambda: sign(header(), claims()) + "\n",
    "payload that is a list": lambda: sign(header(), b"[]"),
    "payload that is no JSON": lambda: sign(header(), b"{"),
    "payload that is not UTF-8": lambda: sign(header(), b'{"sub":"\xff"}'),
    "header that is a list": lambda: sign(b"[]", claims()),
    "header nested too deep": lambda: sign(b"[" * 3000, claims()),
    "empty": lambda: "",
    "only dots": lambda: "..",
    "a megabyte": lambda: sign(header(), claims(jti="x" * 1_000_000)),
}  # fmt: skip


class TestForgeries:
    @pytest.mark.parametrize("name", FORGERIES)
    def test_is_refused(self, name: str) -> None:
        with pytest.raises(CredentialInvalid) as refusal:
            SIGNER.read(FORGERIES[name]())
        assert not refusal.value.fields, "a refusal does not say why"

    def test_the_token_that_they_were_made_from_is_good(self) -> None:
        assert SIGNER.read(sign(header(), claims()))[0] == ACCESS

    def test_every_changed_character_is_noticed(self) -> None:
        token = sign(header(), claims())
        for at in range(0, len(token), 7):
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            with pytest.raises(CredentialInvalid):
                SIGNER.read(changed)


class TestTokens:
    def test_an_access_token_says_who_and_in_which_session(self) -> None:
        account, org, session = uuid4(), uuid4(), uuid4()
        token = SIGNER.issue_access_token(account_id=account, org_id=org, session_id=session, ttl_s=60)
        kind, found = SIGNER.read(token)
        assert (kind, found["sub"], found["org"], found["sid"]) == (ACCESS, str(account), str(org), str(session))
        assert found["exp"] - found["iat"] == 60
        assert jws.extract_compact(token.encode()).headers() == {"alg": "Ed25519", "typ": "at+jwt", "kid": "one"}

    def test_a_job_token_lives_for_an_hour_at_most(self) -> None:
        ids = {"job_id": uuid4(), "org_id": uuid4(), "project_id": uuid4()}
        _, found = SIGNER.read(SIGNER.issue_job_token(**ids, scopes=frozenset({"modelhub:read"}), epoch=3, ttl_s=10**6))
        assert found["exp"] - found["iat"] == 3600 and found["epoch"] == 3 and found["scopes"] == ["modelhub:read"]

    def test_a_rotated_key_still_reads_and_no_longer_signs(self) -> None:
        ids = {"account_id": uuid4(), "org_id": uuid4(), "session_id": uuid4()}
        rotated = TokenSigner(SigningKeys([NEXT, KEY]), ISSUER)
        assert rotated.read(SIGNER.issue_access_token(**ids, ttl_s=60))
        with pytest.raises(CredentialInvalid):
            SIGNER.read(rotated.issue_access_token(**ids, ttl_s=60))

    def test_two_tokens_are_never_the_same(self) -> None:
        ids = {"account_id": uuid4(), "org_id": uuid4(), "session_id": uuid4()}
        assert SIGNER.issue_access_token(**ids, ttl_s=60) != SIGNER.issue_access_token(**ids, ttl_s=60)
