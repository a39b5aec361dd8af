"""Items as a model takes them, and what it gives as answers to a question."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from aidos.errors import InvalidPayload
from data_pipelines.dataforge.labelling.models import Size

_LEAST_PIXELS = 1e-3


def image_values(content: bytes, shape: Sequence[int], largest: float) -> list[float]:
    """The pixels of an image in the model's shape (without the batch): [h, w], [c, h, w], [h, w, c], or a flat square.

    ``c`` is 1 (grey) or 3 (RGB); ``largest`` stands for the brightest pixel. Raises: ValueError when it is no image, InvalidPayload
    when the model takes no images.
    """
    channels, height, width, last = _layout(shape)
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
            picture = picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.BILINEAR)
            pixels = np.asarray(picture, dtype=np.float32).reshape(height, width, channels)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"it is no image that can be read: {error}") from error
    return ((pixels if last else pixels.transpose(2, 0, 1)) * (largest / 255)).ravel().tolist()


def shown_size(shape: Sequence[int]) -> Size:
    """Width and height of the picture that a model of this shape (without the batch) is shown. Raises: InvalidPayload as ``image_values``."""
    _, height, width, _ = _layout(shape)
    return width, height


def _layout(shape: Sequence[int]) -> tuple[int, int, int, bool]:
    """Channels, height, width, and whether the channels come last."""
    match [int(size) for size in shape]:
        case [height, width]:
            return 1, height, width, False
        case [(1 | 3) as channels, height, width]:
            return channels, height, width, False
        case [height, width, (1 | 3) as channels]:
            return channels, height, width, True
        case [pixels] if (side := math.isqrt(pixels)) ** 2 == pixels:
            return 1, side, side, False
    raise InvalidPayload(
        reason=f"The model takes tensors of shape {list(shape)}; an image is [h, w], [c, h, w], [h, w, c] or a flat square."
    )


def row_values(data: Mapping[str, Any], columns: Sequence[str]) -> list[float]:
    """The numbers in the columns of a row. Raises: ValueError naming the column."""
    found = []
    for column in columns:
        try:
            found.append(float(data[column]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"column '{column}' holds no number") from error
    return found


@dataclass(frozen=True)
class Guess:
    """What a model says of one item: an answer, the probabilities of labels where it gives them, else how sure it is."""

    answer: Any
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None


Outputs = Sequence[Mapping[str, Any]]


def classified(outputs: Outputs, labels: Sequence[str], rows: int) -> list[Guess]:
    """One label each, by softmax unless the rows are shares already. Raises: InvalidPayload without a number for each label."""
    scores = _for_labels(outputs, labels, rows)
    if not (np.all(scores >= 0) and np.allclose(scores.sum(axis=1), 1, atol=1e-3)):
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = raised / raised.sum(axis=1, keepdims=True)
    shares = [dict(zip(labels, row, strict=True)) for row in np.clip(scores, 0, 1).tolist()]
    return [Guess(max(each, key=lambda label: each[label]), each) for each in shares]


def multilabelled(outputs: Outputs, labels: Sequence[str], rows: int, threshold: float) -> list[Guess]:
    """Every label for itself, by the logistic function unless all are shares already. Raises: InvalidPayload as ``classified``."""
    scores = _for_labels(outputs, labels, rows)
    if np.any(scores < 0) or np.any(scores > 1):
        scores = 1 / (1 + np.exp(-scores))
    sure = np.maximum(scores, 1 - scores).min(axis=1)
    return [
        Guess([label for label, score in zip(labels, row, strict=True) if score >= threshold], confidence=float(least))
        for row, least in zip(scores, sure, strict=True)
    ]


def _for_labels(outputs: Outputs, labels: Sequence[str], rows: int) -> np.ndarray:
    """The first output with a number for every label of each row."""
    for output in outputs:
        if list(output["shape"]) == [rows, len(labels)] and str(output["datatype"]).startswith("FP"):
            return np.asarray(output["data"], dtype=np.float64).reshape(rows, len(labels))
    raise _refusal(outputs, f"The question has {len(labels)} labels", "no number for each label")


def boxed(
    outputs: Outputs, labels: Sequence[str], sizes: Sequence[Size], shown: Size | None, threshold: float, first_label: int
) -> list[Guess]:
    """Boxes of each image, from the outputs ``boxes`` [n, m, 4] (left, top, right, bottom), ``labels`` and ``scores`` [n, m], as detectors
    of torchvision and of the TensorFlow zoo name them. ``sizes``: of the images; ``shown``: what the coordinates are pixels of, None for
    shares of the image. Raises: InvalidPayload when there are none.
    """
    corners = _find(outputs, ("box",), [len(sizes), None, 4])
    kinds, scores = (_find(outputs, names, [len(sizes), corners.shape[1]]) for names in (("label", "class"), ("score",)))
    found = []
    for image, (width, height) in enumerate(sizes):
        scale = np.array([width, height] * 2) / np.array((shown or (1, 1)) * 2)
        left, top, right, bottom = (np.clip(corners[image] * scale, 0, [width, height] * 2)).T
        shapes = [
            {"x": x, "y": y, "width": w, "height": h} if w >= _LEAST_PIXELS and h >= _LEAST_PIXELS else None
            for x, y, w, h in zip(left.tolist(), top.tolist(), (right - left).tolist(), (bottom - top).tolist(), strict=True)
        ]
        found.append(_kept(shapes, kinds[image], scores[image], labels, threshold, first_label))
    return found


def spanned(outputs: Outputs, labels: Sequence[str], texts: Sequence[str], threshold: float, first_label: int) -> list[Guess]:
    """Spans of each text, from the outputs ``starts``, ``ends`` (characters, exclusive), ``labels`` and ``scores`` [n, m]. Raises: as ``boxed``."""
    starts = _find(outputs, ("start",), [len(texts), None])
    ends, kinds, scores = (_find(outputs, names, list(starts.shape)) for names in (("end",), ("label", "class"), ("score",)))
    found = []
    for row, text in enumerate(texts):
        places = [(int(start), int(end)) for start, end in zip(starts[row], ends[row], strict=True)]
        shapes = [{"start": start, "end": end} if 0 <= start < end <= len(text) else None for start, end in places]
        found.append(_kept(shapes, kinds[row], scores[row], labels, threshold, first_label))
    return found


def _kept(
    shapes: Sequence[dict[str, Any] | None],
    kinds: np.ndarray,
    scores: np.ndarray,
    labels: Sequence[str],
    threshold: float,
    first_label: int,
) -> Guess:
    """The shapes that are likely enough, with their labels: as sure as the least of them, or as it is that there is none."""
    answer, sure = [], 1.0
    for shape, kind, score in zip(shapes, kinds.astype(int) - first_label, scores.tolist(), strict=True):
        if shape is None or not 0 <= kind < len(labels):
            continue
        if score >= threshold:
            answer.append({"label": labels[kind], **shape})
        sure = min(sure, score if score >= threshold else 1 - score)
    return Guess(answer, confidence=min(max(sure, 0.0), 1.0))


def _find(outputs: Outputs, names: Sequence[str], shape: Sequence[int | None]) -> np.ndarray:
    """The output whose name has one of ``names`` in it and that has this shape (None: any size)."""
    for output in outputs:
        sizes = list(output["shape"])
        fits = len(sizes) == len(shape) and all(wanted in (None, size) for wanted, size in zip(shape, sizes, strict=True))
        if fits and any(name in str(output["name"]).lower() for name in names):
            return np.asarray(output["data"], dtype=np.float64).reshape(sizes)
    wanted = ", ".join("m" if size is None else str(size) for size in shape)
    raise _refusal(outputs, f"Shapes need an output '{names[0]}…' of shape [{wanted}]", "there is none")


def _refusal(outputs: Outputs, asked: str, missing: str) -> InvalidPayload:
    given = ", ".join(f"{output['name']} {list(output['shape'])}" for output in outputs)
    return InvalidPayload(reason=f"{asked}, and the endpoint gives {given}: {missing}.")
