"""Agreement equals what scikit-learn, statsmodels and NLTK compute, and Krippendorff's own published example."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cleanlab.multiannotator import get_label_quality_multiannotator
from hypothesis import given
from hypothesis import strategies as st
from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import interval_distance, jaccard_distance
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as reference_fleiss

from data_pipelines.dataforge.labelling.agreement import (
    Weights,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    interval,
    jaccard,
    krippendorff_alpha,
    nominal,
    ordinal,
    pairwise_kappas,
)

SCALE = [0, 1, 2, 3]
answers = st.sampled_from(SCALE)


def close(ours: float | None, theirs: float) -> bool:
    return math.isnan(theirs) if ours is None else ours == pytest.approx(theirs, abs=1e-9)


class TestCohenKappa:
    @given(st.lists(st.tuples(answers, answers), min_size=2, max_size=60), st.sampled_from(Weights))
    def test_equals_scikit_learn(self, pairs: list[tuple[int, int]], weights: Weights) -> None:
        first, second = (list(each) for each in zip(*pairs, strict=True))
        with np.errstate(all="ignore"):
            theirs = cohen_kappa_score(first, second, labels=SCALE, weights=None if weights is Weights.NONE else weights.value)
        ours = cohen_kappa(first, second, SCALE, weights)
        # Where both gave one and the same answer throughout there is nothing by chance to correct for: no number.
        assert ours is None if len({*first, *second}) == 1 else close(ours, theirs)

    def test_by_hand(self) -> None:
        # Cohen's table [[20, 5], [10, 15]]: observed 0.7, by chance 0.5.
        first = [0] * 25 + [1] * 25
        second = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
        assert cohen_kappa(first, second, [0, 1]) == pytest.approx(0.4)

    def test_of_every_two_annotators_over_what_both_answered(self) -> None:
        votes = [
            (item, who, (item * 7 + shift) % 3) for shift, who in enumerate(["ada", "bob", "cy"]) for item in range(9) if item != shift
        ]
        found = pairwise_kappas(votes, [0, 1, 2], Weights.NONE)
        assert {pair: count for pair, (count, _) in found.items()} == {("ada", "bob"): 7, ("ada", "cy"): 7, ("bob", "cy"): 7}


class TestFleissKappa:
    @given(st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(answers, min_size=n, max_size=n), min_size=2, max_size=30)))
    def test_equals_statsmodels(self, items: list[list[int]]) -> None:
        ours = fleiss_kappa(items)
        if len({answer for each in items for answer in each}) == 1:
            assert ours is None
        else:
            assert close(ours, reference_fleiss(aggregate_raters(np.array(items))[0]))

    def test_refuses_items_with_different_numbers_of_answers(self) -> None:
        with pytest.raises(ValueError, match="same number"):
            fleiss_kappa([[1, 1], [1, 1, 2]])


# Krippendorff 2011, the worked example: four observers, twelve units, values missing.
PUBLISHED: list[list[int | None]] = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
UNITS = [[answer for answer in unit if answer is not None] for unit in zip(*PUBLISHED, strict=True)]


class TestKrippendorffAlpha:
    def test_equals_the_published_example(self) -> None:
        assert krippendorff_alpha(UNITS, nominal) == pytest.approx(0.743, abs=5e-4)
        assert krippendorff_alpha(UNITS, ordinal(UNITS, [1, 2, 3, 4, 5])) == pytest.approx(0.815, abs=5e-4)
        assert krippendorff_alpha(UNITS, interval) == pytest.approx(0.849, abs=5e-4)

    @given(st.lists(st.lists(st.none() | answers, min_size=3, max_size=3), min_size=2, max_size=20))
    def test_equals_nltk_with_answers_missing(self, table: list[list[int | None]]) -> None:
        units = [[answer for answer in row if answer is not None] for row in table]
        triples = [(str(who), str(item), answer) for item, row in enumerate(table) for who, answer in enumerate(row) if answer is not None]
        paired = {answer for unit in units if len(unit) > 1 for answer in unit}
        if len(paired) < 2:
            assert krippendorff_alpha(units, nominal) is None
            return
        # NLTK counts answers that stand alone in the expected disagreement; without a pair they say nothing of it.
        triples = [triple for triple in triples if len(units[int(triple[1])]) > 1]
        assert close(krippendorff_alpha(units, nominal), AnnotationTask(triples).alpha())
        assert close(krippendorff_alpha(units, interval), AnnotationTask(triples, distance=interval_distance).alpha())

    @given(st.lists(st.lists(st.frozensets(answers, min_size=1), min_size=2, max_size=2), min_size=2, max_size=15))
    def test_of_sets_equals_nltk(self, units: list[list[frozenset[int]]]) -> None:
        triples = [(str(who), str(item), answer) for item, unit in enumerate(units) for who, answer in enumerate(unit)]
        if len({answer for unit in units for answer in unit}) > 1:
            assert close(krippendorff_alpha(units, jaccard), AnnotationTask(triples, distance=jaccard_distance).alpha())


def planted_votes(accuracies: dict[str, float], items: int) -> tuple[dict[int, str], list[tuple[int, str, str]]]:
    drawn, labels = random.Random(7), ["a", "b", "c"]
    truth = {item: drawn.choice(labels) for item in range(items)}
    votes = [
        (item, who, true if drawn.random() < accuracy else drawn.choice([label for label in labels if label != true]))
        for item, true in truth.items()
        for who, accuracy in accuracies.items()
    ]
    return truth, votes


class TestAnnotatorQuality:
    PLANTED = {"ada": 0.95, "bob": 0.8, "cy": 0.6, "random": 1 / 3}

    def test_finds_how_often_each_is_right_from_the_votes_alone(self) -> None:
        truth, votes = planted_votes(self.PLANTED, 1500)
        believed, accuracy = dawid_skene(votes, ["a", "b", "c"])
        for who, planted in self.PLANTED.items():
            assert accuracy[who] == pytest.approx(planted, abs=0.05)
        right = sum(max(each, key=lambda label: each[label]) == truth[item] for item, each in believed.items())
        majority = _majority_right(truth, votes)
        assert right > majority, "weighing annotators must beat counting heads"

    def test_ranks_annotators_as_cleanlab_does(self) -> None:
        _, votes = planted_votes(self.PLANTED, 400)
        table = pd.DataFrame.from_records(votes, columns=["item", "who", "label"]).pivot_table(
            index="item", columns="who", values="label", aggfunc=lambda each: "abc".index(each.iloc[0])
        )
        found = get_label_quality_multiannotator(table, np.full((400, 3), 1 / 3), verbose=False)["annotator_stats"]
        theirs = list(found.sort_values("annotator_quality").index)
        accuracy = dawid_skene(votes, ["a", "b", "c"])[1]
        assert sorted(accuracy, key=lambda who: accuracy[who]) == theirs == ["random", "cy", "bob", "ada"]

    def test_of_nobody_is_nothing(self) -> None:
        assert dawid_skene([], ["a"]) == ({}, {})


def _majority_right(truth: dict[int, str], votes: list[tuple[int, str, str]]) -> int:
    heads: dict[int, list[str]] = {}
    for item, _, label in votes:
        heads.setdefault(item, []).append(label)
    return sum(max(sorted(set(given)), key=given.count) == truth[item] for item, given in heads.items())


def test_distances_are_zero_for_equal_answers() -> None:
    cases: list[tuple[Any, Any]] = [(nominal, "a"), (interval, 3), (jaccard, frozenset({1})), (jaccard, frozenset())]
    assert [distance(value, value) for distance, value in cases] == [0, 0, 0, 0]
