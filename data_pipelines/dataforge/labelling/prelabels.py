"""Items as a model takes them, and what it gives as probabilities of labels."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from aidos.errors import InvalidPayload


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


def probabilities(outputs: Sequence[Mapping[str, Any]], labels: Sequence[str], rows: int) -> list[dict[str, float]]:
    """Of each label, by row: the first output with a number for every label, by softmax unless its rows are shares already.

    Raises: InvalidPayload when there is none.
    """
    for output in outputs:
        if list(output["shape"]) == [rows, len(labels)] and str(output["datatype"]).startswith("FP"):
            scores = np.asarray(output["data"], dtype=np.float64).reshape(rows, len(labels))
            if not (np.all(scores >= 0) and np.allclose(scores.sum(axis=1), 1, atol=1e-3)):
                raised = np.exp(scores - scores.max(axis=1, keepdims=True))
                scores = raised / raised.sum(axis=1, keepdims=True)
            return [dict(zip(labels, row, strict=True)) for row in np.clip(scores, 0, 1).tolist()]
    given = [f"{output['name']} {list(output['shape'])}" for output in outputs]
    raise InvalidPayload(
        reason=f"The question has {len(labels)} labels, and the endpoint gives {', '.join(given)}: no number for each label."
    )
