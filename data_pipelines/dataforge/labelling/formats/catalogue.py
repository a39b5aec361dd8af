"""The formats that labels come and go in, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aidos.schemas.dataforge.label_schema import LabelSchema
from data_pipelines.dataforge.labelling.formats import coco, jsonl, labelstudio, table, voc, yolo
from data_pipelines.dataforge.labelling.formats.common import Files, Known
from data_pipelines.dataforge.labelling.models import Record


@dataclass(frozen=True)
class Format:
    """``write`` gives files by name, ``read`` the records in such files."""

    write: Callable[[LabelSchema, Iterable[Record]], dict[str, bytes]]
    read: Callable[[LabelSchema, Files, Known], list[Record]]


FORMATS: dict[str, Format] = {
    "jsonl": Format(jsonl.write, jsonl.read),
    "csv": Format(table.write, table.read),
    "coco": Format(coco.write, coco.read),
    "yolo": Format(yolo.write, yolo.read),
    "voc": Format(voc.write, voc.read),
    "labelstudio": Format(labelstudio.write, labelstudio.read),
}
