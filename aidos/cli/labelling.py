"""``aidos labelling create``, ``export`` and ``import``: label schemas and label files as they lie on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aidos.cli.session import session
from aidos.errors import InvalidRequest

if TYPE_CHECKING:
    from aidos.client import Client
    from aidos.schemas.dataforge.label_exchange import LabelFileRead

_SENT_BYTES = 1_500_000
"""What fits into a request; more is committed first."""
Labelling = Annotated[str, typer.Argument(help="The labelling project.", show_default=False)]
Format = Annotated[str, typer.Option(help="jsonl, csv, coco, yolo, voc or labelstudio.")]


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos labelling``."""
    group.command("export", help="Write labels as files into a directory.")(export)
    group.command("import", help="Take in labels from files, or from a commit.")(import_)


def export(
    labelling: Labelling,
    directory: Annotated[Path, typer.Argument(help="Where the files go.", show_default=False)],
    format: Format = "jsonl",
    annotations: Annotated[bool, typer.Option("--annotations", help="Everyone's answers too, not only what was decided.")] = False,
) -> None:
    current = session()
    made = current.client.labelling.export(labelling, format=format, annotations=annotations)
    root = directory.resolve()
    for file in made.files:
        target = (root / file.path).resolve()
        if not target.is_relative_to(root):
            raise InvalidRequest(reason=f"The file {file.path!r} would lie outside {directory}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(_content(current.client, file))
    current.show({"labelling": labelling, "records": made.records, "files": len(made.files), "directory": str(directory)})


def _content(client: Client, file: LabelFileRead) -> bytes:
    if file.url is None:
        return b""
    span = {"Range": f"bytes={file.offset_bytes}-{file.offset_bytes + file.size_bytes - 1}"}
    return client.get_presigned(file.url, span).content


def import_(
    labelling: Labelling,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files, or directories of them.", show_default=False)] = None,
    format: Format = "jsonl",
    become: Annotated[str, typer.Option(help="labels, prelabels or gold.")] = "labels",
    ref: Annotated[str | None, typer.Option(help="Read them from this branch, tag or commit of the dataset instead.")] = None,
    prefix: Annotated[str, typer.Option(help="With --ref: the file, or the folder with a slash at its end.")] = "",
) -> None:
    current = session()
    files = [(name, file.read_text(encoding="utf-8")) for path in paths or () for name, file in _files_of(path)]
    if not files and ref is None:
        raise InvalidRequest(reason="Name files with labels, or a commit that holds them (--ref, --prefix).")
    if sum(len(text.encode()) for _, text in files) > _SENT_BYTES:
        raise InvalidRequest(reason="The files are too large to send along. Push them to the dataset, then import with --ref and --prefix.")
    sent = [{"path": name, "text": text} for name, text in files]
    current.show(current.client.labelling.import_(labelling, format=format, files=sent, become=become, ref=ref, prefix=prefix))


def _files_of(path: Path) -> list[tuple[str, Path]]:
    """Names as the format has them, and where the files are."""
    if path.is_dir():
        return [(str(file.relative_to(path).as_posix()), file) for file in sorted(path.rglob("*")) if file.is_file()]
    return [(path.name, path)]
