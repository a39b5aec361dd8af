"""Which run saw which file and row: told by ranges, joined, and asked from both sides."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

import aidos
from aidos.client import Client
from aidos.errors import Conflict, InvalidPayload, NotFound
from aidos.schemas.dataforge.reads import ReadFileSet
from aidos.transfers.directories import push
from tests.dataforge.test_cli import aidos as command

pytestmark = pytest.mark.postgres
SOURCE = "5" * 64


@pytest.fixture
def table(client: Client, tmp_path: Path) -> str:
    """A dataset of two tables with 100 and 50 rows; its commit."""
    root = tmp_path / "table"
    root.mkdir()
    for name, rows in (("a.jsonl", 100), ("b.jsonl", 50)):
        (root / name).write_text("".join(json.dumps({"n": n, "of": name}) + "\n" for n in range(rows)))
    return str(push(root, "table", client=client).commit.id)


@pytest.fixture
def shas(client: Client, table: str) -> dict[str, str]:
    return {file.path: file.sha256 for file in client.datasets.files("table")}


def describe(client: Client, shas: dict[str, str]) -> None:
    files = [ReadFileSet(path="a.jsonl", sha256=shas["a.jsonl"], rows=100), ReadFileSet(path="b.jsonl", sha256=shas["b.jsonl"], rows=50)]
    client.reads.describe(SOURCE, unit="row", size=150, files=files)


class TestRecording:
    def test_ranges_are_joined_and_answered_from_both_sides(self, client: Client, table: str, shas: dict[str, str]) -> None:
        describe(client, shas)
        runs = [client.runs.create(name=f"r{n}").id for n in range(3)]

        def record(run: object, *ranges: list[int]) -> None:
            client.reads.record(run=run, source=SOURCE, dataset="table", commit=table, ranges=list(ranges))

        record(runs[0], [0, 10], [90, 110])
        record(runs[0], [5, 20])
        record(runs[0], [5, 20])
        record(runs[1], [100, 101])
        found = [(read.path, read.rows, read.rows_read) for read in client.reads.list(run=str(runs[0]))]
        assert found == [("a.jsonl", 100, 30), ("b.jsonl", 50, 10)]
        assert [read.run_id for read in client.reads.seen_by(shas["b.jsonl"])] == [runs[1], runs[0]], "newest first"
        assert [read.run_id for read in client.reads.seen_by(shas["b.jsonl"], row=0)] == [runs[1], runs[0]]
        assert [read.run_id for read in client.reads.seen_by(shas["b.jsonl"], row=9)] == [runs[0]]
        assert list(client.reads.seen_by(shas["b.jsonl"], row=10)) == []
        assert list(client.reads.seen_by(shas["a.jsonl"], row=100)) == [], "the next file's first row is not this one's"
        assert list(client.reads.list(run=str(runs[2]))) == []

    def test_a_run_that_read_a_commit_has_it_as_its_input(self, client: Client, table: str, shas: dict[str, str]) -> None:
        describe(client, shas)
        run = client.runs.create(name="r")
        client.reads.record(run=run.id, source=SOURCE, dataset="table", commit=table, ranges=[[0, 1]])
        graph = client.lineage.get("run", str(run.id), direction="up")
        assert (table, "input") in [(edge.source.id, edge.relation) for edge in graph.edges]

    def test_what_a_run_saw_stays_known_when_the_dataset_is_gone(self, client: Client, table: str, shas: dict[str, str]) -> None:
        describe(client, shas)
        run = client.runs.create(name="r").id
        client.reads.record(run=run, source=SOURCE, dataset="table", commit=table, ranges=[[0, 100]])
        client.datasets.delete("table")
        (read,) = client.reads.seen_by(shas["a.jsonl"], row=99)
        assert (read.run_id, read.dataset, read.path) == (run, "table", "a.jsonl")

    def test_pages_are_whole(self, client: Client, table: str, shas: dict[str, str]) -> None:
        describe(client, shas)
        runs = [client.runs.create(name=f"r{n}").id for n in range(5)]
        for run in runs:
            client.reads.record(run=run, source=SOURCE, dataset="table", commit=table, ranges=[[0, 150]])
        assert [read.run_id for read in client.reads.seen_by(shas["a.jsonl"], limit=2)] == runs[:-3:-1]
        assert [read.path for read in client.reads.list(run=str(runs[0]), limit=1)] == ["a.jsonl"]

    def test_refuses_what_cannot_be(self, client: Client, table: str, shas: dict[str, str]) -> None:
        describe(client, shas)
        run = client.runs.create(name="r").id
        for ranges in ([[0, 151]], [[5, 5]], [[7, 3]]):
            with pytest.raises(InvalidPayload, match="150 ordinals"):
                client.reads.record(run=run, source=SOURCE, dataset="table", commit=table, ranges=ranges)
        for wrong in ({"run": uuid4()}, {"source": "6" * 64}, {"commit": uuid4()}, {"dataset": "none"}):
            asked = {"run": run, "source": SOURCE, "dataset": "table", "commit": table, "ranges": [[0, 1]], **wrong}
            with pytest.raises(NotFound):
                client.reads.record(**asked)
        with pytest.raises(Conflict, match="150 ordinals"):
            client.reads.describe(SOURCE, unit="row", size=151, files=[])


class TestStreams:
    def test_what_a_stream_gave_out_is_recorded_and_no_more(self, client: Client, table: str, shas: dict[str, str]) -> None:
        run = client.runs.create(name="r").id
        stream = aidos.dataset("table@main", client=client).to_torch(batch_size=10, workers=2, seed=1, run=run, window=30)
        batches = iter(stream)
        seen = [next(batches) for _ in range(4)]
        ids = {each for batch in seen for each in batch["_id"]}
        assert stream.recorder is not None and stream.recorder.flush()
        assert sum(read.rows_read or 0 for read in client.reads.list(run=str(run))) == len(ids) == 40
        for name, rows in (("a.jsonl", 100), ("b.jsonl", 50)):
            for row in range(0, rows, 7):
                read = [each.run_id for each in client.reads.seen_by(shas[name], row=row)]
                assert read == ([run] if f"{name}#{row}" in ids else []), (name, row)
        for _ in batches:
            pass
        assert stream.recorder.flush()
        assert [read.rows_read for read in client.reads.list(run=str(run))] == [100, 50]

    def test_the_command_says_who_saw_a_file(self, client: Client, table: str) -> None:
        run = client.runs.create(name="r").id
        stream = aidos.dataset("table@main", client=client).to_torch("b.*", run=run)
        assert len(list(stream)) == 50
        assert stream.recorder is not None and stream.recorder.flush()
        for arguments, expected in ((["b.jsonl"], [run]), (["b.jsonl", "--row", "49"], [run]), (["a.jsonl"], [])):
            done = command("--json", "dataset", "seen-by", "table@main", *arguments)
            assert [each["run_id"] for each in json.loads(done.stdout)] == [str(each) for each in expected]
        assert "has no file" in command("dataset", "seen-by", "table", "none").stderr
