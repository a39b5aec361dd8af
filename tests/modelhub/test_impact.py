"""What a bad file, commit or dataset has gone into: what surely saw it, what only may have, and what answers with it now."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.modelhub import service as modelhub
from actors.modelhub.lineage import service as edges
from actors.modelhub.models import Direction, Edge, Node, NodeKind, RunState
from actors.securityvault.models import Scope, platform_scope
from aidos.client import Client
from aidos.errors import NotFound
from aidos.schemas.dataforge.reads import ReadFileSet
from aidos.transfers.directories import push
from api import lineage
from cluster.db import Database, new_id
from serve_apps.deployengine import policy, store
from serve_apps.deployengine import service as deployengine
from serve_apps.deployengine.models import Deployed, Endpoint, EndpointState
from tests.dataforge.test_cli import aidos as command
from tests.support.models import ready_version

pytestmark = pytest.mark.postgres
GOOD, BAD = b"a good image", b"a poisoned image"
SOURCE = "5" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class World:
    """A dataset with a bad file, and what people made of it."""

    def __init__(self, client: Client, database: Database, scope: Scope, commit: str) -> None:
        self.client, self.database, self.scope, self.commit = client, database, scope, commit

    async def call(self, verb: Any, *args: Any, **options: Any) -> Any:
        async with self.database.tenant(org_id=self.scope.org_id, project_id=self.scope.project_id) as conn:
            work: Awaitable[Any] = verb(conn, self.scope, *args, **options)
            return await work

    async def version(self, model: str, ranges: list[list[int]] | None = None, state: RunState = RunState.FINISHED) -> UUID:
        """A version whose run had the commit as its input; ``ranges`` of [good, bad] that it noted as read."""
        version = await ready_version(self.database, self.scope, model)
        made = await self.call(modelhub.get_version, model, "latest")
        assert made.id == version and made.run_id
        source, run = Node(NodeKind.COMMIT, self.commit, "digits@main"), Node(NodeKind.RUN, str(made.run_id), f"run of {model}")
        await self.call(modelhub.add_edge, source, run, "input")
        if ranges is not None:
            self.client.reads.record(run=made.run_id, source=SOURCE, dataset="digits", commit=self.commit, ranges=ranges)
        if state is not RunState.RUNNING:
            await self.call(modelhub.update_run, made.run_id, state=state)
        return version

    async def endpoint(self, name: str, model: str) -> Endpoint:
        self.client.endpoints.create(name=name, model=model, replicas=1, cpus=0.1)
        await self.settle(EndpointState.READY)
        endpoint: Endpoint = await self.call(deployengine.get_endpoint, name)
        return endpoint

    async def serve(self, name: str, model: str, state: EndpointState | None) -> None:
        """Have the endpoint serve another version; ``state`` None: it is still being made."""
        self.client.endpoints.update(name, model=model)
        if state is not None:
            await self.settle(state)

    async def settle(self, state: EndpointState) -> None:
        """What the reconciler does once Serve has answered."""
        token = uuid4()
        async with self.database.platform() as conn:
            (claimed,) = await store.claim_endpoint(conn, token, 30, 1)
            assert await deployengine.apply_deployed(conn, self.scope, claimed, token, Deployed(state))

    def live(self, **options: Any) -> list[tuple[str, bool, str]]:
        found = self.client.lineage.affected("file", sha256(BAD), live=True, **options)
        return [(each.node.label, each.sure, each.model) for each in found.affected]


@pytest.fixture
async def world(client: Client, database: Database, tmp_path: Path) -> World:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "0.png").write_bytes(GOOD)
    (folder / "1.png").write_bytes(BAD)
    commit = str(push(folder, "digits", client=client).commit.id)
    files = [ReadFileSet(path=path, sha256=sha256(data), rows=1) for path, data in (("0.png", GOOD), ("1.png", BAD))]
    client.reads.describe(SOURCE, unit="file", size=2, files=files)
    async with database.platform() as conn:
        row = await (await conn.execute("SELECT id, org_id FROM securityvault.projects WHERE name = 'default'")).fetchone()
    assert row is not None
    return World(client, database, platform_scope(row["org_id"], row["id"]), commit)


class TestLiveEndpoints:
    async def test_of_a_file_are_those_that_saw_it_and_those_that_may_have(self, world: World) -> None:
        for model, ranges in (("saw", [[0, 2]]), ("other", [[0, 1]]), ("unknown", None)):
            await world.version(model, ranges)
            await world.endpoint(model, f"{model}@1")
        assert world.live() == [("saw", True, "saw@1"), ("unknown", False, "unknown@1")]

    @pytest.mark.parametrize("state", [RunState.RUNNING, RunState.FAILED, RunState.KILLED])
    async def test_a_run_that_did_not_finish_may_have_read_more_than_it_noted(self, world: World, state: RunState) -> None:
        await world.version("other", [[0, 1]], state)
        await world.endpoint("other", "other@1")
        assert world.live() == [("other", False, "other@1")]

    async def test_a_source_that_is_not_told_to_its_end_clears_nobody(self, world: World) -> None:
        world.client.reads.describe("6" * 64, unit="file", size=5, files=[ReadFileSet(path="0.png", sha256=sha256(GOOD), rows=1)])
        await world.version("other", [])
        made = await world.call(modelhub.get_version, "other", "1")
        world.client.reads.record(run=made.run_id, source="6" * 64, dataset="digits", commit=world.commit, ranges=[[0, 1]])
        await world.endpoint("other", "other@1")
        assert world.live() == [("other", False, "other@1")]

    async def test_are_those_that_answer_with_it_now(self, world: World) -> None:
        await world.version("saw", [[0, 2]])
        await world.version("clean", [[0, 1]])
        await world.endpoint("shop", "saw@1")
        await world.serve("shop", "clean@1", None)
        assert world.live() == [("shop", True, "saw@1")], "the old version answers until the new one does"
        await world.settle(EndpointState.FAILED)
        assert world.live() == [("shop", True, "saw@1")], "and goes on when the new one failed"
        await world.serve("shop", "clean@1", EndpointState.READY)
        assert world.live() == []
        (before,) = world.client.lineage.affected("file", sha256(BAD), only=["endpoint"]).affected
        assert (before.node.label, before.sure, before.live) == ("shop", True, False), "what it has served is not forgotten"

    async def test_one_that_is_about_to_answer_with_it_is_told(self, world: World) -> None:
        await world.version("saw", [[0, 2]])
        await world.version("clean", [[0, 1]])
        await world.endpoint("shop", "clean@1")
        assert world.live() == []
        await world.serve("shop", "saw@1", None)
        assert world.live() == [("shop", True, "saw@1")]

    async def test_a_deleted_one_is_not_live(self, world: World) -> None:
        await world.version("saw", [[0, 2]])
        await world.endpoint("shop", "saw@1")
        world.client.endpoints.delete("shop")
        assert world.live() == [("shop", True, "saw@1")], "it answers until it is gone"
        await world.settle(EndpointState.DELETED)
        assert world.live() == []

    async def test_what_saw_a_file_is_found_after_its_dataset_is_deleted(self, world: World) -> None:
        await world.version("saw", [[0, 2]])
        await world.endpoint("shop", "saw@1")
        world.client.datasets.delete("digits")
        assert world.live() == [("shop", True, "saw@1")]


class TestAffected:
    async def test_of_a_file_are_its_commits_runs_versions_and_what_was_made_of_them(self, world: World) -> None:
        await world.version("saw", [[0, 2]])
        made = Node(NodeKind.COMMIT, str(new_id()), "synthetic@main")
        await world.call(modelhub.add_edge, Node(NodeKind.COMMIT, world.commit, "digits@main"), made, "synthesised into")
        found = {(each.node.kind.value, each.sure) for each in world.client.lineage.affected("file", sha256(BAD)).affected}
        assert found == {("commit", True), ("run", True), ("model_version", True), ("commit", False)}

    async def test_of_a_commit_is_all_that_came_of_it(self, world: World) -> None:
        await world.version("other", [[0, 1]])
        await world.endpoint("shop", "other@1")
        found = world.client.lineage.affected("commit", "digits@main", live=True)
        assert [(each.node.label, each.sure) for each in found.affected] == [("shop", True)]

    async def test_a_circle_ends(self, world: World) -> None:
        a, b = (Node(NodeKind.DATASET, name, name) for name in "ab")
        await world.call(modelhub.add_edge, a, b, "input")
        await world.call(modelhub.add_edge, b, a, "input")
        found = world.client.lineage.affected("dataset", "a", only=["dataset"])
        assert {each.node.id for each in found.affected} == {"a", "b"}

    async def test_of_what_more_came_than_is_told_all_live_endpoints_are(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(edges, "MAX_REACHED", 20)
        lake = Node(NodeKind.DATASET, "lake", "lake")
        await world.call(modelhub.add_edge, lake, Node(NodeKind.COMMIT, world.commit, "digits@main"), "imported as")
        await world.version("saw", [[0, 2]])
        await world.endpoint("shop", "saw@1")
        others = [Edge(lake, Node(NodeKind.DATASET, f"copy-{number}"), "input") for number in range(30)]
        await world.call(edges.add_edges, others)
        copies = world.client.lineage.affected("dataset", "lake", only=["dataset"])
        assert copies.truncated and 0 < len(copies.affected) <= 20
        live = world.client.lineage.affected("dataset", "lake", live=True)
        assert ([each.node.label for each in live.affected], live.truncated) == (["shop"], False)
        every = world.client.lineage.affected("dataset", "lake", only=["endpoint"])
        assert [(each.node.label, each.live) for each in every.affected] == [("shop", True)] and every.truncated

    async def test_what_nobody_knows_is_not_found(self, world: World) -> None:
        for name in (sha256(b"nowhere"), "not a digest"):
            with pytest.raises(NotFound):
                world.client.lineage.affected("file", name)
        with pytest.raises(NotFound):
            world.client.lineage.affected("dataset", "a%00b")

    async def test_of_another_project_is_not_told(self, world: World, database: Database, other_scope: Scope) -> None:
        await world.version("saw", [[0, 2]])
        async with database.tenant(org_id=other_scope.org_id, project_id=other_scope.project_id) as conn:
            with pytest.raises(NotFound):
                await lineage.find_affected(conn, other_scope, NodeKind.FILE, sha256(BAD), (), live=False)


class TestCommand:
    async def ask(self, *arguments: str) -> Any:
        result = await asyncio.to_thread(command, *arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    async def test_asks_by_path_and_by_prediction(self, world: World, tmp_path: Path) -> None:
        await world.version("saw", [[0, 2]])
        endpoint = await world.endpoint("shop", "saw@1")
        found = await self.ask("affected", "digits@main/1.png", "--live")
        assert [(each["node"]["label"], each["sure"], each["model"]) for each in found["affected"]] == [("shop", True, "saw@1")]
        prediction = policy.to_prediction_id(endpoint.id, endpoint.generation, new_id())
        page = tmp_path / "graph.html"
        graph = await self.ask("lineage", prediction, "--direction", "up", "--html", str(page))
        assert "1.png" in {edge["source"]["label"] for edge in graph["edges"]} and "1.png" in page.read_text("utf-8")


class TestPrediction:
    async def test_leads_to_the_version_that_answered_and_the_files_that_its_run_read(
        self, world: World, database: Database, other_scope: Scope
    ) -> None:
        await world.version("saw", [[0, 2]])
        await world.version("clean", [[0, 1]])
        endpoint = await world.endpoint("shop", "saw@1")
        prediction = policy.to_prediction_id(endpoint.id, endpoint.generation, new_id())
        await world.serve("shop", "clean@1", EndpointState.READY)
        graph = world.client.lineage.get("prediction", prediction)
        labels = {(edge.source.kind.value, edge.source.label, edge.target.kind.value) for edge in graph.edges}
        assert {("endpoint", "shop", "prediction"), ("model_version", "saw@1", "endpoint")} <= labels
        assert {("file", "0.png", "run"), ("file", "1.png", "run"), ("commit", "digits@main", "run")} <= labels
        assert "clean@1" not in {label for _, label, _ in labels}, "what the endpoint serves now did not answer it"
        later = policy.to_prediction_id(endpoint.id, 2, new_id())
        assert [edge.source.label for edge in world.client.lineage.get("prediction", later).edges if edge.source.kind == "file"] == [
            "0.png"
        ]
        async with database.tenant(org_id=other_scope.org_id, project_id=other_scope.project_id) as conn:
            with pytest.raises(NotFound):
                await lineage.trace(conn, other_scope, NodeKind.PREDICTION, prediction, Direction.UP, 5, 3)

    async def test_one_that_nothing_gave_is_not_found(self, world: World) -> None:
        await world.version("saw")
        endpoint = await world.endpoint("shop", "saw@1")
        for id in (policy.to_prediction_id(endpoint.id, 7, new_id()), policy.to_prediction_id(new_id(), 1, new_id()), "p"):
            with pytest.raises(NotFound):
                world.client.lineage.get("prediction", id)

    async def test_depth_holds_for_it_too(self, world: World) -> None:
        await world.version("saw")
        endpoint = await world.endpoint("shop", "saw@1")
        prediction = policy.to_prediction_id(endpoint.id, 1, new_id())
        graph = world.client.lineage.get("prediction", prediction, depth=1)
        assert [edge.relation for edge in graph.edges] == ["answered"] and graph.cut_by == ["depth"]
