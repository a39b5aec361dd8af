"""Signing in with a password, and keeping the sign-in fresh."""

from __future__ import annotations

import json
import time
from typing import Any

from aidos.config import ClientConfig
from aidos.http.conversation import Converser, Patience
from aidos.http.credentials import SignIn, StaticKey
from aidos.http.transport import SyncTransport
from aidos.http.wire import Reply, Request

SESSIONS = "/v1/securityvault/sessions"
# Requests of their own rather than ``aidos.resources.securityvault``: every client holds this file, and few sign in.


def sign_in(config: ClientConfig, organisation: str, email: str, password: str) -> SignIn:
    """Raises: Unauthenticated when they do not belong together."""
    return _read_tokens(_ask(config, SESSIONS, {"organisation": organisation, "email": email, "password": password}))


def refresh_sign_in(config: ClientConfig, refresh_token: str) -> SignIn:
    """Change a refresh token into the next one. Raises: Unauthenticated when it is no longer good."""
    return _read_tokens(_ask(config, f"{SESSIONS}/refresh", {"refresh_token": refresh_token}))


def end_sign_in(config: ClientConfig, refresh_token: str) -> None:
    """End the session of a refresh token, everywhere."""
    _ask(config, f"{SESSIONS}/end", {"refresh_token": refresh_token})


def _ask(config: ClientConfig, path: str, body: dict[str, Any]) -> Reply:
    transport = SyncTransport(Converser(config.url, StaticKey(), patience=Patience(config.retry_budget_s)), config.timeout_s)
    try:
        return transport.send(Request("POST", path, json=body), lambda reply: reply)
    finally:
        transport.close()


def _read_tokens(reply: Reply) -> SignIn:
    answer = json.loads(reply.content)
    return SignIn(answer["access_token"], answer["refresh_token"], time.time() + float(answer["expires_in_s"]))
