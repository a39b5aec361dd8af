"""``aidos login``, ``aidos logout`` and ``aidos whoami``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aidos.cli.session import session
from aidos.errors import AidosError, InvalidRequest


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("login", help="Sign in, and stay so for the commands that follow.")(login)
    group.command("logout", help="End the sign-in and forget it.")(logout)
    group.command("whoami", help="Who you are, and what you may do in the project.")(whoami)


def login(
    email: Annotated[str | None, typer.Option(help="Who signs in; asked for when absent.")] = None,
    organisation: Annotated[str, typer.Option(help="The organisation that you belong to.")] = "default",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")] = False,
    key: Annotated[bool, typer.Option("--key", help="Keep an API key instead (asked for, or from standard input).")] = False,
) -> None:
    from aidos.client import Client
    from aidos.config import read_config
    from aidos.http.credentials import SignIn, SignIns
    from aidos.http.sessions import sign_in

    current = session()
    config = read_config(current.url, project=current.project)
    if key:
        found = SignIn(_secret("API key", password_stdin), "", 0.0, project=config.project)
        with Client(config.url, found.access_token, config.project) as client:
            client.sessions.whoami()
    else:
        email = email or typer.prompt("Email", err=True)
        password = _secret("Password", password_stdin)
        found = sign_in(config, organisation, email, password)
        found = SignIn(found.access_token, found.refresh_token, found.expires_at, email, config.project)
    store = SignIns(config.directory)
    with store.locked():
        store.save(config.url, found)
    current.show({"url": config.url, "email": found.email or None, "project": found.project})


def logout() -> None:
    from aidos.config import read_config
    from aidos.http.credentials import SignIns
    from aidos.http.sessions import end_sign_in

    current = session()
    config = read_config(current.url)
    store = SignIns(config.directory)
    with store.locked():
        found = store.find(config.url)
        store.save(config.url, None)
    if found is None:
        current.note(f"You were not signed in to {config.url}.")
        return
    if found.refresh_token:
        try:
            end_sign_in(config, found.refresh_token)
        except AidosError as error:
            current.note(f"Forgotten here; the platform was not told: {error}")
            return
    current.note(f"Signed out of {config.url}.")


def whoami() -> None:
    current = session()
    current.show(current.client.sessions.whoami())


def _secret(what: str, from_stdin: bool) -> str:
    if from_stdin or not sys.stdin.isatty():
        text = sys.stdin.readline().rstrip("\r\n")
    else:
        text = typer.prompt(what, hide_input=True, err=True)
    if not text:
        raise InvalidRequest(reason=f"The {what.lower()} is empty.")
    return text
