"""A synthetic dataset is a commit that says so, with its origin in the lineage, and a report that people can look at."""

from __future__ import annotations

import io
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from aidos.cli import report_view
from aidos.client import Client
from aidos.errors import InvalidPayload
from aidos.transfers.directories import push
from tests.dataforge.synthesis.conftest import Ask
from tests.dataforge.synthesis.test_tables import people

pytestmark = pytest.mark.postgres


@pytest.fixture
def source(client: Client, tmp_path: Path) -> str:
    """A dataset of three Parquet files and one that is none."""
    folder = tmp_path / "people"
    folder.mkdir()
    table = people(900)
    for part in range(3):
        pq.write_table(table.slice(300 * part, 300), folder / f"part-{part}.parquet")
    (folder / "bad.csv").write_bytes(b"a\n\xff\n")
    push(folder, "people", client=client)
    return "people"


def read(client: Client, dataset: str, path: str) -> pd.DataFrame:
    commit = client.datasets.show(dataset, "main")
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv, "jsonl": partial(pd.read_json, lines=True)}[path.rpartition(".")[2]]
    return read(f"aidos://default/{dataset}@{commit.id}/{path}")


class TestTable:
    def test_becomes_a_commit_that_says_what_it_is(self, client: Client, source: str, synthesize: Ask) -> None:
        report = synthesize(source, out="fake", seed=7, generator={"make": "table", "rows": 500, "target": "kind"})
        commit = client.datasets.show("fake", "main")
        origin = client.datasets.show(source, "main")
        assert report.result is not None and report.result["commit"]["id"] == str(commit.id)
        assert commit.metadata["synthetic"] is True and commit.metadata["seed"] == 7
        assert commit.metadata["source"] == {"dataset": source, "commit": str(origin.id)}
        assert commit.metadata["generator"]["make"] == "table" and commit.metadata["report"] == str(report.id)
        assert len(read(client, "fake", "part-00000.parquet")) == 500
        assert report.result["quarantine"]["files"][0]["path"] == "bad.csv"

    def test_stands_in_the_lineage_of_its_source(self, client: Client, source: str, synthesize: Ask) -> None:
        synthesize(source, out="fake", generator={"make": "table", "rows": 100})
        made, origin = client.datasets.show("fake", "main"), client.datasets.show(source, "main")
        graph = client.lineage.get("commit", str(origin.id), direction="down")
        relations = {(edge.source.kind, edge.relation) for edge in graph.edges if edge.target.id == str(made.id)}
        assert relations == {("commit", "synthesised into"), ("run", "produced")}

    def test_never_takes_the_place_of_real_data(self, client: Client, source: str, synthesize: Ask) -> None:
        with pytest.raises(ValueError, match="not synthetic"):
            synthesize(source, out=source, generator={"make": "table"})
        synthesize(source, out=source, branch="fake", generator={"make": "table", "rows": 50})
        assert client.datasets.show(source, "fake").metadata["synthetic"] is True

    def test_is_the_same_for_the_same_seed_whatever_report_asks(self, client: Client, source: str, synthesize: Ask) -> None:
        trees = []
        for out, seed in (("one", 1), ("two", 1), ("three", 2)):
            synthesize(source, out=out, seed=seed, generator={"make": "table", "rows": 200, "write": "csv"})
            trees.append(client.datasets.show(out, "main").tree)
        assert trees[0] == trees[1] != trees[2]

    def test_under_privacy_states_its_budget_and_what_was_spent_before(self, client: Client, source: str, synthesize: Ask) -> None:
        columns = {"age": {"kind": "integer", "min": 18, "max": 90}, "kind": {"kind": "category", "values": ["low", "mid", "high"]}}
        for spent, epsilon in ((1.0, 1.0), (1.5, 0.5)):
            spec = {"make": "table", "rows": 300, "columns": columns, "privacy": {"epsilon": epsilon}}
            result: dict[str, Any] = synthesize(source, out=f"private-{epsilon}", generator=spec).result or {}
            assert (result["privacy"]["epsilon"], result["privacy"]["epsilon_of_all"]) == (epsilon, spent)
        assert client.datasets.show("private-1.0", "main").metadata["privacy"]["epsilon"] == 1.0
        assert sorted(read(client, "private-1.0", "part-00000.parquet").columns) == ["age", "kind", "synthetic"]

    def test_has_rows_under_conditions_in_the_formats_of_tables(self, client: Client, source: str, synthesize: Ask) -> None:
        conditions = [{"rows": 30, "where": {"kind": "high"}}, {"rows": 20, "where": {"kind": "low", "age": {"min": 20, "max": 30}}}]
        for write in ("parquet", "csv", "jsonl"):
            synthesize(source, out=f"as-{write}", generator={"make": "table", "conditions": conditions, "write": write, "by": "kind"})
            found = read(client, f"as-{write}", f"part-00000.{write}")
            assert len(found) == 30 and found["synthetic"].tolist() == [True] * 30
        frame = pd.concat([read(client, "as-parquet", f"part-0000{part}.parquet") for part in range(2)])
        assert frame["kind"].value_counts().to_dict() == {"high": 30, "low": 20} and frame["id"].is_unique


class TestReport:
    def test_is_read_on_the_terminal_and_as_html(self, source: str, synthesize: Ask) -> None:
        report = synthesize(source, out="fake", generator={"make": "table", "rows": 500, "target": "kind"})
        shown = io.StringIO()
        page = report_view.to_html(report)
        for table in report_view.tables_of(report.kind, report.result or {}):
            shown.write(table.title + "".join(str(row) for row in table.rows))
        for said in ("is synthetic", "Kolmogorov-Smirnov", "total variation", "train on synthetic", "Nearest real record", "bad.csv"):
            assert said in shown.getvalue() and said in page
        assert not re.search(r"<script|<link|<img|https?:|url\(|@import", page)

    def test_is_refused_for_what_makes_no_sense_before_a_job_begins(self, client: Client, source: str) -> None:
        for params, said in (
            ({"out": "x"}, "generator"),
            ({"out": "x", "generator": {"make": "table", "privacy": {"epsilon": 1}}}, "privacy"),
        ):
            with pytest.raises(InvalidPayload, match=said):
                client.reports.create(source, kind="synthesize", params=params)
        assert list(client.jobs.list()) == []
