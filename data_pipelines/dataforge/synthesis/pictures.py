"""Files of images in, variations out: their names, labels and annotations, and the figures they are compared by. No Ray."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aidos.schemas.dataforge.synthesis import ImageGenerator
from data_pipelines.dataforge.files.images import encode_image, open_image
from data_pipelines.dataforge.files.kinds import folder_of
from data_pipelines.dataforge.files.pieces import Piece
from data_pipelines.dataforge.files.quarantine import BadFile, Quarantine
from data_pipelines.dataforge.synthesis.augmentation import Picture, Shape, augment, visible

_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "bmp": "BMP", "webp": "WEBP"}
_COPY = re.compile(r"-\d{4}$")
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"/></rdf:RDF></x:xmpmeta>'
)
Read = Callable[[str], bytes]


@dataclass
class Varied:
    """What became of some images."""

    images: int = 0
    shapes: int = 0
    dropped_shapes: int = 0
    unchanged: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    quarantine: Quarantine = field(default_factory=Quarantine)

    def merge(self, other: Varied) -> None:
        for name in ("images", "shapes", "dropped_shapes", "unchanged"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.steps.update(other.steps)
        self.quarantine.merge(other.quarantine)


def vary(
    read: Read, spec: ImageGenerator, seed: int, shapes: Mapping[str, Sequence[Shape]], unit: Sequence[Piece], found: Varied
) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Path, bytes and description of each variation of some images. What one becomes follows from its path, the seed and its unit."""

    def load(path: str) -> Picture:
        image, _ = open_image(read(path))
        folder = folder_of(path)
        return Picture(image, list(shapes.get(path, ())), {folder: 1.0} if folder else {})

    for piece in unit:
        try:
            picture = load(piece.path)
        except BadFile as bad:
            found.quarantine.add(piece.path, str(bad))
            continue
        for copy in range(1, spec.copies + 1):
            random = np.random.default_rng([seed, copy, *hashlib.sha256(piece.path.encode()).digest()])

            def other(picture: Picture = picture, random: np.random.Generator = random) -> Picture:
                try:
                    return load(unit[int(random.integers(len(unit)))].path)
                except BadFile:  # told where its own turn comes
                    return picture

            yield _finish(piece.path, copy, augment(spec.graph, picture, random, other), spec, found)


def _finish(path: str, copy: int, made: Picture, spec: ImageGenerator, found: Varied) -> tuple[str, bytes, dict[str, Any]]:
    stem, _, suffix = path.rpartition(".")
    kind = suffix if suffix.lower() in _FORMATS else "png"
    name = f"{stem}-{copy:04d}.{kind}"
    kept = [shape for each in made.shapes if (shape := visible(each, made.image.size, spec.least_visible))]
    found.images += 1
    found.shapes += len(kept)
    found.dropped_shapes += len(made.shapes) - len(kept)
    found.unchanged += not made.steps
    found.steps.update(made.steps)
    about = {
        "path": name,
        "source": path,
        "synthetic": True,
        "labels": made.labels,
        "steps": made.steps,
        "width": made.image.width,
        "height": made.image.height,
    }
    about["shapes"] = [{"about": shape.about, "box": shape.box, "points": np.round(shape.points, 3).tolist()} for shape in kept]
    return name, encode(made.image, _FORMATS[kind.lower()]), about


def encode(image: Image.Image, format: str) -> bytes:
    """A file's bytes, equal for equal pixels; they say that a program has changed the image (IPTC's digital source type, as XMP)."""
    sink = io.BytesIO()
    shown = image.convert("RGB") if format in {"JPEG", "BMP"} and image.mode == "RGBA" else image
    if format == "PNG":
        about = PngInfo()
        about.add_itxt("XML:com.adobe.xmp", _XMP)
        shown.save(sink, format, pnginfo=about)
    elif format == "BMP":  # it has no place for metadata
        shown.save(sink, format)
    else:
        shown.save(sink, format, quality=95, xmp=_XMP.encode())
    return sink.getvalue()


def origin(path: str) -> str:
    """The source's path without its ending, of a variation's path."""
    return _COPY.sub("", path.rpartition(".")[0])


def read_coco(data: bytes, place: str, paths: Sequence[str]) -> dict[str, list[Shape]]:
    """Boxes and polygons by path. A file's name is its path, or that from the annotations' folder on, or the end of one path only.

    Raises: ValueError where it is no COCO file.
    """
    try:
        coco = json.loads(data)
        images = {image["id"]: str(image["file_name"]) for image in coco["images"]}
        names = {category["id"]: category["name"] for category in coco.get("categories", [])}
        by_name = _by_name(place, paths)
        found: dict[str, list[Shape]] = defaultdict(list)
        for each in coco["annotations"]:
            path = by_name.get(images[each["image_id"]])
            if path is not None:
                found[path] += _shapes(each, names)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{place} is no COCO file with images, annotations and categories: {error!r}") from error
    return dict(found)


def _by_name(place: str, paths: Sequence[str]) -> dict[str, str]:
    folder = place.rpartition("/")[0]
    ends = Counter(path.rpartition("/")[2] for path in paths)
    found = {end: path for path in paths if ends[end := path.rpartition("/")[2]] == 1}
    found |= {path[len(folder) + 1 :]: path for path in paths if folder and path.startswith(f"{folder}/")}
    return found | {path: path for path in paths}


def _shapes(annotation: Mapping[str, Any], names: Mapping[Any, str]) -> list[Shape]:
    about = {"category": names.get(annotation["category_id"], str(annotation["category_id"]))}
    outlines = annotation.get("segmentation")
    if isinstance(outlines, list) and outlines:
        return [Shape(np.array(outline, float).reshape(-1, 2), about, box=False) for outline in outlines]
    left, top, width, height = map(float, annotation["bbox"])
    return [Shape(np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]]), about)]


def write_coco(described: Sequence[Mapping[str, Any]]) -> bytes:
    """The annotations of all variations, by path."""
    names = sorted({shape["about"]["category"] for each in described for shape in each["shapes"]})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(sorted(described, key=lambda each: str(each["path"])), 1):
        images.append({"id": number, "file_name": each["path"], "width": each["width"], "height": each["height"]})
        for shape in each["shapes"]:
            points = np.array(shape["points"])
            low, high = points.min(axis=0), points.max(axis=0)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": names.index(shape["about"]["category"]) + 1,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "area": float(np.prod(high - low)),
                "iscrowd": 0,
            }
            annotations.append(annotation if shape["box"] else annotation | {"segmentation": [points.ravel().tolist()]})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return json.dumps({"info": {"synthetic": True}, "images": images, "annotations": annotations, "categories": categories}).encode()


@dataclass
class Described:
    """Figures of images: a table for people, and pixels [images, 256] for models and distances."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)

    def merge(self, other: Described) -> None:
        self.rows += other.rows
        self.pixels += other.pixels

    def table(self) -> pa.Table:
        return pa.Table.from_pylist([{name: value for name, value in row.items() if name not in {"path", "digest"}} for row in self.rows])

    def chosen(self, wanted: Callable[[str], bool]) -> Described:
        at = [number for number, row in enumerate(self.rows) if wanted(row["path"])]
        return Described([self.rows[number] for number in at], [self.pixels[number] for number in at])

    def matrix(self) -> np.ndarray:
        return np.concatenate(self.pixels) if self.pixels else np.empty((0, 0))


def describe(read: Read, unit: Sequence[Piece]) -> Described:
    """The figures of some images; what is no image has none."""
    found = Described()
    for piece in unit:
        try:
            image, _ = open_image(data := read(piece.path))
            grey = np.asarray(image.convert("L"), dtype=np.float64) / 255
            row = {"path": piece.path, "width": image.width, "height": image.height, "brightness": grey.mean(), "contrast": grey.std()}
            found.rows.append(
                {**row, "label": folder_of(piece.path), "digest": hashlib.sha256(image.convert("RGBA").tobytes()).hexdigest()}
            )
            found.pixels.append(encode_image(data))
        except BadFile:
            continue
    return found
