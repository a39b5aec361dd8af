"""How alike two answers are, from 0 to 1: intersection over union for what has an extent, equality for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import shapely

from aidos.schemas.dataforge.label_schema import Boxes, LabelSchema, MultiLabel, Polygons, Question, Spans
from data_pipelines.dataforge.labelling.agreement import jaccard
from data_pipelines.dataforge.labelling.models import Value

Shape = Mapping[str, Any]


def box_iou(a: Shape, b: Shape) -> float:
    """Intersection over union of two upright rectangles."""
    across = min(a["x"] + a["width"], b["x"] + b["width"]) - max(a["x"], b["x"])
    down = min(a["y"] + a["height"], b["y"] + b["height"]) - max(a["y"], b["y"])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / (a["width"] * a["height"] + b["width"] * b["height"] - shared)


def polygon_iou(a: Shape, b: Shape) -> float:
    """Intersection over union of two outlines. Of one that crosses itself counts what it goes around an odd number of times."""
    return area_iou(_area(a), _area(b))


def _area(shape: Shape) -> shapely.Geometry:
    return shapely.make_valid(shapely.Polygon(shape["points"]))


def area_iou(a: shapely.Geometry, b: shapely.Geometry) -> float:
    """Intersection over union of two plane figures; of such as have no area, whether they are equal."""
    shared = a.intersection(b).area
    either = a.area + b.area - shared
    return float(shared / either) if either else float(a.equals(b))


def span_iou(a: Shape, b: Shape) -> float:
    """Intersection over union of two pieces of a text."""
    shared = min(a["end"], b["end"]) - max(a["start"], b["start"])
    return shared / (a["end"] - a["start"] + b["end"] - b["start"] - shared) if shared > 0 else 0.0


_IOU: dict[type[Any], tuple[Callable[[Any, Any], float], Callable[[Shape], Any]]] = {
    Boxes: (box_iou, dict),
    Polygons: (area_iou, _area),
    Spans: (span_iou, dict),
}
"""Of each question how two shapes are compared, and the form that each is brought into once for that."""


def mean_iou(
    first: Sequence[Shape], second: Sequence[Shape], iou: Callable[[Any, Any], float], form: Callable[[Shape], Any] = dict
) -> float:
    """Mean over all shapes of both, matched by label and best overlap first (as COCO matches); one without a partner counts 0."""
    ours, theirs = list(map(form, first)), list(map(form, second))
    pairs = [(iou(ours[i], theirs[j]), i, j) for i, a in enumerate(first) for j, b in enumerate(second) if a["label"] == b["label"]]
    matched_first, matched_second, total = set[int](), set[int](), 0.0
    for overlap, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if overlap > 0 and i not in matched_first and j not in matched_second:
            matched_first.add(i)
            matched_second.add(j)
            total += overlap
    shapes = len(first) + len(second) - len(matched_first)
    return total / shapes if shapes else 1.0


def similarity(question: Question, first: Any, second: Any) -> float:
    """How alike two answers to a question are; an answer and none are not."""
    if first is None or second is None:
        return float(first is second)
    if (compared := _IOU.get(type(question))) is not None:
        return mean_iou(first, second, *compared)
    if isinstance(question, MultiLabel):
        return 1 - jaccard(frozenset(first), frozenset(second))
    return float(first == second)


def mean_similarity(schema: LabelSchema, values: Sequence[Value]) -> float | None:
    """Mean over all pairs of annotators and all questions; None for one answer alone."""
    found = [
        similarity(question, a.get(question.name), b.get(question.name))
        for a, b in combinations(values, 2)
        for question in schema.questions
    ]
    return sum(found) / len(found) if found else None
