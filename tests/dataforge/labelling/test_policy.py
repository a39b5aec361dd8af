"""What several answers come to, how alike shapes are, what is asked next."""

from __future__ import annotations

import math
from typing import Any

import pytest

from aidos.schemas.dataforge.label_schema import LabelSchema
from aidos.schemas.dataforge.labelling import Consensus, QueueOrder, TaskState
from data_pipelines.dataforge.labelling.models import Decision
from data_pipelines.dataforge.labelling.overlap import box_iou, mean_iou, mean_similarity, polygon_iou, span_iou
from data_pipelines.dataforge.labelling.policy import asks_gold, decide, is_right, priorities, uncertainty, weight_of


def schema_of(*questions: dict[str, Any]) -> LabelSchema:
    return LabelSchema.model_validate({"questions": list(questions)})


KIND = schema_of({"name": "kind", "kind": "classification", "labels": ["cat", "dog", "owl"]})
TAGS = schema_of({"name": "tags", "kind": "multilabel", "labels": ["a", "b", "c"]})
BOXES = schema_of({"name": "boxes", "kind": "boxes", "labels": ["cat"]})


def box(x: float, y: float, width: float, height: float, label: str = "cat") -> dict[str, Any]:
    return {"label": label, "x": x, "y": y, "width": width, "height": height}


def kinds(*answers: str) -> list[dict[str, Any]]:
    return [{"kind": answer} for answer in answers]


class TestDecide:
    @pytest.mark.parametrize(
        ("rule", "answers", "weights", "expected"),
        [
            (Consensus.MAJORITY, ["cat"], [1], "cat"),
            (Consensus.MAJORITY, ["cat", "cat", "dog"], [1, 1, 9], "cat"),
            (Consensus.MAJORITY, ["cat", "dog"], [1, 1], None),
            (Consensus.MAJORITY, ["cat", "dog", "owl"], [1, 1, 1], None),
            (Consensus.WEIGHTED, ["cat", "cat", "dog"], [0.3, 0.3, 0.9], "dog"),
            (Consensus.WEIGHTED, ["cat", "dog"], [0.5, 0.5], None),
            (Consensus.ADJUDICATION, ["cat", "cat"], [1, 1], "cat"),
            (Consensus.ADJUDICATION, ["cat", "cat", "dog"], [1, 1, 1], None),
        ],
    )
    def test_one_of_several_labels(self, rule: Consensus, answers: list[str], weights: list[float], expected: str | None) -> None:
        found = decide(KIND, kinds(*answers), weights, rule, review=False)
        assert found == (Decision(TaskState.DONE, {"kind": expected}) if expected else Decision(TaskState.DISPUTED))

    def test_a_review_is_asked_for_where_the_project_wants_one(self) -> None:
        assert decide(KIND, kinds("cat"), [1], Consensus.MAJORITY, review=True).state is TaskState.REVIEW

    def test_several_labels_are_counted_one_by_one(self) -> None:
        values = [{"tags": ["a", "b"]}, {"tags": ["a"]}, {"tags": ["a", "c"]}]
        assert decide(TAGS, values, [1, 1, 1], Consensus.MAJORITY, review=False).label == {"tags": ["a"]}
        assert decide(TAGS, values[:2], [1, 1], Consensus.MAJORITY, review=False).state is TaskState.DISPUTED
        assert decide(TAGS, [{"tags": []}] * 2, [1, 1], Consensus.MAJORITY, review=False).label == {"tags": []}

    def test_of_alike_shapes_the_most_central_is_taken(self) -> None:
        values = [{"boxes": [box(0, 0, 10, 10)]}, {"boxes": [box(1, 0, 10, 10)]}, {"boxes": [box(2, 0, 10, 10)]}]
        assert decide(BOXES, values, [1, 1, 1], Consensus.MAJORITY, review=False).label == values[1]
        apart = [values[0], {"boxes": [box(9, 0, 10, 10)]}]
        assert decide(BOXES, apart, [1, 1], Consensus.MAJORITY, review=False).state is TaskState.DISPUTED

    def test_an_optional_question_may_be_left_out_by_most(self) -> None:
        values: list[dict[str, Any]] = [{}, {}, {"kind": "cat"}]
        assert decide(KIND, values, [1, 1, 1], Consensus.MAJORITY, review=False) == Decision(TaskState.DONE, {})


class TestOverlap:
    def test_of_boxes(self) -> None:
        assert box_iou(box(0, 0, 2, 2), box(1, 1, 2, 2)) == pytest.approx(1 / 7)
        assert box_iou(box(0, 0, 2, 2), box(2, 0, 2, 2)) == 0

    def test_of_outlines(self) -> None:
        square = {"label": "cat", "points": [[0, 0], [10, 0], [10, 10], [0, 10]]}
        half = {"label": "cat", "points": [[0, 0], [5, 0], [5, 10], [0, 10]]}
        triangle = {"label": "cat", "points": [[0, 0], [10, 0], [0, 10]]}
        assert polygon_iou(square, square) == 1
        assert polygon_iou(square, half) == pytest.approx(0.5)
        assert polygon_iou(triangle, half) == pytest.approx(37.5 / 62.5)
        far = {"label": "cat", "points": [[10, 10], [20, 10], [20, 20]]}
        assert polygon_iou(square, far) == 0

    def test_of_outlines_is_exact_however_small_the_shape_in_the_image(self) -> None:
        def sliver(width: float) -> dict[str, Any]:
            return {"label": "cat", "points": [[0, 0], [width, 0], [width, 10_000], [0, 10_000]]}

        assert polygon_iou(sliver(2), sliver(3)) == pytest.approx(2 / 3)

    def test_of_an_outline_that_crosses_itself_is_of_what_it_surrounds(self) -> None:
        hourglass = {"label": "cat", "points": [[0, 0], [10, 10], [10, 0], [0, 10]]}
        left = {"label": "cat", "points": [[0, 0], [5, 5], [0, 10]]}
        assert polygon_iou(hourglass, left) == pytest.approx(0.5)

    @pytest.mark.parametrize("other", [[[0, 0], [5, 5], [9, 9]], [[2, 2], [2, 2], [2, 2]]])
    def test_of_outlines_without_an_area_is_whether_they_are_equal(self, other: list[list[float]]) -> None:
        line = {"label": "cat", "points": [[0, 0], [9, 9], [3, 3]]}
        assert polygon_iou(line, line) == 1
        assert polygon_iou(line, {"label": "cat", "points": other}) == float(other[0] == [0, 0])

    def test_of_spans(self) -> None:
        assert span_iou({"start": 0, "end": 4}, {"start": 2, "end": 6}) == pytest.approx(1 / 3)

    def test_shapes_without_a_partner_count_against(self) -> None:
        found = mean_iou([box(0, 0, 2, 2), box(50, 50, 2, 2)], [box(0, 0, 2, 2)], box_iou)
        assert found == pytest.approx(0.5)
        assert mean_iou([], [], box_iou) == 1
        assert mean_iou([box(0, 0, 2, 2, "cat")], [box(0, 0, 2, 2, "dog")], box_iou) == 0

    def test_over_all_pairs(self) -> None:
        assert mean_similarity(KIND, kinds("cat", "cat", "dog")) == pytest.approx(1 / 3)
        assert mean_similarity(KIND, kinds("cat")) is None


class TestGold:
    def test_one_in_so_many_is_asked(self) -> None:
        assert [asks_gold(asked, 3) for asked in range(7)] == [False, False, True, False, False, True, False]
        assert not any(asks_gold(asked, 0) for asked in range(7))

    def test_is_right_when_equal_or_well_overlapping(self) -> None:
        assert is_right(KIND, {"kind": "cat"}, {"kind": "cat"}) and not is_right(KIND, {"kind": "dog"}, {"kind": "cat"})
        assert is_right(BOXES, {"boxes": [box(0, 0, 10, 10)]}, {"boxes": [box(2, 0, 10, 10)]})
        assert not is_right(BOXES, {"boxes": []}, {"boxes": [box(2, 0, 10, 10)]})

    def test_who_was_asked_nothing_counts_half(self) -> None:
        assert (weight_of(0, 0), weight_of(8, 8), weight_of(0, 8)) == (0.5, 0.9, 0.1)


class TestUncertainty:
    def test_is_what_the_survey_says(self) -> None:
        prediction = {"probabilities": {"kind": {"cat": 0.5, "dog": 0.3, "owl": 0.2}}}
        assert uncertainty(prediction, QueueOrder.LEAST_CONFIDENCE) == pytest.approx(0.5)
        assert uncertainty(prediction, QueueOrder.MARGIN) == pytest.approx(0.8)
        entropy = -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2)) / math.log(3)
        assert uncertainty(prediction, QueueOrder.ENTROPY) == pytest.approx(entropy)

    def test_of_bare_confidences_and_of_nothing(self) -> None:
        assert uncertainty({"confidence": {"boxes": 0.8, "kind": 0.6}}, QueueOrder.MARGIN) == pytest.approx(0.4)
        assert uncertainty(None, QueueOrder.MARGIN) is None and uncertainty({"value": {}}, QueueOrder.ENTROPY) is None

    def test_orders_the_unsure_first_and_the_unknown_last(self) -> None:
        sure, unsure = ({"probabilities": {"kind": {"cat": p, "dog": 1 - p}}} for p in (0.99, 0.51))
        found = priorities([None, sure, unsure], QueueOrder.ENTROPY, 0)
        assert found[2] > found[1] > found[0]
        assert priorities([None, sure], QueueOrder.LISTED, 0) == [0, 0]
        assert (
            priorities([sure] * 9, QueueOrder.RANDOM, 1)
            == priorities([sure] * 9, QueueOrder.RANDOM, 1)
            != priorities([sure] * 9, QueueOrder.RANDOM, 2)
        )
