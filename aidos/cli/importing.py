"""``aidos dataset import`` and ``verify``: a folder of a bucket becomes a branch, and is looked at again; followed until that is done."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from aidos.cli.session import Session, session
from aidos.errors import Conflict

if TYPE_CHECKING:
    from aidos.schemas.dataforge.imports import ImportRead, VerificationRead

_LOOK_EVERY = "2s"
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it has ended; it goes on without you.")]


class ImportNotDone(Conflict):
    title = "The import made no commit"
    detail = "Import {id} of {source} is {state}: {reason}"


class FilesNotAsImported(Conflict):
    title = "Files are not what was imported"
    detail = "{count} of {files} files are not what was imported, the first is '{path}': {reason}. 'aidos dataset faults {dataset} {id}' lists them."


class VerificationNotDone(Conflict):
    title = "The verification did not end"
    detail = "Verification {id} is {state}: {reason}"


def add(group: typer.Typer) -> None:
    """Add the verbs to ``aidos dataset``."""
    group.command("import", help="Make a branch equal to a folder of a bucket, object by object as they lie: nothing is copied.")(import_)
    group.command("verify", help="Read all files in place of a commit; exit 5 where one is not what was imported.")(verify)


def import_(
    source: Annotated[str, typer.Argument(metavar="s3://BUCKET/FOLDER", help="A bucket that is open to imports.", show_default=False)],
    name: Annotated[str, typer.Option(help="The dataset; made if it is not there.")],
    branch: Annotated[str, typer.Option(help="The branch that gets the commit; a new one begins at main.")] = "main",
    message: Annotated[str, typer.Option("--message", "-m", help="What it is, for the log.")] = "",
    wait: Wait = True,
) -> None:
    from aidos.errors import NotFound

    current = session()
    try:
        current.client.datasets.get(name)
    except NotFound:
        with contextlib.suppress(Conflict):  # somebody made it at the same moment
            current.client.datasets.create(name)
    asked = current.client.datasets.import_(name, source, branch=branch, message=message)
    if wait:
        asked = _follow(current, asked)
    current.show(asked)
    if asked.skipped:
        current.note(f"{asked.skipped} keys cannot be paths and were passed over; --json shows them.")
    if wait and asked.state != "finished":
        raise ImportNotDone(id=asked.id, source=asked.source, state=asked.state.value, reason=asked.error or "somebody ended it")


def _follow(current: Session, asked: ImportRead) -> ImportRead:
    with current.progress("Listing") as advance:
        shown = 0
        while asked.state == "running":
            asked = current.client.datasets.get_import(asked.dataset, str(asked.id), wait=_LOOK_EVERY)
            advance(asked.files - shown)
            shown = asked.files
    return asked


def verify(
    source: Annotated[
        str, typer.Argument(metavar="NAME[@REF]", help="The dataset, and a branch, tag or commit (main).", show_default=False)
    ],
    wait: Wait = True,
) -> None:
    from aidos.transfers.directories import split_source

    name, ref = split_source(source)
    current = session()
    asked = current.client.datasets.verify(name, ref=ref)
    if wait:
        asked = _follow_verification(current, asked)
    current.show(asked)
    if wait and asked.state != "finished":
        raise VerificationNotDone(id=asked.id, state=asked.state.value, reason=asked.error or "somebody ended it")
    if asked.faults:
        first = next(iter(current.client.datasets.faults(name, str(asked.id), limit=1)))
        counts = {"count": asked.faults, "files": asked.files, "dataset": name, "id": asked.id}
        raise FilesNotAsImported(**counts, path=first.path, reason=first.reason)


def _follow_verification(current: Session, asked: VerificationRead) -> VerificationRead:
    with current.progress("Reading", unit_bytes=True) as advance:
        shown = 0
        while asked.state == "running":
            asked = current.client.datasets.verification(asked.dataset, str(asked.id), wait=_LOOK_EVERY)
            advance(asked.size_bytes - shown)
            shown = asked.size_bytes
    return asked
