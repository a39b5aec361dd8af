"""What a request's schema calls a number is a number: no truth value, no string of digits, no year for a moment."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import Field, ValidationError

from aidos.schemas.common import Asked, Wire
from aidos.schemas.modelhub import PointLog


class Part(Asked):
    size_bytes: int = 0


class Whole(Asked):
    count: Annotated[int, Field(ge=0)] = 0
    ratio: float | None = None
    wanted: bool = False
    at: datetime | None = None
    id: UUID | None = None
    sizes: list[int] = []
    parts: list[Part] = []
    by_name: dict[str, Part | float] = {}
    anything: bool | int | float | str = "x"


class TestAsked:
    @pytest.mark.parametrize(
        "fields",
        [
            {"count": True}, {"count": "1"}, {"ratio": False}, {"ratio": "0.5"}, {"wanted": 1}, {"wanted": "yes"}, {"wanted": 0.0},
            {"at": 0}, {"at": 1.5}, {"at": False}, {"sizes": [1, "2"]}, {"sizes": [False]}, {"parts": [{"size_bytes": False}]},
            {"by_name": {"a": {"size_bytes": "1"}}}, {"by_name": {"a": "1"}},
        ],
    )  # fmt: skip
    def test_refuses_a_value_of_another_json_type(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match="must not be a (truth value|string|number)"):
            Whole(**fields)

    @pytest.mark.parametrize(
        "fields",
        [
            {"count": 1.0}, {"ratio": 1}, {"at": "2026-01-01T00:00:00Z"}, {"id": str(uuid4())}, {"sizes": (1, 2)}, {"ratio": None},
            {"parts": [{"size_bytes": 1}]}, {"parts": [Part(size_bytes=1)]}, {"by_name": {"a": {"size_bytes": 1}, "b": 2}},
        ],
    )  # fmt: skip
    def test_takes_what_the_document_allows(self, fields: dict[str, Any]) -> None:
        assert Whole(**fields)

    @pytest.mark.parametrize("value", [True, 1, 1.5, "1"])
    def test_keeps_each_type_where_several_are_allowed(self, value: Any) -> None:
        kept = Whole(anything=value).anything
        assert kept == value and type(kept) is type(value)

    def test_leaves_answers_as_they_are(self) -> None:
        class Answer(Wire):
            count: int

        class Carrier(Asked):
            answer: Answer

        assert Carrier.model_validate({"answer": {"count": "1"}}).answer.count == 1

    def test_says_the_same_in_the_document(self) -> None:
        assert Whole.model_json_schema()["properties"]["count"] == {"default": 0, "minimum": 0, "title": "Count", "type": "integer"}


class TestMetricValue:
    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
    def test_takes_the_three_names_of_what_json_has_no_number_for(self, value: str) -> None:
        assert not math.isfinite(PointLog(key="loss", value=value, step=1, at=datetime.now(UTC)).value)

    @pytest.mark.parametrize("value", ["nan", "inf", "1e5", "1", "", True])
    def test_takes_no_other_string(self, value: Any) -> None:
        with pytest.raises(ValidationError):
            PointLog(key="loss", value=value, step=1, at=datetime.now(UTC))
