"""COCO object detection: https://cocodataset.org/#format-data. ``attributes`` is the place of what COCO has no field for.

A question is a ``supercategory``. Answers that are no shapes, and who gave them, stand in the image's ``attributes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aidos.schemas.dataforge.label_schema import Boxes, LabelSchema, Polygons
from data_pipelines.dataforge.labelling.errors import FormatCannotHold, LabelFileInvalid
from data_pipelines.dataforge.labelling.formats.common import Files, Known, as_size, coordinate, geometric, only_file, parse_json, to_json
from data_pipelines.dataforge.labelling.models import Record

FILE = "coco.json"


def write(schema: LabelSchema, records: Iterable[Record]) -> dict[str, bytes]:
    """Raises: FormatCannotHold for labels of rows."""
    questions = geometric(schema)
    categories = {(q.name, label): number for number, (q, label) in enumerate(((q, label) for q in questions for label in q.labels), 1)}
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for record in records:
        if record.row is not None:
            raise FormatCannotHold(format="coco", what=f"labels of rows ({record.path}, row {record.row})")
        image = images.setdefault(record.path, _to_image(len(images) + 1, record))
        image["attributes"]["answers"].append(_to_answers(questions, record))
        for question in questions:
            for shape in record.value.get(question.name, ()):
                category = categories[question.name, shape["label"]]
                attributes = {"annotator": record.annotator} if record.annotator else {}
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "iscrowd": 0, **_to_shape(shape)}
                    | {"attributes": attributes}
                )
    listed = [{"id": number, "name": label, "supercategory": name} for (name, label), number in categories.items()]
    return {FILE: to_json({"images": list(images.values()), "annotations": annotations, "categories": listed}).encode()}


def _to_image(id: int, record: Record) -> dict[str, Any]:
    size = dict(zip(("width", "height"), record.size, strict=True)) if record.size else {}
    return {"id": id, "file_name": record.path, **size, "attributes": {"answers": []}}


def _to_answers(questions: list[Boxes | Polygons], record: Record) -> dict[str, Any]:
    """What the annotations cannot say: who answered, what is no shape, and that there was nothing to be seen."""
    shapes = {question.name for question in questions}
    kept = {name: answer for name, answer in record.value.items() if name not in shapes or not answer}
    return {"annotator": record.annotator, "value": kept}


def _to_shape(shape: Mapping[str, Any]) -> dict[str, Any]:
    if "points" not in shape:
        box = [shape["x"], shape["y"], shape["width"], shape["height"]]
        return {"bbox": box, "area": box[2] * box[3], "segmentation": []}
    xs, ys = zip(*shape["points"], strict=True)
    area = abs(sum(x * shape["points"][i - 1][1] - shape["points"][i - 1][0] * y for i, (x, y) in enumerate(shape["points"]))) / 2
    ring = [number for point in shape["points"] for number in point]
    return {"bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)], "area": area, "segmentation": [ring]}


def read(schema: LabelSchema, files: Files, known: Known) -> list[Record]:
    """Files of other tools too: an image without annotations is one in which nothing is to be seen. Raises: LabelFileInvalid."""
    name, data = only_file(files, (".json",))
    document = parse_json(name, data)
    try:
        return _from_document(schema, name, document)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise LabelFileInvalid(file=name, reason=f"it lacks {error}, or has it in another form") from error


def _from_document(schema: LabelSchema, file: str, document: Any) -> list[Record]:
    categories = {category["id"]: category for category in document["categories"]}
    records: dict[tuple[int, str], Record] = {}
    for image in document["images"]:
        size = as_size(file, image.get("width"), image.get("height"))
        for answers in (image.get("attributes") or {}).get("answers") or [{"annotator": "", "value": _nothing(schema)}]:
            record = Record(str(image["file_name"]), dict(answers["value"]), None, size, str(answers["annotator"]))
            records[image["id"], record.annotator] = record
    for annotation in document["annotations"]:
        category = categories[annotation["category_id"]]
        question = _question_of(schema, file, category, annotation)
        annotator = str((annotation.get("attributes") or {}).get("annotator") or "")
        value: Any = records[annotation["image_id"], annotator].value
        value.setdefault(question.name, []).extend(_from_annotation(question, file, category["name"], annotation))
    return list(records.values())


def _nothing(schema: LabelSchema) -> dict[str, Any]:
    questions = geometric(schema)
    return {questions[0].name: []} if len(questions) == 1 else {}


def _question_of(schema: LabelSchema, file: str, category: Mapping[str, Any], annotation: Mapping[str, Any]) -> Boxes | Polygons:
    """The question named by the supercategory, else the one that has the label; outlines go to polygons where both have."""
    fitting = [question for question in geometric(schema) if category["name"] in question.labels]
    if not fitting:
        raise LabelFileInvalid(file=file, reason=f"no question of the schema has the label '{str(category['name'])[:100]}'")
    outlined = Polygons if annotation.get("segmentation") else Boxes
    fitting.sort(key=lambda question: (question.name != category.get("supercategory"), not isinstance(question, outlined)))
    return fitting[0]


def _from_annotation(question: Boxes | Polygons, file: str, label: str, annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
    if isinstance(question, Boxes):
        x, y, width, height = (coordinate(file, number) for number in annotation["bbox"])
        return [{"label": label, "x": x, "y": y, "width": width, "height": height}]
    if not isinstance(annotation.get("segmentation"), list) or not annotation["segmentation"]:
        raise LabelFileInvalid(file=file, reason=f"annotation {annotation.get('id')} has no outline (run-length masks are not outlines)")
    rings = [[coordinate(file, number) for number in ring] for ring in annotation["segmentation"]]
    return [{"label": label, "points": [list(point) for point in zip(ring[::2], ring[1::2], strict=False)]} for ring in rings]
