"""What the formats have in common: text of a file, questions by kind, files named after images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aidos.schemas.dataforge.label_schema import Boxes, LabelSchema, Polygons, Question
from data_pipelines.dataforge.labelling.errors import FormatCannotHold, ItemUnknown, LabelFileInvalid
from data_pipelines.dataforge.labelling.models import Record, Size

Files = Mapping[str, bytes]
Known = Mapping[str, Size | None]
"""Paths of the items with the sizes of their images, where they are known."""


def decode(file: str, data: bytes) -> str:
    """UTF-8 with or without a byte order mark. Raises: LabelFileInvalid."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelFileInvalid(file=file, reason=f"byte {error.start} is not UTF-8") from error


def parse_json(file: str, text: str | bytes, place: str = "") -> Any:
    """Raises: LabelFileInvalid with the place."""
    try:
        return json.loads(text if isinstance(text, str) else decode(file, text))
    except (ValueError, RecursionError) as error:
        raise LabelFileInvalid(file=file, reason=f"{place}{error}") from error


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def only_file(files: Files, suffixes: tuple[str, ...]) -> tuple[str, bytes]:
    """The one file of a format that has one. Raises: LabelFileInvalid."""
    fitting = [name for name in files if name.endswith(suffixes)]
    if len(fitting) != 1:
        raise LabelFileInvalid(file=", ".join(sorted(files))[:500] or "(none)", reason=f"one file that ends in {suffixes[0]} is needed")
    return fitting[0], files[fitting[0]]


def as_size(file: str, width: Any, height: Any) -> Size | None:
    """Width and height, None where the file does not say. Raises: LabelFileInvalid."""
    if width in (None, "") or height in (None, ""):
        return None
    try:
        size = int(width), int(height)
    except (TypeError, ValueError) as error:
        raise LabelFileInvalid(file=file, reason=f"an image has {str(width)[:50]!r} by {str(height)[:50]!r} pixels") from error
    if not (0 < size[0] <= 10**6 and 0 < size[1] <= 10**6):
        raise LabelFileInvalid(file=file, reason=f"an image has {size[0]} by {size[1]} pixels")
    return size


def geometric(schema: LabelSchema) -> list[Boxes | Polygons]:
    return [question for question in schema.questions if isinstance(question, Boxes | Polygons)]


def only_geometric(schema: LabelSchema, format: str) -> Boxes | Polygons:
    """The one question of boxes or polygons. Raises: FormatCannotHold when the schema asks anything else."""
    questions: list[Question] = list(schema.questions)
    if len(questions) == 1 and isinstance(questions[0], Boxes | Polygons):
        return questions[0]
    raise FormatCannotHold(format=format, what="a schema other than one question of boxes or polygons")


def refuse_rows_and_annotators(records: Iterable[Record], format: str) -> None:
    """Raises: FormatCannotHold for what belongs to a row, or to one of several annotators."""
    for record in records:
        if record.row is not None:
            raise FormatCannotHold(format=format, what=f"labels of rows ({record.path}, row {record.row})")
        if record.annotator:
            raise FormatCannotHold(format=format, what="the answers of single annotators")


def stems(paths: Iterable[str], format: str) -> dict[str, str]:
    """Each path without its last suffix. Raises: FormatCannotHold when two would share a label file."""
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        stem = folder + slash + (name.rsplit(".", 1)[0] or name)
        if owners.setdefault(stem, path) != path:
            raise FormatCannotHold(format=format, what=f"both '{owners[stem]}' and '{path}', whose label files would have one name")
        found[path] = stem
    return found


class Paths:
    """Finds the item that a file means: by its whole path, else by the end of it where only one item fits."""

    def __init__(self, known: Iterable[str], labelling: str = "") -> None:
        self._known = set(known)
        self._labelling = labelling
        self._by_name: dict[str, list[str]] = {}
        for path in self._known:
            self._by_name.setdefault(path.rsplit("/", 1)[-1], []).append(path)

    def find(self, name: str) -> str:
        """Raises: ItemUnknown."""
        if name in self._known:
            return name
        parts = name.replace("\\", "/").split("/")
        fitting = self._by_name.get(parts[-1], [])
        for length in range(2, len(parts) + 1):
            if len(fitting) < 2:
                break
            end = "/".join(parts[-length:])
            fitting = [path for path in fitting if path == end or path.endswith(f"/{end}")] or fitting
        if len(fitting) != 1:
            raise ItemUnknown(path=name[:500], name=self._labelling)
        return fitting[0]


def coordinate(file: str, value: Any) -> float:
    """A number of a file. Raises: LabelFileInvalid."""
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise LabelFileInvalid(file=file, reason=f"{str(value)[:50]!r} is no number") from error
