"""Open Inference Protocol v2: right answers, and a clear sentence for every wrong question."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.deployengine.errors import InvalidTensor
from serve_apps.deployengine.protocol import OnnxModel
from tests.support.onnx_models import linear


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return OnnxModel(linear(), "linear", 3, threads=1)


def asking(data: Any, shape: Any = (1, 4), datatype: str = "FP32", name: str = "x", **more: Any) -> bytes:
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


class TestInfer:
    def test_answers_what_the_graph_computes(self, model: OnnxModel) -> None:
        answer = model.infer(asking([1, 2, 3, 4], id="q7"))
        expected = np.array([[1, 2, 3, 4]], dtype=np.float32) @ np.arange(12, dtype=np.float32).reshape(4, 3) + 1
        assert answer["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": expected.ravel().tolist()}]
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("linear", "3", "q7")

    def test_takes_nested_data_and_batches(self, model: OnnxModel) -> None:
        assert model.infer(asking([[0, 0, 0, 0], [1, 0, 0, 0]], [2, 4]))["outputs"][0]["shape"] == [2, 3]

    def test_an_empty_batch_has_an_empty_answer(self, model: OnnxModel) -> None:
        assert model.infer(asking([], [0, 4]))["outputs"][0]["data"] == []

    def test_numbers_that_json_has_no_word_for_come_as_null(self, model: OnnxModel) -> None:
        answer = model.infer(asking([1e38, 1e38, 1e38, 1e38]))
        assert json.loads(json.dumps(answer, allow_nan=False))["outputs"][0]["data"][2] is None

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b"", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "object"),
            (b"{}", "'inputs' must be a list"),
            (b'{"inputs": []}', "Input 'x' is missing"),
            (b'{"inputs": [1]}', "'inputs' must be a list"),
            (asking([1, 2, 3, 4], name="y"), "no input 'y'"),
            (asking([1, 2, 3, 4], datatype="INT64"), "must have datatype FP32, got INT64"),
            (asking([1, 2, 3], [1, 4]), "4 elements, and 3 data"),
            (asking([1, 2, 3, 4], [2, -2]), "a list of sizes"),
            (asking([1, 2, 3, 4], "4"), "a list of sizes"),
            (asking([1, 2, 3, 4], [10**9, 10**9]), "at most"),
            (asking(["a", "b", "c", "d"]), "not FP32 numbers"),
            (asking({"a": 1}), "not FP32 numbers"),
            (asking(None), "4 elements, and 1 data"),
            (asking([1, 2, 3], [1, 3]), "refused the input"),
            (asking([1, 2, 3, 4], outputs=[{"name": "z"}]), "no output 'z'"),
        ],
    )
    def test_says_what_is_wrong(self, model: OnnxModel, body: bytes, says: str) -> None:
        with pytest.raises(InvalidTensor, match=says):
            model.infer(body)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
        )
    )
    def test_no_json_breaks_it(self, model: OnnxModel, value: Any) -> None:
        for body in (
            value,
            {"inputs": value},
            {"inputs": [value]},
            {"inputs": [{"name": "x", "shape": value, "datatype": "FP32", "data": value}]},
        ):
            try:
                model.infer(json.dumps(body).encode())
            except InvalidTensor:
                continue


class TestMetadata:
    def test_names_tensors_with_free_dimensions_as_minus_one(self, model: OnnxModel) -> None:
        assert model.metadata()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


class TestOnnxModel:
    @pytest.mark.parametrize("graph", [b"", b"PK\x03\x04", b"\x80\x04\x95cos\nsystem\n", b"garbage" * 100])
    def test_what_is_not_a_graph_does_not_load(self, graph: bytes) -> None:
        with pytest.raises(Exception, match=r"(?i)protobuf|model|onnx"):
            OnnxModel(graph, "bad", 1, threads=1)
