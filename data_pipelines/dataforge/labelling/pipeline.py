"""First answers of a deployed endpoint: the report kind ``prelabel``, items in batches over Ray Data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.http.wire import Request, quote_parameter
from aidos.prediction import predict
from aidos.schemas.dataforge.label_schema import Boxes, Classification, LabelSchema, MultiLabel, Spans
from aidos.schemas.dataforge.labelling import ItemRead, TaskRead
from aidos.schemas.dataforge.reports import PrelabelParams
from data_pipelines.dataforge.labelling import prelabels
from data_pipelines.dataforge.labelling.prelabels import image_values, row_values
from data_pipelines.dataforge.reports.source import Source, Tree

_BATCH_ITEMS = 64
_POSTED_ITEMS = 500
_NAMED_FILES = 100
Batch = Sequence[ItemRead]
Answered = Classification | MultiLabel | Boxes | Spans
Answer = tuple[list[dict[str, Any]], list[dict[str, str]]]
"""Predictions, and the items that were set aside with the reason."""


def prelabel(source: Source, params: PrelabelParams) -> dict[str, Any]:
    """Ask the endpoint about every open task and post what it says. Raises: InvalidPayload when project, model and commit do not fit."""
    client = source.client
    project = client.labelling.get(params.labelling)
    if (project.dataset, str(project.commit_id)) != (source.tree.dataset, source.tree.commit_id):
        raise InvalidPayload(reason=f"'{params.labelling}' labels {project.dataset}@{project.commit_id}, not this commit.")
    question = _question(LabelSchema.model_validate(project.questions), params.question)
    endpoint = client.endpoints.get(params.endpoint)
    tensor = _describe(client, endpoint.route, endpoint.name)
    if isinstance(question, Spans) != (tensor["datatype"] == "BYTES"):
        raise InvalidPayload(
            reason=f"Spans need a model that takes texts (BYTES), others one that takes numbers; it takes {tensor['datatype']}."
        )
    batches = _batches(list(client.labelling.tasks(params.labelling, state="open")))
    work = partial(_answer, source.tree, params, question, tensor)
    model, posted, aside = f"{endpoint.model}@{endpoint.version}", 0, list[dict[str, str]]()
    for predictions, bad in source.each("asking", batches, work):
        aside += bad
        for at in range(0, len(predictions), _POSTED_ITEMS):
            chunk = predictions[at : at + _POSTED_ITEMS]
            posted += client.labelling.predict(params.labelling, model=model, predictions=chunk).items
    return {
        "labelling": params.labelling,
        "model": model,
        "predicted": posted,
        "quarantine": {"count": len(aside), "files": aside[:_NAMED_FILES]},
    }


def _question(schema: LabelSchema, name: str | None) -> Answered:
    named = [question for question in schema.questions if name in (None, question.name)]
    for question in named:
        if isinstance(question, Classification | MultiLabel | Boxes | Spans):
            return question
    kinds = ", ".join(sorted({question.kind for question in named})) or f"no question '{name}'"
    raise InvalidPayload(
        reason=f"Endpoints answer classification, multilabel, boxes and spans; here is {kinds}. Others take predictions by route."
    )


def _describe(client: Client, route: str, name: str) -> dict[str, Any]:
    """The model's one input."""
    path = f"{route}/v2/models/{quote_parameter('endpoint', name)}"
    inputs = client.transport.send(Request("GET", path), lambda reply: json.loads(reply.content))["inputs"]
    if len(inputs) != 1:
        raise InvalidPayload(reason=f"The model takes {len(inputs)} inputs; items are given as one tensor.")
    return dict(inputs[0])


def _batches(tasks: Sequence[TaskRead]) -> list[Batch]:
    items = [task.item for task in tasks]
    return [items[at : at + _BATCH_ITEMS] for at in range(0, len(items), _BATCH_ITEMS)]


def _answer(tree: Tree, params: PrelabelParams, question: Answered, tensor: Mapping[str, Any], batch: Batch) -> Answer:
    """What the endpoint says of a batch; runs in a worker."""
    kept, values, aside = list[ItemRead](), list[list[Any]](), list[dict[str, str]]()
    for item in batch:
        try:
            values.append(_values(tree, params, question, tensor, item))
            kept.append(item)
        except ValueError as error:
            aside.append({"path": item.path if item.row is None else f"{item.path}#{item.row}", "reason": str(error)})
    if not kept:
        return [], aside
    given = {
        "name": tensor["name"],
        "datatype": tensor["datatype"],
        "shape": [len(kept), *_inner(tensor, len(values[0]))],
        "data": [value for each in values for value in each],
    }
    with Client() as client:
        outputs = predict(client, params.endpoint, {"inputs": [given]})["outputs"]
    guesses = _guesses(params, question, tensor, outputs, kept, values)
    return [_prediction(question.name, item, guess) for item, guess in zip(kept, guesses, strict=True)], aside


def _values(tree: Tree, params: PrelabelParams, question: Answered, tensor: Mapping[str, Any], item: ItemRead) -> list[Any]:
    """One item as the model takes it. Raises: ValueError for one that cannot be given."""
    if isinstance(question, Spans):
        text = (item.data or {}).get(question.column) if question.column else tree.read(item.path).decode()
        if not isinstance(text, str):
            raise ValueError(f"column '{question.column}' holds no text")
        return [text]
    if isinstance(question, Boxes) and item.size is None:
        raise ValueError("it is no image that can be read")
    if item.data is not None:
        return list(row_values(item.data, params.columns))
    return list(image_values(tree.read(item.path), tensor["shape"][1:], params.largest))


def _inner(tensor: Mapping[str, Any], values: int) -> list[int]:
    """The shape behind the batch; a free size of a flat input is what the items have."""
    inner = [int(size) for size in tensor["shape"][1:]]
    return [values] if len(inner) == 1 else inner


def _guesses(
    params: PrelabelParams,
    question: Answered,
    tensor: Mapping[str, Any],
    outputs: prelabels.Outputs,
    items: Sequence[ItemRead],
    values: Sequence[Sequence[Any]],
) -> list[prelabels.Guess]:
    match question:
        case Classification():
            return prelabels.classified(outputs, question.labels, len(items))
        case MultiLabel():
            return prelabels.multilabelled(outputs, question.labels, len(items), params.threshold)
        case Boxes():
            shown = None if params.relative else prelabels.shown_size(tensor["shape"][1:])
            sizes = [item.size for item in items if item.size is not None]
            return prelabels.boxed(outputs, question.labels, sizes, shown, params.threshold, params.first_label)
        case Spans():
            texts = [text for (text,) in values]
            return prelabels.spanned(outputs, question.labels, texts, params.threshold, params.first_label)


def _prediction(question: str, item: ItemRead, guess: prelabels.Guess) -> dict[str, Any]:
    found: dict[str, Any] = {"path": item.path, "row": item.row, "value": {question: guess.answer}}
    if guess.probabilities is not None:
        found["probabilities"] = {question: guess.probabilities}
    if guess.confidence is not None:
        found["confidence"] = {question: guess.confidence}
    return found
