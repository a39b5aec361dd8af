"""Runs found by a query and set side by side, over HTTP with the real client."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from actors.costoptimizer import service as costoptimizer
from actors.modelhub import service
from actors.modelhub.comparison.errors import ViewNotFound
from actors.modelhub.errors import RunNotFound
from actors.modelhub.models import RunSpec, RunState
from actors.modelhub.search.errors import InvalidQuery
from actors.securityvault.models import Principal, PrincipalKind, Scope
from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.schemas.modelhub import PointLog, RunRead
from cluster.db import Database, new_id
from cluster.events import Event, consume_batch, publish
from data_pipelines.dataforge.errors import DatasetNotFound

pytestmark = pytest.mark.postgres
FOUND = {
    "metrics.acc > 0.9": ["good"],
    "metrics.acc <= 0.95": ["bad", "good"],
    "not metrics.acc > 0.9": ["idle", "bad"],
    "metrics.acc is null": ["idle"],
    "metrics.loss > 0 or metrics.loss <= 0": ["good"],  # NaN is neither
    "params.lr < 0.1": ["good"],
    "params.lr = 0.01": ["good"],
    "params.lr = '0.01'": [],
    "params.lr = 'auto' or params.optimizer in ('sgd')": ["idle", "bad"],
    "params.lr not in ('auto', '0.5')": ["good"],
    "tags.`kind of run` = 'test'": ["idle"],
    "name like '%o%' and name not ilike 'G%'": [],
    "name ilike 'G%'": ["good"],
    "state = 'FINISHED'": ["good"],
    "experiment != 'digits'": ["idle"],
    "ended_at is null": ["idle", "bad"],
    "not ended_at > '2026-01-01'": ["idle", "bad"],
    "started_at > '2026-01-01' and duration_s < 3600 and not name = 'idle'": ["bad", "good"],
    "data.dataset = 'digits'": ["bad", "good"],
    "data.dataset is null": ["idle"],
    "data.commit = 'digits@v1'": ["good"],
    "data.commit in ('digits@v1', 'digits@v2')": ["bad", "good"],
    "git.commit like 'abc%'": ["good"],
    "metrics.acc > 0.9 and data.commit = 'digits@v1' and not cost_usd > 2": ["good"],
    "name = '''; drop table modelhub.runs; --'": [],
}
"""Names of the fixture's runs by query, newest first."""
START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def runs(client: Client) -> dict[str, RunRead]:
    """Three runs: good on v1 of the data, bad on v2, and one that has measured nothing."""
    client.datasets.create("digits")
    commit = None
    for version in ("v1", "v2"):
        parent = str(commit.id) if commit else None
        commit = client.datasets.commit(
            "digits", message=version, parent=parent, add=[{"path": version, "sha256": EMPTY_SHA256, "size_bytes": 0}]
        )
        client.datasets.set_ref("digits", version, kind="tag", commit=str(commit.id))
    made = {
        "good": client.runs.create(
            experiment="digits",
            name="good",
            params={"lr": "1e-2", "optimizer": "adam"},
            tags={"aidos.git_commit": "abc123"},
            inputs=["digits@v1"],
        ),
        "bad": client.runs.create(experiment="digits", name="bad", params={"lr": "0.5", "optimizer": "sgd"}, inputs=["digits@v2"]),
        "idle": client.runs.create(experiment="other", name="idle", params={"lr": "auto"}, tags={"kind of run": "test"}),
    }
    for name, acc in (("good", 0.95), ("bad", 0.4)):
        client.runs.log_metrics(
            str(made[name].id), points=[PointLog(key="acc", value=acc, step=1), PointLog(key="loss", value=1 - acc, step=1)]
        )
    client.runs.log_metrics(str(made["bad"].id), points=[PointLog(key="loss", value=math.nan, step=2)])
    client.runs.update(str(made["good"].id), state="FINISHED")
    return made


EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
Find = Callable[[str], list[str]]


@pytest.fixture
def find(client: Client, runs: dict[str, RunRead]) -> Find:
    """Names of the runs that a query finds, newest first."""
    return lambda query: [run.name for run in client.runs.list(query=query)]


class TestQueries:
    def test_find_the_runs_of_which_they_hold(self, find: Find) -> None:
        assert {query: find(query) for query in FOUND} == FOUND

    def test_can_be_narrowed_by_the_other_filters_and_paged(self, client: Client, runs: dict[str, RunRead]) -> None:
        assert [run.name for run in client.runs.list(query="params.lr is not null", experiment="other")] == ["idle"]
        assert [run.name for run in client.runs.list(query="params.lr is not null", state="RUNNING")] == ["idle", "bad"]
        first = client.runs.list.raw(query="params.lr is not null")
        assert first.status == 200
        assert len(list(client.runs.list(query="params.lr is not null"))) == 3

    def test_an_error_says_where(self, client: Client) -> None:
        with pytest.raises(InvalidQuery, match="at character 15: expected a number to compare acc with, found ''x''"):
            list(client.runs.list(query="metrics.acc > 'x'"))
        with pytest.raises(DatasetNotFound):
            list(client.runs.list(query="data.commit = 'nothing@main'"))

    def test_what_overflows_a_number_is_no_number(self, client: Client, find: Find) -> None:
        client.runs.create(name="huge", params={"lr": "9" * 400, "other": "1e999"})
        assert find("params.lr > 0.1") == ["bad"]
        assert find("params.other > 0") == []


class TestCost:
    async def test_is_what_the_job_cost_shared_by_how_long_its_runs_ran(self, database: Database, client: Client) -> None:
        scope = _scope_of(client)
        job_id = new_id()
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            for name, hours in (("long", 3), ("short", 1)):
                run = await service.create_run(conn, scope, RunSpec("costs", name, job_id=job_id, started_at=START))
                await service.update_run(conn, scope, run.id, state=RunState.FINISHED, ended_at=START + timedelta(hours=hours))
            await _lease(conn, scope, job_id, START, START + timedelta(hours=10))
        while await consume_batch(database, costoptimizer.CONSUMER, costoptimizer.record_leases):
            pass
        whole = client.costs.owner("job", str(job_id)).micro_usd / 1e6
        assert whole > 0
        compared = client.runs.compare(query="experiment = 'costs'")
        costs = {run.name: run.cost_usd for run in compared.runs}
        assert costs == {"long": pytest.approx(whole * 3 / 4), "short": pytest.approx(whole / 4)}
        assert [run.name for run in client.runs.list(query=f"cost_usd < {whole / 2}")] == ["short"]


class TestComparison:
    def test_parts_what_differs_from_what_is_alike(self, client: Client, runs: dict[str, RunRead]) -> None:
        ids = [runs["bad"].id, runs["good"].id]
        found = client.runs.compare(runs=ids)
        assert [run.id for run in found.runs] == ids
        bad, good = (run.facts for run in found.runs)
        assert (bad.params, good.params) == ({"lr": "0.5", "optimizer": "sgd"}, {"lr": "1e-2", "optimizer": "adam"})
        assert good.code == {"commit": "abc123"} and bad.code == {}
        assert set(good.data) == {"digits"} and good.data != bad.data
        assert math.isnan(bad.metrics["loss"]) and good.metrics["acc"] == 0.95
        assert not found.alike.params and not found.truncated

    def test_packages_are_compared_one_by_one(self, client: Client) -> None:
        tags = {"aidos.packages": "numpy==2.3.1 torch==2.13.0", "aidos.python": "3.11.9"}
        first = client.runs.create(tags=tags)
        second = client.runs.create(tags=tags | {"aidos.packages": "numpy==2.4.0 torch==2.13.0"})
        found = client.runs.compare(runs=[first.id, second.id])
        assert [run.facts.environment for run in found.runs] == [{"numpy": "2.3.1"}, {"numpy": "2.4.0"}]
        assert found.alike.environment == {"python": "3.11.9", "torch": "2.13.0"}

    def test_curves_keep_their_spikes(self, client: Client) -> None:
        run = client.runs.create()
        points = [PointLog(key="loss", value=-7.0 if step == 1234 else 99.0 if step == 777 else 1.0, step=step) for step in range(2000)]
        client.runs.log_metrics(str(run.id), points=points)
        (curve,) = client.runs.compare(runs=[run.id], points=50).curves
        assert len(curve.steps) == len(curve.at) == len(curve.values) <= 50
        drawn = dict(zip(curve.steps, curve.values, strict=True))
        assert drawn[1234] == -7.0 and drawn[777] == 99.0
        assert curve.steps == sorted(curve.steps) and (curve.key, curve.run_id) == ("loss", run.id)

    def test_a_metric_without_steps_has_a_curve_over_time(self, client: Client) -> None:
        run = client.runs.create()
        points = [PointLog(key="loss", value=float(second), step=0, at=START + timedelta(seconds=second)) for second in range(1000)]
        client.runs.log_metrics(str(run.id), points=points)
        (curve,) = client.runs.compare(runs=[run.id], metrics=["loss"], points=20).curves
        assert 10 <= len(curve.at) <= 20 and curve.at == sorted(curve.at)
        assert (curve.values[0], curve.values[-1]) == (0.0, 999.0)

    async def test_says_that_more_runs_match_than_are_compared(self, database: Database, client: Client) -> None:
        scope = _scope_of(client)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            for _ in range(501):
                await service.create_run(conn, scope, RunSpec("many"))
        found = client.runs.compare(query="experiment = 'many'")
        assert len(found.runs) == 500 and found.truncated

    def test_refuses_what_is_no_question(self, client: Client, runs: dict[str, RunRead]) -> None:
        with pytest.raises(RunNotFound):
            client.runs.compare(runs=[runs["good"].id, uuid4()])
        for asked in ({}, {"runs": [runs["good"].id], "query": "name = 'good'"}):
            with pytest.raises(InvalidPayload, match="one of the two"):
                client.runs.compare(**asked)
        with pytest.raises(InvalidPayload):
            client.runs.compare(runs=[uuid4() for _ in range(501)])
        with pytest.raises(InvalidQuery):
            client.runs.compare(query="nothing")


class TestCommand:
    def shown(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from aidos.cli import main; main()", "run", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_writes_what_a_view_asks_for(self, client: Client, runs: dict[str, RunRead], tmp_path: Path) -> None:
        charts = [{"kind": "curves", "fields": ["loss"]}, {"kind": "scatter", "fields": ["params.lr", "metrics.acc"]}]
        client.views.set("measured", query="metrics.acc is not null", columns=["params.lr", "metrics.acc"], charts=charts)
        page, picture = tmp_path / "runs.html", tmp_path / "runs.png"
        shown = self.shown("compare", "--view", "measured", "--html", str(page), "--png", str(picture))
        assert "params.lr" in shown and "0.95" in shown and "optimizer" not in shown
        assert '"metrics.acc":0.95' in page.read_text() and picture.read_bytes().startswith(b"\x89PNG")
        assert [run["name"] for run in json.loads(self.shown("list", "--query", "state = 'FINISHED'", "--json"))] == ["good"]
        found = json.loads(self.shown("compare", str(runs["good"].id), str(runs["bad"].id), "--json"))
        assert [run["name"] for run in found["runs"]] == ["good", "bad"]


class TestViews:
    def test_are_kept_changed_listed_and_deleted(self, client: Client) -> None:
        charts = [{"kind": "scatter", "fields": ["params.lr", "metrics.acc"]}, {"kind": "curves", "fields": ["loss"], "x": "wall"}]
        made = client.views.set("best", query="metrics.acc > 0.9", columns=["params.lr"], charts=charts)
        assert (made.query, made.columns, [chart.x.value for chart in made.charts]) == (
            "metrics.acc > 0.9",
            ["params.lr"],
            ["step", "wall"],
        )
        changed = client.views.set("best", query="metrics.acc > 0.95")
        assert (changed.query, changed.columns, changed.charts, changed.created_at) == ("metrics.acc > 0.95", [], [], made.created_at)
        client.views.set("all", query="")
        assert [view.name for view in client.views.list()] == ["all", "best"]
        client.views.delete("best")
        with pytest.raises(ViewNotFound, match="no view 'best'"):
            client.views.get("best")
        with pytest.raises(ViewNotFound):
            client.views.delete("best")

    def test_a_query_that_cannot_be_read_is_not_kept(self, client: Client) -> None:
        with pytest.raises(InvalidQuery):
            client.views.set("broken", query="metrics.acc >")
        assert not list(client.views.list())


def _scope_of(client: Client) -> Scope:
    me = client.sessions.whoami()
    return Scope(Principal(PrincipalKind.USER, new_id(), "ada", me.organisation_id), me.organisation_id, me.project_id)


async def _lease(conn: object, scope: Scope, job_id: UUID, opened: datetime, closed: datetime) -> None:
    lease = {"lease_id": str(new_id()), "owner_kind": "job", "owner_id": str(job_id), "owner_name": "train"}
    resources = {"resources": {"cpu": 4.0, "gpu": 0.0, "memory_gib": 8.0}}
    for change, at in (("opened", opened), ("closed", closed)):
        data = {**lease, **resources, "at": at.isoformat()}
        await publish(conn, Event(f"trainos.lease.{change}", str(job_id), scope.org_id, scope.project_id, "test", data))  # type: ignore[arg-type]  # a connection
