"""Decisions of DeployEngine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cluster.db import new_id
from serve_apps.deployengine import policy
from serve_apps.deployengine.errors import ModelNotServable
from serve_apps.deployengine.models import TRANSITIONS, EndpointState


@dataclass(frozen=True)
class Version:
    model: str = "digits"
    version: int = 1
    flavour: str = "onnx"
    state: str = "READY"
    reason: str = ""


class TestSplitModel:
    @pytest.mark.parametrize(
        ("given", "parts"), [("digits@3", ("digits", "3")), ("digits@champion", ("digits", "champion")), ("digits", ("digits", "latest"))]
    )
    def test_name_and_version(self, given: str, parts: tuple[str, str]) -> None:
        assert policy.split_model(given) == parts


class TestRequireServable:
    def test_a_ready_graph_is_served(self) -> None:
        policy.require_servable(Version())

    @pytest.mark.parametrize(
        ("version", "says"), [(Version(state="PENDING"), "PENDING"), (Version(flavour="safetensors"), "weights without a graph")]
    )
    def test_says_why_not(self, version: Version, says: str) -> None:
        with pytest.raises(ModelNotServable, match=says):
            policy.require_servable(version)

    def test_a_quarantined_one_takes_an_exception(self) -> None:
        found = Version(state="QUARANTINED", reason="scaler.pkl: the file is a Python pickle, which can run code")
        with pytest.raises(ModelNotServable, match=r"scaler\.pkl.*aidos model except"):
            policy.require_servable(found)
        policy.require_servable(found, excepted=True)
        with pytest.raises(ModelNotServable, match="weights without a graph"):
            policy.require_servable(Version(state="QUARANTINED", flavour="mlflow"), excepted=True)
        with pytest.raises(ModelNotServable):
            policy.require_servable(Version(state="REJECTED"), excepted=True)


class TestDecide:
    @pytest.mark.parametrize(
        ("status", "deployed", "state"),
        [
            ("RUNNING", True, EndpointState.READY),
            ("RUNNING", False, None),
            ("DEPLOYING", True, None),
            (None, True, None),
            ("DEPLOY_FAILED", True, EndpointState.FAILED),
        ],
    )
    def test_what_serve_says_becomes_a_state(self, status: str | None, deployed: bool, state: EndpointState | None) -> None:
        decided = policy.decide(status, "", asked_generation_is_deployed=deployed)
        assert (decided.state if decided else None) == state


class TestTransitions:
    def test_every_state_has_a_row_and_only_deleted_is_final(self) -> None:
        assert set(TRANSITIONS) == set(EndpointState)
        assert [state for state, after in TRANSITIONS.items() if not after] == [EndpointState.DELETED]


ID = UUID("01a202ad-179d-71f3-ad8f-d59fb834592a")


class TestPredictionId:
    def test_says_which_generation_of_which_endpoint_answered_and_when(self) -> None:
        endpoint, before = new_id(), datetime.now(UTC)
        parts = policy.parse_prediction_id(policy.to_prediction_id(endpoint, 12, new_id()))
        assert parts is not None and parts[:2] == (endpoint, 12)
        assert timedelta(milliseconds=-1) <= parts[2] - before < timedelta(seconds=10)

    @pytest.mark.parametrize("text", ["", "p", str(ID), f"{ID.hex}-0-{ID.hex}", f"{ID.hex}-1-{'f' * 32}"])
    def test_other_text_is_none(self, text: str) -> None:
        assert policy.parse_prediction_id(text) is None
