"""How far annotators agree, beyond what chance would give.

Plain arithmetic on small tables; None stands for what is not defined (one annotator, one label only).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from typing import Any


class Weights(StrEnum):
    """How much a disagreement counts: alike, by distance on the scale, or by its square."""

    NONE = "none"
    LINEAR = "linear"
    QUADRATIC = "quadratic"


def cohen_kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], labels: Sequence[Hashable], weights: Weights = Weights.NONE
) -> float | None:
    """κ of two annotators over the same items: 1 - Σwo/Σwe, Cohen 1960 and (weighted) 1968. ``labels`` in their order."""
    place = {label: at for at, label in enumerate(labels)}
    pairs = Counter((place[a], place[b]) for a, b in zip(first, second, strict=True))
    rows, columns = Counter[int](), Counter[int]()
    for (a, b), count in pairs.items():
        rows[a] += count
        columns[b] += count
    total = len(first)
    observed = sum(_weight(a, b, weights) * count for (a, b), count in pairs.items())
    expected = sum(_weight(a, b, weights) * m * n / total for a, m in rows.items() for b, n in columns.items()) if total else 0.0
    return 1 - observed / expected if expected else None


def _weight(a: int, b: int, weights: Weights) -> float:
    if weights is Weights.NONE:
        return float(a != b)
    return float(abs(a - b)) if weights is Weights.LINEAR else float((a - b) ** 2)


def fleiss_kappa(items: Sequence[Sequence[Hashable]]) -> float | None:
    """κ of any number of annotators, the same number for each item (Fleiss 1971). Raises: ValueError when it differs."""
    counts = [Counter(answers) for answers in items]
    raters = {len(answers) for answers in items}
    if not items or raters <= {0, 1}:
        return None
    if len(raters) > 1:
        raise ValueError(f"items have {sorted(raters)} answers; Fleiss' κ needs the same number for each")
    (n,) = raters
    observed = sum((sum(c * c for c in each.values()) - n) / (n * (n - 1)) for each in counts) / len(items)
    totals = sum(counts, Counter())
    expected = sum((count / (n * len(items))) ** 2 for count in totals.values())
    return (observed - expected) / (1 - expected) if expected < 1 else None


Distance = Callable[[Any, Any], float]
"""Squared difference of two answers, 0 for equal ones."""


def krippendorff_alpha(units: Iterable[Sequence[Any]], distance: Distance) -> float | None:
    """α = 1 - Do/De over units with any number of answers, those with one left out: so answers may be missing.

    Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011. Answers must be hashable.
    """
    paired = [Counter(answers) for answers in units if len(answers) > 1]
    totals: Counter[Any] = sum(paired, Counter())
    n = sum(totals.values())
    observed = sum(
        2 * left * right * distance(a, b) / (each.total() - 1) for each in paired for (a, left), (b, right) in combinations(each.items(), 2)
    )
    expected = sum(2 * left * right * distance(a, b) for (a, left), (b, right) in combinations(totals.items(), 2))
    return 1 - (n - 1) * observed / expected if expected else None


def nominal(a: Any, b: Any) -> float:
    """Equal or not."""
    return float(a != b)


def interval(a: float, b: float) -> float:
    """The squared difference of numbers."""
    return float(a - b) ** 2


def ordinal(units: Iterable[Sequence[Any]], scale: Sequence[Any]) -> Distance:
    """The squared number of answers that lie between two, half of the ends' own counted: depends on all answers."""
    totals = Counter(answer for answers in units if len(answers) > 1 for answer in answers)
    below, place = [0.0], {}
    for at, label in enumerate(scale):
        place[label] = at
        below.append(below[-1] + totals[label])

    def distance(a: Any, b: Any) -> float:
        low, high = sorted((place[a], place[b]))
        between = below[high + 1] - below[low]
        return float(between - (totals[scale[low]] + totals[scale[high]]) / 2) ** 2

    return distance


def jaccard(a: frozenset[Any], b: frozenset[Any]) -> float:
    """One less the share of labels in common; two empty sets are equal."""
    return 1 - len(a & b) / len(a | b) if a | b else 0.0


def pairwise_kappas(
    answers: Iterable[tuple[Hashable, str, Hashable]], labels: Sequence[Hashable], weights: Weights
) -> dict[tuple[str, str], tuple[int, float | None]]:
    """For each two annotators: the items that both answered, and κ over them. ``answers``: (item, annotator, answer)."""
    by_item: dict[Hashable, dict[str, Hashable]] = defaultdict(dict)
    for item, annotator, answer in answers:
        by_item[item][annotator] = answer
    both: dict[tuple[str, str], list[tuple[Hashable, Hashable]]] = defaultdict(list)
    for given in by_item.values():
        for first, second in combinations(sorted(given), 2):
            both[first, second].append((given[first], given[second]))
    return {
        pair: (len(shared), cohen_kappa([a for a, _ in shared], [b for _, b in shared], labels, weights)) for pair, shared in both.items()
    }


def dawid_skene(
    votes: Iterable[tuple[Hashable, str, str]], labels: Sequence[str], *, most_rounds: int = 100
) -> tuple[dict[Hashable, dict[str, float]], dict[str, float]]:
    """What the items are, and how often each annotator is right, judged from the votes alone by expectation-maximisation.

    Dawid and Skene, Maximum Likelihood Estimation of Observer Error-Rates, 1979; an annotator's expected accuracy is the
    diagonal of its confusion matrix under the shares of the labels. One vote of each kind is added to every cell, so
    that an annotator of few votes stays near the average. Returns the labels' probabilities by item, and accuracies.
    """
    by_item: dict[Hashable, list[tuple[str, str]]] = defaultdict(list)
    for item, annotator, label in votes:
        by_item[item].append((annotator, label))
    believed = {item: _shares(Counter(label for _, label in given), labels) for item, given in by_item.items()}
    for _ in range(most_rounds):
        confusion, prior = _maximise(by_item, believed, labels)
        renewed = {item: _expect(given, confusion, prior, labels) for item, given in by_item.items()}
        moved = max((abs(renewed[item][label] - believed[item][label]) for item in by_item for label in labels), default=0.0)
        believed = renewed
        if moved < 1e-6:
            break
    confusion, prior = _maximise(by_item, believed, labels)
    return believed, {
        annotator: sum(prior[label] * rows[label][label] for label in labels) / sum(prior.values()) for annotator, rows in confusion.items()
    }


Confusion = Mapping[str, Mapping[str, Mapping[str, float]]]


def _maximise(
    by_item: Mapping[Hashable, list[tuple[str, str]]], believed: Mapping[Hashable, Mapping[str, float]], labels: Sequence[str]
) -> tuple[Confusion, dict[str, float]]:
    """Each annotator's answers by true label, as shares; and the shares of the labels."""
    smooth = 1 / len(labels)
    counts: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: {true: dict.fromkeys(labels, smooth) for true in labels})
    for item, given in by_item.items():
        for annotator, answer in given:
            for true in labels:
                counts[annotator][true][answer] += believed[item][true]
    confusion = {
        annotator: {true: {answer: count / sum(row.values()) for answer, count in row.items()} for true, row in rows.items()}
        for annotator, rows in counts.items()
    }
    prior = {label: sum(each[label] for each in believed.values()) / max(1, len(believed)) for label in labels}
    return confusion, prior


def _expect(given: list[tuple[str, str]], confusion: Confusion, prior: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    likelihood = dict(prior)
    for annotator, answer in given:
        for true in labels:
            likelihood[true] *= confusion[annotator][true][answer]
    return _shares(likelihood, labels)


def _shares(weights: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    total = sum(weights.values())
    return {label: weights.get(label, 0.0) / total if total else 1 / len(labels) for label in labels}
