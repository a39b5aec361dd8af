"""Pascal VOC: an XML file an image, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf, section 8.

Coordinates keep their decimals and count from 0, as annotation tools write them. Outlines stand in ``polygon`` beside the
``bndbox`` around them, as Roboflow and LabelMe do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from defusedxml import ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from aidos.schemas.dataforge.label_schema import Boxes, LabelSchema, Polygons
from data_pipelines.dataforge.labelling.errors import FormatCannotHold, LabelFileInvalid
from data_pipelines.dataforge.labelling.formats.common import (
    Files,
    Known,
    as_size,
    coordinate,
    only_geometric,
    refuse_rows_and_annotators,
    stems,
)
from data_pipelines.dataforge.labelling.models import Record

_FOLDER = "Annotations/"
_NOT_XML = {"\ufffe", "\uffff"}


def write(schema: LabelSchema, records: Iterable[Record]) -> dict[str, bytes]:
    """Raises: FormatCannotHold for anything but one question of shapes, decided."""
    question = only_geometric(schema, "voc")
    records = list(records)
    refuse_rows_and_annotators(records, "voc")
    names = stems((record.path for record in records), "voc")
    return {f"{_FOLDER}{names[record.path]}.xml": _to_xml(question, record) for record in records}


def _to_xml(question: Boxes | Polygons, record: Record) -> bytes:
    if _NOT_XML.intersection(record.path):
        raise FormatCannotHold(format="voc", what=f"a path with a character that XML has no form for ('{record.path}')")
    root = Element("annotation")
    folder, _, name = record.path.rpartition("/")
    _add(root, folder=folder, filename=name)
    if record.size:
        _add(SubElement(root, "size"), width=record.size[0], height=record.size[1])
    _add(root, segmented=int(isinstance(question, Polygons)))
    if question.name not in record.value:
        _add(root, unanswered=1)
    for shape in record.value.get(question.name, ()):
        _add_object(SubElement(root, "object"), shape)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _add(parent: Element, **texts: Any) -> None:
    for tag, text in texts.items():
        SubElement(parent, tag).text = str(text)


def _add_object(parent: Element, shape: Mapping[str, Any]) -> None:
    _add(parent, name=shape["label"], pose="Unspecified", truncated=0, difficult=0)
    points = shape.get("points") or [(shape["x"], shape["y"]), (shape["x"] + shape["width"], shape["y"] + shape["height"])]
    xs, ys = zip(*points, strict=True)
    _add(SubElement(parent, "bndbox"), xmin=min(xs), ymin=min(ys), xmax=max(xs), ymax=max(ys))
    if "points" in shape:
        numbered = {f"{axis}{at}": number for at, point in enumerate(points, 1) for axis, number in zip("xy", point, strict=True)}
        _add(SubElement(parent, "polygon"), **numbered)


def read(schema: LabelSchema, files: Files, known: Known) -> list[Record]:
    """Raises: LabelFileInvalid, also for XML that names entities or documents outside itself."""
    question = only_geometric(schema, "voc")
    return [_from_xml(question, name, data) for name, data in files.items() if name.endswith(".xml")]


def _from_xml(question: Boxes | Polygons, file: str, data: bytes) -> Record:
    try:
        root = SafeTree.fromstring(data, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise LabelFileInvalid(file=file, reason=f"it is not plain XML: {error}") from error
    folder, name = root.findtext("folder") or "", root.findtext("filename")
    if not name:
        raise LabelFileInvalid(file=file, reason="it has no 'filename'")
    size = as_size(file, root.findtext("size/width"), root.findtext("size/height"))
    shapes = [_from_object(question, file, each) for each in root.iter("object")]
    value = {} if root.find("unanswered") is not None else {question.name: shapes}
    return Record(f"{folder}/{name}" if folder else name, value, None, size)


def _from_object(question: Boxes | Polygons, file: str, parent: Element) -> dict[str, Any]:
    label = parent.findtext("name") or ""
    if isinstance(question, Polygons):
        outline = parent.find("polygon")
        if outline is None:
            raise LabelFileInvalid(file=file, reason=f"object '{label[:100]}' has no 'polygon'")
        numbers = {each.tag: coordinate(file, each.text) for each in outline}
        count = len(numbers) // 2
        if set(numbers) != {f"{axis}{at}" for axis in "xy" for at in range(1, count + 1)}:
            raise LabelFileInvalid(file=file, reason=f"the 'polygon' of object '{label[:100]}' needs x1, y1, x2, y2 and so on")
        return {"label": label, "points": [[numbers[f"x{at}"], numbers[f"y{at}"]] for at in range(1, count + 1)]}
    left, top, right, bottom = (coordinate(file, parent.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    return {"label": label, "x": left, "y": top, "width": round(right - left, 4), "height": round(bottom - top, 4)}
