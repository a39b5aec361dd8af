"""What a study found as a picture (PNG): the charts of its page, three a row."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aidos.cli.study_view import Chart, scale

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_WIDTH, _HEIGHT, _ACROSS, _TOP, _BAR = 560, 380, 3, 48, 24
_LEFT, _RIGHT, _ABOVE, _BELOW = 84, 24, 60, 56
_INK, _GRAY, _PAPER, _LINE, _FILL = (34, 34, 34), (170, 170, 170), (255, 255, 255), (194, 65, 12), (37, 99, 235)


def write_png(path: Path, title: str, charts: Sequence[tuple[str, Chart]]) -> None:
    """Each chart under its heading."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_WIDTH * _ACROSS, _TOP + _HEIGHT * math.ceil(len(charts) / _ACROSS)), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(14)
    _write(draw, (16, 16), title)
    for place, (heading, chart) in enumerate(charts):
        left, top = place % _ACROSS * _WIDTH, _TOP + place // _ACROSS * _HEIGHT
        _write(draw, (left + _LEFT, top + 8), f"{heading}: {chart.caption}"[:66])
        if chart.bars is None:
            _plot(draw, left, top, chart)
        else:
            _bars(draw, left, top, chart)
    image.save(path, "PNG")


def _plot(draw: ImageDraw, left: int, top: int, chart: Chart) -> None:
    west, east, north, south = left + _LEFT, left + _WIDTH - _RIGHT, top + _ABOVE, top + _HEIGHT - _BELOW
    x, y = scale(chart, (west + 8, east - 8), (south - 8, north + 8))
    draw.line([(west, north), (west, south), (east, south)], fill=_GRAY)
    if not chart.points:
        _write(draw, ((west + east) / 2, (north + south) / 2), "nothing to draw", "mm")
        return
    texts = [(west, south + 6, x.ends[0], "lt"), (east, south + 6, x.ends[1], "rt"), ((west + east) / 2, south + 26, chart.x_name, "mt"),
             (west - 6, south, y.ends[0], "rb"), (west - 6, north, y.ends[1], "rt"), (west, north - 20, chart.y_name, "lt")]  # fmt: skip
    for across, down, text, anchor in texts:
        _write(draw, (across, down), text, anchor)
    for a, b, shade in chart.points:
        red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb((220 - 220 * shade) / 360, 0.48, 0.75))
        draw.ellipse((x(a) - 4, y(b) - 4, x(a) + 4, y(b) + 4), fill=(red, green, blue))
    if len(chart.line) > 1:
        draw.line([(x(a), y(b)) for a, b in chart.line], fill=_LINE, width=3, joint="curve")


def _bars(draw: ImageDraw, left: int, top: int, chart: Chart) -> None:
    start, width = left + _LEFT + 90, _WIDTH - _LEFT - _RIGHT - 150
    shown = list((chart.bars or {}).items())[: (_HEIGHT - _ABOVE - 20) // _BAR]
    for place, (name, share) in enumerate(shown):
        down = top + _ABOVE + _BAR * place
        draw.rectangle((start, down, start + max(1.0, width * share), down + 16), fill=_FILL)
        _write(draw, (start - 8, down), name[:20], "rt")
        _write(draw, (start + width * share + 8, down), f"{share:.2f}", "lt")
    if not shown:
        _write(draw, (left + _WIDTH / 2, top + _HEIGHT / 2), "too few trials", "mm")


def _write(draw: ImageDraw, at: tuple[float, float], text: str, anchor: str = "lt") -> None:
    # In signs that the font has.
    draw.text(at, text.encode("latin-1", "replace").decode("latin-1"), fill=_INK, anchor=anchor)
