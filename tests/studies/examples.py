"""Spaces and functions that searches are tried on, and studies as the API sends them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from aidos.schemas.studies import Space, SpentRead, StudyCreate, StudyRead, TrialRead
from cluster.db import new_id

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BRANIN = {"x": {"kind": "float", "low": -5, "high": 10}, "y": {"kind": "float", "low": 0, "high": 15}}
HARTMANN = {f"x{index}": {"kind": "float", "low": 0, "high": 1} for index in range(6)}
CONDITIONAL = {
    "optimizer": {"kind": "categorical", "choices": ["sgd", "adam"]},
    "momentum": {"kind": "float", "low": 0, "high": 1, "when": {"optimizer": ["sgd"]}},
    "nesterov": {"kind": "categorical", "choices": [True, False], "when": {"optimizer": ["sgd"]}},
    "beta": {"kind": "float", "low": 0.5, "high": 0.5, "when": {"optimizer": ["adam"]}},
    "layers": {"kind": "int", "low": 1, "high": 3},
}
_A = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14))
_P = (
    (1312, 1696, 5569, 124, 8283, 5886),
    (2329, 4135, 8307, 3736, 1004, 9991),
    (2348, 1451, 3522, 2883, 3047, 6650),
    (4047, 8828, 8732, 5743, 1091, 381),
)


def branin(params: Mapping[str, float]) -> float:
    """Minimum 0.397887 (https://www.sfu.ca/~ssurjano/branin.html)."""
    x, y = params["x"], params["y"]
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann(params: Mapping[str, float]) -> float:
    """Minimum -3.32237 (https://www.sfu.ca/~ssurjano/hart6.html)."""
    inner = (sum(a[j] * (params[f"x{j}"] - p[j] * 1e-4) ** 2 for j in range(6)) for a, p in zip(_A, _P, strict=True))
    return -sum(alpha * math.exp(-value) for alpha, value in zip((1.0, 1.2, 3.0, 3.2), inner, strict=True))


def ask_for(**fields: Any) -> dict[str, Any]:
    """The body of a request for a study."""
    asked = {"name": "s", "command": ["python", "train.py"], "space": BRANIN, "objectives": [{"metric": "loss"}]}
    return asked | fields


def make_spec(**fields: Any) -> StudyCreate:
    return StudyCreate.model_validate(ask_for(**fields))


def make_study(**fields: Any) -> StudyRead:
    """A study that runs."""
    spec, spent = make_spec(**fields), SpentRead(trials=0, failures=0, time_s=0)
    own = {"id": new_id(), "state": "RUNNING", "reason": "", "space_version": 1, "spent": spent, "trials": {}, "job_id": None}
    return StudyRead.model_validate({**spec.__dict__, **own, "created_by": "", "created_at": NOW, "updated_at": NOW})


def make_trial(number: int, params: Mapping[str, Any], state: str = "COMPLETE", **values: float) -> TrialRead:
    return TrialRead(
        number=number,
        state=state,
        params=dict(params),
        values=values,
        step=3 if values else None,
        feasible=True,
        reason="",
        attempt=1,
        run_id=new_id(),
        started_at=NOW,
        finished_at=NOW,
    )


def read_space(space: Any) -> Space:
    return TypeAdapter(Space).validate_python(space)
