"""``aidos run compare``: up to 500 runs in one request, on the terminal, as a page of HTML or as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aidos.cli.session import session
from aidos.errors import InvalidRequest

if TYPE_CHECKING:
    from aidos.cli.comparison_page import Grid

_SIDE_BY_SIDE = 5
_HASHES = ("code.commit", "code.changes")
_SHOWN = 12
"""Characters of a commit or hash: enough to tell them apart."""


def compare(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]…", help="Ids of runs.", show_default=False)] = None,
    query: Annotated[str | None, typer.Option(help="Instead of ids: 'metrics.acc > 0.9 and cost_usd < 2'; the newest 500.")] = None,
    view: Annotated[str | None, typer.Option(help="A view of the project: its query, columns and charts.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="A column, such as params.lr; again for more. [default: what differs]")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A metric whose curves are drawn; again for more.")] = None,
    points: Annotated[int, typer.Option(min=2, max=2000, help="Points of a curve, at most.")] = 200,
    everything: Annotated[bool, typer.Option("--all", help="Show what is equal too.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page that needs nothing else.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture of the curves.")] = None,
) -> None:
    from aidos.cli import comparison_page, comparison_picture

    current = session()
    kept = current.client.views.get(view) if view else None
    if query is None and kept and not runs:
        query = kept.query
    if bool(runs) is (query is not None):
        raise InvalidRequest(reason="Name runs by their ids, or ask for them by --query or --view, one of these.")
    charts = kept.charts if kept else []
    keys = metric or [field.removeprefix("metrics.") for chart in charts if chart.kind == "curves" for field in chart.fields[:1]]
    drawing = html is not None or png is not None or current.as_json
    asked: dict[str, Any] = {"metrics": (keys or None) if drawing else [], "points": points}
    found = current.client.runs.compare(runs=runs or [], query=query, **asked)
    grid = comparison_page.build_grid(found, column or (kept.columns if kept else ()), everything)
    drawn = comparison_page.choose_charts(found, grid, charts)
    title = view or query or "Runs"
    if html:
        html.write_text(comparison_page.to_html(title, found, grid, drawn), encoding="utf-8")
    if png:
        comparison_picture.write_png(png, title, found, grid, drawn)
    if current.as_json:
        current.show(found)
    else:
        _show(grid, [path for path in (html, png) if path])


def _show(grid: Grid, written: list[Path]) -> None:
    """A few runs side by side, many of them one below the other with as many columns as fit."""
    from aidos.cli.output import fitting_columns, show_table

    current = session()
    if len(grid.rows) > _SIDE_BY_SIDE:
        rows = [{field: _text(field, row.get(field)) for field in grid.columns} for row in grid.rows]
        shown = fitting_columns(rows, current.out.width)
        show_table(current, rows, tuple(shown), verbatim=True)
        if len(shown) < len(grid.columns):
            current.note(f"{len(grid.columns) - len(shown)} more columns: choose with --column, or --html FILE, or --json.")
    else:
        names = [row["name"] for row in grid.rows]
        heads = [name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, 1)]
        fields = [field for field in grid.columns if field != "name"]
        rows = [{"WHAT": f, **{head: _text(f, row.get(f)) for head, row in zip(heads, grid.rows, strict=True)}} for f in fields]
        show_table(current, rows, ("WHAT", *heads), verbatim=True)
    for path in written:
        current.out.print(str(path))


def _text(field: str, value: Any) -> str:
    if field in _HASHES:
        return str(value or "")[:_SHOWN]
    if field.startswith("data."):
        return str(value or "")[-_SHOWN:]
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
