"""Shapes are held to the size of the image that is there, whatever a client or a file says of it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aidos.schemas.dataforge.label_exchange import LabelsAs
from data_pipelines.dataforge.labelling import projects, service
from data_pipelines.dataforge.labelling.errors import ImagesTooSlow, LabelFileInvalid, LabelInvalid, LabellingNotFound
from data_pipelines.dataforge.labelling.images import read_size
from tests.dataforge.labelling.setting import Setting, picture

BOXES = {"questions": [{"name": "objects", "kind": "boxes", "labels": ["cat", "dog"]}]}
FAR = {"objects": [{"label": "cat", "x": 90, "y": 10, "width": 30, "height": 10}]}
NEAR = {"objects": [{"label": "cat", "x": 60, "y": 10, "width": 30, "height": 10}]}
NOTHING: dict[str, Any] = {"objects": []}


def noise(format: str, size: tuple[int, int], **options: Any) -> bytes:
    """An image that does not compress, so that its file is large."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


@pytest.mark.plain
class TestReadSize:
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
    def test_of_an_image_is_its_width_and_height(self, format: str) -> None:
        assert read_size(noise(format, (70, 50))) == (70, 50)

    @pytest.mark.parametrize(("orientation", "size"), [(1, (70, 50)), (3, (70, 50)), (6, (50, 70)), (8, (50, 70))])
    def test_is_upright(self, orientation: int, size: tuple[int, int]) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert read_size(noise("JPEG", (70, 50), exif=exif)) == size

    @pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP"])
    def test_is_in_the_first_bytes_of_a_large_image(self, format: str) -> None:
        assert read_size(noise(format, (700, 500))[:1000]) == (700, 500)

    @pytest.mark.parametrize(
        "data", [b"", b"cat", b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1\xff\xff", b"II*\0\xff\xff\xff\xff"]
    )
    def test_of_what_is_no_image_is_none(self, data: bytes) -> None:
        assert read_size(data) is None


@pytest.mark.postgres
class TestShapes:
    async def test_outside_the_image_are_refused_whatever_the_client_says(self, pets: Setting) -> None:
        await pets.make_over({"a.png": picture(100, 80), "b.png": picture(200, 80)}, schema=BOXES)
        ada = pets.annotator("ada")
        asked = await pets.next(ada)
        assert asked.item.size == (100, 80)
        with pytest.raises(LabelInvalid, match=r"\(120.0, 20.0\) lies outside the image of 100 by 80"):
            await pets.call(service.submit, ada, "pets", asked.id, FAR, (1000, 1000))
        with pytest.raises(LabelInvalid):
            await pets.call(service.save_draft, ada, "pets", asked.id, FAR)
        await pets.submit(ada, asked.id, NEAR)
        await pets.answer(ada, FAR)  # the second image is wider

    async def test_are_read_from_any_format_and_size_of_file(self, pets: Setting) -> None:
        files = {
            **{f"{format}.img": noise(format, (400, 300)) for format in ("PNG", "WEBP", "TIFF", "BMP")},
            "exif.jpg": noise("JPEG", (70, 50), exif=b"Exif\0\0" + bytes(60_000), comment=b"x" * 60_000),
            "small.gif": noise("GIF", (7, 5)),
        }
        assert len(files["WEBP.img"]) > 2**16 and len(files["TIFF.img"]) > 2**16
        await pets.make_over(files, schema=BOXES)
        sizes = {task.item.path: task.item.size for task in await pets.tasks()}
        assert sizes == {**dict.fromkeys(files, (400, 300)), "exif.jpg": (70, 50), "small.gif": (7, 5)}

    async def test_cannot_be_drawn_on_what_is_no_image(self, pets: Setting) -> None:
        await pets.make_over({"a.png": b"not an image", "b.png": b"", "c.png": picture(100, 80)}, schema=BOXES)
        ada = pets.annotator("ada")
        for _ in range(2):
            asked = await pets.next(ada)
            with pytest.raises(LabelInvalid, match="no image that can be read"):
                await pets.call(service.submit, ada, "pets", asked.id, NEAR, (100, 80))
            await pets.submit(ada, asked.id, NOTHING)
        await pets.answer(ada, NEAR)

    async def test_of_a_file_for_another_size_of_the_image_are_refused(self, pets: Setting) -> None:
        await pets.make_over({"a.png": picture(100, 80)}, schema=BOXES)
        line = {"path": "a.png", "width": 200, "height": 160, "value": NEAR}
        files = {"labels.jsonl": json.dumps(line).encode()}
        with pytest.raises(LabelFileInvalid, match="for an image of 200 by 160 pixels, and it has 100 by 80"):
            await service.import_labels(
                pets.transaction, pets.transaction, pets.owner, pets.objects, "pets", "jsonl", files, None, LabelsAs.LABELS
            )

    async def test_of_more_images_than_can_be_looked_into_are_refused(self, pets: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(projects, "_MOST_S", 0)
        with pytest.raises(ImagesTooSlow, match="Of 1 images 0"):
            await pets.make_over({"a.png": picture(100, 80)}, schema=BOXES)
        with pytest.raises(LabellingNotFound):
            await pets.call(service.get_labelling, pets.owner, "pets")
