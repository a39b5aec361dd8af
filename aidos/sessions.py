"""Signing in with a password, and keeping the sign-in fresh."""

from __future__ import annotations

import json
import time
from typing import Any

from aidos.config import ClientConfig
from aidos.conversation import Converser, Patience
from aidos.credentials import SignIn, StaticKey
from aidos.transport import SyncTransport
from aidos.wire import Reply, Request

SESSIONS = "/v1/securityvault/sessions"


def sign_in(config: ClientConfig, email: str, password: str) -> SignIn:
    """Raises: Unauthenticated when the two do not belong together."""
    return _ask(config, SESSIONS, {"email": email, "password": password})


def refresh_sign_in(config: ClientConfig, refresh_token: str) -> SignIn:
    """Change a refresh token into the next one. Raises: Unauthenticated when it is no longer good."""
    return _ask(config, f"{SESSIONS}/refresh", {"refresh_token": refresh_token})


def _ask(config: ClientConfig, path: str, body: dict[str, Any]) -> SignIn:
    transport = SyncTransport(Converser(config.url, StaticKey(), patience=Patience(config.retry_budget_s)), config.timeout_s)
    try:
        return transport.send(Request("POST", path, json=body), _read)
    finally:
        transport.close()


def _read(reply: Reply) -> SignIn:
    answer = json.loads(reply.content)
    return SignIn(answer["access_token"], answer["refresh_token"], time.time() + float(answer["expires_in_s"]))
