"""The graph is walked both ways, past cycles, from the raw file to the endpoint."""

from __future__ import annotations

import hashlib

import pytest

from actors.modelhub import service
from actors.modelhub.errors import NodeNotFound
from actors.modelhub.models import Direction, Graph, Node, NodeKind, RunSpec
from actors.securityvault.models import Scope
from aidos.client import Client
from api import lineage
from cluster.db import Connection, Database

pytestmark = pytest.mark.postgres


def node(name: str, kind: NodeKind = NodeKind.RUN) -> Node:
    return Node(kind, name, f"label of {name}")


async def build(conn: Connection, scope: Scope, *edges: str) -> None:
    """``"a>b"``: a went into b."""
    for edge in edges:
        source, target = edge.split(">")
        await service.add_edge(conn, scope, node(source), node(target), "input")


def drawn(graph: Graph) -> set[str]:
    return {f"{edge.source.id}>{edge.target.id}" for edge in graph.edges}


class TestWalk:
    async def test_goes_both_ways_and_mixes_them_not(self, conn: Connection, scope: Scope) -> None:
        await build(conn, scope, "a>b", "b>c", "c>d", "x>c", "b>y")
        assert drawn(await service.trace(conn, scope, node("c"), Direction.UP, 10)) == {"a>b", "b>c", "x>c"}
        assert drawn(await service.trace(conn, scope, node("b"), Direction.DOWN, 10)) == {"b>c", "c>d", "b>y"}
        # y came of b, but is neither before nor after c.
        assert drawn(await service.trace(conn, scope, node("c"), Direction.BOTH, 10)) == {"a>b", "b>c", "x>c", "c>d"}

    async def test_ends_at_its_depth(self, conn: Connection, scope: Scope) -> None:
        await build(conn, scope, "a>b", "b>c", "c>d")
        graph = await service.trace(conn, scope, node("a"), Direction.DOWN, 2)
        assert drawn(graph) == {"a>b", "b>c"} and graph.cut_by == ("depth",)
        assert not (await service.trace(conn, scope, node("a"), Direction.DOWN, 3)).truncated

    async def test_a_cycle_has_nothing_behind_its_depth(self, conn: Connection, scope: Scope) -> None:
        await build(conn, scope, "a>b", "b>a")
        assert not (await service.trace(conn, scope, node("a"), Direction.BOTH, 3)).truncated

    async def test_ends_in_a_cycle(self, conn: Connection, scope: Scope) -> None:
        await build(conn, scope, "a>b", "b>c", "c>a", "a>a")
        for direction in Direction:
            assert drawn(await service.trace(conn, scope, node("a"), direction, 20)) == {"a>b", "b>c", "c>a", "a>a"}

    async def test_a_diamond_is_walked_once(self, conn: Connection, scope: Scope) -> None:
        layers = [f"{i}{x}>{i + 1}{y}" for i in range(12) for x in "ab" for y in "ab"]  # 2 ** 12 paths
        await build(conn, scope, *layers)
        graph = await service.trace(conn, scope, node("0a"), Direction.DOWN, 20)
        assert len(graph.edges) == len(layers) - 2 and not graph.truncated

    async def test_says_when_it_was_cut(self, conn: Connection, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("actors.modelhub.lineage.service.MAX_EDGES", 3)
        await build(conn, scope, *(f"a>b{i}" for i in range(5)))
        graph = await service.trace(conn, scope, node("a"), Direction.DOWN, 5)
        assert graph.cut_by == ("edges",) and len(graph.edges) == 3

    async def test_a_hub_is_not_read_to_its_end(self, conn: Connection, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("actors.modelhub.lineage.service.MAX_STEPS", 4)
        await build(conn, scope, "a>b", *(f"b>c{i}" for i in range(9)), "c0>d")
        graph = await service.trace(conn, scope, node("a"), Direction.DOWN, 5)
        assert graph.cut_by == ("edges",) and "a>b" in drawn(graph)

    async def test_what_many_lead_to_is_left_once(self, conn: Connection, scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("actors.modelhub.lineage.service.MAX_STEPS", 100)
        await build(conn, scope, *(f"a>b{i}" for i in range(30)), *(f"b{i}>hub" for i in range(30)), *(f"hub>c{i}" for i in range(30)))
        graph = await service.trace(conn, scope, node("a"), Direction.DOWN, 5)
        assert len(graph.edges) == 90 and not graph.truncated

    async def test_stays_in_its_project(self, database: Database, scope: Scope, other_scope: Scope) -> None:
        for tenant in (scope, other_scope):
            async with database.tenant(org_id=tenant.org_id, project_id=tenant.project_id) as conn:
                await build(conn, tenant, "a>b" if tenant is scope else "b>c")
        async with database.tenant(org_id=scope.org_id, project_id=scope.project_id) as conn:
            assert drawn(await service.trace(conn, scope, node("a"), Direction.BOTH, 10)) == {"a>b"}

    async def test_the_same_edge_twice_is_one(self, conn: Connection, scope: Scope) -> None:
        await build(conn, scope, "a>b", "a>b")
        assert len((await service.trace(conn, scope, node("a"), Direction.DOWN, 5)).edges) == 1


class TestNode:
    async def test_is_found_by_id_or_label(self, conn: Connection, scope: Scope) -> None:
        run = await service.create_run(conn, scope, RunSpec("digits", "alone"))
        assert (await service.get_node(conn, scope, NodeKind.RUN, str(run.id))).label == "alone"
        await service.add_edge(
            conn, scope, Node(NodeKind.MODEL_VERSION, "v1", "digits@1"), Node(NodeKind.ENDPOINT, "e1", "shop"), "served by"
        )
        assert (await service.get_node(conn, scope, NodeKind.ENDPOINT, "shop")).id == "e1"
        assert (await service.get_node(conn, scope, NodeKind.MODEL_VERSION, "v1")).label == "digits@1"
        with pytest.raises(NodeNotFound):
            await service.get_node(conn, scope, NodeKind.ENDPOINT, "v1")


class TestAcrossModules:
    """DataForge's commits and ModelHub's edges, in one answer."""

    def push(self, client: Client, files: dict[str, bytes]) -> str:
        client.datasets.create("digits")
        states = [{"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for data in files.values()]
        contents = {hashlib.sha256(data).hexdigest(): data for data in files.values()}
        for target in client.datasets.uploads("digits", blobs=states).missing:
            client.put_presigned(str(target.url), contents[target.sha256], target.headers)
        client.datasets.complete_uploads("digits", blobs=states)
        add = [{"path": path, **state} for path, state in zip(files, states, strict=True)]
        return str(client.datasets.commit("digits", branch="main", message="first", parent=None, add=add).id)

    async def test_a_file_leads_to_the_endpoint_and_back(self, client: Client, database: Database) -> None:
        commit = self.push(client, {f"{i}.png": b"image %d" % i for i in range(5)})
        run = client.runs.create(experiment="digits", name="training", inputs=["digits@main"])
        read = client.runs.get(str(run.id))
        async with database.platform() as conn:
            row = await (await conn.execute("SELECT project_id FROM modelhub.runs WHERE id = %s", (run.id,))).fetchone()
            assert row is not None
            edges = [
                ("run", str(run.id), "training", "model_version", "v1", "digits@1", "produced"),
                ("model_version", "v1", "digits@1", "endpoint", "e1", "shop", "served by"),
            ]
            for source_kind, source_id, source_label, target_kind, target_id, target_label, relation in edges:
                await conn.execute(
                    "INSERT INTO modelhub.edges (project_id, source_kind, source_id, source_label, target_kind, target_id, target_label, relation)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                    (row["project_id"], source_kind, source_id, source_label, target_kind, target_id, target_label, relation),
                )
        sha256 = hashlib.sha256(b"image 3").hexdigest()
        down = client.lineage.get("file", sha256)
        assert [(edge.source.kind, edge.target.kind) for edge in down.edges] == [
            ("file", "commit"), ("commit", "run"), ("run", "model_version"), ("model_version", "endpoint"),
        ]  # fmt: skip
        up = client.lineage.get("endpoint", "shop", direction="up", files=2)
        assert [edge.source.label for edge in up.edges if edge.source.kind == "file"] == ["0.png", "1.png"]
        assert {edge.source.kind.value for edge in up.edges} == {"file", "commit", "run", "model_version"}
        for name in (commit, "digits@main"):
            assert "shop" in {edge.target.label for edge in client.lineage.get("commit", name, files=0).edges}
        assert read.experiment == "digits"

    async def test_an_unknown_file_is_not_found(self, conn: Connection, scope: Scope) -> None:
        for name in ("0" * 64, "not a digest"):
            with pytest.raises(NodeNotFound):
                await lineage.trace(conn, scope, NodeKind.FILE, name, Direction.BOTH, 5, 3)
