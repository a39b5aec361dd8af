"""The short way to read a batch of points says what the long one says, or nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from actors.modelhub.series.models import Columns
from api.protocols.mlflow import wire

KEYS = st.sampled_from(["loss", "a/b", "../up", "", "k" * 251, "ä", 7, None])
NUMBERS = st.sampled_from([0, 1, -1, 2**63, -(2**63), 253_000_000_000_001, 1.5, 1e400, 10**400, True, "3", "NaN", None])
POINTS = st.fixed_dictionaries(
    {"key": KEYS | st.just("loss"), "value": NUMBERS | st.floats(allow_nan=False), "timestamp": NUMBERS | st.integers(0, 10**13)},
    optional={"step": NUMBERS | st.integers(0, 100), "model_id": st.just(""), "more": st.just(1)},
)
BODIES = st.fixed_dictionaries(
    {"run_id": st.sampled_from(["1" * 32, 5]), "metrics": st.lists(POINTS, max_size=3)},
    optional={"params": st.sampled_from([[], [{"key": "a"}]]), "tags": st.just([]), "run_uuid": st.just("2" * 32)},
)


@given(BODIES)
def test_both_ways_agree(body: dict[str, Any]) -> None:
    sent = json.dumps(body).encode()
    if (read := wire.read_points(sent)) is not None:
        batch = wire.read(wire.Batch, sent)
        assert read == (batch.run_id, Columns.of([metric.point for metric in batch.metrics]))
        assert not batch.params and not batch.tags


def test_what_clients_send_by_the_thousand_is_read_the_short_way() -> None:
    metrics = [{"key": f"m{n}", "value": n / 7, "timestamp": 1_790_000_000_000 + n, "step": n} for n in range(1000)]
    read = wire.read_points(json.dumps({"run_id": "1" * 32, "metrics": metrics}).encode())
    assert read is not None and read[0] == "1" * 32 and read[1].values == [n / 7 for n in range(1000)]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"run_id": "1", "metrics": 5}', b'"text"', b"\xff"])
def test_what_is_no_batch_is_refused_the_long_way(body: bytes) -> None:
    assert wire.read_points(body) is None
    with pytest.raises(RequestValidationError):
        wire.read(wire.Batch, body)
