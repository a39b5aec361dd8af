"""What runs read and made is told as OpenLineage has it, and sent on in order, at least once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from openlineage.client import event_v2, facet_v2
from openlineage.client.serde import Serde
from pydantic import SecretStr
from starlette.responses import Response

from actors.modelhub import service as modelhub
from actors.modelhub.models import RunSpec
from actors.securityvault.models import Scope, platform_scope
from aidos.client import Client
from aidos.transfers.directories import push
from api.protocols.openlineage.forwarder import Forwarder, NotTaken
from api.protocols.openlineage.outgoing import list_run_events
from cluster.db import Connection, Database
from cluster.events import Wakeup
from cluster.settings import Settings
from data_pipelines.dataforge.reports import service as reports
from data_pipelines.dataforge.reports import store
from data_pipelines.dataforge.reports.models import ReportSpec
from tests.aidos.counterpart import Counterpart, serve
from tests.support.models import ready_version

pytestmark = pytest.mark.postgres

FACETS = {
    "parent": facet_v2.parent_run.ParentRunFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "datasetType": facet_v2.dataset_type_dataset.DatasetTypeDatasetFacet,
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
}


def facets(given: dict[str, Any]) -> dict[str, Any]:
    """As the client's own classes take them: a field that they do not have, or lack, is an error."""
    return {name: FACETS[name](**{key: value for key, value in facet.items() if not key.startswith("_")}) for name, facet in given.items()}


def check_base(event: dict[str, Any]) -> None:
    """What the specification's schema asks of every event and every facet."""
    assert event.keys() == {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    assert datetime.fromisoformat(event["eventTime"]).tzinfo and UUID(event["run"]["runId"])
    holders = (event["run"], event["job"], *event["inputs"], *event["outputs"])
    uris = [
        event["producer"],
        event["schemaURL"],
        *(f[key] for each in holders for f in each["facets"].values() for key in ("_producer", "_schemaURL")),
    ]
    assert all(urlsplit(uri).scheme in ("https", "urn") for uri in uris)


def parse(event: dict[str, Any]) -> event_v2.RunEvent:
    """The event in the types of the unmodified client, which check what they are given."""
    check_base(event)

    def datasets(kind: Any, given: list[dict[str, Any]]) -> list[Any]:
        return [kind(each["namespace"], each["name"], facets=facets(each["facets"])) for each in given]

    made = event_v2.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=event_v2.Run(event["run"]["runId"], facets(event["run"]["facets"])),
        job=event_v2.Job(event["job"]["namespace"], event["job"]["name"], facets(event["job"]["facets"])),
        eventType=event_v2.RunState[event["eventType"]],
        inputs=datasets(event_v2.InputDataset, event["inputs"]),
        outputs=datasets(event_v2.OutputDataset, event["outputs"]),
    )
    assert Serde.to_json(made)
    return made


@pytest.fixture
async def project(client: Client, database: Database) -> Scope:
    async with database.platform() as conn:
        row = await (await conn.execute("SELECT id, org_id FROM securityvault.projects WHERE name = 'default'")).fetchone()
    assert row is not None
    return platform_scope(row["org_id"], row["id"])


@pytest.fixture
def commit(client: Client, tmp_path: Path) -> str:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"an image")
    return str(push(folder, "digits", client=client).commit.id)


def told(client: Client) -> list[event_v2.RunEvent]:
    return [parse(event.model_dump()) for event in client.lineage.events()]


class TestEvents:
    async def test_of_a_run_tell_what_it_read_and_made(
        self, client: Client, commit: str, project: Scope, database: Database, namespace: str
    ) -> None:
        run = client.runs.create(experiment="digits", name="training", inputs=["digits@main"])
        client.runs.update(str(run.id), state="FINISHED")
        start, end = told(client)
        assert (start.eventType, end.eventType) == (event_v2.RunState.START, event_v2.RunState.COMPLETE)
        for event in (start, end):
            assert (event.run.runId, event.job.namespace, event.job.name) == (str(run.id), namespace, "digits")
            (source,) = event.inputs
            assert (source.namespace, source.name, source.facets["version"].datasetVersion) == (namespace, "digits", commit)

    async def test_a_commit_has_the_columns_that_a_profile_of_it_found(
        self, client: Client, commit: str, project: Scope, database: Database
    ) -> None:
        async with database.tenant(org_id=project.org_id, project_id=project.project_id) as conn:
            asked = await reports.request_report(conn, project, "digits", ReportSpec("profile", "main"))
            found = {"table": {"columns": {"label": {"types": {"number": 10}}, "empty": {"types": {}}}}}
            assert await store.set_result(conn, project.project, asked.id, found)
        client.runs.create(experiment="digits", inputs=["digits@main"])
        (source,) = told(client)[0].inputs
        assert {each["name"]: each["type"] for each in source.facets["schema"].fields} == {"label": "number", "empty": "unknown"}

    async def test_a_version_is_an_output_with_its_schema(self, client: Client, project: Scope, database: Database) -> None:
        await ready_version(database, project, "digits")
        (output,) = told(client)[-1].outputs
        assert (output.name, output.facets["version"].datasetVersion) == ("models/digits", "1")
        assert output.facets["datasetType"].datasetType == "MODEL" and output.facets["schema"].fields

    @pytest.mark.parametrize(("state", "type"), [("FAILED", "FAIL"), ("KILLED", "ABORT")])
    def test_say_how_a_run_ended(self, client: Client, state: str, type: str) -> None:
        run = client.runs.create(experiment="digits", name="training")
        client.runs.update(str(run.id), state=state)
        end = told(client)[-1]
        assert end.eventType == event_v2.RunState[type] and ("errorMessage" in end.run.facets) == (type == "FAIL")

    def test_a_trial_has_its_parent(self, client: Client) -> None:
        study = client.runs.create(experiment="search", name="study")
        client.runs.create(experiment="trials", name="trial", tags={"mlflow.parentRunId": str(study.id)})
        parent = told(client)[-1].run.facets["parent"]
        assert (parent.run["runId"], parent.job["name"]) == (str(study.id), "search")

    def test_pages_are_whole(self, client: Client) -> None:
        runs = [client.runs.create(experiment="digits", name=f"r{n}") for n in range(7)]
        assert [event.run.runId for event in (parse(each.model_dump()) for each in client.lineage.events(limit=2))][:2] == [
            str(run.id) for run in runs[:2]
        ]
        assert [event.run.runId for event in told(client)] == [str(run.id) for run in runs]

    async def test_of_many_runs_ask_no_more_of_the_database_than_of_one(
        self, client: Client, commit: str, project: Scope, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study = client.runs.create(experiment="search", name="study")
        tags = {"mlflow.parentRunId": str(study.id)}
        asked: list[Any] = []

        async def counting(conn: Connection, query: Any, *arguments: Any, **options: Any) -> Any:
            asked.append(query)
            return await execute(conn, query, *arguments, **options)

        execute = psycopg.AsyncConnection.execute
        counts = []
        for runs in (1, 8):
            for _ in range(runs):
                client.runs.create(experiment="trials", inputs=["digits@main"], tags=tags)
            async with database.tenant(org_id=project.org_id, project_id=project.project_id) as conn:
                with monkeypatch.context() as patched:
                    patched.setattr(psycopg.AsyncConnection, "execute", counting)
                    found, _ = await list_run_events(conn, project, settings.url, (0, 0), 100)
            counts.append((len(found), len(asked)))
            asked.clear()
        assert [events for events, _ in counts] == [2, 10]
        assert counts[0][1] == counts[1][1], counts

    async def test_are_the_projects_own(self, client: Client, database: Database, other_scope: Scope) -> None:
        async with database.tenant(org_id=other_scope.org_id, project_id=other_scope.project_id) as conn:
            await modelhub.create_run(conn, other_scope, RunSpec("secret"))
        assert told(client) == []


class TestForwarder:
    @pytest.fixture
    def receiver(self) -> Iterator[Counterpart]:
        with serve(Counterpart()) as running:
            yield running

    @pytest.fixture
    def forwarder(self, receiver: Counterpart, database: Database, settings: Settings, client: Client) -> Forwarder:
        sending = {"openlineage_url": f"{receiver.url}/api/v1/lineage", "openlineage_key": SecretStr("the-key")}
        return Forwarder(database, settings.model_copy(update=sending))

    async def drain(self, forwarder: Forwarder) -> None:
        async with forwarder.client() as client:
            while await forwarder.forward(client, "test"):
                pass

    def runs(self, client: Client, count: int) -> list[str]:
        return [str(client.runs.create(experiment="digits", name=f"r{n}").id) for n in range(count)]

    async def test_sends_in_order_with_the_key_and_nothing_twice(self, forwarder: Forwarder, receiver: Counterpart, client: Client) -> None:
        runs = self.runs(client, 5)
        await self.drain(forwarder)
        await self.drain(forwarder)
        assert [seen.body["run"]["runId"] for seen in receiver.seen] == runs
        assert {(seen.path, seen.headers["authorization"]) for seen in receiver.seen} == {("/api/v1/lineage", "Bearer the-key")}
        assert parse(receiver.seen[0].body).eventType == event_v2.RunState.START

    @pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
    async def test_begins_again_with_the_event_that_was_not_taken(
        self, forwarder: Forwarder, receiver: Counterpart, client: Client, status: int
    ) -> None:
        runs = self.runs(client, 3)
        receiver.plan(Response(status_code=200), Response(status_code=status))
        async with forwarder.client() as http:
            with pytest.raises(NotTaken, match=str(status)):
                while await forwarder.forward(http, "test"):
                    pass
        await self.drain(forwarder)
        assert [seen.body["run"]["runId"] for seen in receiver.seen] == [runs[0], runs[1], runs[1], runs[2]]

    async def test_passes_over_what_the_receiver_will_never_take(self, forwarder: Forwarder, receiver: Counterpart, client: Client) -> None:
        runs = self.runs(client, 3)
        receiver.plan(Response(status_code=200), Response(status_code=422))
        await self.drain(forwarder)
        assert [seen.body["run"]["runId"] for seen in receiver.seen] == runs

    async def test_another_holder_waits(self, forwarder: Forwarder, receiver: Counterpart, client: Client) -> None:
        self.runs(client, 1)
        await self.drain(forwarder)
        self.runs(client, 1)
        async with forwarder.client() as http:
            assert await forwarder.forward(http, "another") == 0
        assert len(receiver.seen) == 1

    async def test_goes_on_by_itself_once_the_receiver_is_back(
        self, forwarder: Forwarder, receiver: Counterpart, client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Forwarder, "pause_s", 0.01)
        receiver.plan(*(Response(status_code=503) for _ in range(3)))
        runs = self.runs(client, 2)
        arrived = asyncio.Event()

        async def last(_request: Any) -> Response:
            arrived.set()
            return Response(status_code=201)

        receiver.plan(Response(status_code=201), last)
        async with Wakeup(database) as wakeup:
            sending = asyncio.create_task(forwarder.run("test", wakeup))
            while not arrived.is_set() and not sending.done():
                await asyncio.wait([sending], timeout=0.05)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
        assert [seen.body["run"]["runId"] for seen in receiver.seen] == [runs[0]] * 4 + [runs[1]]

    async def test_a_second_platform_takes_what_the_first_tells(
        self, database: Database, settings: Settings, url: str, admin_key: str, client: Client, commit: str
    ) -> None:
        run = client.runs.create(experiment="digits", name="training", inputs=["digits@main"])
        before = client.lineage.get("run", str(run.id))
        sending = {"openlineage_url": f"{url}/api/v1/lineage", "openlineage_key": SecretStr(admin_key)}
        forwarder = Forwarder(database, settings.model_copy(update=sending))
        async with forwarder.client() as http:
            event = next(iter(client.lineage.events())).model_dump()
            assert (await http.post(sending["openlineage_url"], json=event)).status_code == 200  # type: ignore[arg-type]  # the address
        await self.drain(forwarder)
        after = client.lineage.get("run", str(run.id))
        assert [(e.source.id, e.target.id) for e in after.edges] == [(e.source.id, e.target.id) for e in before.edges], "the same nodes"

    async def test_an_unreachable_receiver_stops_nothing(self, database: Database, settings: Settings, client: Client) -> None:
        self.runs(client, 1)
        forwarder = Forwarder(database, settings.model_copy(update={"openlineage_url": "http://127.0.0.1:9/api/v1/lineage"}))
        async with forwarder.client() as http:
            with pytest.raises(NotTaken):
                await forwarder.forward(http, "test")
            with pytest.raises(NotTaken):
                await forwarder.forward(http, "test")
