"""Labelling on a whole platform: a deployed endpoint gives the first answers, and the queue begins with what it is unsure of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
DIGITS = {"questions": [{"name": "digit", "kind": "classification", "labels": [str(digit) for digit in range(10)]}]}


class TestPrelabels:
    def test_of_an_endpoint_are_first_answers_and_order_the_queue(self, platform: RunningPlatform, demo: str, tmp_path: Path) -> None:
        (tmp_path / "schema.json").write_text(json.dumps(DIGITS))
        schema = f"@{tmp_path / 'schema.json'}"
        platform.ask("labelling", "create", "first-answers", "--dataset", "digits", "--prefix", "test/", "--questions", schema)
        asked = ("--param", "labelling=first-answers", "--param", "endpoint=digits")
        report = platform.ask("report", "create", "digits@main", "prelabel", *asked, "--wait", timeout_s=400)
        assert report["state"] == "SUCCEEDED", report["reason"]
        tasks = platform.ask("labelling", "tasks", "first-answers", "--limit", "0")
        assert report["result"]["predicted"] == len(tasks) == 360 and report["result"]["model"].startswith("digits@")
        right = sum(task["prediction"]["value"]["digit"] == task["item"]["path"].split("/")[-2] for task in tasks)
        assert right / len(tasks) > 0.9
        platform.ask("labelling", "rerank", "first-answers", "margin")
        first = platform.ask("labelling", "next", "first-answers")
        shares = sorted(next(t for t in tasks if t["id"] == first["id"])["prediction"]["probabilities"]["digit"].values(), reverse=True)
        margins = [sorted(task["prediction"]["probabilities"]["digit"].values(), reverse=True) for task in tasks]
        assert shares[0] - shares[1] == pytest.approx(min(each[0] - each[1] for each in margins))
