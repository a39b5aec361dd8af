"""Images as pixels: decoded within bounds, and small and grey for a model."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipelines.dataforge.files.quarantine import BadFile

MAX_PIXELS = 100_000_000
SIDE = 16


def open_image(data: bytes) -> tuple[Image.Image, str]:
    """The decoded image and its format. Raises: BadFile."""
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise BadFile(f"{len(data)} bytes would unpack to {image.width} × {image.height} pixels; {MAX_PIXELS} is the limit")
        format = image.format or "?"
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        text = "it is not an image of a known format" if isinstance(error, UnidentifiedImageError) else f"it cannot be decoded: {error}"
        raise BadFile(text[:300]) from error
    return image, format


def encode_image(data: bytes) -> np.ndarray:
    """[1, 256] grey values from 0 to 1. Raises: BadFile."""
    image, _ = open_image(data)
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32).reshape(1, -1) / 255
