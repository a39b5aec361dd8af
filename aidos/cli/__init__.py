"""The ``aidos`` command: a noun, then a verb.

Every declared operation is a command (``aidos.cli.generated``). A richer one is written by hand in
``aidos/cli/<noun>.py`` as ``register(group: typer.Typer)`` and takes the place of the generated one of its name;
commands of the operator join through the entry point group ``aidos.commands``.
"""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``aidos`` script."""
    from aidos.cli.root import app

    app(prog_name="aidos")
