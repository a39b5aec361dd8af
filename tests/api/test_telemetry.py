"""A request's trace: from its ``traceparent`` into the stored row, the event, the reconciler, and to the collector."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar
from uuid import UUID

import httpx
import pytest

from api.deps import Edge
from cluster import telemetry
from cluster.db import Connection
from cluster.reconciler import Reconciler
from serve_apps.deployengine import store
from serve_apps.deployengine.models import Deployed, Endpoint, EndpointState
from tests.api.creators import Made, create_modelhub
from tests.api.world import World
from tests.support.otlp import Collector, collecting

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="session")]


class Deployer(Reconciler[Endpoint]):
    """Claims as DeployEngine's own does, and answers without Ray what it is told to."""

    name: ClassVar[str] = "deployengine.endpoints"
    table: ClassVar[tuple[str, str]] = ("deployengine", "endpoints")
    answers: EndpointState

    async def claim(self, conn: Connection, token: UUID, lock_s: float, limit: int) -> Sequence[Endpoint]:
        return await store.claim_endpoint(conn, token, lock_s, 1)

    async def process(self, item: Endpoint) -> Deployed:
        with telemetry.span("deploying"):
            return Deployed(self.answers or item.state)

    async def apply(self, conn: Connection, item: Endpoint, token: UUID, outcome: Deployed) -> bool:
        values = {"id": item.id, "token": token, "state": outcome.state, "reason": "", "generation": item.generation}
        return await store.apply_endpoint(conn, {**values, "lease_id": None, "again_s": 0})


@pytest.fixture
def collector(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Where this process's spans go during the test; ``flush`` of the provider is the collector's."""
    with collecting() as listening:
        provider = telemetry.build_provider(edge.db.settings.model_copy(update={"otlp_endpoint": listening.endpoint}), "gateway")
        monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
        listening.flush = provider.force_flush
        yield listening
        provider.shutdown()


def new_trace() -> dict[str, str]:
    return {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}


def trace_of(traceparent: Any) -> str:
    return str(traceparent).split("-")[1]


class TestPropagation:
    async def test_a_traceparent_goes_into_row_event_and_reconciler(
        self, owner: httpx.AsyncClient, edge: Edge, world: World, collector: Collector
    ) -> None:
        made = Made(f"trace{secrets.token_hex(4)}", owner, edge)
        await create_modelhub(made)
        name, headers = f"{made.marker}-ep", new_trace()
        trace_id = trace_of(headers["traceparent"])
        body = {"name": name, "model": f"{made.marker}-m@1"}
        created = await owner.post("/v1/deployengine/endpoints", json=body, headers=headers)
        assert created.status_code == 202, created.text

        async with edge.db.platform() as conn:
            sql = "SELECT traceparent FROM deployengine.endpoints WHERE name = %s UNION ALL SELECT traceparent FROM cluster.events WHERE subject = %s"
            rows = await (await conn.execute(sql, (name, created.json()["id"]))).fetchall()
        assert len(rows) == 2 and {trace_of(row["traceparent"]) for row in rows} == {trace_id}

        deployer = Deployer(edge.db)
        deployer.answers = EndpointState.READY
        while trace_id not in {span.trace_id for span in collector.spans if span.name == "deploying"}:
            assert await deployer.run_once("traced") == 1
            collector.flush()
        request, deploying, reconciled = sorted(
            collector.of(trace_id), key=lambda span: ["POST /v1/deployengine/endpoints", "deploying", deployer.name].index(span.name)
        )
        assert request.parent_id == headers["traceparent"].split("-")[2]
        assert request.attributes["http.response.status_code"] == 202
        assert request.attributes["aidos.project_id"] == str(world.ours.project_id)
        assert (reconciled.parent_id, deploying.parent_id) == (request.span_id, reconciled.span_id)
        assert reconciled.attributes["aidos.outcome"] == "applied"

    async def test_a_registered_version_is_inspected_in_the_trace_of_its_registration(
        self, owner: httpx.AsyncClient, edge: Edge, collector: Collector
    ) -> None:
        await create_modelhub(Made(f"trace{secrets.token_hex(4)}", owner, edge))
        collector.flush()
        registered = next(span for span in collector.spans if span.name == "POST /v1/modelhub/models/{model}/versions")
        inspected = next(span for span in collector.of(registered.trace_id) if span.name == "modelhub.versions")
        assert inspected.parent_id == registered.span_id and inspected.attributes["aidos.outcome"] == "applied"

    async def test_without_one_a_request_begins_a_trace(self, owner: httpx.AsyncClient, collector: Collector) -> None:
        await owner.get("/v1/modelhub/models")
        collector.flush()
        (span,) = collector.spans
        assert span.name == "GET /v1/modelhub/models" and span.parent_id == "" and len(span.trace_id) == 32

    async def test_an_unknown_path_is_no_name(self, owner: httpx.AsyncClient, collector: Collector) -> None:
        await owner.get("/v1/nothing/8c1f")
        collector.flush()
        assert [span.name for span in collector.spans] == ["GET none"]
