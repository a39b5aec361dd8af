"""``aidos dataset push``, ``pull``, ``log``, ``files`` and ``diff``: directories, and references as people write them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli import importing, synthesis
from aidos.cli.session import Session, session
from aidos.errors import InvalidRequest

if TYPE_CHECKING:
    from aidos.schemas.dataforge.versions import CommitRead

_STAGES = {"hash": "Reading", "upload": "Uploading", "download": "Downloading"}

Source = Annotated[str, typer.Argument(metavar="NAME[@REF]", help="The dataset, and a branch, tag or commit (main).")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Limit = Annotated[int, typer.Option(min=0, help="At most so many; 0: all of them.")]


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos dataset``."""
    group.command("push", help="Make a branch equal to a directory: upload what is new, commit what differs.")(push)
    group.command("pull", help="Write the files of a commit into a directory; what is there already stays.")(pull)
    importing.add(group)
    group.command("log", help="Commits of a ref, newest first.")(log)
    group.command("files", help="Files of a commit by path.")(files)
    group.command("head", help="Rows of a table: Parquet, CSV, TSV or JSON.")(head)
    group.command("query", help="Answer one SELECT over tables of a commit.")(query)
    group.command("diff", help="Files that differ between two refs of a dataset.")(diff)
    group.command("synthesize", help="Make a synthetic dataset that is like a commit; report how alike they are.")(synthesis.synthesize)
    group.command("seen-by", help="Which runs read a file, or one of its rows: newest first.")(seen_by)


def push(
    directory: Annotated[Path, typer.Argument(help="What to push.", show_default=False)],
    name: Annotated[str, typer.Option(help="The dataset; made if it is not there.")],
    branch: Annotated[str, typer.Option(help="The branch that gets the commit; a new one begins at main.")] = "main",
    message: Annotated[str, typer.Option("--message", "-m", help="What changed, for the log.")] = "",
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Commit a directory without files too.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave files in the branch that the directory does not have.")] = False,
) -> None:
    from aidos.transfers import directories

    current = session()
    with _bars(current) as progress:
        result = directories.push(
            directory, name, branch=branch, message=message, allow_empty=allow_empty, keep=keep, client=current.client, progress=progress
        )
    if not result.changed:
        current.note(f"Nothing changed: {name}@{branch} is this directory already.")
    current.show(
        {
            **_commit_record(name, branch, result.commit),
            "changed": result.changed,
            "added": result.added,
            "updated": result.updated,
            "removed": result.removed,
            "uploaded_files": result.uploaded_files,
            "uploaded_bytes": result.uploaded_bytes,
        }
    )


def pull(source: Source, directory: Annotated[Path, typer.Argument(help="Where the files go.", show_default=False)]) -> None:
    from aidos.transfers import directories

    current = session()
    with _bars(current) as progress:
        result = directories.pull(source, directory, client=current.client, progress=progress)
    name, ref = directories.split_source(source)
    record = _commit_record(name, ref, result.commit)
    current.show({**record, "written": result.written, "written_bytes": result.written_bytes, "kept": result.kept})


def log(source: Source, limit: Limit = 20) -> None:
    from aidos.transfers.directories import split_source

    name, ref = split_source(source)
    current = session()
    current.show(list(current.client.datasets.log(name, ref=ref, limit=limit or None)))


def files(source: Source, prefix: Annotated[str, typer.Argument(help="Only paths that begin with this.")] = "", limit: Limit = 100) -> None:
    from aidos.transfers.directories import split_source

    name, ref = split_source(source)
    current = session()
    current.show(list(current.client.datasets.files(name, ref=ref, prefix=prefix, limit=limit or None)))


def diff(
    name: Annotated[str, typer.Argument(help="The dataset.", show_default=False)],
    base: Annotated[str, typer.Argument(help="Branch, tag or commit before.", show_default=False)],
    head: Annotated[str, typer.Argument(help="Branch, tag or commit after.")] = "main",
    limit: Limit = 100,
    stat: Annotated[bool, typer.Option("--stat", help="Only how many files and bytes.")] = False,
) -> None:
    current = session()
    if stat:
        current.show(current.client.datasets.diff_stat(name, base=base, head=head))
        return
    current.show(list(current.client.datasets.diff(name, base=base, head=head, limit=limit or None)))


def seen_by(
    source: Source,
    path: Annotated[str, typer.Argument(help="The file; wherever else its content stood, that counts too.", show_default=False)],
    row: Annotated[int | None, typer.Option(min=0, help="Only runs that read this row, counted from 0.")] = None,
    limit: Limit = 100,
) -> None:
    from aidos.transfers.directories import split_source

    name, ref = split_source(source)
    current = session()
    file = next((each for each in current.client.datasets.files(name, ref=ref, prefix=path, limit=1) if each.path == path), None)
    if file is None:
        raise InvalidRequest(reason=f"'{source}' has no file '{path}'. 'aidos dataset files {source}' shows what there is.")
    current.show(list(current.client.reads.seen_by(file.sha256, row=row, limit=limit or None)))


def head(
    source: Source,
    path: Annotated[str, typer.Argument(help="The file.", show_default=False)],
    columns: Annotated[list[str] | None, typer.Option("--column", "-c", help="Only this column; again for more.")] = None,
    where: Annotated[str, typer.Option(help="Only rows of which this SQL condition is true.")] = "",
    sort: Annotated[list[str] | None, typer.Option(help="Sort by this column, largest first with - before it; again for more.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many rows.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="Begin at this row.")] = 0,
    as_csv: Csv = False,
) -> None:
    from aidos.cli.table_view import show
    from aidos.transfers.directories import split_source

    name, ref = split_source(source)
    current = session()
    page = current.client.tables.rows(name, path=path, ref=ref, columns=columns, filter=where, sort=sort, limit=limit, offset=offset)
    show(current, page, as_csv=as_csv)


def query(
    source: Source,
    sql: Annotated[str, typer.Argument(help="One SELECT; @FILE reads it from a file.", show_default=False)],
    files: Annotated[list[str], typer.Option("--file", "-f", metavar="TABLE=PATH", help="A file as a table; again for more.")],
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many rows.")] = 1000,
    as_csv: Csv = False,
) -> None:
    from aidos.cli.generated import parse_pairs, read_text
    from aidos.cli.table_view import show
    from aidos.transfers.directories import split_source

    name, ref = split_source(source)
    current = session()
    answer = current.client.tables.query(name, read_text(sql), files=parse_pairs(files) or {}, ref=ref, limit=limit)
    show(current, answer, as_csv=as_csv)
    if answer.truncated:
        current.note(f"There are more than these {len(answer.rows)} rows; --limit shows more.")


def _commit_record(name: str, ref: str, commit: CommitRead) -> dict[str, Any]:
    return {"dataset": name, "ref": ref, "commit": str(commit.id), "files": commit.files, "size_bytes": commit.size_bytes}


@contextmanager
def _bars(current: Session) -> Iterator[Callable[[str, int, int], None]]:
    """One bar for all stages, begun again at each."""
    with current.progress("Looking", unit_bytes=True) as advance:
        stage, shown = "", 0

        def progress(name: str, done: int, total: int) -> None:
            nonlocal stage, shown
            if name != stage:
                advance(-shown, description=_STAGES[name], total=total)
                stage, shown = name, 0
            advance(done - shown, total=total)
            shown = done

        yield progress
