"""YOLO detection and segmentation: https://docs.ultralytics.com/datasets/detect/ and …/segment/.

One text file an image, coordinates as shares of its size. ``aidos.json`` beside ``data.yaml`` keeps what the text files
do not say: the images' whole names and sizes. Without it the sizes are those that the items are known to have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from aidos.schemas.dataforge.label_schema import Boxes, LabelSchema, Polygons
from data_pipelines.dataforge.labelling.errors import FormatCannotHold, LabelFileInvalid
from data_pipelines.dataforge.labelling.formats.common import (
    Files,
    Known,
    as_size,
    coordinate,
    decode,
    only_geometric,
    parse_json,
    refuse_rows_and_annotators,
    stems,
    to_json,
)
from data_pipelines.dataforge.labelling.models import Record, Size

_LABELS, _SIDECAR, _CLASSES = "labels/", "aidos.json", "data.yaml"


def write(schema: LabelSchema, records: Iterable[Record]) -> dict[str, bytes]:
    """Raises: FormatCannotHold where a size is unknown, and for anything but one question of shapes, decided."""
    question = only_geometric(schema, "yolo")
    records = list(records)
    refuse_rows_and_annotators(records, "yolo")
    names = stems((record.path for record in records), "yolo")
    files, images = {}, {}
    for record in records:
        if record.size is None:
            raise FormatCannotHold(format="yolo", what=f"an image whose size is not known ('{record.path}')")
        answered = question.name in record.value
        lines = [_to_line(question, shape, record.size) for shape in record.value.get(question.name, ())]
        files[f"{_LABELS}{names[record.path]}.txt"] = "".join(f"{line}\n" for line in lines).encode()
        images[record.path] = {"width": record.size[0], "height": record.size[1], "answered": answered}
    classes = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(question.labels))}
    return files | {
        _CLASSES: yaml.safe_dump(classes, allow_unicode=True, sort_keys=False).encode(),
        _SIDECAR: to_json({"question": question.name, "images": images}).encode(),
    }


def _to_line(question: Boxes | Polygons, shape: Mapping[str, Any], size: Size) -> str:
    width, height = size
    if isinstance(question, Polygons):
        numbers = [number for x, y in shape["points"] for number in (x / width, y / height)]
    else:
        centre = (shape["x"] + shape["width"] / 2) / width, (shape["y"] + shape["height"] / 2) / height
        numbers = [*centre, shape["width"] / width, shape["height"] / height]
    return " ".join([str(question.labels.index(shape["label"])), *map(repr, numbers)])


def read(schema: LabelSchema, files: Files, known: Known) -> list[Record]:
    """Raises: LabelFileInvalid, FormatCannotHold."""
    question = only_geometric(schema, "yolo")
    classes = _read_classes(question, files)
    images = _read_images(files, known)
    names = stems(images, "yolo")
    records = []
    for path, (size, answered) in images.items():
        name = f"{_LABELS}{names[path]}.txt"
        if name not in files:
            continue
        if size is None:
            raise LabelFileInvalid(file=name, reason=f"the size of '{path}' is not known, so shares of it mean nothing")
        lines = [line.split() for line in decode(name, files[name]).splitlines() if line.strip()]
        shapes = [_from_line(question, name, line, classes, size) for line in lines]
        records.append(Record(path, {question.name: shapes} if shapes or answered else {}, None, size))
    unread = {name for name in files if name.startswith(_LABELS)} - {f"{_LABELS}{stem}.txt" for stem in names.values()}
    if unread:
        raise LabelFileInvalid(file=min(unread), reason="no image of that name is known")
    return records


def _read_classes(question: Boxes | Polygons, files: Files) -> list[str]:
    if _CLASSES not in files:
        return list(question.labels)
    try:
        names = yaml.safe_load(decode(_CLASSES, files[_CLASSES]))["names"]
        classes = [str(names[number]) for number in range(len(names))]
    except (yaml.YAMLError, KeyError, TypeError, RecursionError) as error:
        raise LabelFileInvalid(file=_CLASSES, reason="it has no list 'names'") from error
    for label in classes:
        if label not in question.labels:
            raise LabelFileInvalid(file=_CLASSES, reason=f"the schema has no label '{label[:100]}'")
    return classes


def _read_images(files: Files, known: Known) -> dict[str, tuple[Size | None, bool]]:
    if _SIDECAR not in files:
        return {path: (size, True) for path, size in known.items()}
    try:
        listed = parse_json(_SIDECAR, files[_SIDECAR])["images"].items()
        return {path: (as_size(_SIDECAR, image["width"], image["height"]), bool(image["answered"])) for path, image in listed}
    except (KeyError, TypeError, AttributeError) as error:
        raise LabelFileInvalid(file=_SIDECAR, reason=f"it lacks {error}, or has it in another form") from error


def _from_line(question: Boxes | Polygons, file: str, line: list[str], classes: list[str], size: Size) -> dict[str, Any]:
    if not line[0].isdecimal() or int(line[0]) >= len(classes):
        raise LabelFileInvalid(file=file, reason=f"{line[0][:50]!r} is no class; there are {len(classes)}")
    label, shares = classes[int(line[0])], [coordinate(file, number) for number in line[1:]]
    width, height = size
    if isinstance(question, Polygons):
        if len(shares) < 6 or len(shares) % 2:
            raise LabelFileInvalid(file=file, reason=f"an outline needs pairs of numbers, three at least; got {len(shares)} numbers")
        points = zip(shares[::2], shares[1::2], strict=True)
        return {"label": label, "points": [[round(x * width, 4), round(y * height, 4)] for x, y in points]}
    if len(shares) != 4:
        raise LabelFileInvalid(file=file, reason=f"a box needs four numbers, got {len(shares)}")
    w, h = shares[2] * width, shares[3] * height
    # Half a width taken off again may leave a trace below zero.
    corner = max(0.0, round(shares[0] * width - w / 2, 4)), max(0.0, round(shares[1] * height - h / 2, 4))
    return {"label": label, "x": corner[0], "y": corner[1], "width": round(w, 4), "height": round(h, 4)}
