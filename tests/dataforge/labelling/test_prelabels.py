"""Items in the shape that a model takes, and its answers as answers to a question."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aidos.errors import InvalidPayload
from aidos.schemas.dataforge.label_schema import LabelSchema
from data_pipelines.dataforge.labelling import pipeline
from data_pipelines.dataforge.labelling.prelabels import Guess, boxed, classified, image_values, multilabelled, row_values, spanned


def png(pixels: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


class TestImages:
    @pytest.mark.parametrize("shape", [[2, 2], [1, 2, 2], [2, 2, 1], [4]])
    def test_are_given_in_the_models_shape(self, shape: list[int]) -> None:
        assert image_values(png([[0, 255], [51, 102]]), shape, 1.0) == pytest.approx([0, 1, 0.2, 0.4])
        assert image_values(png([[0, 255], [51, 102]]), shape, 16.0)[1] == pytest.approx(16)

    def test_have_their_channels_where_the_model_wants_them(self) -> None:
        red_blue = png([[[255, 0, 0], [0, 0, 255]], [[0, 0, 255], [0, 0, 255]]])
        assert image_values(red_blue, [3, 2, 2], 1.0) == [1, 0, 0, 0, *[0] * 4, 0, 1, 1, 1]
        assert image_values(red_blue, [2, 2, 3], 1.0) == [1, 0, 0, *[0, 0, 1] * 3]

    def test_of_another_size_are_scaled(self) -> None:
        assert len(image_values(png(np.zeros((30, 20))), [1, 8, 8], 1.0)) == 64

    def test_that_are_none_are_set_aside_and_models_that_take_none_refused(self) -> None:
        with pytest.raises(ValueError, match="no image"):
            image_values(b"GIF89a", [8, 8], 1.0)
        with pytest.raises(InvalidPayload, match=r"\[7\]"):
            image_values(png([[0]]), [7], 1.0)


class TestRows:
    def test_are_given_by_column(self) -> None:
        assert row_values({"a": 1, "b": "2.5", "c": "x"}, ["b", "a"]) == [2.5, 1.0]
        for column in ("c", "d"):
            with pytest.raises(ValueError, match=f"column '{column}'"):
                row_values({"a": 1, "c": "x"}, [column])


def output(name: str, rows: list[list[float]], datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(rows), len(rows[0])], "data": [each for row in rows for each in row]}


class TestLabels:
    def test_have_the_probabilities_that_are_given_or_made_of_scores(self) -> None:
        label = {"name": "label", "datatype": "INT64", "shape": [1], "data": [0]}
        assert classified([label, output("p", [[0.25, 0.75]])], ["a", "b"], 1) == [Guess("b", {"a": 0.25, "b": 0.75})]
        (guess,) = classified([output("logits", [[0.0, np.log(3)]])], ["a", "b"], 1)
        assert guess.probabilities == pytest.approx({"a": 0.25, "b": 0.75})

    def test_need_a_number_each(self) -> None:
        with pytest.raises(InvalidPayload, match=r"3 labels.*p \[1, 2\]"):
            classified([output("p", [[0.25, 0.75]])], ["a", "b", "c"], 1)

    def test_of_several_each_stands_for_itself(self) -> None:
        shares = multilabelled([output("p", [[0.9, 0.6, 0.2], [0.1, 0.1, 0.1]])], ["a", "b", "c"], 2, 0.5)
        assert [(each.answer, each.confidence) for each in shares] == [(["a", "b"], 0.6), ([], 0.9)]
        (scores,) = multilabelled([output("logits", [[2.0, -2.0, 0.1]])], ["a", "b", "c"], 1, 0.5)
        assert scores.answer == ["a", "c"] and scores.confidence == pytest.approx(0.525, abs=0.001)


def detections(boxes: list[Any], labels: list[Any], scores: list[Any]) -> list[dict[str, Any]]:
    named = {"detection_boxes": boxes, "labels": labels, "scores": scores}
    return [
        {"name": name, "datatype": "FP32", "shape": list(np.shape(data)), "data": np.ravel(data).tolist()} for name, data in named.items()
    ]


class TestBoxes:
    def test_are_brought_from_the_models_picture_to_the_image(self) -> None:
        outputs = detections(
            [[[0, 0, 50, 25], [10, 10, 20, 20]], [[0, 0, 100, 100], [0, 0, 0, 0]]], [[1, 2], [2, 0]], [[0.9, 0.4], [0.8, 0]]
        )
        first, second = boxed(outputs, ["cat", "dog"], [(200, 400), (100, 100)], (100, 100), 0.5, 1)
        assert first == Guess([{"label": "cat", "x": 0, "y": 0, "width": 100, "height": 100}], confidence=0.6)
        assert second == Guess([{"label": "dog", "x": 0, "y": 0, "width": 100, "height": 100}], confidence=0.8)

    def test_in_shares_of_the_image_stay_within_it(self) -> None:
        outputs = detections([[[0.5, -0.5, 2.0, 0.5]]], [[0]], [[1.0]])
        (guess,) = boxed(outputs, ["cat"], [(200, 400)], None, 0.5, 0)
        assert guess.answer == [{"label": "cat", "x": 100, "y": 0, "width": 100, "height": 200}]

    def test_without_an_area_or_a_label_of_the_question_are_left_out(self) -> None:
        outputs = detections([[[5, 5, 5, 9], [1, 1, 2, 2], [1, 1, 2, 2]]], [[0, 7, -1]], [[1.0, 1.0, 1.0]])
        assert boxed(outputs, ["cat"], [(10, 10)], (10, 10), 0.5, 0) == [Guess([], confidence=1.0)]

    def test_must_be_given_as_such(self) -> None:
        with pytest.raises(InvalidPayload, match=r"'box…' of shape \[1, m, 4\].*p \[1, 2\]"):
            boxed([output("p", [[0.25, 0.75]])], ["cat"], [(10, 10)], (10, 10), 0.5, 0)


class TestSpans:
    def test_lie_in_the_text(self) -> None:
        given = {"starts": [[0, 4, 9]], "ends": [[3, 5, 99]], "labels": [[0, 1, 0]], "scores": [[0.7, 0.2, 1.0]]}
        outputs = [{"name": name, "datatype": "INT64", "shape": [1, 3], "data": data[0]} for name, data in given.items()]
        assert spanned(outputs, ["name", "place"], ["Ada Byron"], 0.5, 0) == [
            Guess([{"label": "name", "start": 0, "end": 3}], confidence=0.7)
        ]


@pytest.mark.parametrize(
    ("kinds", "name", "told"),
    [(["text"], None, "here is text"), (["polygons", "boxes"], "q0", "here is polygons"), (["boxes"], "other", "no question 'other'")],
)
def test_questions_that_endpoints_do_not_answer_are_refused(kinds: list[str], name: str | None, told: str) -> None:
    labels = {"boxes": {"labels": ["cat"]}, "polygons": {"labels": ["cat"]}}
    schema = LabelSchema.model_validate(
        {"questions": [{"name": f"q{at}", "kind": kind, **labels.get(kind, {})} for at, kind in enumerate(kinds)]}
    )
    with pytest.raises(InvalidPayload, match=told):
        pipeline._question(schema, name)
