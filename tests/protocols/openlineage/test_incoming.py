"""What other systems tell joins the graph: the same things are the same nodes, in whatever order and however often it is told."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Dataset, DatasetEvent, Job, JobEvent, Run, RunEvent, RunState
from openlineage.client.facet_v2 import dataset_version_dataset, parent_run

from aidos.client import Client
from aidos.errors import NotFound
from aidos.transfers.directories import push
from api.protocols.openlineage.incoming import join_import
from cluster.db import Database
from cluster.events import consume_batch
from cluster.objects import Objects
from data_pipelines.dataforge.imports.reconciler import ImportReconciler
from tests.dataforge.imports.conftest import Lake

pytestmark = pytest.mark.postgres
PRODUCER = "https://example.com/etl"
FACET = {"_producer": PRODUCER, "_schemaURL": "https://example.com/facet.json"}
ETL = Job("airflow", "nightly.clean")


def told(type: RunState, run: str, inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), job: Job = ETL, **facets: Any) -> RunEvent:
    at = datetime.now(UTC).isoformat()
    return RunEvent(
        eventTime=at, producer=PRODUCER, eventType=type, run=Run(run, facets), job=job, inputs=list(inputs), outputs=list(outputs)
    )


def edges(client: Client, kind: str, name: str) -> set[tuple[str, str, str]]:
    return {(edge.source.label, edge.relation, edge.target.label) for edge in client.lineage.get(kind, quote(name, safe=""), files=0).edges}


@pytest.fixture
def digits(client: Client, tmp_path: Path) -> str:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"an image")
    return str(push(folder, "digits", client=client).commit.id)


class TestRuns:
    def test_of_another_system_stand_between_their_datasets(self, client: Client, teller: OpenLineageClient) -> None:
        run = str(uuid4())
        teller.emit(told(RunState.START, run, [Dataset("postgres://erp:5432", "shop.public.orders")]))
        teller.emit(told(RunState.COMPLETE, run, outputs=[Dataset("s3://warehouse", "orders/clean")]))
        assert edges(client, "run", run) == {
            ("nightly.clean", "ran as", "nightly.clean"),
            ("shop.public.orders", "input", "nightly.clean"),
            ("nightly.clean", "produced", "orders/clean"),
        }
        assert edges(client, "dataset", "s3://warehouse/orders/clean") == edges(client, "run", run)
        assert edges(client, "job", "airflow/nightly.clean") >= {("nightly.clean", "produced", "orders/clean")}

    def test_order_and_repetition_change_nothing(self, client: Client, teller: OpenLineageClient) -> None:
        graphs = []
        for order in itertools.permutations(range(3)):
            run = str(uuid4())
            events = [
                told(RunState.START, run, [Dataset("db", "in")]),
                told(RunState.RUNNING, run, [Dataset("db", "in"), Dataset("db", "more")]),
                told(RunState.COMPLETE, run, [Dataset("db", "in")], [Dataset("db", f"out of {run}")]),
            ]
            for index in (*order, *order):
                teller.emit(events[index])
            graphs.append({each for each in edges(client, "run", run) if run not in each[2]})
            assert ("nightly.clean", "produced", f"out of {run}") in edges(client, "run", run)
        assert all(graph == graphs[0] for graph in graphs) and len(graphs[0]) == 3

    def test_a_parent_leads_to_what_it_started(self, client: Client, teller: OpenLineageClient) -> None:
        dag, task = str(uuid4()), str(uuid4())
        parent = parent_run.ParentRunFacet(run=parent_run.Run(dag), job=parent_run.Job("airflow", "nightly"))
        teller.emit(told(RunState.START, task, parent=parent))
        assert ("nightly", "started", "nightly.clean") in edges(client, "run", dag)

    def test_a_run_of_the_platform_is_the_same_run(self, client: Client, teller: OpenLineageClient) -> None:
        run = client.runs.create(experiment="digits", name="training")
        teller.emit(told(RunState.COMPLETE, str(run.id), outputs=[Dataset("s3://warehouse", "features")]))
        assert edges(client, "run", str(run.id)) == {("training", "produced", "features")}

    def test_a_job_that_is_only_described_has_its_datasets(self, client: Client, teller: OpenLineageClient) -> None:
        at = datetime.now(UTC).isoformat()
        teller.emit(JobEvent(eventTime=at, producer=PRODUCER, job=ETL, inputs=[Dataset("db", "a")], outputs=[Dataset("db", "b")]))
        teller.emit(DatasetEvent(eventTime=at, producer=PRODUCER, dataset=Dataset("db", "c")))
        assert edges(client, "job", "airflow/nightly.clean") == {("a", "input", "nightly.clean"), ("nightly.clean", "produced", "b")}


class TestDatasets:
    def test_of_the_platform_are_their_commits(self, client: Client, teller: OpenLineageClient, digits: str, namespace: str) -> None:
        by_version = Dataset(namespace, "digits", facets={"version": dataset_version_dataset.DatasetVersionDatasetFacet(digits)})
        for dataset in (by_version, Dataset(namespace, "digits")):
            run = str(uuid4())
            teller.emit(told(RunState.COMPLETE, run, [dataset]))
            assert (f"digits@{digits}", "input", "nightly.clean") in edges(client, "run", run)
            assert run in {edge.target.id for edge in client.lineage.get("commit", digits).edges}

    def test_of_the_platform_that_are_not_there_are_told_all_the_same(
        self, client: Client, teller: OpenLineageClient, namespace: str
    ) -> None:
        teller.emit(told(RunState.COMPLETE, str(uuid4()), [Dataset(namespace, "nowhere"), Dataset(namespace, "models/none")]))
        assert edges(client, "dataset", f"{namespace}/nowhere")

    @pytest.mark.parametrize("told_first", [True, False])
    async def test_a_folder_that_is_imported_leads_to_what_was_trained_on_it(
        self, client: Client, teller: OpenLineageClient, database: Database, objects: Objects, lake: Lake, told_first: bool
    ) -> None:
        def spark() -> None:
            written = Dataset(f"s3a://{lake.bucket}", f"{lake.folder}/day=1")
            teller.emit(told(RunState.COMPLETE, str(uuid4()), [Dataset("kafka://broker", "clicks")], [written]))

        if told_first:
            spark()
        lake.put("day=1/part-0.csv")
        client.datasets.create("clicks")
        client.datasets.import_("clicks", lake.uri)
        assert await ImportReconciler(database, objects).run_once() == 1
        while await consume_batch(database, "lineage-of-imports", join_import):
            pass
        if not told_first:
            spark()
        run = client.runs.create(experiment="clicks", name="training", inputs=["clicks@main"])
        found = client.lineage.affected("dataset", quote("kafka://broker/clicks", safe=""), only=["run"]).affected
        assert str(run.id) in {each.node.id for each in found}

    def test_names_of_any_length_and_script_have_a_node(self, client: Client, teller: OpenLineageClient) -> None:
        run = str(uuid4())
        teller.emit(told(RunState.COMPLETE, run, [Dataset("db", "é" * 3000), Dataset("db", "a\nb"), Dataset("db", "ünïcødé/表")]))
        graph = client.lineage.get("run", run)
        assert len([edge for edge in graph.edges if edge.relation == "input"]) == 3
        for edge in graph.edges:
            assert edges(client, edge.source.kind.value, edge.source.id)

    @pytest.mark.parametrize("version", ["a\0b", "\ud800", "x" * 5000])
    def test_a_version_that_none_of_ours_can_have_is_not_one(
        self, url: str, admin_key: str, digits: str, namespace: str, version: Any
    ) -> None:
        event = TestBatch().event(
            inputs=[{"namespace": namespace, "name": "digits", "facets": {"version": {**FACET, "datasetVersion": version}}}]
        )
        body = json.dumps(event)  # with what no client of UTF-8 would send
        answer = httpx.post(
            f"{url}/api/v1/lineage", content=body, headers={"Authorization": f"Bearer {admin_key}", "Content-Type": "application/json"}
        )
        assert answer.status_code == 200, answer.text


class TestBatch:
    def event(self, **changes: Any) -> dict[str, Any]:
        whole = {
            "eventTime": "2026-11-01T00:00:00Z", "eventType": "COMPLETE", "producer": PRODUCER, "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json",
            "run": {"runId": str(uuid4())}, "job": {"namespace": "n", "name": "j"}, "outputs": [{"namespace": "db", "name": "out"}],
        }  # fmt: skip
        return {key: value for key, value in {**whole, **changes}.items() if value is not None}

    def test_is_taken_as_a_whole_or_not_at_all(self, url: str, admin_key: str, client: Client) -> None:
        headers = {"Authorization": f"Bearer {admin_key}"}
        answer = httpx.post(f"{url}/api/v1/lineage/batch", json=[self.event(), self.event()], headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
        bad = [self.event(job={"namespace": "n", "name": "never"}), self.event(job=None)]
        assert httpx.post(f"{url}/api/v1/lineage/batch", json=bad, headers=headers).status_code == 422
        with pytest.raises(NotFound):
            edges(client, "job", "n/never")

    @pytest.mark.parametrize(
        ("changes", "pointer"),
        [
            ({"eventTime": None}, "#/eventTime"),
            ({"eventTime": "yesterday"}, "#/eventTime"),
            ({"eventTime": "2026-11-01"}, "#/eventTime"),
            ({"eventTime": "2026-11-01T00:00:00"}, "#/eventTime"),
            ({"eventTime": 1793491200}, "#/eventTime"),
            ({"producer": None}, "#/producer"),
            ({"producer": 7}, "#/producer"),
            ({"schemaURL": None}, "#/schemaURL"),
            ({"eventType": "DONE"}, "#/eventType"),
            ({"run": {"runId": "7"}}, "#/run/runId"),
            ({"run": {}}, "#/run/runId"),
            ({"job": {"namespace": "n"}}, "#/job/name"),
            ({"job": {"namespace": "", "name": "j"}}, "#/job/namespace"),
            ({"job": {"namespace": "n", "name": "j", "facets": {"sql": {"query": "select 1"}}}}, "#/job/facets/sql/_producer"),
            ({"job": None}, "#"),
            ({"run": None, "job": None}, "#"),
            ({"outputs": [{"name": "out"}]}, "#/outputs/0/namespace"),
            ({"outputs": [{"namespace": "db", "name": "a\0b"}]}, "#/outputs/0/name"),
            ({"outputs": {"namespace": "db", "name": "out"}}, "#/outputs"),
            ({"outputs": [{"namespace": "db", "name": "out", "facets": []}]}, "#/outputs/0/facets"),
            ({"inputs": [{"namespace": "db", "name": "in", "facets": {"mine": 7}}]}, "#/inputs/0/facets/mine"),
            ({"inputs": [{"namespace": "db", "name": "in", "facets": {"mine": {**FACET, "_deleted": 7}}}]}, "#/inputs/0/facets/mine/_deleted"),
            ({"inputs": [{"namespace": "db", "name": "in", "inputFacets": {"mine": {}}}]}, "#/inputs/0/inputFacets/mine/_producer"),
            ({"inputs": [{"namespace": "db", "name": "in", "facets": {"version": {**FACET, "datasetVersion": 7}}}]}, "#/inputs/0/facets/version/datasetVersion"),
            ({"run": {"runId": str(uuid4()), "facets": {"parent": 7}}}, "#/run/facets/parent"),
            ({"run": {"runId": str(uuid4()), "facets": {"parent": {**FACET, "run": {"runId": "x"}}}}}, "#/run/facets/parent/run/runId"),
            ({"run": {"runId": str(uuid4()), "facets": {"parent": {**FACET, "run": {"runId": str(uuid4())}}}}}, "#/run/facets/parent/job"),
        ],
    )  # fmt: skip
    def test_a_bad_event_is_refused_and_the_place_is_named(self, url: str, admin_key: str, changes: dict[str, Any], pointer: str) -> None:
        answer = httpx.post(f"{url}/api/v1/lineage", json=self.event(**changes), headers={"Authorization": f"Bearer {admin_key}"})
        assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"][0]["pointer"] == pointer, answer.text

    @pytest.mark.parametrize("field", ["run", "job", "dataset", "eventType", "inputs"])
    def test_null_is_no_value(self, url: str, admin_key: str, field: str) -> None:
        answer = httpx.post(f"{url}/api/v1/lineage", json={**self.event(), field: None}, headers={"Authorization": f"Bearer {admin_key}"})
        assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == f"#/{field}", answer.text

    def test_what_nobody_here_knows_is_passed_over(self, url: str, admin_key: str) -> None:
        event = self.event(run={"runId": str(uuid4()), "facets": {"theirs": {**FACET, "any": [{"thing": None}]}}, "more": 1}, other=2)
        answer = httpx.post(f"{url}/api/v1/lineage", json=event, headers={"Authorization": f"Bearer {admin_key}"})
        assert answer.status_code == 200, answer.text
