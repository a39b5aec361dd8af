"""``aidos cost``: periods as people say them, and what is asked and shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.responses import JSONResponse
from typer.testing import CliRunner, Result

from aidos.cli.cost import to_moment
from aidos.cli.root import app
from aidos.errors import InvalidRequest
from tests.aidos.counterpart import Counterpart

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PERIOD = {"since": "2026-11-01T00:00:00Z", "until": "2026-11-21T00:00:00Z", "micro_usd": 1_230_000}
GROUP = {"owner_kind": "job", "owner_id": "j1", "owner_name": "train", "day": None, "micro_usd": 1_230_000, "cpu_hours": 2.5, "gpu_hours": 0, "memory_gib_hours": 1, "running": False}  # fmt: skip


@pytest.fixture
def run(counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIDOS_URL", counterpart.url)

    def run(*args: str) -> Result:
        return CliRunner().invoke(app, ["cost", *args])

    return run


class TestPeriod:
    @pytest.mark.parametrize(("text", "moment"), [("90m", NOW.replace(hour=10, minute=30)), ("7d", NOW.replace(day=14)), ("2026-11-01T00:00:00Z", NOW.replace(day=1, hour=0))])  # fmt: skip
    def test_is_a_span_or_a_date(self, text: str, moment: datetime) -> None:
        assert to_moment(text, NOW) == moment

    @pytest.mark.parametrize("text", ["yesterday", "7", "d", "99999999d", "2026-13-01"])
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="such as 24h"):
            to_moment(text, NOW)


class TestCommand:
    def test_shows_who_cost_what(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({**PERIOD, "groups": 1, "costs": [GROUP]}))
        text = run("--since", "7d").stdout
        assert "train" in text and "$1.23" in text
        assert set(counterpart.seen[0].query) == {"group_by", "from", "limit"} and counterpart.seen[0].query["group_by"] == "owner"

    def test_shows_one_lease_by_lease(self, run: Any, counterpart: Counterpart) -> None:
        lease = {"lease_id": "018f0000-0000-7000-8000-000000000000", "cpu": 1, "gpu": 0, "gpu_type": "", "memory_gib": 1, "started_at": NOW.isoformat(), "ended_at": None, "micro_usd": 5}  # fmt: skip
        counterpart.plan(JSONResponse({**PERIOD, "owner_kind": "job", "owner_id": "j1", "leases": [lease]}))
        result = run("job", "j1", "--json")
        assert json.loads(result.stdout)["leases"][0]["micro_usd"] == 5
        assert counterpart.seen[0].path == "/v1/costoptimizer/costs/job/j1"

    def test_needs_to_know_whose(self, run: Any, counterpart: Counterpart) -> None:
        assert run("job").exit_code == 2 and counterpart.seen == []
