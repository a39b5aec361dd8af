"""``aidos model push``, ``pull`` and ``wait``: what no single route does; more in ``model_review``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aidos.cli import model_review
from aidos.cli.generated import parse_pairs
from aidos.cli.session import session

Reference = Annotated[
    str,
    typer.Argument(metavar="MODEL[@VERSION]", help="digits@3, digits@champion; the latest where no version is named.", show_default=False),
]


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos model``."""
    group.command("push", help="Register a model file, or a directory with one, and wait until it was inspected.")(push)
    group.command("pull", help="Write a version's files into a directory.")(pull)
    group.command("wait", help="Wait until a version was inspected; exit 1 when it was REJECTED.")(wait)
    model_review.add_verbs(group)


def push(
    path: Annotated[Path, typer.Argument(exists=True, help="A .onnx or .safetensors file, or a directory.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the model.", show_default=False)],
    alias: Annotated[str | None, typer.Option(help="Alias that then points at it.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Run that it came of; a new one where none is named.")] = None,
    experiment: Annotated[str, typer.Option(help="Experiment of the new run.")] = "default",
    description: Annotated[str, typer.Option(help="What is to be said about it.")] = "",
    card: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Model card in Markdown; its front matter names the licence.")
    ] = None,
    requirements: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="What it needs, as requirements.txt.")] = None,
    input_example: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="An input, as JSON.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; again for more.")] = None,
) -> None:
    from aidos.tracking.recorder import Recorder
    from aidos.tracking.run import ActiveRun
    from aidos.tracking.run import run as begin

    current = session()
    client = current.client
    # A run that goes on elsewhere is not ended by this.
    known = ActiveRun(Recorder(client, client.runs.get(run), ends=False), closes=False) if run else None
    with known or begin(experiment, offline=False, client=client) as active:
        more = {"README.md": card, "requirements.txt": requirements, "input_example.json": input_example}
        beside = {to: file for to, file in more.items() if file}
        tags = parse_pairs(tag or [])
        current.show(active.log_model(path, name, alias=alias, description=description, tags=tags, beside=beside))


def pull(reference: Reference, folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to.")] = Path()) -> None:
    from aidos.transfers.artifacts import pull_model

    current = session()
    model, version = split_reference(reference)
    with current.progress("Download") as advance:
        written = pull_model(current.client, model, version, folder, lambda _: advance())
    current.show([{"path": str(path), "size_bytes": path.stat().st_size} for path in written])


def wait(reference: Reference) -> None:
    current = session()
    model, version = split_reference(reference)
    found = current.client.models.version(model, version)
    while found.state.value == "PENDING":
        found = current.client.models.version(model, version, wait="30s")
    current.show(found)
    if found.state.value != "READY":
        raise typer.Exit(1)


def split_reference(reference: str) -> tuple[str, str]:
    """``digits@3`` → model and version; ``latest`` where none is named."""
    model, _, version = reference.partition("@")
    return model, version or "latest"
