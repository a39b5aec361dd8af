"""An item in the terminal: an image in half blocks, a text, or the columns of a row."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from aidos.cli.output import CONTROL
from aidos.cli.session import Session

if TYPE_CHECKING:
    from rich.text import Text

    from aidos.schemas.dataforge.labelling import AskedTaskRead

_LARGEST_BYTES = 32 * 2**20
_MOST_CHARACTERS = 4000
Size = tuple[int, int]


def show_item(current: Session, task: AskedTaskRead) -> Size | None:
    """Print the item on standard error; the size of an image in pixels."""
    if task.item.data is not None:
        for name, value in task.item.data.items():
            current.err.print(CONTROL.sub("\ufffd", f"{name}: {value}"))
        return None
    if task.url is None or task.size_bytes > _LARGEST_BYTES:
        return None
    headers = {"Range": f"bytes={task.offset_bytes}-{task.offset_bytes + task.size_bytes - 1}", **task.headers}
    content = current.client.get_presigned(task.url, headers).content
    columns, lines = current.err.size
    colours = current.err.color_system in ("truecolor", "256")
    picture, size = draw(content, min(columns, 80), max(4, lines - 8)) if colours else (None, _size_of(content))
    if picture is not None:
        current.err.print(picture)
    elif size is None:
        _show_text(current, content)
    return size


def _show_text(current: Session, content: bytes) -> None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return  # its path is all that a terminal can show
    current.err.print(CONTROL.sub("\ufffd", text[:_MOST_CHARACTERS]))


def _size_of(content: bytes) -> Size | None:
    return draw(content, 1, 1)[1]


def draw(content: bytes, columns: int, lines: int) -> tuple[Text | None, Size | None]:
    """The image in at most so many cells, two pixels above each other in one (▀); None where it is no image that can be read."""
    from PIL import ExifTags, Image, ImageOps
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    try:
        with Image.open(io.BytesIO(content)) as opened:
            on_its_side = opened.getexif().get(ExifTags.Base.Orientation) in {5, 6, 7, 8}
            size = opened.size[::-1] if on_its_side else opened.size
            opened.draft("RGB", (columns, lines * 2))
            scale = min(columns / size[0], lines * 2 / size[1])
            shown = max(1, round(size[0] * scale)), max(2, round(size[1] * scale) // 2 * 2)
            small = (
                ImageOps.exif_transpose(opened)
                .convert("RGB")
                .resize(shown, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
            )
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, None
    pixels, picture = list(small.get_flattened_data()), Text()
    for top in range(0, shown[1], 2):
        for left in range(shown[0]):
            upper, lower = pixels[top * shown[0] + left], pixels[(top + 1) * shown[0] + left]
            picture.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        picture.append("\n")
    return picture, size
