"""Decisions about labels: what several answers come to, whether a gold question was answered right, what to ask next."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aidos.schemas.dataforge.label_schema import Boxes, FreeText, LabelSchema, MultiLabel, Polygons, Question, Spans
from aidos.schemas.dataforge.labelling import Consensus, QueueOrder, TaskState
from data_pipelines.dataforge.labelling.models import Decision, Value
from data_pipelines.dataforge.labelling.overlap import similarity

ALIKE_RATIO = 0.5
"""Overlap from which two annotators' shapes count as the same: the threshold of Pascal VOC."""
_DISPUTED = object()


def decide(schema: LabelSchema, values: Sequence[Value], weights: Sequence[float], rule: Consensus, *, review: bool) -> Decision:
    """What follows once all asked annotators have answered. ``weights``: how much each counts, used by WEIGHTED."""
    heads = weights if rule is Consensus.WEIGHTED else [1.0] * len(values)
    label: dict[str, Any] = {}
    for question in schema.questions:
        answer = _agree(question, [value.get(question.name) for value in values], heads, unanimous=rule is Consensus.ADJUDICATION)
        if answer is _DISPUTED:
            return Decision(TaskState.DISPUTED)
        if answer is not None:
            label[question.name] = answer
    return Decision(TaskState.REVIEW if review else TaskState.DONE, label)


def _agree(question: Question, answers: Sequence[Any], weights: Sequence[float], *, unanimous: bool) -> Any:
    if len(answers) == 1:
        return answers[0]
    if isinstance(question, Boxes | Polygons | Spans):
        return _most_central(question, answers, weights)
    if unanimous or isinstance(question, FreeText):
        return answers[0] if all(answer == answers[0] for answer in answers) else _DISPUTED
    if isinstance(question, MultiLabel) and None not in answers:
        return _label_by_label(question, answers, weights)
    return _majority(answers, weights)


def _majority(answers: Sequence[Any], weights: Sequence[float]) -> Any:
    """The answer with more than half of all weight."""
    heads: dict[Any, float] = defaultdict(float)
    for answer, weight in zip(answers, weights, strict=True):
        heads[tuple(answer) if isinstance(answer, list) else answer] += weight
    best = max(heads, key=lambda answer: heads[answer])
    if heads[best] * 2 <= sum(weights) + 1e-9:
        return _DISPUTED
    return list(best) if isinstance(best, tuple) else best


def _label_by_label(question: MultiLabel, answers: Sequence[Any], weights: Sequence[float]) -> Any:
    total, chosen = sum(weights), []
    for label in question.labels:
        given = sum(weight for answer, weight in zip(answers, weights, strict=True) if label in answer)
        if abs(given * 2 - total) < 1e-9:
            return _DISPUTED
        if given * 2 > total:
            chosen.append(label)
    return chosen


def _most_central(question: Question, answers: Sequence[Any], weights: Sequence[float]) -> Any:
    """The answer most like the others, if every two of them are alike."""
    alike = [[similarity(question, a, b) for b in answers] for a in answers]
    if min(min(row) for row in alike) < ALIKE_RATIO:
        return _DISPUTED
    scores = [sum(each * weight for each, weight in zip(row, weights, strict=True)) for row in alike]
    return answers[scores.index(max(scores))]


def is_right(schema: LabelSchema, value: Value, gold: Value) -> bool:
    """Whether a gold question was answered right: equal, and shapes that overlap by half."""
    return all(
        similarity(question, value.get(question.name), gold.get(question.name))
        >= (ALIKE_RATIO if isinstance(question, Boxes | Polygons | Spans) else 1.0)
        for question in schema.questions
    )


def weight_of(right: int, asked: int) -> float:
    """What an annotator's vote counts: its share of right gold answers, one right and one wrong added to both (Laplace)."""
    return (right + 1) / (asked + 2)


def asks_gold(asked: int, every: int) -> bool:
    """Whether an annotator's next task is a gold question: one in ``every``, none for 0."""
    return every > 0 and asked % every == every - 1


def uncertainty(prediction: Mapping[str, Any] | None, order: QueueOrder) -> float | None:
    """How unsure a prediction is, 0 to 1, the least sure question counting; None where it says nothing of that.

    Settles, Active Learning Literature Survey, 2009, section 3.1: least confidence 1 - p₁, margin 1 - (p₁ - p₂), entropy
    -Σ p ln p as a share of the largest, ln k. A bare confidence c counts as 1 - c.
    """
    prediction = prediction or {}
    found = [_spread(list(each.values()), order) for each in (prediction.get("probabilities") or {}).values() if each]
    found += [1 - confidence for confidence in (prediction.get("confidence") or {}).values()]
    return max(found, default=None)


def _spread(probabilities: list[float], order: QueueOrder) -> float:
    total = sum(probabilities)
    if total <= 0:
        return 1.0
    shares = sorted((each / total for each in probabilities), reverse=True)
    if order is QueueOrder.MARGIN:
        return 1 - (shares[0] - shares[1]) if len(shares) > 1 else 0.0
    if order is QueueOrder.ENTROPY:
        return -sum(p * math.log(p) for p in shares if p > 0) / math.log(len(shares)) if len(shares) > 1 else 0.0
    return 1 - shares[0]


def priorities(predictions: Sequence[Mapping[str, Any] | None], order: QueueOrder, seed: int) -> list[float]:
    """What the queue sorts by, highest first; what no prediction speaks of comes after what one does."""
    if order is QueueOrder.LISTED:
        return [0.0] * len(predictions)
    if order is QueueOrder.RANDOM:
        drawn = random.Random(seed)
        return [drawn.random() for _ in predictions]
    return [-1.0 if (found := uncertainty(prediction, order)) is None else found for prediction in predictions]
