"""Sizes of images, read from their first bytes: nothing is unpacked, and what is read at once is bounded."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable
from typing import NamedTuple

import httpx
from PIL import ExifTags, Image

from aidos.errors import Unavailable
from data_pipelines.dataforge.labelling.models import Size
from data_pipelines.dataforge.models import Download, Downloads

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_HEAD_BYTES = 64 * 2**10
"""Most headers lie within; where one does not, the whole file is read, up to ``_WHOLE_BYTES``."""
_WHOLE_BYTES = 16 * 2**20
_SPAN_BYTES = 2 * 2**20
_AT_ONCE, _WHOLE_AT_ONCE = 16, 2
_ON_THEIR_SIDE = {5, 6, 7, 8}


class _Span(NamedTuple):
    """Heads of files that lie close together in one object."""

    first: int
    end: int
    files: tuple[Download, ...]


async def read_sizes(downloads: Downloads) -> dict[str, Size]:
    """Width and height by path, upright as EXIF says; a file that is no image that can be read has none. Raises: Unavailable."""
    found: dict[str, Size] = {}
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=_AT_ONCE)) as client:
        few, very_few = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_WHOLE_AT_ONCE)

        async def read(span: _Span, limit: asyncio.Semaphore) -> None:
            async with limit:
                data = await _fetch(client, downloads, span)
                found.update(await asyncio.to_thread(_sizes_in, span, data))

        await asyncio.gather(*(read(span, few) for span in _plan(downloads.files)))
        left = [file for file in downloads.files if file.path not in found and _HEAD_BYTES < file.size_bytes <= _WHOLE_BYTES]
        whole = (_Span(file.offset_bytes, file.offset_bytes + file.size_bytes, (file,)) for file in left)
        await asyncio.gather(*(read(span, very_few) for span in whole))
    return found


def _plan(files: Iterable[Download]) -> list[_Span]:
    """The heads of small files that travelled in one pack are read together."""
    spans: list[_Span] = []
    placed = [file for file in files if file.source is not None]
    for file in sorted(placed, key=lambda file: (file.source, file.offset_bytes)):
        end = file.offset_bytes + min(file.size_bytes, _HEAD_BYTES)
        last = spans[-1] if spans else None
        if last and last.files[0].source == file.source and file.offset_bytes - last.end <= _HEAD_BYTES and end - last.first <= _SPAN_BYTES:
            spans[-1] = _Span(last.first, max(end, last.end), (*last.files, file))
        else:
            spans.append(_Span(file.offset_bytes, end, (file,)))
    return spans


async def _fetch(client: httpx.AsyncClient, downloads: Downloads, span: _Span) -> bytes:
    """The bytes of the span; none where an object that was imported in place is not there any more as it was."""
    file = span.files[0]
    assert file.source is not None
    headers = {"Range": f"bytes={span.first}-{span.end - 1}", **(file.place.headers if file.place else {})}
    try:
        answer = await client.get(downloads.sources[file.source], headers=headers)
        if file.place and answer.status_code in {404, 412}:
            return b""
        return answer.raise_for_status().content
    except httpx.HTTPError as error:
        raise Unavailable(reason="The object store cannot be reached.", retry_after_s=3) from error


def _sizes_in(span: _Span, data: bytes) -> dict[str, Size]:
    view = memoryview(data)
    heads = {file.path: view[file.offset_bytes - span.first :][: file.size_bytes] for file in span.files}
    return {path: size for path, head in heads.items() if (size := read_size(bytes(head)))}


def read_size(head: bytes) -> Size | None:
    """Of the image that begins so, None where these bytes do not tell."""
    try:
        with Image.open(io.BytesIO(head), formats=_FORMATS) as image:
            width, height = image.size
            return (height, width) if _orientation(image.info.get("exif")) in _ON_THEIR_SIDE else (width, height)
    except Exception:  # what a parser raises over damaged bytes has no end
        return None


def _orientation(exif: bytes | None) -> int | None:
    """As EXIF has it; without, or where that is damaged, an image is as it lies."""
    try:
        tags = Image.Exif()
        tags.load(exif)
        return tags.get(ExifTags.Base.Orientation)
    except Exception:
        return None
