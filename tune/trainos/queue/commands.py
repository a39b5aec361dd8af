"""``aidos queue simulate``: a trace through the queue's own decisions, here and without a platform."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aidos.cli.output import show_table
from aidos.cli.session import session
from aidos.errors import InvalidRequest
from tune.trainos.queue.report import Report
from tune.trainos.queue.simulation import SAVE_S, replay
from tune.trainos.queue.trace import Traced, read_nodes, read_quotas, read_trace, to_traced


def register(group: typer.Typer) -> None:
    """Add the verb to ``aidos queue``."""
    group.command("simulate", help="Replay a trace of jobs on a cluster: waits, utilisation, fairness, work lost.")(simulate)


def simulate(
    nodes: Annotated[str, typer.Option(help="The cluster, as COUNTxCPU:GPU:MEMORY_GIB, several parted by commas.", show_default=False)],
    trace: Annotated[Path | None, typer.Argument(metavar="TRACE", help="A .csv, .jsonl or .swf file, or .gz.", show_default=False)] = None,
    days: Annotated[int | None, typer.Option(min=1, help="In place of a file: the project's own jobs of so many days.")] = None,
    quotas: Annotated[Path | None, typer.Option(metavar="FILE", help="Quotas by project, as YAML or JSON.")] = None,
    save_s: Annotated[float, typer.Option(min=0, help="How long a job takes that is asked to save and give way.")] = SAVE_S,
    every_s: Annotated[float, typer.Option(min=0, help="How long after a change the queue is looked at.")] = 0.0,
) -> None:
    current = session()
    cluster, bounds = read_nodes(nodes), read_quotas(quotas) if quotas else {}
    with current.progress("Replaying", 1.0) as advance:
        done = 0.0

        def tell(part: float) -> None:
            nonlocal done
            advance(part - done)
            done = part

        report = replay(_workloads(trace, days), cluster, bounds, tell=tell, save_s=save_s, tick_s=every_s)
    if current.as_json:
        current.show(asdict(report))
        return
    _show(report)


def _workloads(trace: Path | None, days: int | None) -> list[Traced]:
    if (trace is None) == (days is None):
        raise InvalidRequest(reason="A simulation replays a TRACE or the project's own jobs of --days, and one of them.")
    if trace is not None:
        return read_trace(trace)
    return [to_traced(row) for row in session().client.queues.history(days=days).items]


def _show(report: Report) -> None:
    current = session()
    show_table(current, report.rows())
    if report.projects:
        current.out.print("\nProjects", style="bold")
        show_table(current, report.project_rows())
