"""Items in the shape that a model takes, and its answers as probabilities."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aidos.errors import InvalidPayload
from data_pipelines.dataforge.labelling.prelabels import image_values, probabilities, row_values


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


class TestProbabilities:
    def test_are_taken_as_they_are_or_made_of_scores(self) -> None:
        label = {"name": "label", "datatype": "INT64", "shape": [1], "data": [0]}
        assert probabilities([label, output("p", [[0.25, 0.75]])], ["a", "b"], 1) == [{"a": 0.25, "b": 0.75}]
        (shares,) = probabilities([output("logits", [[0.0, np.log(3)]])], ["a", "b"], 1)
        assert shares == pytest.approx({"a": 0.25, "b": 0.75})

    def test_must_be_there_for_every_label(self) -> None:
        with pytest.raises(InvalidPayload, match=r"3 labels.*p \[1, 2\]"):
            probabilities([output("p", [[0.25, 0.75]])], ["a", "b", "c"], 1)
