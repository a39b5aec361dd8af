"""CSV: a row a label, a column a question; answers that are lists stand as JSON in their cell. RFC 4180."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from aidos.schemas.dataforge.label_schema import Classification, FreeText, LabelSchema, Preference, Question
from data_pipelines.dataforge.labelling.errors import LabelFileInvalid
from data_pipelines.dataforge.labelling.formats.common import Files, Known, as_size, decode, only_file, parse_json, to_json
from data_pipelines.dataforge.labelling.models import Record

FILE = "labels.csv"
_FACTS = ("path", "row", "width", "height", "annotator")
csv.field_size_limit(2**24)  # an outline of ten thousand points is one cell


def write(schema: LabelSchema, records: Iterable[Record]) -> dict[str, bytes]:
    """Columns ``path, row, width, height, annotator`` and the questions' names."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*_FACTS, *(question.name for question in schema.questions)])
    for record in records:
        answers = [_to_cell(question, record.value.get(question.name)) for question in schema.questions]
        writer.writerow([record.path, "" if record.row is None else record.row, *(record.size or ("", "")), record.annotator, *answers])
    return {FILE: out.getvalue().encode()}


def _is_scalar(question: Question) -> bool:
    return isinstance(question, Classification | Preference | FreeText)


def _to_cell(question: Question, answer: Any) -> str:
    if answer is None:
        return ""
    return str(answer) if _is_scalar(question) else to_json(answer)


def read(schema: LabelSchema, files: Files, known: Known) -> list[Record]:
    """Needs the column ``path``; columns that are no question's are passed over. Raises: LabelFileInvalid."""
    name, data = only_file(files, (".csv",))
    reader = csv.reader(io.StringIO(decode(name, data), newline=""), strict=True)
    try:
        header = next(reader, [])
        if "path" not in header or len(set(header)) != len(header):
            raise LabelFileInvalid(file=name, reason="the first line must name the columns, each once, 'path' among them")
        return [_from_row(schema, name, reader.line_num, header, row) for row in reader if row]
    except csv.Error as error:
        raise LabelFileInvalid(file=name, reason=f"line {reader.line_num}: {error}") from error


def _from_row(schema: LabelSchema, file: str, line: int, header: list[str], row: list[str]) -> Record:
    if len(row) != len(header):
        raise LabelFileInvalid(file=file, reason=f"line {line}: {len(row)} cells, and the header has {len(header)}")
    cells = dict(zip(header, row, strict=True))
    number = cells.get("row", "")
    if number and not number.isdecimal():
        raise LabelFileInvalid(file=file, reason=f"line {line}: 'row' must be a number, got {number[:50]!r}")
    value = {
        question.name: cell if _is_scalar(question) else parse_json(file, cell, f"line {line}, {question.name}: ")
        for question in schema.questions
        if (cell := cells.get(question.name, ""))
    }
    size = as_size(file, cells.get("width"), cells.get("height"))
    return Record(cells["path"], value, int(number) if number else None, size, cells.get("annotator", ""))
