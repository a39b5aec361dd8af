"""The ``aidos`` command: a noun, then a verb.

Every declared operation is a command (``aidos.cli.generated``). A richer one is written by hand in
``aidos/cli/<noun>.py`` as ``register(group: typer.Typer)`` and takes the place of the generated one of its name;
commands of the operator join through the entry point group ``aidos.commands``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import sys

_COLLECT_AFTER = 100_000  # new objects


def main() -> None:
    """Entry point of the ``aidos`` script."""
    # What a command loads is no garbage: to look through it again and again takes 20 ms, and 100 ms at its end.
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)
    # httpx loads a command of its own, if it can, and Rich, Pygments and Click with it: 60 ms.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None keeps a module from being loaded
    with contextlib.suppress(ImportError):
        from pydantic.plugin import _loader

        # Else pydantic asks the metadata of every installed package for its plugins: 20 ms, and no command has one.
        _loader._plugins = {}
    from aidos.cli.root import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a terminal cannot show must not end the command
    app(prog_name="aidos")
