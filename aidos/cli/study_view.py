"""What a study found, as data and as one page of HTML with drawings (SVG) that needs nothing else."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
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


def to_html(study: StudyRead, data: Mapping[str, Any]) -> str:
    """One page: no script, nothing loaded."""
    title = html.escape(f"Study {study.name}: {study.state}, {sum(study.trials.values())} trials")
    parts = []
    for metric, rows in data["history"].items():
        parts.append(f"<h2>{html.escape(metric)}</h2>")
        parts.append(_history_figure(rows))
        parts.append(_bars("importance", data["importance"].get(metric, {})))
        parts += [
            _scatter(name, "value", [(row["x"], row["value"], row["number"]) for row in points], name in _log_names(study))
            for name, points in data["slice"][metric].items()
        ]
        parts += [_contour(each, _log_names(study)) for each in data["contour"][metric]]
    if "pareto" in data:
        x, y = (objective.metric for objective in study.objectives[:2])
        points = [(row["values"][x], row["values"][y], 1.0 if row["front"] else 0.0) for row in data["pareto"]]
        parts.append(f"<h2>Pareto front</h2>{_scatter(x, y, points, False)}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>'
        f"{''.join(parts)}</html>\n"
    )


def _log_names(study: StudyRead) -> set[str]:
    return {name for name, parameter in study.space.items() if getattr(parameter, "log", False)}


class _Scale:
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


def _figure(caption: str, x: _Scale, y: _Scale, marks: str, x_name: str = "", y_name: str = "") -> str:
    bottom, right = _HEIGHT - _MARGIN, _WIDTH - 10
    texts = [
        (_MARGIN, bottom + 15, "start", x.ends[0]), (right, bottom + 15, "end", x.ends[1]),
        ((_MARGIN + right) / 2, bottom + 30, "middle", x_name), (_MARGIN - 4, bottom, "end", y.ends[0]), (_MARGIN - 4, 20, "end", y.ends[1]),
        (_MARGIN, 10, "start", y_name),
    ]  # fmt: skip
    labels = "".join(
        f'<text x="{at:.0f}" y="{down:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>' for at, down, anchor, text in texts
    )
    axes = f'<path class="axis" d="M{_MARGIN} 15V{bottom}H{right}"/>'
    drawing = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">{axes}{marks}{labels}</svg>'
    return f"<figure><figcaption>{html.escape(caption)}</figcaption>{drawing}</figure>"


def _scales(xs: Sequence[Any], ys: Sequence[Any], log_x: bool = False, log_y: bool = False) -> tuple[_Scale, _Scale]:
    return _Scale(xs, _MARGIN + 6, _WIDTH - 16, log_x), _Scale(ys, _HEIGHT - _MARGIN - 6, 21, log_y)


def _dots(x: _Scale, y: _Scale, points: Iterable[tuple[Any, Any, float]]) -> str:
    """Circles; the third value, from 0 to 1, is their shade."""
    return "".join(
        f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" fill="hsl({220 - 190 * shade:.0f} 75% 48%)" fill-opacity=".75"/>'
        for a, b, shade in points
    )


def _shades(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]


def _history_figure(rows: Sequence[Mapping[str, Any]]) -> str:
    x, y = _scales([row["number"] for row in rows], [row["value"] for row in rows])
    line = " ".join(f"{x(row['number']):.1f},{y(row['best']):.1f}" for row in rows if row["best"] is not None)
    marks = _dots(x, y, ((row["number"], row["value"], 0.0) for row in rows))
    return _figure("history", x, y, f'{marks}<polyline points="{line}" fill="none" stroke="#c2410c" stroke-width="2"/>', "trial", "value")


def _scatter(x_name: str, y_name: str, points: Sequence[tuple[Any, Any, float]], log: bool) -> str:
    x, y = _scales([point[0] for point in points], [point[1] for point in points], log)
    shades = _shades([point[2] for point in points])
    marks = _dots(x, y, ((a, b, shade) for (a, b, _), shade in zip(points, shades, strict=True)))
    return _figure(f"{y_name} by {x_name}", x, y, marks, x_name, y_name)


def _contour(each: Mapping[str, Any], logs: set[str]) -> str:
    points = each["points"]
    x, y = _scales([p["x"] for p in points], [p["y"] for p in points], each["x"] in logs, each["y"] in logs)
    shades = _shades([p["value"] for p in points])
    marks = _dots(x, y, ((p["x"], p["y"], shade) for p, shade in zip(points, shades, strict=True)))
    return _figure(f"{each['x']} × {each['y']}, from low (blue) to high (red)", x, y, marks, each["x"], each["y"])


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
