"""Compared runs as a picture (PNG): their curves, and the chosen metric by the chosen parameter."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from aidos.cli.comparison_page import Grid
    from aidos.schemas.comparisons import ComparisonRead

_WIDTH, _HEIGHT, _MARGIN, _ACROSS = 640, 420, 76, 2
_INK, _GRAY, _PAPER = (34, 34, 34), (170, 170, 170), (255, 255, 255)
Series = tuple[int, list[tuple[float, float]]]


def write_png(path: Path, title: str, comparison: ComparisonRead, grid: Grid, charts: Sequence[Mapping[str, Any]]) -> None:
    """Curves and scatter plots, two a row; what is not a finite number is left out."""
    from PIL import Image, ImageDraw, ImageFont

    drawn = [chart for chart in charts if chart["kind"] != "parallel"]
    size = (_WIDTH * _ACROSS, 40 + _HEIGHT * max(1, math.ceil(len(drawn) / _ACROSS)))
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(14)
    draw.text((12, 12), f"{_plain(title)}: {len(grid.rows)} runs", fill=_INK)
    for place, chart in enumerate(drawn):
        corner = (place % _ACROSS * _WIDTH, 40 + place // _ACROSS * _HEIGHT)
        if chart["kind"] == "curves":
            _draw(draw, corner, list(_curves(comparison, chart)), chart["metric"], chart["x"], dots=False)
        else:
            points = [(at, [(_number(row.get(chart["x"])), _number(row.get(chart["y"])))]) for at, row in enumerate(grid.rows)]
            _draw(draw, corner, points, chart["y"], chart["x"], dots=True)
    image.save(path, "PNG")


def _curves(comparison: ComparisonRead, chart: Mapping[str, Any]) -> Iterator[Series]:
    runs = {run.id: (at, run.started_at.timestamp()) for at, run in enumerate(comparison.runs)}
    for curve in comparison.curves:
        if curve.key == chart["metric"]:
            at, started = runs[curve.run_id]
            began = started if chart["x"] == "time" else 0.0
            along = curve.steps if chart["x"] == "step" else [moment - began for moment in curve.at]
            yield at, [(float(x), y) for x, y in zip(along, curve.values, strict=True)]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _draw(draw: ImageDraw, corner: tuple[int, int], series: Sequence[Series], up: str, along: str, *, dots: bool) -> None:
    left, top = corner[0] + _MARGIN, corner[1] + 30
    right, bottom = corner[0] + _WIDTH - 20, corner[1] + _HEIGHT - 50
    draw.line([(left, top), (left, bottom), (right, bottom)], fill=_GRAY)
    draw.text((left, top - 24), _plain(up)[:60], fill=_INK)
    draw.text(((left + right) / 2, bottom + 24), _plain(along)[:60], fill=_INK, anchor="mt")
    kept = [(run, [point for point in points if all(map(math.isfinite, point))]) for run, points in series]
    points = [point for _, each in kept for point in each]
    if not points:
        draw.text(((left + right) / 2, (top + bottom) / 2), "nothing to draw", fill=_GRAY, anchor="mm")
        return
    (x_low, x_high), (y_low, y_high) = ((min(values), max(values)) for values in zip(*points, strict=True))
    for at, value, anchor in ((left, x_low, "lt"), (right, x_high, "rt")):
        draw.text((at, bottom + 6), f"{value:.4g}", fill=_INK, anchor=anchor)
    for at, value, anchor in ((bottom, y_low, "rb"), (top, y_high, "rt")):
        draw.text((left - 6, at), f"{value:.4g}", fill=_INK, anchor=anchor)
    for run, each in kept:
        placed = [(_place(x, x_low, x_high, left, right), _place(y, y_low, y_high, bottom, top)) for x, y in each]
        if dots or len(placed) == 1:
            for x, y in placed:
                draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color_of(run))
        elif placed:
            draw.line(placed, fill=color_of(run), width=2, joint="curve")


def _place(value: float, low: float, high: float, start: float, end: float) -> float:
    # Halved first: the width of an interval of large numbers may be infinite.
    share = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
    return start + (end - start) * share


def color_of(run: int) -> tuple[int, int, int]:
    """As far from each other as the golden angle takes them, the same as on the page."""
    red, green, blue = colorsys.hls_to_rgb(run * 137.508 % 360 / 360, 0.48, 0.65)
    return round(red * 255), round(green * 255), round(blue * 255)


def _plain(text: str) -> str:
    """In signs that the font has."""
    return text.encode("latin-1", "replace").decode("latin-1")
