"""What an endpoint answers, without Serve around it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from cluster.db import new_id
from serve_apps.deployengine import policy
from serve_apps.deployengine.app import Predictor
from serve_apps.deployengine.models import EndpointSpec
from serve_apps.deployengine.protocol import OnnxModel
from tests.support.onnx_models import linear


class TestPredictionId:
    @pytest.fixture
    def spec(self) -> EndpointSpec:
        return EndpointSpec(new_id(), new_id(), new_id(), "shop", "/serve/default/shop", "digits", 3, "onnx", (), 1, 1.0, generation=7)

    @pytest.fixture
    def endpoint(self, spec: EndpointSpec) -> TestClient:
        predictor = Predictor(spec)
        predictor.model = OnnxModel(linear(), "digits", 3, 1)
        return TestClient(Starlette(routes=predictor.routes()))

    def ask(self, endpoint: TestClient, **request: Any) -> Any:
        (tensor,) = endpoint.get("/v2/models/shop").json()["inputs"]
        shape = [max(1, size) for size in tensor["shape"]]
        count = 1
        for size in shape:
            count *= size
        inputs = [{"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": [0] * count}]
        answer = endpoint.post("/v2/models/shop/infer", json={"inputs": inputs, **request})
        assert answer.status_code == 200, answer.text
        return answer

    def test_names_the_generation_that_answered(self, endpoint: TestClient, spec: EndpointSpec) -> None:
        first, second = self.ask(endpoint), self.ask(endpoint)
        assert first.json()["id"] == first.headers["x-aidos-prediction"] != second.headers["x-aidos-prediction"]
        parts = policy.parse_prediction_id(first.json()["id"])
        assert parts is not None and parts[:2] == (spec.endpoint_id, 7)

    def test_the_callers_own_id_comes_back_as_the_protocol_says(self, endpoint: TestClient) -> None:
        answer = self.ask(endpoint, id="mine")
        assert answer.json()["id"] == "mine" and policy.parse_prediction_id(answer.headers["x-aidos-prediction"])
