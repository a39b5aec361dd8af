"""JSON Lines: one label a line, with everything that there is to say of it. https://jsonlines.org"""

from __future__ import annotations

from collections.abc import Iterable

from aidos.schemas.dataforge.label_schema import LabelSchema
from data_pipelines.dataforge.labelling.errors import LabelFileInvalid
from data_pipelines.dataforge.labelling.formats.common import Files, Known, as_size, decode, only_file, parse_json, to_json
from data_pipelines.dataforge.labelling.models import Record

FILE = "labels.jsonl"


def write(schema: LabelSchema, records: Iterable[Record]) -> dict[str, bytes]:
    """``{"path", "row", "width", "height", "annotator", "value", "data"}`` a line; what is absent is left out."""
    return {FILE: "".join(f"{to_json(_to_line(record))}\n" for record in records).encode()}


def _to_line(record: Record) -> dict[str, object]:
    width, height = record.size or (None, None)
    line = {"path": record.path, "row": record.row, "width": width, "height": height, "annotator": record.annotator or None}
    return {key: each for key, each in (line | {"value": dict(record.value), "data": record.data}).items() if each is not None}


def read(schema: LabelSchema, files: Files, known: Known) -> list[Record]:
    """Raises: LabelFileInvalid."""
    name, data = only_file(files, (".jsonl", ".ndjson"))
    # Only a line feed ends a line: JSON may hold U+2028 and its like unescaped.
    lines = enumerate(decode(name, data).split("\n"), 1)
    return [_from_line(name, number, parse_json(name, line, f"line {number}: ")) for number, line in lines if line.strip()]


def _from_line(file: str, number: int, line: object) -> Record:
    if not isinstance(line, dict) or not isinstance(line.get("path"), str) or not isinstance(line.get("value"), dict):
        raise LabelFileInvalid(file=file, reason=f"line {number}: an object with 'path' and 'value' is needed")
    row = line.get("row")
    if not isinstance(row, int | None) or isinstance(row, bool):
        raise LabelFileInvalid(file=file, reason=f"line {number}: 'row' must be a number")
    size = as_size(file, line.get("width"), line.get("height"))
    return Record(line["path"], line["value"], row, size, str(line.get("annotator") or ""))
