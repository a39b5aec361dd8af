"""Rows of a table on the terminal, as JSON, or as CSV."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

from aidos.cli import output

if TYPE_CHECKING:
    from aidos.schemas.dataforge.tables import TableRead


def show(screen: output.Screen, table: TableRead, *, as_csv: bool) -> None:
    """All rows; on a terminal the columns that fit, with a word on those that do not."""
    names = [column.name for column in table.columns]
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_csv_cell(value) for value in row] for row in table.rows)
        return
    if screen.as_json:
        output.show(screen, table)
        return
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    if not rows:
        screen.note(f"No rows; the columns are {', '.join(names)}.")
        return
    shown = _fitting(names, rows, screen.out.width) if screen.out.is_terminal else names
    output.show_table(screen, rows, tuple(shown), verbatim=True)
    if len(shown) < len(names):
        screen.note(
            f"{len(names) - len(shown)} columns do not fit: {', '.join(name for name in names if name not in shown)}. --column chooses."
        )


def _fitting(names: list[str], rows: list[dict[str, Any]], width: int) -> list[str]:
    """The columns from the left that fit side by side, one at least."""
    shown: list[str] = []
    for name in names:
        width -= max([len(name), *(min(40, len(output.cell("", row[name]))) for row in rows)]) + 2
        if shown and width < 0:
            break
        shown.append(name)
    return shown


def _csv_cell(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) and not isinstance(value, bool) else json.dumps(value)
