"""A series whole: as an Arrow stream over HTTP, every bit of every value, past the size of a page."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pandas
import pyarrow as pa
import pytest

from actors.modelhub.models import Run
from actors.modelhub.series import service as series
from actors.modelhub.series import store
from actors.modelhub.series.models import EPOCH, Columns
from actors.securityvault.models import Scope
from aidos.client import Client
from aidos.schemas.modelhub import PointLog
from aidos.tracking.series import write_series
from api import arrow
from cluster.db import Database, new_id

pytestmark = pytest.mark.postgres
START = datetime(2026, 11, 1, 12, 30, 15, 123_456, tzinfo=UTC)


@pytest.fixture
def ask(url: str, admin_key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {admin_key}", "Accept": arrow.MEDIA_TYPE}, timeout=60)


class TestArrowStream:
    def test_holds_every_point_as_it_was_logged(self, client: Client, ask: httpx.Client) -> None:
        run = client.runs.create(experiment="digits")
        values = [0.1, math.nan, math.inf, -math.inf, 5e-324, -0.0]
        logged = [PointLog(key="loss", value=value, step=step - 2, at=START + timedelta(seconds=step)) for step, value in enumerate(values)]
        client.runs.log_metrics(str(run.id), points=logged)
        answer = ask.get(f"/v1/modelhub/runs/{run.id}/metrics", params={"key": "loss"})
        assert answer.headers["content-type"] == arrow.MEDIA_TYPE
        table = pa.ipc.open_stream(answer.content).read_all()
        assert table.schema == arrow.SCHEMA
        assert [repr(value) for value in table["value"].to_pylist()] == [repr(value) for value in values]
        assert table["step"].to_pylist() == [-2, -1, 0, 1, 2, 3]
        assert table["at"].to_pylist() == [START + timedelta(seconds=step) for step in range(6)]

    def test_of_nothing_is_empty_and_of_no_run_is_refused(self, client: Client, ask: httpx.Client) -> None:
        run = client.runs.create(experiment="digits")
        nothing = ask.get(f"/v1/modelhub/runs/{run.id}/metrics", params={"key": "loss"})
        assert pa.ipc.open_stream(nothing.content).read_all().num_rows == 0
        refused = ask.get(f"/v1/modelhub/runs/{new_id()}/metrics", params={"key": "loss"})
        assert (refused.status_code, refused.json()["type"]) == (404, "urn:aidos:modelhub:run-not-found")


class TestPages:
    async def test_go_on_behind_the_last_point_among_equal_steps_and_nan(self, database: Database, scope: Scope, run: Run) -> None:
        values = [math.nan, math.nan, 1.0, -math.inf, math.inf] * 4
        columns = Columns(["loss"] * 20, [n // 10 for n in range(20)], [n // 4 for n in range(20)], values)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert not await series.log(conn, scope, [(run.id, columns)])
            whole = await series.read(conn, scope, run.id, "loss", None, 100)
            page, read = None, []
            while page is None or len(page.steps):
                page = await series.read(conn, scope, run.id, "loss", page, 3)
                read += list(zip(page.steps.tolist(), page.times_us.tolist(), map(repr, page.values.tolist()), strict=True))
        points = {(step, time, repr(value)) for step, time, value in zip(columns.steps, columns.times_us, values, strict=True)}
        assert len(read) == len(whole.steps) == len(points) and set(read) == points

    async def test_keep_microseconds_of_far_years(self, database: Database, scope: Scope, run: Run) -> None:
        moments = [EPOCH, START, datetime(8500, 1, 1, 0, 0, 0, 1, tzinfo=UTC)]
        times_us = [(moment - EPOCH) // timedelta(microseconds=1) for moment in moments]
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await series.log(conn, scope, [(run.id, Columns(["x"] * 3, [0, 1, 2], times_us, [0.0] * 3))])
            assert (await series.read(conn, scope, run.id, "x", None, 10)).times_us.tolist() == times_us

    async def test_read_one_partition_alone(self, database: Database, scope: Scope, run: Run) -> None:
        """A series lies in one of eight parts of the table; a plan that touches the others would slow with each part."""
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            await series.log(conn, scope, [(run.id, Columns(["x"], [0], [0], [0.0]))])
            question = (
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT p.step FROM modelhub.metric_points p WHERE p.metric_id ="
                " (SELECT m.id FROM modelhub.metrics m WHERE m.run_id = %s AND m.key = 'x') ORDER BY p.step"
            )
            plan = [row["QUERY PLAN"] for row in await (await conn.execute(question, [run.id])).fetchall()]
        parts = [line for line in plan if re.search(r" on metric_points_\d p", line)]
        assert len(parts) == 8 and sum("never executed" not in line for line in parts) == 1


class TestLog:
    async def test_joins_a_thousand_series_to_their_points_by_hash(self, database: Database, scope: Scope) -> None:
        """A prepared statement is planned for batches of unknown size, ten points at a guess: a loop in a loop would do for those."""
        numbers: dict[str, int] = {}
        statement = re.sub(r"%\((\w+)\)s", lambda name: f"${numbers.setdefault(name[1], len(numbers) + 1)}", store.Q.log_points)
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            cursor = await conn.execute(f"EXPLAIN (GENERIC_PLAN, COSTS OFF) {statement.replace('%%', '%')}")
            plan = "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())
        join = re.search(r"(\S+(?: \S+)*)\n +(?:Hash|Join) (?:Cond|Filter): [^\n]* = series\.key", plan)
        assert join and join[1] == "Hash Full Join", plan


class TestExport:
    def test_writes_a_file_that_pandas_reads(self, client: Client, tmp_path: Path) -> None:
        run = client.runs.create(experiment="digits")
        client.runs.log_metrics(
            str(run.id), points=[PointLog(key="loss", value=value, step=step) for step, value in enumerate((2.5, math.inf))]
        )
        assert write_series(client, str(run.id), "loss", tmp_path / "loss.arrow") == 2
        assert pandas.read_feather(tmp_path / "loss.arrow")[["step", "value"]].to_numpy().tolist() == [[0, 2.5], [1, math.inf]]
