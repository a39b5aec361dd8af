"""Compared runs as rows, and as one page of HTML that needs nothing else: a table to sort, curves, scatter, parallel coordinates."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from aidos.schemas.comparisons import ChartRead, ComparedRun, ComparisonRead, FactsRead

SECTIONS = ("metrics", "params", "code", "data", "environment")
_OWN = ("name", "experiment", "state", "created_by", "started_at", "duration_s", "cost_usd")
_TITLES = ("name", "state", "duration_s", "cost_usd")
_MACHINE = "metrics.system/"
"""How the machine did is no difference between runs."""
_AXES, _CURVES = 6, 4


@dataclass(frozen=True)
class Grid:
    """Runs as rows of values by field (``params.lr``). ``columns``: the fields that are worth showing first."""

    fields: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]


def build_grid(comparison: ComparisonRead, columns: Sequence[str] = (), everything: bool = False) -> Grid:
    """``columns``: those of a view. Without them what differs; ``everything``: what is alike too."""
    alike = dict(_facts(comparison.alike))
    rows = tuple(_own(run) | alike | dict(_facts(run.facts)) for run in comparison.runs)
    differing = _in_order(field for run in comparison.runs for field, _ in _facts(run.facts))
    fields = (*_OWN, *differing, *_in_order(alike))
    telling = [field for field in differing if not field.startswith(_MACHINE)]
    shown = columns or [*(name for name in _TITLES if any(row.get(name) is not None for row in rows)), *telling]
    return Grid(fields, tuple(fields if everything else dict.fromkeys(["name", *shown])), rows)


def _own(run: ComparedRun) -> dict[str, Any]:
    found = {name: getattr(run, name) for name in _OWN}
    return found | {"state": run.state.value, "started_at": f"{run.started_at:%Y-%m-%d %H:%M:%S}", "duration_s": round(run.duration_s, 3)}


def _facts(facts: FactsRead) -> Iterator[tuple[str, Any]]:
    for section in SECTIONS:
        yield from ((f"{section}.{name}", value) for name, value in getattr(facts, section).items())


def _in_order(fields: Iterable[str]) -> list[str]:
    """Each once, by section and name."""
    return sorted(dict.fromkeys(fields), key=lambda field: (SECTIONS.index(field.partition(".")[0]), field))


def choose_charts(comparison: ComparisonRead, grid: Grid, charts: Sequence[ChartRead] = ()) -> list[dict[str, Any]]:
    """What to draw, as the page takes it: the charts of a view, or those that the runs suggest."""
    if charts:
        return [_chart(chart) for chart in charts]
    params = [field for field in grid.columns if field.startswith("params.")]
    metrics = [field for field in grid.columns if field.startswith("metrics.")]
    keys = list(dict.fromkeys(curve.key for curve in comparison.curves))
    found: list[dict[str, Any]] = [{"kind": "curves", "metric": key, "x": "step", "log": False} for key in keys[:_CURVES]]
    numeric = [field for field in params if any(_is_number(row.get(field)) for row in grid.rows)]
    if metrics:
        found.append({"kind": "scatter", "x": (numeric or params or ["duration_s"])[0], "y": metrics[0]})
        found.append({"kind": "parallel", "fields": [*params[: _AXES - 1], metrics[0]]})
    return found


def _chart(chart: ChartRead) -> dict[str, Any]:
    kind, fields = chart.kind.value, chart.fields
    if kind == "curves":
        return {"kind": kind, "metric": fields[0].removeprefix("metrics."), "x": chart.x.value, "log": False}
    return {"kind": kind, "fields": fields} if kind == "parallel" else {"kind": kind, "x": fields[0], "y": fields[-1]}


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def to_html(title: str, comparison: ComparisonRead, grid: Grid, charts: Sequence[Mapping[str, Any]]) -> str:
    """One page. Its policy allows its own script and style, by their hashes, and nothing from anywhere."""
    script, style = (importlib.resources.files("aidos.cli").joinpath(f"comparison.{kind}").read_text("utf-8") for kind in ("js", "css"))
    policy = f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    noted = ", the newest of more that match" if comparison.truncated else ""
    same = "".join(f"<tr><th scope=row>{html.escape(name)}<td>{html.escape(str(value))}" for name, value in _facts(comparison.alike))
    alike = f"<details><summary>What all of them have alike</summary><table>{same}</table></details>" if same else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title><style>{style}</style>'
        f'<h1>{html.escape(title)}</h1><p>{len(grid.rows)} runs{noted}.</p><div id="charts" class="charts"></div><p id="said" role="status"></p>'
        f'<h2>Runs</h2><label>Filter <input id="filter" type="search"></label><div class="wide"><table id="runs"></table></div>{alike}'
        f'<script type="application/json" id="data">{_payload(comparison, grid, charts)}</script><script>{script}</script></html>\n'
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _payload(comparison: ComparisonRead, grid: Grid, charts: Sequence[Mapping[str, Any]]) -> str:
    """JSON that cannot end the element it stands in."""
    index = {run.id: at for at, run in enumerate(comparison.runs)}
    runs = [
        {"name": run.name, "started": run.started_at.timestamp(), "cells": row} for run, row in zip(comparison.runs, grid.rows, strict=True)
    ]
    curves = [
        {"run": index[curve.run_id], "key": curve.key, "steps": curve.steps, "at": curve.at, "values": curve.values}
        for curve in comparison.curves
    ]
    data = {"runs": runs, "fields": grid.fields, "columns": grid.columns, "charts": list(charts), "curves": curves}
    text = to_json(data, inf_nan_mode="strings").decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
