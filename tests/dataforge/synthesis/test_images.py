"""Variations of images: the graph does what it says, by its seed, and boxes stay on what they are around."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits

from aidos.client import Client
from aidos.schemas.dataforge.synthesis import ImageGenerator
from aidos.transfers.directories import pull, push
from data_pipelines.dataforge.synthesis.augmentation import Picture, Shape, area, augment, clip, visible
from data_pipelines.dataforge.synthesis.pictures import encode, read_coco
from tests.dataforge.synthesis.conftest import Ask

SIZE = (80, 60)


def graph(*nodes: dict[str, Any]) -> ImageGenerator:
    return ImageGenerator.model_validate({"make": "images", "graph": list(nodes)})


def square(left: int = 24, top: int = 20, side: int = 16) -> Picture:
    """White on black, with a box around what is white."""
    pixels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    pixels[top : top + side, left : left + side] = 255
    corners = np.array([[left, top], [left + side, top], [left + side, top + side], [left, top + side]], float)
    return Picture(Image.fromarray(pixels), [Shape(corners, {"category": "square"})], {"white": 1.0})


def vary(picture: Picture, seed: int, *nodes: dict[str, Any]) -> Picture:
    return augment(graph(*nodes).graph, picture, np.random.default_rng(seed), lambda: Picture(picture.image, [], {"other": 1.0}))


GEOMETRY: list[dict[str, Any]] = [
    {"op": "flip"},
    {"op": "flip", "axis": "vertical"},
    {"op": "rotate", "degrees": [-180, 180]},
    {"op": "crop", "area": [0.3, 1.0]},
    {"op": "affine", "scale": [0.7, 1.4], "shear": [-20, 20], "shift": [-0.2, 0.2]},
]


@pytest.mark.plain
class TestGeometry:
    @pytest.mark.parametrize("node", GEOMETRY, ids=lambda node: str(node["op"]))
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 10_000), left=st.integers(0, 60), top=st.integers(0, 40))
    def test_takes_boxes_along_with_what_they_are_around(self, node: dict[str, Any], seed: int, left: int, top: int) -> None:
        made = vary(square(left, top), seed, node)
        inside = clip(made.shapes[0].points, SIZE)
        bright = np.argwhere(np.asarray(made.image) > 127)[:, ::-1]
        if area(inside) < 30:
            return
        assert np.abs(inside.min(axis=0) - bright.min(axis=0)).max() < 3
        assert np.abs(inside.max(axis=0) - (bright.max(axis=0) + 1)).max() < 3

    def test_drops_what_is_no_longer_visible(self) -> None:
        gone = Shape(np.array([[-20.0, 0], [-10, 0], [-10, 9], [-20, 9]]))
        half = Shape(np.array([[-5.0, 0], [5, 0], [5, 10], [-5, 10]]))
        assert visible(gone, SIZE, 0.0) is None and visible(half, SIZE, 0.6) is None
        kept = visible(half, SIZE, 0.4)
        assert kept is not None and kept.points.tolist() == [[0, 0], [5, 0], [5, 10], [0, 10]]


@pytest.mark.plain
class TestFiles:
    @pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
    def test_say_that_they_are_synthetic(self, format: str) -> None:
        image = Image.open(io.BytesIO(encode(square().image, format)))
        assert image.format == format and "algorithmicallyEnhanced" in str(image.getxmp())


@pytest.mark.plain
class TestGraph:
    ALL = (*GEOMETRY, {"op": "colour"}, {"op": "blur"}, {"op": "noise"}, {"op": "cutout", "holes": 2}, {"op": "mixup"})

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
    def test_is_the_same_for_the_same_seed_in_every_mode(self, mode: str) -> None:
        picture = Picture(square().image.convert(mode if mode != "I;16" else "I").convert(mode), [], {})
        one, two, other = (vary(picture, seed, *self.ALL).image for seed in (1, 1, 2))
        assert one.tobytes() == two.tobytes() != other.tobytes() and one.size == SIZE

    def test_chooses_by_chance_and_weight(self) -> None:
        choice = {"op": "one_of", "nodes": [{"op": "blur"}, {"op": "noise"}], "weights": [3, 1], "p": 0.5}
        steps = [vary(square(), seed, choice).steps for seed in range(600)]
        assert sum(map(len, steps)) == pytest.approx(300, abs=50)
        assert steps.count(["blur"]) == pytest.approx(3 * steps.count(["noise"]), rel=0.4)

    def test_mixes_labels_as_it_mixes_pixels(self) -> None:
        made = vary(square(), 0, {"op": "mixup", "share": [0.3, 0.3]})
        assert made.labels == pytest.approx({"white": 0.7, "other": 0.3})

    def test_is_refused_where_it_means_nothing(self) -> None:
        for node in ({"op": "melt"}, {"op": "flip", "p": 0}, {"op": "one_of", "nodes": [{"op": "blur"}], "weights": [1, 2]}):
            with pytest.raises(ValidationError):
                graph(node)
        with pytest.raises(ValueError, match="no COCO file"):
            read_coco(b'{"images": 1}', "a.json", [])


@pytest.mark.postgres
class TestImages:
    def test_become_a_commit_with_labels_boxes_and_a_report(self, client: Client, synthesize: Ask, tmp_path: Path) -> None:
        digits = load_digits(n_class=3)
        annotations = []
        for number, (pixels, label) in enumerate(zip(digits.images[:90], digits.target[:90], strict=True)):
            path = tmp_path / "digits" / f"train/{label}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15.9).astype(np.uint8)).resize((32, 32)).save(path)
            annotations.append({"id": number + 1, "image_id": number, "category_id": 1, "bbox": [8, 8, 16, 16]})
        images = [{"id": number, "file_name": f"train/{label}/{number}.png"} for number, label in enumerate(digits.target[:90])]
        coco = {"images": [{**each, "file_name": str(each["file_name"])} for each in images], "annotations": annotations}
        (tmp_path / "digits/boxes.json").write_text(json.dumps({**coco, "categories": [{"id": 1, "name": "digit"}]}))
        (tmp_path / "digits/bad.png").write_text("none")
        push(tmp_path / "digits", "digits", client=client)
        nodes = [{"op": "rotate", "degrees": [-10, 10]}, {"op": "noise", "p": 0.5}]
        report = synthesize("digits", out="varied", generator={"make": "images", "copies": 2, "graph": nodes, "boxes": "boxes.json"})
        pull("varied", tmp_path / "varied", client=client)
        made = sorted((tmp_path / "varied").rglob("*.png"))
        assert len(made) == 180 and {Image.open(path).size for path in made} == {(32, 32)}
        written = json.loads((tmp_path / "varied/annotations.json").read_text())
        assert len(written["images"]) == len(written["annotations"]) == 180 and written["categories"][0]["name"] == "digit"
        lines = [json.loads(line) for line in (tmp_path / "varied/labels-00000.jsonl").read_text().splitlines()]
        assert lines[0]["labels"] == {lines[0]["source"].split("/")[1]: 1.0} and lines[0]["steps"][0] == "rotate"
        result = report.result or {}
        assert result["made"]["images"] == 180 and result["steps"]["rotate"] == 180
        assert result["quarantine"]["files"][0]["path"] == "bad.png"
        assert result["learning"]["train_on_synthetic"] > 0.8 and result["nearest"]["copies_synthetic"] == 0
        assert {column["column"] for column in result["columns"]} >= {"brightness", "contrast", "label"}
        assert client.datasets.show("varied", "main").metadata["generator"]["make"] == "images"
        assert Image.open(io.BytesIO(made[0].read_bytes())).format == "PNG"
        assert "algorithmicallyEnhanced" in str(Image.open(made[0]).getxmp()) and all(line["synthetic"] for line in lines)
        assert written["info"] == {"synthetic": True}
