"""Thumbnails: small, upright, without metadata, and never more pixels than fit in memory."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from data_pipelines.dataforge.files.quarantine import BadFile
from data_pipelines.dataforge.tables.models import Answer

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
PIXELS = 64_000_000
"""Most pixels that are unpacked: 256 MB as RGBA."""


def build_thumbnail(file: Path, size: int) -> Answer:
    """The first frame as WebP within ``size`` × ``size`` pixels, turned as its EXIF says. Raises: BadFile."""
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = None  # said here, with the limit
    try:
        with Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            # JPEG is unpacked at an eighth of its size, if that is enough: the limit is on what is unpacked.
            image.draft("RGB", (size * 2, size * 2))
            if image.size[0] * image.size[1] > PIXELS:
                raise BadFile(f"it has {width} × {height} pixels, and at most {PIXELS:,} are unpacked")
            upright = ImageOps.exif_transpose(image)
            small = _to_shown(upright)
            small.thumbnail((size, size), Image.Resampling.LANCZOS)
            target = io.BytesIO()
            small.save(target, "WEBP", quality=80, method=2)
    except BadFile:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, Image.DecompressionBombError) as error:
        raise BadFile(f"its bytes are no whole {', '.join(FORMATS)} ({str(error)[:200]})") from None
    return Answer(target.getvalue(), {"width": width, "height": height})


def _to_shown(image: Image.Image) -> Image.Image:
    """8 bits a channel, with alpha where there is one."""
    if image.mode.startswith("I") or image.mode == "F":
        low, high = image.getextrema()
        scale = 255 / ((high - low) or 1)
        return image.point(lambda value: value * scale - low * scale).convert("L").convert("RGB")
    if image.mode == "P" or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in {"RGB", "RGBA"} else image.convert("RGBA" if "A" in image.getbands() else "RGB")
