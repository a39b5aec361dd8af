"""``aidos queue simulate``: a trace, a cluster and quotas in; figures out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.responses import JSONResponse
from typer.testing import CliRunner, Result

from aidos.cli.root import app
from tests.aidos.conftest import _own_settings, _running, counterpart
from tests.aidos.counterpart import Counterpart

__all__ = ["_own_settings", "_running", "counterpart"]

ROW = {"id": "a", "submit_s": 0, "run_s": 10, "driver_cpu": 4}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps({**ROW, "id": name, "project": name}) + "\n" for name in ("vision", "text")))
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(app, ["queue", "simulate", *map(str, args)])


class TestSimulate:
    def test_tells_waits_utilisation_and_each_project(self, trace: Path) -> None:
        text = run(trace, "--nodes", "1x4").stdout
        assert "wait, mean" in text and "utilisation, CPU" in text and "vision" in text

    def test_gives_the_same_report_as_json(self, trace: Path) -> None:
        report = json.loads(run(trace, "--nodes", "1x4", "--json").stdout)
        assert (report["makespan_s"], report["waits"]["mean_s"], report["utilisation"]) == (20.0, 5.0, {"CPU": 1.0})
        assert {project["project"] for project in report["projects"]} == {"vision", "text"}

    def test_keeps_to_quotas(self, trace: Path, tmp_path: Path) -> None:
        quotas = tmp_path / "quotas.yaml"
        quotas.write_text("vision: {limit: {cpu: 3}}\n")
        report = json.loads(run(trace, "--nodes", "1x4", "--quotas", quotas, "--json").stdout)
        assert (report["finished"], report["never_started"]) == (1, 1)

    def test_replays_the_projects_own_jobs(self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_URL", counterpart.url)
        counterpart.plan(JSONResponse({"items": [ROW]}))
        assert json.loads(run("--days", "7", "--nodes", "1x4", "--json").stdout)["finished"] == 1
        assert (counterpart.seen[0].path, counterpart.seen[0].query) == ("/v1/trainos/queue/history", {"days": "7"})

    def test_says_what_is_wrong_with_a_file_and_where(self, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.csv"
        wrong.write_text("id,submit_s,run_s\na,0,soon\n")
        result = run(wrong, "--nodes", "1x4")
        assert result.exit_code == 2
        assert "Line 2 of wrong.csv" in result.stderr and "run_s" in result.stderr and "'soon'" in result.stderr

    def test_needs_one_thing_to_replay(self, trace: Path) -> None:
        assert run("--nodes", "1x4").exit_code == run(trace, "--days", "7", "--nodes", "1x4").exit_code == 2
