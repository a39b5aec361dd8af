"""The ``aidos`` command: a noun, then a verb.

Every declared operation is a command (``aidos.cli.generated``). A richer one is written by hand in
``aidos/cli/<noun>.py`` as ``register(group: typer.Typer)`` and takes the place of the generated one of its name;
commands of the operator join through the entry point group ``aidos.commands``.
"""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Entry point of the ``aidos`` script."""
    from aidos.cli.root import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show must not end the command
    app(prog_name="aidos")
