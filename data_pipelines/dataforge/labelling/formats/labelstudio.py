"""Label Studio's JSON: https://labelstud.io/guide/task_format and …/guide/export#Label-Studio-JSON-format-of-annotated-tasks.

A question is a control tag (``from_name``). Shapes are in percent of the image. An annotation's ``aidos`` keeps what the
format has no form for: who answered, the size of an image without shapes, empty answers and ties.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aidos.schemas.dataforge.label_schema import (
    Boxes,
    Classification,
    FreeText,
    LabelSchema,
    MultiLabel,
    Polygons,
    Preference,
    Question,
    Spans,
)
from data_pipelines.dataforge.labelling.errors import FormatCannotHold, LabelFileInvalid
from data_pipelines.dataforge.labelling.formats.common import Files, Known, Paths, as_size, coordinate, only_file, parse_json, to_json
from data_pipelines.dataforge.labelling.models import Record, Size

FILE = "labelstudio.json"
_SIDES = {"first": "left", "second": "right"}
_TYPES = {Classification: "choices", MultiLabel: "choices", Boxes: "rectanglelabels", Polygons: "polygonlabels", Spans: "labels",
          Preference: "pairwise", FreeText: "textarea"}  # fmt: skip


def write(schema: LabelSchema, records: Iterable[Record]) -> dict[str, bytes]:
    """Raises: FormatCannotHold for shapes in an image whose size is not known."""
    tasks: dict[tuple[str, int | None], dict[str, Any]] = {}
    for record in records:
        row = {} if record.row is None else {"row": record.row}
        task = tasks.setdefault(
            (record.path, record.row),
            {"id": len(tasks) + 1, "data": {**(record.data or {}), "path": record.path, **row}, "annotations": []},
        )
        task["annotations"].append(_to_annotation(schema, record, len(task["annotations"]) + 1))
    return {FILE: to_json(list(tasks.values())).encode()}


def _to_annotation(schema: LabelSchema, record: Record, id: int) -> dict[str, Any]:
    results, kept = [], {}
    for question in schema.questions:
        answer = record.value.get(question.name)
        made = [] if answer is None else list(_to_results(question, answer, record))
        if answer is not None and not made:
            kept[question.name] = answer
        results += [{"id": f"{question.name}-{at}", **_control(question), **each} for at, each in enumerate(made)]
    extra = {"annotator": record.annotator, "size": list(record.size) if record.size else None, "value": kept}
    return {"id": id, "ground_truth": not record.annotator, "result": results, "aidos": extra}


def _control(question: Question) -> dict[str, str]:
    return {"from_name": question.name, "to_name": "item", "type": _TYPES[type(question)]}


def _to_results(question: Question, answer: Any, record: Record) -> Iterator[dict[str, Any]]:
    """One result, or one a shape; none for what the format cannot say."""
    match question:
        case Classification():
            yield {"value": {"choices": [answer]}}
        case MultiLabel() if answer:
            yield {"value": {"choices": answer}}
        case FreeText():
            yield {"value": {"text": [answer]}}
        case Preference() if answer in _SIDES:
            yield {"value": {"selected": _SIDES[answer]}}
        case Spans():
            for span in answer:
                yield {"value": {"start": span["start"], "end": span["end"], "labels": [span["label"]]}}
        case Boxes() | Polygons():
            for shape in answer:
                yield _to_percent(question, shape, record)


def _to_percent(question: Boxes | Polygons, shape: Mapping[str, Any], record: Record) -> dict[str, Any]:
    if record.size is None:
        raise FormatCannotHold(format="labelstudio", what=f"shapes in an image whose size is not known ('{record.path}')")
    width, height = record.size
    place = {"original_width": width, "original_height": height, "image_rotation": 0}
    if isinstance(question, Polygons):
        points = [[x / width * 100, y / height * 100] for x, y in shape["points"]]
        return {**place, "value": {"points": points, "closed": True, "polygonlabels": [shape["label"]]}}
    across = {name: shape[name] / width * 100 for name in ("x", "width")}
    down = {name: shape[name] / height * 100 for name in ("y", "height")}
    return {**place, "value": {**across, **down, "rotation": 0, "rectanglelabels": [shape["label"]]}}


def read(schema: LabelSchema, files: Files, known: Known) -> list[Record]:
    """Exports of Label Studio too: the item is found by the end of one of the task's addresses. Raises: LabelFileInvalid."""
    name, data = only_file(files, (".json",))
    tasks, paths = parse_json(name, data), Paths(known)
    try:
        return [
            _from_annotation(schema, name, task, annotation, paths)
            for task in tasks
            for annotation in task["annotations"]
            if not annotation.get("was_cancelled")
        ]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise LabelFileInvalid(file=name, reason=f"it lacks {error}, or has it in another form") from error


def _from_annotation(schema: LabelSchema, file: str, task: Any, annotation: Any, paths: Paths) -> Record:
    extra = annotation.get("aidos") or {}
    size = as_size(file, *extra["size"]) if extra.get("size") else None
    value: dict[str, Any] = dict(extra.get("value") or {})
    for result in annotation["result"]:
        question = _question_of(schema, file, result)
        size = size or as_size(file, result.get("original_width"), result.get("original_height"))
        answer = _from_result(question, file, result, size)
        if isinstance(answer, list):
            value.setdefault(question.name, []).extend(answer)
        else:
            value[question.name] = answer
    row = task["data"].get("row")
    return Record(_path_of(task["data"], paths), value, row if isinstance(row, int) else None, size, _annotator(annotation, extra))


def _path_of(data: Mapping[str, Any], paths: Paths) -> str:
    if isinstance(data.get("path"), str):
        return str(data["path"])
    texts = [text for text in data.values() if isinstance(text, str)]
    return paths.find(next(iter(texts), ""))


def _annotator(annotation: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    if "annotator" in extra:
        return str(extra["annotator"])
    by = annotation.get("completed_by")
    named = by.get("email") or by.get("id") if isinstance(by, dict) else by
    return "" if annotation.get("ground_truth") or named is None else str(named)


def _question_of(schema: LabelSchema, file: str, result: Mapping[str, Any]) -> Question:
    for question in schema.questions:
        if question.name == result["from_name"] and _TYPES[type(question)] == result["type"]:
            return question
    raise LabelFileInvalid(file=file, reason=f"the schema has no question '{result['from_name']}' for results of type '{result['type']}'")


def _from_result(question: Question, file: str, result: Mapping[str, Any], size: Size | None) -> Any:
    value = result["value"]
    match question:
        case Classification():
            return value["choices"][0]
        case MultiLabel():
            return list(value["choices"])
        case FreeText():
            return "\n".join(value["text"]) if isinstance(value["text"], list) else value["text"]
        case Preference():
            return {side: name for name, side in _SIDES.items()}[value["selected"]]
        case Spans():
            return [{"label": value["labels"][0], "start": value["start"], "end": value["end"]}]
        case _:
            return [_from_percent(question, file, value, size)]


def _from_percent(question: Boxes | Polygons, file: str, value: Mapping[str, Any], size: Size | None) -> dict[str, Any]:
    if size is None:
        raise LabelFileInvalid(file=file, reason="a shape in percent needs original_width and original_height")
    if value.get("rotation"):
        raise LabelFileInvalid(file=file, reason="a box is rotated; only upright ones can be kept")
    across, down = size[0] / 100, size[1] / 100
    if isinstance(question, Polygons):
        points = [[round(coordinate(file, x) * across, 4), round(coordinate(file, y) * down, 4)] for x, y in value["points"]]
        return {"label": value["polygonlabels"][0], "points": points}
    box = {
        name: round(coordinate(file, value[name]) * share, 4)
        for name, share in zip(("x", "y", "width", "height"), (across, down) * 2, strict=True)
    }
    return {"label": value["rectanglelabels"][0], **box}
