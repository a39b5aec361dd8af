"""``aidos report create`` and ``aidos report show``: asking, waiting with a bar, and looking at what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli import report_view
from aidos.cli.generated import parse_loose, parse_pairs
from aidos.cli.session import Session, session

if TYPE_CHECKING:
    from aidos.schemas.dataforge.reports import ReportRead

FINAL = frozenset({"SUCCEEDED", "FAILED"})
_LOOK_EVERY = "2s"

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until it has ended, and show it; exit 1 where it failed.")]


def register(group: typer.Typer) -> None:
    """Add the verbs to ``aidos report``."""
    group.command("create", help="Ask something of a commit; asked again, the same report.")(create)
    group.command("show", help="What a report found; with --wait, once it has ended.")(show)


def create(
    source: Annotated[str, typer.Argument(metavar="DATASET[@REF]", help="The dataset, and a branch, tag or commit (main).")],
    kind: Annotated[str, typer.Argument(help="What to find out: profile, drift, …", show_default=False)],
    param: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A parameter of the kind; again for more.")] = None,
    workers: Annotated[int, typer.Option(help="Workers that share the commit's files.")] = 2,
    cpus_per_worker: Annotated[float, typer.Option(help="CPUs of each worker.")] = 0.5,
    memory_gib_per_worker: Annotated[float, typer.Option(help="Memory of each worker in GiB.")] = 0.0,
    wait: Wait = False,
) -> None:
    from aidos.transfers.directories import split_source

    dataset, ref = split_source(source)
    current = session()
    report = current.client.reports.create(
        dataset,
        kind=kind,
        ref=ref,
        params=read_params(kind, param or []),
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        memory_gib_per_worker=memory_gib_per_worker,
    )
    if wait:
        leave(current, follow(current, report))
    else:
        current.show(report)


def read_params(kind: str, given: list[str]) -> dict[str, Any]:
    """``["folds=3", "label=kind"]`` as the kind's parameters: text where the kind wants text, else JSON."""
    from aidos.schemas.dataforge.reports import PARAMS, ReportKind

    fields = PARAMS[ReportKind(kind)].model_fields if kind in set(ReportKind) else {}
    wants_text = {name for name, field in fields.items() if "str" in str(field.annotation)}
    return {
        name: parse_loose(value) if isinstance(value, str) and name not in wants_text else value
        for name, value in (parse_pairs(given) or {}).items()
    }


def show(
    report: Annotated[str, typer.Argument(help="Id of the report.", show_default=False)],
    wait: Wait = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as one page of HTML instead.")] = None,
) -> None:
    current = session()
    found = current.client.reports.get(report)
    found = follow(current, found) if wait else found
    if html is not None and found.result is not None:
        html.write_text(report_view.to_html(found), encoding="utf-8")
        current.note(f"{html} is the report.")
        return
    leave(current, found)


def follow(current: Session, report: ReportRead) -> ReportRead:
    """The report once it has ended; a bar while its job works."""
    with current.progress(report.state.capitalize()) as advance:
        stage, shown = "", 0
        while report.state not in FINAL:
            report = current.client.reports.get(str(report.id), wait=_LOOK_EVERY)
            if (progress := report.progress) is None:
                advance(0, description=report.state.capitalize())
                continue
            if progress.stage != stage:
                advance(-shown)
                stage, shown = progress.stage, 0
            advance(progress.done - shown, total=progress.total or None, description=stage.capitalize())
            shown = progress.done
    return report


def leave(current: Any, report: ReportRead) -> None:
    """Show it and end: 1 where the report failed."""
    report_view.show(current, report)
    if report.state == "FAILED":
        current.note(f"report {report.id} FAILED: {report.reason}; `aidos job logs {report.job_id}` has the log")
        raise typer.Exit(1)
