"""QuestionAgreementRead and annotators' quality from what was submitted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any
from uuid import UUID

from aidos.schemas.dataforge.label_schema import TIE, Classification, LabelSchema, MultiLabel, Preference, Question
from aidos.schemas.dataforge.labelling import AnnotatorRead, PairAgreementRead, QuestionAgreementRead
from data_pipelines.dataforge.labelling.agreement import (
    Weights,
    dawid_skene,
    fleiss_kappa,
    jaccard,
    krippendorff_alpha,
    nominal,
    ordinal,
    pairwise_kappas,
)
from data_pipelines.dataforge.labelling.models import Submission, Value, Workload
from data_pipelines.dataforge.labelling.overlap import similarity


def agreement(schema: LabelSchema, submissions: Sequence[Submission]) -> list[QuestionAgreementRead]:
    """For each question what can be said of it: κ and α where answers are categories, the mean overlap for all."""
    return [_agreement(question, _by_task(question, submissions)) for question in schema.questions]


def _by_task(question: Question, submissions: Sequence[Submission]) -> dict[UUID, dict[str, Any]]:
    """Answers by task and annotator, where there was one."""
    found: dict[UUID, dict[str, Any]] = defaultdict(dict)
    for each in submissions:
        if question.name in each.value:
            found[each.task_id][each.annotator] = each.value[question.name]
    return found


def _agreement(question: Question, answers: Mapping[UUID, Mapping[str, Any]]) -> QuestionAgreementRead:
    several = [given for given in answers.values() if len(given) > 1]
    alike = [similarity(question, a, b) for given in several for a, b in combinations(given.values(), 2)]
    annotators = {annotator for given in several for annotator in given}
    mean = sum(alike) / len(alike) if alike else None
    alpha, fleiss, pairs = _beyond_chance(question, answers)
    return QuestionAgreementRead(
        question=question.name,
        kind=question.kind,
        items=len(several),
        annotators=len(annotators),
        mean=mean,
        alpha=alpha,
        fleiss=fleiss,
        pairs=pairs,
    )


def _beyond_chance(
    question: Question, answers: Mapping[UUID, Mapping[str, Any]]
) -> tuple[float | None, float | None, list[PairAgreementRead]]:
    units = [list(given.values()) for given in answers.values()]
    if isinstance(question, MultiLabel):
        return krippendorff_alpha([[frozenset(answer) for answer in unit] for unit in units], jaccard), None, []
    labels = categories(question)
    if labels is None:
        return None, None, []
    scale = isinstance(question, Classification) and question.ordered
    alpha = krippendorff_alpha(units, ordinal(units, labels) if scale else nominal)
    votes = [(task, annotator, answer) for task, given in answers.items() for annotator, answer in given.items()]
    kappas = pairwise_kappas(votes, labels, Weights.QUADRATIC if scale else Weights.NONE)
    pairs = [PairAgreementRead(first=a, second=b, items=items, kappa=kappa) for (a, b), (items, kappa) in sorted(kappas.items())]
    return alpha, fleiss_kappa(_equally_many(units)), pairs


def categories(question: Question) -> list[str] | None:
    """The answers that there are, in order; None where they are no categories."""
    if isinstance(question, Classification):
        return question.labels
    return ["first", "second", *([TIE] if question.ties else [])] if isinstance(question, Preference) else None


def _equally_many(units: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The units with the most usual number of answers, two at least: Fleiss' κ needs one number for all."""
    usual = Counter(len(unit) for unit in units if len(unit) > 1).most_common(1)
    return [unit for unit in units if len(unit) == usual[0][0]] if usual else []


def quality(
    schema: LabelSchema, submissions: Sequence[Submission], labels: Mapping[UUID, Value], workloads: Sequence[Workload]
) -> list[AnnotatorRead]:
    """By annotator: gold answers right, likeness to the decided labels, and accuracy as Dawid and Skene estimate it."""
    alike: dict[str, list[float]] = defaultdict(list)
    for each in submissions:
        if (label := labels.get(each.task_id)) is not None:
            alike[each.annotator] += [similarity(q, each.value.get(q.name), label.get(q.name)) for q in schema.questions]
    accuracies: dict[str, list[float]] = defaultdict(list)
    for question in schema.questions:
        if names := categories(question):
            for annotator, accuracy in _estimate(question, names, submissions).items():
                accuracies[annotator].append(accuracy)
    return [
        AnnotatorRead(
            annotator=each.annotator,
            submitted=each.submitted,
            skipped=each.skipped,
            gold_asked=each.gold_asked,
            gold_right=each.gold_right,
            consensus=_mean(alike[each.annotator]),
            accuracy=_mean(accuracies[each.annotator]),
        )
        for each in workloads
    ]


def _estimate(question: Question, names: Sequence[str], submissions: Sequence[Submission]) -> dict[str, float]:
    """Accuracies, where several have answered the same: one answer alone says nothing of anyone."""
    answers = {task: given for task, given in _by_task(question, submissions).items() if len(given) > 1}
    return dawid_skene([(task, who, answer) for task, given in answers.items() for who, answer in given.items()], names)[1]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
