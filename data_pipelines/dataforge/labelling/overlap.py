"""How alike two answers are, from 0 to 1: intersection over union for what has an extent, equality for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from PIL import Image, ImageChops, ImageDraw

from aidos.schemas.dataforge.label_schema import Boxes, LabelSchema, MultiLabel, Polygons, Question, Spans
from data_pipelines.dataforge.labelling.agreement import jaccard
from data_pipelines.dataforge.labelling.models import Value

_GRID = 512
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
    """Intersection over union of two outlines, counted on a grid of 512 by 512 over both: to about a hundredth."""
    xs, ys = zip(*a["points"], *b["points"], strict=True)
    left, top, span_x, span_y = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    if not span_x or not span_y:
        return float(a["points"] == b["points"])
    masks = []
    for shape in (a, b):
        mask = Image.new("1", (_GRID, _GRID))
        points = [((x - left) / span_x * (_GRID - 1), (y - top) / span_y * (_GRID - 1)) for x, y in shape["points"]]
        ImageDraw.Draw(mask).polygon(points, fill=1)
        masks.append(mask)
    shared, either = (_lit(combine(*masks)) for combine in (ImageChops.logical_and, ImageChops.logical_or))
    return shared / either if either else 0.0


def _lit(mask: Image.Image) -> int:
    return mask.convert("L").histogram()[255]


def span_iou(a: Shape, b: Shape) -> float:
    """Intersection over union of two pieces of a text."""
    shared = min(a["end"], b["end"]) - max(a["start"], b["start"])
    return shared / (a["end"] - a["start"] + b["end"] - b["start"] - shared) if shared > 0 else 0.0


_IOU: dict[type[Any], Callable[[Shape, Shape], float]] = {Boxes: box_iou, Polygons: polygon_iou, Spans: span_iou}


def mean_iou(first: Sequence[Shape], second: Sequence[Shape], iou: Callable[[Shape, Shape], float]) -> float:
    """Mean over all shapes of both, matched by label and best overlap first (as COCO matches); one without a partner counts 0."""
    pairs = [(iou(a, b), i, j) for i, a in enumerate(first) for j, b in enumerate(second) if a["label"] == b["label"]]
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
    if (iou := _IOU.get(type(question))) is not None:
        return mean_iou(first, second, iou)
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
