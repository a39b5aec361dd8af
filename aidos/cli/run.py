"""``aidos run show``, ``download``, ``export-metric`` and ``sync``: what no single route does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aidos.cli.comparison import compare
from aidos.cli.reproducing import reproduce
from aidos.cli.session import session

MADE_WITH = "aidos."
"""Tags that say with which code, command, packages and machine."""
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.", show_default=False)]


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos run``."""
    group.command("show", help="One run with its parameters, metrics, tags and artifacts.")(show)
    group.command("compare", help="Runs side by side, by id, query or view: what differs, and their curves as HTML or PNG.")(compare)
    group.command("reproduce", help="Run it again as a job, with its code, data and parameters; --wait says whether its metrics agree.")(
        reproduce
    )
    group.command("download", help="Write a run's artifacts into a directory.")(download)
    group.command("export-metric", help="Write every point of one metric into an Arrow file.")(export_metric)
    group.command("sync", help="Bring runs that were kept on this machine to the platform, each once.")(sync)


def show(run: RunId) -> None:
    from aidos.cli.output import show_table

    current = session()
    read = current.client.runs.get(run)
    artifacts = list(current.client.runs.artifacts(run))
    if current.as_json:
        current.show({"run": read.model_dump(mode="json"), "artifacts": [artifact.model_dump(mode="json") for artifact in artifacts]})
        return
    fields = ("id", "name", "experiment", "state", "job_id", "created_by", "started_at", "ended_at")
    current.show({name: getattr(read, name) for name in fields})
    tags = dict(sorted(read.tags.items()))
    tables: tuple[tuple[str, list[dict[str, Any]]], ...] = (
        ("Parameters", [{"param": key, "value": value} for key, value in sorted(read.params.items())]),
        ("Metrics", [{"metric": key, "value": latest.value, "step": latest.step} for key, latest in sorted(read.metrics.items())]),
        ("Made with", [{"what": key.removeprefix(MADE_WITH), "value": value} for key, value in tags.items() if key.startswith(MADE_WITH)]),
        ("Tags", [{"tag": key, "value": value} for key, value in tags.items() if not key.startswith(MADE_WITH)]),
        ("Artifacts", [{"path": artifact.path, "size_bytes": artifact.size_bytes} for artifact in artifacts]),
    )
    for title, rows in tables:
        if rows:
            current.out.print(f"\n{title}", style="bold")
            show_table(current, rows)


def download(
    run: RunId,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to.")] = Path(),
    prefix: Annotated[str, typer.Option(help="Only artifacts whose path begins so.")] = "",
) -> None:
    from aidos.transfers.artifacts import write_files

    current = session()
    paths = [artifact.path for artifact in current.client.runs.artifacts(run, prefix=prefix)]
    written: list[Path] = []
    with current.progress("Download", total=len(paths)) as advance:
        for start in range(0, len(paths), 200):
            files = current.client.runs.downloads(run, paths=paths[start : start + 200]).files
            written += write_files(current.client, files, folder, lambda _: advance())
    current.show([{"path": str(path), "size_bytes": path.stat().st_size} for path in written])


def export_metric(
    run: RunId,
    key: Annotated[str, typer.Argument(metavar="METRIC", help="Its name.", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Written in Arrow's file format.", show_default=False)],
) -> None:
    from aidos.tracking.series import write_series

    current = session()
    current.show({"file": str(file), "points": write_series(current.client, run, key, file)})


def sync(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Of one run or of several.", show_default="AIDOS_OFFLINE_DIR")
    ] = None,
) -> None:
    from aidos.tracking.syncing import sync_runs

    current = session()
    results = sync_runs(folder, client=current.client)
    shown = [
        {"run": result.path.name, "name": result.run.name, "state": result.run.state.value}
        if result.run
        else {"run": result.path.name, "state": "KEPT", "reason": result.reason}
        for result in results
    ]
    current.show(shown)
    if any(result.run is None for result in results):
        raise typer.Exit(1)
