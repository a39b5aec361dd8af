"""``aidos label LABELLING``: a walk through the queue in the terminal, one item after the other.

Questions with up to nine labels take one key; the others take a line. The task is kept by a heartbeat while one thinks,
each answer is saved as a draft, and who quits goes on later where they were.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli import label_answers as answers
from aidos.cli.label_items import show_item
from aidos.cli.output import CONTROL
from aidos.cli.session import Session, session
from aidos.errors import AidosError, Conflict, InvalidPayload, NotFound

if TYPE_CHECKING:
    from aidos.schemas.dataforge.labelling import AskedTaskRead, GuideRead

_COMMANDS = {"s": "skip", "b": "back", "u": "undo", "q": "quit"}


def register(root: typer.Typer) -> None:
    """Add ``aidos label``."""
    root.command("label", help="Label items in the terminal, one after the other.")(label)


def label(
    labelling: Annotated[str, typer.Argument(help="The labelling project.", show_default=False)],
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many; 0: when none is left.")] = 0,
) -> None:
    current = session()
    walk = Walk(current, labelling, current.client.labelling.guide(labelling))
    walk.explain()
    walk.run(limit)
    current.show({"labelling": labelling, "submitted": len(walk.submitted), "skipped": walk.skipped})


class Quit(Exception):
    """The annotator has had enough."""


@dataclass
class Walk:
    """One annotator's way through the queue."""

    current: Session
    labelling: str
    guide: GuideRead
    submitted: set[Any] = field(default_factory=set)
    skipped: int = 0

    @property
    def _verbs(self) -> Any:
        return self.current.client.labelling

    def _say(self, text: str, style: str = "") -> None:
        self.current.err.print(CONTROL.sub("\ufffd", text), style=style)

    def explain(self) -> None:
        if self.guide.instructions:
            self._say(self.guide.instructions)
        self._say("s skips, b goes back, u undoes, q quits (with a colon before them where a line is typed: :s :b :u :q).", "dim")

    def run(self, limit: int) -> None:
        """Until nothing is left, ``limit`` items are done, or the annotator quits: then the task goes back to the queue."""
        while not limit or len(self.submitted) + self.skipped < limit:
            try:
                task = self._verbs.next(self.labelling)
            except NotFound as nothing:
                self._say(str(nothing), "dim")
                return
            try:
                self._visit(task)
            except (Quit, KeyboardInterrupt, EOFError):
                with contextlib.suppress(AidosError):  # its lease ends by itself
                    self._verbs.release(self.labelling, task.id)
                return
            except Conflict as lost:
                self._say(str(lost), "yellow")

    def _visit(self, task: AskedTaskRead) -> None:
        """Ask about the task; going back asks about earlier ones first."""
        earlier: list[Any] | None = None
        at = 0
        while True:
            here = task if at == 0 or not earlier else self._verbs.show(self.labelling, earlier[at - 1])
            verdict = self._ask(here)
            if verdict == "back":
                if earlier is None:
                    earlier = [turn.task_id for turn in self._verbs.mine(self.labelling, limit=100) if turn.state == "submitted"]
                if at == len(earlier):
                    self._say("There is nothing before it.", "dim")
                at = min(at + 1, len(earlier))
            elif at:
                at -= 1
            else:
                return

    def _ask(self, task: AskedTaskRead) -> str:
        """Show the item and ask every question; what was done: submitted, skip or back."""
        self._say(f"\n{len(self.submitted) + 1}: {task.item.path}" + (f" row {task.item.row}" if task.item.row is not None else ""), "bold")
        if task.comment:
            self._say(f"Sent back: {task.comment}", "yellow")
        size = show_item(self.current, task)
        with self._kept(task):
            return self._questions(task, size)

    def _questions(self, task: AskedTaskRead, size: tuple[int, int] | None) -> str:
        value = dict(task.value or {})
        suggested = task.value or task.prelabel or {}
        questions, at = self.guide.questions["questions"], 0
        while True:
            if at == len(questions):
                if self._submit(task, value, size):
                    return "submitted"
                at = 0
            question = questions[at]
            reply = self._read(question, suggested.get(question["name"]))
            if reply == "back":
                return "back"
            if reply == "skip":
                return self._skip(task)
            if reply == "undo":
                value, at = self._undo(task, value, at, [each["name"] for each in questions])
                suggested = value
                continue
            value = {name: answer for name, answer in {**value, question["name"]: reply}.items() if answer is not None}
            at += 1
            if at < len(questions):
                self._save(task, value)

    def _read(self, question: dict[str, Any], suggested: Any) -> Any:
        """The answer, None for none, or the name of a command. Raises: Quit."""
        while True:
            prompt = answers.prompt(question, suggested)
            self.current.err.print(prompt, end="", style="cyan")
            if answers.is_one_key(question):
                text = read_key().lower()
                self._say(text if text.isprintable() else "")
                command = _COMMANDS.get(text)
            else:
                text = read_line()
                command = _COMMANDS.get(text[1:].strip().lower()) if text.startswith(":") else None
            if command == "quit":
                raise Quit
            if command:
                return command
            if not text.strip():
                return suggested
            try:
                return answers.parse(question, text)
            except ValueError as wrong:
                self._say(str(wrong), "yellow")

    def _save(self, task: AskedTaskRead, value: dict[str, Any]) -> None:
        try:
            self._verbs.draft(self.labelling, task.id, value=value)
        except InvalidPayload as wrong:
            self._say(str(wrong), "yellow")

    def _submit(self, task: AskedTaskRead, value: dict[str, Any], size: tuple[int, int] | None) -> bool:
        try:
            self._verbs.submit(self.labelling, task.id, value=value, size=size)
        except InvalidPayload as wrong:
            self._say(str(wrong), "yellow")
            return False
        self.submitted.add(task.id)
        return True

    def _skip(self, task: AskedTaskRead) -> str:
        if task.state == "submitted":
            return "submitted"  # an earlier one, left as it is
        self._verbs.skip(self.labelling, task.id)
        self.skipped += 1
        return "skip"

    def _undo(self, task: AskedTaskRead, value: dict[str, Any], at: int, names: list[str]) -> tuple[dict[str, Any], int]:
        """Take back the last answer; before the first one go back to the version before, if there is one."""
        if at:
            return {name: answer for name, answer in value.items() if name != names[at - 1]}, at - 1
        versions = self._verbs.versions(self.labelling, task.id).versions
        before = [each for each in versions if each.value != value]
        if not before:
            self._say("There is nothing to undo.", "dim")
            return value, at
        restored = self._verbs.restore(self.labelling, task.id, before[-1].version)
        self._say(f"Back at version {before[-1].version}.", "dim")
        return dict(restored.value or {}), at

    @contextlib.contextmanager
    def _kept(self, task: AskedTaskRead) -> Iterator[None]:
        """Renew the lease in the background while the annotator thinks."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(self.guide.lease_s / 3):
                with contextlib.suppress(AidosError):  # the answer will say that the task is another's
                    self._verbs.heartbeat(self.labelling, task.id)

        renewing = threading.Thread(target=renew, daemon=True)
        if task.state == "leased":
            renewing.start()
        try:
            yield
        finally:
            done.set()
            if renewing.is_alive():
                renewing.join()


def read_key() -> str:
    """One key from a terminal, without Enter; the first letter of a line from anything else. Raises: EOFError."""
    if not sys.stdin.isatty():
        return read_line().strip()[:1]
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin, termios.TCSADRAIN)  # keys that were typed ahead are kept
        key = sys.stdin.read(1)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
    if key in ("", "\x04"):
        raise EOFError
    return key


def read_line() -> str:
    """A line without its end. Raises: EOFError."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
