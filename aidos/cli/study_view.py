"""What a study found, as data and as one page of HTML with drawings (SVG) that needs nothing else."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aidos.schemas.studies import StudyRead, TrialRead

_WIDTH, _HEIGHT, _MARGIN = 420, 260, 46
_MOST_CONTOURS = 6
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}figure{display:inline-block;margin:0 1rem 1rem 0}"
    "figcaption{font-weight:600}svg{max-width:100%}text{font:11px system-ui,sans-serif;fill:currentColor}"
    "h2{margin-top:2rem}.axis{stroke:currentColor;fill:none}"
)


def build_data(
    study: StudyRead, trials: Sequence[TrialRead], importance: Mapping[str, Mapping[str, float]], front: Collection[int]
) -> dict[str, Any]:
    """``history``, ``slice`` and ``contour`` of each objective, ``pareto`` of several, ``importance``: lists of points by name; ``front``: the best trials."""
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    data: dict[str, Any] = {"study": study.name, "history": {}, "slice": {}, "contour": {}, "importance": dict(importance)}
    for objective in study.objectives:
        metric = objective.metric
        data["history"][metric] = _history(complete, metric, 1 if objective.direction == "minimize" else -1)
        data["slice"][metric] = {
            name: [
                {"number": each.number, "x": each.params[name], "value": each.values[metric]} for each in complete if name in each.params
            ]
            for name in study.space
        }
        ranked = sorted(study.space, key=lambda name: -importance.get(metric, {}).get(name, 0.0))
        data["contour"][metric] = [
            {"x": x, "y": y, "points": _pairs(complete, metric, x, y)}
            for x, y in itertools.islice(itertools.combinations(ranked, 2), _MOST_CONTOURS)
        ]
    if len(study.objectives) > 1:
        data["pareto"] = [{"number": each.number, "values": each.values, "front": each.number in front} for each in complete]
    return data


def _history(complete: Iterable[TrialRead], metric: str, sign: int) -> list[dict[str, Any]]:
    """The value of each trial, and the best feasible one up to it."""
    best, rows = math.inf, []
    for trial in complete:
        if trial.feasible:
            best = min(best, sign * trial.values[metric])
        rows.append({"number": trial.number, "value": trial.values[metric], "best": sign * best if math.isfinite(best) else None})
    return rows


def _pairs(complete: Iterable[TrialRead], metric: str, x: str, y: str) -> list[dict[str, Any]]:
    both = [trial for trial in complete if x in trial.params and y in trial.params]
    return [{"number": each.number, "x": each.params[x], "y": each.params[y], "value": each.values[metric]} for each in both]


@dataclass(frozen=True)
class Chart:
    """Points with a shade from 0 to 1, and a line through some; or bars by name."""

    caption: str
    x_name: str = ""
    y_name: str = ""
    points: Sequence[tuple[Any, Any, float]] = ()
    line: Sequence[tuple[Any, Any]] = ()
    log_x: bool = False
    log_y: bool = False
    bars: Mapping[str, float] | None = None


def title_of(study: StudyRead) -> str:
    return f"Study {study.name}: {study.state}, {sum(study.trials.values())} trials"


def build_charts(study: StudyRead, data: Mapping[str, Any]) -> Iterator[tuple[str, list[Chart]]]:
    """What is drawn, under headings: each objective, and the Pareto front of several."""
    logs = {name for name, parameter in study.space.items() if getattr(parameter, "log", False)}
    for metric, rows in data["history"].items():
        line = [(row["number"], row["best"]) for row in rows if row["best"] is not None]
        charts = [Chart("history", "trial", "value", [(row["number"], row["value"], 0.0) for row in rows], line)]
        charts.append(Chart("importance", bars=data["importance"].get(metric, {})))
        for name, points in data["slice"][metric].items():
            shades = _shades([row["number"] for row in points])
            dots = [(row["x"], row["value"], shade) for row, shade in zip(points, shades, strict=True)]
            charts.append(Chart(f"value by {name}, from early (blue) to late (red)", name, "value", dots, log_x=name in logs))
        charts += [_contour(each, logs) for each in data["contour"][metric]]
        yield metric, charts
    if "pareto" in data:
        x, y = (objective.metric for objective in study.objectives[:2])
        points = [(row["values"][x], row["values"][y], float(row["front"])) for row in data["pareto"]]
        yield "Pareto front", [Chart(f"{y} by {x}, the front in red", x, y, points)]


def _contour(each: Mapping[str, Any], logs: set[str]) -> Chart:
    shades = _shades([point["value"] for point in each["points"]])
    points = [(point["x"], point["y"], shade) for point, shade in zip(each["points"], shades, strict=True)]
    caption = f"{each['x']} and {each['y']}, from low (blue) to high (red)"
    return Chart(caption, each["x"], each["y"], points, log_x=each["x"] in logs, log_y=each["y"] in logs)


def to_html(study: StudyRead, data: Mapping[str, Any]) -> str:
    """One page: no script, nothing loaded."""
    title = html.escape(title_of(study))
    parts = []
    for heading, charts in build_charts(study, data):
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        parts += [_figure(chart) if chart.bars is None else _bars(chart.caption, chart.bars) for chart in charts]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>'
        f"{''.join(parts)}</html>\n"
    )


class Scale:
    """From values to pixels: numbers in an interval, others side by side in the order of their text."""

    def __init__(self, values: Sequence[Any], start: float, end: float, log: bool = False) -> None:
        self._start, self._end, self._log = start, end, log
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        self._places = None if numbers else {text: place for place, text in enumerate(sorted({str(value) for value in values}))}
        whole = [self._number(value) for value in values] or [0.0]
        self._low, self._high = min(whole), max(whole)
        shown = sorted(values, key=self._number)
        self.ends = (_short(shown[0]), _short(shown[-1])) if shown else ("", "")

    def _number(self, value: Any) -> float:
        if self._places is not None:
            return float(self._places[str(value)])
        return math.log10(value) if self._log else float(value)

    def __call__(self, value: Any) -> float:
        width = self._high - self._low
        return self._start + (self._end - self._start) * ((self._number(value) - self._low) / width if width else 0.5)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:20]


def _figure(chart: Chart) -> str:
    bottom, right = _HEIGHT - _MARGIN, _WIDTH - 10
    x, y = scale(chart, (_MARGIN + 6, right - 6), (bottom - 6, 21))
    texts = [
        (_MARGIN, bottom + 15, "start", x.ends[0]), (right, bottom + 15, "end", x.ends[1]),
        ((_MARGIN + right) / 2, bottom + 30, "middle", chart.x_name), (_MARGIN - 4, bottom, "end", y.ends[0]),
        (_MARGIN - 4, 20, "end", y.ends[1]), (_MARGIN, 10, "start", chart.y_name),
    ]  # fmt: skip
    labels = "".join(
        f'<text x="{at:.0f}" y="{down:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>' for at, down, anchor, text in texts
    )
    line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in chart.line)
    marks = _dots(x, y, chart.points) + (f'<polyline points="{line}" fill="none" stroke="#c2410c" stroke-width="2"/>' if line else "")
    axes = f'<path class="axis" d="M{_MARGIN} 15V{bottom}H{right}"/>'
    drawing = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">{axes}{marks}{labels}</svg>'
    return f"<figure><figcaption>{html.escape(chart.caption)}</figcaption>{drawing}</figure>"


def scale(chart: Chart, across: tuple[float, float], up: tuple[float, float]) -> tuple[Scale, Scale]:
    """From a chart's values to pixels."""
    xs, ys = [point[0] for point in chart.points], [point[1] for point in chart.points]
    return Scale(xs, *across, log=chart.log_x), Scale(ys, *up, log=chart.log_y)


def _dots(x: Scale, y: Scale, points: Iterable[tuple[Any, Any, float]]) -> str:
    """Circles; the third value, from 0 to 1, is their shade."""
    return "".join(
        f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="hsl({220 - 220 * shade:.0f} 75% 48%)" fill-opacity=".75"/>'
        for a, b, shade in points
    )


def _shades(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]


def _bars(caption: str, shares: Mapping[str, float]) -> str:
    rows = "".join(
        f'<rect x="130" y="{12 + 22 * place}" width="{max(1.0, 230 * share):.1f}" height="16" fill="#2563eb"/>'
        f'<text x="124" y="{24 + 22 * place}" text-anchor="end">{html.escape(name[:20])}</text>'
        f'<text x="{136 + 230 * share:.0f}" y="{24 + 22 * place}">{share:.2f}</text>'
        for place, (name, share) in enumerate(shares.items())
    )
    height = 20 + 22 * max(1, len(shares))
    drawing = f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">{rows}</svg>'
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{drawing}</figure>"
