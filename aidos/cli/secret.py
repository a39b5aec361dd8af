"""``aidos secret set``: the value from a prompt or standard input, never from the command line, which others of the machine can read."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aidos.cli.session import session


def register(group: typer.Typer) -> None:
    """Add the verb to ``aidos secret``."""
    group.command("set", help="Set a secret: its value is asked for, or read from standard input.")(set_secret)


def set_secret(secret: Annotated[str, typer.Argument(help="Its name.", show_default=False)]) -> None:
    current = session()
    if sys.stdin.isatty():
        value = typer.prompt("Value", hide_input=True, confirmation_prompt=True, err=True)
    else:
        value = sys.stdin.read().removesuffix("\n")
    current.show(current.client.secrets.set(secret, value=value))
