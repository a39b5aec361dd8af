"""Plain lists become requests of the Open Inference Protocol v2."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from typer.testing import CliRunner

from aidos.cli.root import app
from aidos.client import Client
from aidos.errors import InvalidPayload, Unavailable
from aidos.http.operation import UnexpectedReply
from aidos.prediction import predict, shape_of, to_request
from tests.aidos.counterpart import Counterpart

ENDPOINT = {
    "id": "018f0000-0000-7000-8000-000000000000", "name": "digits", "route": "/serve/default/digits", "model": "digits", "version": 1, "replicas": 1, "cpus": 0.5,
    "state": "READY", "reason": "", "generation": 1, "deployed_generation": 1, "created_by": "u", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
METADATA = {"name": "digits", "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 2]}], "outputs": []}
ANSWER = {
    "model_name": "digits",
    "model_version": "1",
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [2, 3], "data": [0, 1, 0, 9, 0, 0]}],
}
TWO = {"inputs": [{"name": "a", "datatype": "FP32", "shape": [2]}, {"name": "b", "datatype": "INT64", "shape": [2]}]}


class TestToRequest:
    def test_adds_the_batch_and_flattens(self) -> None:
        (tensor,) = to_request(METADATA, [[1, 2], [3, 4]])["inputs"]
        assert tensor == {"name": "image", "datatype": "FP32", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}
        assert to_request(METADATA, [[[1, 2], [3, 4]]] * 3)["inputs"][0]["shape"] == [3, 2, 2]

    def test_takes_inputs_by_name(self) -> None:
        assert [tensor["name"] for tensor in to_request(TWO, {"b": [1, 2], "a": [0.5, 1]})["inputs"]] == ["b", "a"]

    @pytest.mark.parametrize(("metadata", "value"), [(TWO, [1, 2]), (TWO, {"c": [1]}), (METADATA, [[1, 2], [3]])])
    def test_refuses_what_does_not_fit(self, metadata: dict[str, Any], value: Any) -> None:
        with pytest.raises(InvalidPayload):
            to_request(metadata, value)

    def test_shapes(self) -> None:
        assert [shape_of(value) for value in (1, [], [[1], [2]], [[], []])] == [[], [0], [2, 1], [2, 0]]


class TestPredict:
    def test_asks_the_model_what_it_takes(self, client: Client, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse(ENDPOINT), JSONResponse(METADATA), JSONResponse(ANSWER))
        assert predict(client, "digits", [[1, 2], [3, 4]]) == ANSWER
        assert [seen.path for seen in counterpart.seen][1:] == [f"/serve/default/digits/v2/models/digits{end}" for end in ("", "/infer")]
        assert counterpart.seen[2].body["inputs"][0]["name"] == "image"

    @pytest.mark.parametrize("answer", [PlainTextResponse("<h1>hello</h1>"), JSONResponse([])])
    def test_an_answer_outside_the_protocol_is_said(self, client: Client, counterpart: Counterpart, answer: Response) -> None:
        counterpart.plan(JSONResponse(ENDPOINT), answer)
        with pytest.raises(UnexpectedReply, match="POST /serve/default/digits/v2/models/digits/infer"):
            predict(client, "digits", {"inputs": []})

    def test_passes_a_ready_request_on(self, client: Client, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse(ENDPOINT), JSONResponse(ANSWER))
        ready = {"inputs": [{"name": "x"}], "id": "7"}
        predict(client, "digits", ready)
        assert counterpart.seen[1].body == ready

    def test_says_that_nothing_is_served_yet(self, client: Client, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({**ENDPOINT, "state": "DEPLOYING"}), PlainTextResponse("no route", 403))
        with pytest.raises(Unavailable, match="'digits' is DEPLOYING"):
            predict(client, "digits", [[1, 2], [3, 4]])

    def test_is_a_command(self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_URL", counterpart.url)
        counterpart.plan(*[JSONResponse(each) for each in (ENDPOINT, METADATA, ANSWER)] * 2)
        shown = CliRunner().invoke(app, ["endpoint", "predict", "digits", "[[1, 2], [3, 4]]"])
        assert shown.exit_code == 0 and "2×3" in shown.stdout and "1, 0" in shown.stdout
        piped = CliRunner().invoke(app, ["endpoint", "predict", "digits", "--json"], input="[[1, 2], [3, 4]]")
        assert json.loads(piped.stdout) == ANSWER

    def test_waits_until_it_is_settled(self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_URL", counterpart.url)
        counterpart.plan(JSONResponse({**ENDPOINT, "state": "STARTING"}), JSONResponse({**ENDPOINT, "state": "FAILED"}))
        result = CliRunner().invoke(app, ["endpoint", "wait", "digits"])
        assert result.exit_code == 1 and counterpart.seen[1].query == {"wait": "30s"}
