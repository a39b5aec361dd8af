"""First answers of a deployed endpoint: the report kind ``prelabel``, items in batches over Ray Data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.http.wire import Request, quote_parameter
from aidos.prediction import predict
from aidos.schemas.dataforge.label_schema import Classification, LabelSchema
from aidos.schemas.dataforge.labelling import TaskRead
from aidos.schemas.dataforge.reports import PrelabelParams
from data_pipelines.dataforge.labelling.prelabels import image_values, probabilities, row_values
from data_pipelines.dataforge.reports.source import Source, Tree

_BATCH_ITEMS = 64
_POSTED_ITEMS = 500
_NAMED_FILES = 100
Batch = Sequence[tuple[str, int | None, Mapping[str, Any] | None]]
"""Path, row and the row's columns of each item."""
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
    batches = _batches(list(client.labelling.tasks(params.labelling, state="open")))
    work = partial(_answer, source.tree, params, question.name, question.labels, tensor)
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


def _question(schema: LabelSchema, name: str | None) -> Classification:
    for question in schema.questions:
        if isinstance(question, Classification) and name in (None, question.name):
            return question
    raise InvalidPayload(reason=f"There is no classification {name or ''} among the questions; other questions take predictions by route.")


def _describe(client: Client, route: str, name: str) -> dict[str, Any]:
    """The model's one input."""
    path = f"{route}/v2/models/{quote_parameter('endpoint', name)}"
    inputs = client.transport.send(Request("GET", path), lambda reply: json.loads(reply.content))["inputs"]
    if len(inputs) != 1:
        raise InvalidPayload(reason=f"The model takes {len(inputs)} inputs; items are given as one tensor.")
    return dict(inputs[0])


def _batches(tasks: Sequence[TaskRead]) -> list[Batch]:
    items = [(task.item.path, task.item.row, task.item.data) for task in tasks]
    return [items[at : at + _BATCH_ITEMS] for at in range(0, len(items), _BATCH_ITEMS)]


def _answer(tree: Tree, params: PrelabelParams, question: str, labels: Sequence[str], tensor: Mapping[str, Any], batch: Batch) -> Answer:
    """What the endpoint says of a batch; runs in a worker."""
    kept, values, aside = [], list[float](), []
    for path, row, data in batch:
        try:
            values += (
                row_values(data, params.columns) if data is not None else image_values(tree.read(path), tensor["shape"][1:], params.largest)
            )
            kept.append((path, row))
        except ValueError as error:
            aside.append({"path": path if row is None else f"{path}#{row}", "reason": str(error)})
    if not kept:
        return [], aside
    given = {
        "name": tensor["name"],
        "datatype": tensor["datatype"],
        "shape": [len(kept), *_inner(tensor, values, len(kept))],
        "data": values,
    }
    with Client() as client:
        outputs = predict(client, params.endpoint, {"inputs": [given]})["outputs"]
    return list(_predictions(kept, question, probabilities(outputs, labels, len(kept)))), aside


def _inner(tensor: Mapping[str, Any], values: Sequence[float], rows: int) -> list[int]:
    """The shape behind the batch; a free size of a flat input is what the items have."""
    inner = [int(size) for size in tensor["shape"][1:]]
    return [len(values) // rows] if len(inner) == 1 else inner


def _predictions(kept: Sequence[tuple[str, int | None]], question: str, shares: Sequence[dict[str, float]]) -> Iterator[dict[str, Any]]:
    for (path, row), each in zip(kept, shares, strict=True):
        best = max(each, key=lambda label: each[label])
        yield {"path": path, "row": row, "value": {question: best}, "probabilities": {question: each}}
