"""One invocation of the command: its global options, its client, and where output goes. Hand-written commands use it too:

from aidos.cli.session import session

def push(directory: Path) -> None:
    run = session()
    run.show(run.client.datasets.get("digits"))
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aidos.cli import output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from aidos.client import Client


@dataclass
class Session:
    """The global options, given before the noun or after the verb."""

    url: str | None = None
    project: str | None = None
    as_json: bool = False

    @cached_property
    def client(self) -> Client:
        """The platform, as the signed-in user."""
        from aidos.client import Client

        return Client(self.url, project=self.project, on_wait=self._tell_wait)

    @cached_property
    def out(self) -> Console:
        """Standard output: what was asked for, and nothing else. As wide as need be where nobody looks."""
        from rich.console import Console

        return Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 400)

    @cached_property
    def err(self) -> Console:
        """Standard error: progress and remarks."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def show(self, value: Any) -> None:
        """A model as a record, a list of them as a table; with ``--json`` one JSON document."""
        output.show(self, value)

    def show_each(self, values: Iterable[Any]) -> None:
        """Something that comes bit by bit: a line each, at once; with ``--json`` a JSON document each."""
        for value in values:
            output.show_line(self, value)

    def note(self, text: str) -> None:
        """A remark on standard error; not with ``--json``."""
        if not self.as_json:
            self.err.print(text, style="dim")

    @contextmanager
    def progress(self, description: str, total: float | None = None, *, unit_bytes: bool = False) -> Iterator[Any]:
        """A progress bar on standard error while the block runs, on a terminal only.

        Gives ``advance(amount=1, total=…, description=…)``, to be called from any thread; what is not named stays.
        """
        if self.as_json or not sys.stderr.isatty():
            yield lambda *_, **__: None
            return
        with self._bar(unit_bytes) as bar:
            task = bar.add_task(description, total=total)

            def advance(amount: float = 1, *, total: float | None = None, description: str | None = None) -> None:
                bar.update(task, advance=amount, total=total, description=description)

            yield advance

    def _bar(self, unit_bytes: bool) -> Progress:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        amount = (DownloadColumn(), TransferSpeedColumn()) if unit_bytes else (MofNCompleteColumn(),)
        text = TextColumn("{task.description}", markup=False)
        return Progress(text, BarColumn(), *amount, TimeRemainingColumn(), console=self.err, transient=True)

    def _tell_wait(self, reason: str, left_s: float) -> None:
        if self.err.is_terminal and not self.__dict__.get("_told"):
            self.__dict__["_told"] = True
            self.err.print(f"{reason}: trying again for up to {left_s:.0f} s (Ctrl-C stops; `aidos doctor` looks into it) …", style="dim")

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()


_CURRENT: ContextVar[Session | None] = ContextVar("aidos_session", default=None)


def session() -> Session:
    """The running invocation."""
    current = _CURRENT.get()
    if current is None:
        current = Session()
        _CURRENT.set(current)
    return current


def begin() -> Session:
    """A fresh invocation (one process may hold several, in tests)."""
    current = Session()
    _CURRENT.set(current)
    return current
