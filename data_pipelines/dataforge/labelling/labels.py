"""Whether a label fits its schema, and the one form in which it is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aidos.schemas.dataforge.label_schema import (
    TIE,
    Box,
    Boxes,
    Classification,
    FreeText,
    LabelSchema,
    MultiLabel,
    Polygon,
    Polygons,
    Preference,
    Question,
    Span,
    Spans,
    Written,
)
from data_pipelines.dataforge.labelling.errors import LabelInvalid
from data_pipelines.dataforge.labelling.models import Item, Size

_OVERHANG_PIXELS = 1.0
"""Tools round the corners of their boxes: so far over the edge of the image is no mistake."""
_BOXES, _POLYGONS, _SPANS = TypeAdapter(list[Box]), TypeAdapter(list[Polygon]), TypeAdapter(list[Span])
_TEXT = TypeAdapter(Written)


def check_value(schema: LabelSchema, value: Mapping[str, Any], item: Item, *, whole: bool = True) -> dict[str, Any]:
    """The answers in canonical form: questions and multi-labels in the schema's order, empty texts left out.

    ``whole=False`` lets required questions be missing: a draft. Raises: LabelInvalid with the field and the reason.
    """
    known = {question.name for question in schema.questions}
    for name in value:
        if name not in known:
            raise LabelInvalid(field=str(name)[:200], reason=f"there is no such question; there are {', '.join(sorted(known))}")
    checked: dict[str, Any] = {}
    for question in schema.questions:
        answer = _check_answer(question, value.get(question.name), item)
        if answer is not None:
            checked[question.name] = answer
        elif question.required and whole:
            raise LabelInvalid(field=question.name, reason="an answer is required")
    return checked


def _check_answer(question: Question, answer: Any, item: Item) -> Any:
    if answer is None:
        return None
    match question:
        case Classification():
            return _one_of(question.name, answer, question.labels)
        case MultiLabel():
            chosen = [_one_of(f"{question.name}[{at}]", each, question.labels) for at, each in enumerate(_list(question.name, answer))]
            return [label for label in question.labels if label in chosen]
        case Boxes():
            return _shapes(question.name, _BOXES, answer, question.labels, lambda box: _inside(item, *_corners(box)))
        case Polygons():
            return _shapes(question.name, _POLYGONS, answer, question.labels, lambda shape: _inside(item, *shape["points"]))
        case Spans():
            return _shapes(question.name, _SPANS, answer, question.labels, lambda span: _in_text(question, item, span))
        case Preference():
            return _one_of(question.name, answer, ["first", "second", *([TIE] if question.ties else [])])
        case FreeText():
            return _written(question, answer)


def _one_of(field: str, answer: Any, allowed: Iterable[str]) -> str:
    if not isinstance(answer, str) or answer not in allowed:
        raise LabelInvalid(field=field, reason=f"must be one of {', '.join(allowed)[:500]}; got {str(answer)[:100]!r}")
    return answer


def _list(field: str, answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise LabelInvalid(field=field, reason=f"must be a list, got {str(answer)[:100]!r}")
    return answer


def _shapes(
    field: str, adapter: TypeAdapter[Any], answer: Any, labels: Iterable[str], outside: Callable[[dict[str, Any]], str | None]
) -> list[dict[str, Any]]:
    shapes = [shape.model_dump(mode="json") for shape in _parsed(field, adapter, answer)]
    for at, shape in enumerate(shapes):
        _one_of(f"{field}[{at}].label", shape["label"], labels)
        if reason := outside(shape):
            raise LabelInvalid(field=f"{field}[{at}]", reason=reason)
    return shapes


def _parsed(field: str, adapter: TypeAdapter[Any], answer: Any) -> Any:
    try:
        return adapter.validate_python(answer)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise LabelInvalid(field=f"{field}{place}", reason=first["msg"]) from error


def _corners(box: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    return (box["x"], box["y"]), (box["x"] + box["width"], box["y"] + box["height"])


def _inside(item: Item, *points: tuple[float, float]) -> str | None:
    """Why the points do not lie in the image. Where a row is labelled, the image may be one that the platform does not have."""
    if item.size is None:
        return None if item.row is not None else "the file is no image that can be read, so nothing can be drawn on it"
    width, height = item.size
    for x, y in points:
        if x > width + _OVERHANG_PIXELS or y > height + _OVERHANG_PIXELS:
            return f"({x}, {y}) lies outside the image of {width} by {height} pixels"
    return None


def text_of(question: Spans, item: Item) -> str | None:
    """The text that spans count in, where the platform has it: a column of the row."""
    text = item.data.get(question.column) if item.data and question.column else None
    return text if isinstance(text, str) else None


def _in_text(question: Spans, item: Item, span: Mapping[str, Any]) -> str | None:
    text = text_of(question, item)
    if text is not None and span["end"] > len(text):
        return f"it ends at {span['end']}, and the text has {len(text)} characters"
    return None


def _written(question: FreeText, answer: Any) -> str | None:
    text: str = _parsed(question.name, _TEXT, answer)
    if len(text) > question.max_characters:
        raise LabelInvalid(field=question.name, reason=f"must have at most {question.max_characters} characters, got {len(text)}")
    return text or None


def draws_on_images(schema: LabelSchema) -> bool:
    """Whether shapes are asked for: then the platform looks into the images itself."""
    return any(isinstance(question, Boxes | Polygons) for question in schema.questions)


def with_told_size(schema: LabelSchema, item: Item, size: Size | None) -> Item:
    """The item with the size that a client or a file tells, where the platform does not look for itself."""
    told = size if item.row is not None or not draws_on_images(schema) else None
    return dataclasses.replace(item, size=item.size or told)


def to_schema(stored: Mapping[str, Any]) -> LabelSchema:
    """The schema as it was stored."""
    return LabelSchema.model_validate(stored)
