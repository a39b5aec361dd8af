"""Decisions of DeployEngine."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from serve_apps.deployengine import policy
from serve_apps.deployengine.errors import ModelNotServable
from serve_apps.deployengine.models import TRANSITIONS, EndpointState


@dataclass(frozen=True)
class Version:
    model: str = "digits"
    version: int = 1
    flavour: str = "onnx"
    state: str = "READY"


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
