"""The page and the picture of compared runs: whole, safe whatever runs are called, and drawn of what there is."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image

from aidos.cli import comparison_page, comparison_picture
from aidos.schemas.comparisons import Axis, ChartKind, ChartRead, ComparedRun, ComparisonRead, CurveRead, FactsRead

pytestmark = pytest.mark.plain
START = datetime(2026, 11, 1, tzinfo=UTC)
EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(2)>'


def facts(**sections: dict[str, Any]) -> FactsRead:
    return FactsRead(**{"params": {}, "metrics": {}, "code": {}, "data": {}, "environment": {}, **sections})


def compared(count: int, name: str = "run") -> ComparisonRead:
    """Runs with a param, a metric, what their machine did, and a curve; the first has measured NaN."""
    runs, curves = [], []
    for number in range(count):
        metrics = {"acc": math.nan if number == 0 else number / count, "system/cpu": float(number)}
        one = ComparedRun(
            id=UUID(int=number), name=f"{name}{number}", experiment="digits", state="FINISHED", created_by="ada", started_at=START,
            ended_at=START + timedelta(minutes=1), duration_s=60, cost_usd=None, facts=facts(params={"lr": str(number / 10)}, metrics=metrics),
        )  # fmt: skip
        runs.append(one)
        values = [1.0, math.inf, float(number)]
        curves.append(
            CurveRead(run_id=one.id, key="loss", steps=[0, 1, 2], at=[START.timestamp() + step for step in range(3)], values=values)
        )
    return ComparisonRead(runs=runs, alike=facts(params={"seed": "7"}, code={"commit": EVIL}), curves=curves, truncated=False)


def to_page(comparison: ComparisonRead, title: str = "Runs") -> str:
    grid = comparison_page.build_grid(comparison)
    return comparison_page.to_html(title, comparison, grid, comparison_page.choose_charts(comparison, grid))


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(found[1], parse_constant=refuse)


class TestGrid:
    def test_shows_what_differs_and_not_how_the_machine_did(self) -> None:
        grid = comparison_page.build_grid(compared(3))
        assert grid.columns == ("name", "state", "duration_s", "metrics.acc", "params.lr")
        assert "metrics.system/cpu" in grid.fields and grid.rows[1]["params.seed"] == "7"

    def test_shows_all_or_what_is_chosen_when_asked(self) -> None:
        assert "params.seed" in comparison_page.build_grid(compared(3), everything=True).columns
        assert comparison_page.build_grid(compared(3), ["params.seed"]).columns == ("name", "params.seed")


class TestPage:
    def test_takes_nothing_from_names_but_their_text(self) -> None:
        page = to_page(compared(3, EVIL), EVIL)
        assert "<img" not in page and page.count("<script") == 2 and page.count("</script>") == 2
        assert data_of(page)["runs"][0]["name"] == f"{EVIL}0"

    def test_allows_its_own_script_and_style_and_nothing_else(self) -> None:
        page = to_page(compared(3))
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
        assert policy and policy[1].startswith("default-src 'none'; ")
        for kind in ("script", "style"):
            own = re.search(rf"<{kind}>(.*?)</{kind}>", page, re.S)
            assert own
            digest = base64.b64encode(hashlib.sha256(own[1].encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}'" in policy[1]
        assert not re.search(r"<[a-z]+[^<>]*\s(src|href)=|url\(|https?://(?!www\.w3\.org/2000/svg)", page)

    def test_has_every_run_and_what_is_no_number_as_json_can_say_it(self) -> None:
        data = data_of(to_page(compared(500)))
        assert len(data["runs"]) == 500 and len(data["curves"]) == 500
        assert data["runs"][0]["cells"]["metrics.acc"] == "NaN" and data["curves"][0]["values"][1] == "Infinity"
        assert [chart["kind"] for chart in data["charts"]] == ["curves", "scatter", "parallel"]

    def test_draws_the_charts_of_a_view(self) -> None:
        comparison = compared(3)
        charts = [
            ChartRead(kind=ChartKind.CURVES, fields=["metrics.loss"], x=Axis.WALL),
            ChartRead(kind=ChartKind.PARALLEL, fields=["params.lr", "metrics.acc"], x=Axis.STEP),
        ]
        assert comparison_page.choose_charts(comparison, comparison_page.build_grid(comparison), charts) == [
            {"kind": "curves", "metric": "loss", "x": "wall", "log": False},
            {"kind": "parallel", "fields": ["params.lr", "metrics.acc"]},
        ]


class TestPicture:
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_is_drawn_of_what_is_finite(self, tmp_path: Path, count: int) -> None:
        comparison = compared(count, "läuft → ")
        grid = comparison_page.build_grid(comparison)
        charts = comparison_page.choose_charts(comparison, grid)
        comparison_picture.write_png(tmp_path / "runs.png", "läuft → ", comparison, grid, charts)
        with Image.open(tmp_path / "runs.png") as picture:
            colors = {color for _, color in picture.getcolors(2**24) or ()}
        assert all(comparison_picture.color_of(run) in colors for run in range(count))
