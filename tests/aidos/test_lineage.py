"""``aidos lineage``: which kind a name is of, and the tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse
from typer.testing import CliRunner, Result

from aidos.cli.lineage import candidates
from aidos.cli.lineage_page import choose_columns
from aidos.cli.root import app
from aidos.errors import InvalidRequest
from tests.aidos.counterpart import Counterpart, problem

FILE, COMMIT, RUN, VERSION, ENDPOINT = (
    {"kind": kind, "id": id, "label": label}
    for kind, id, label in [
        ("file", "a" * 64, "7.png"), ("commit", "c1", "digits@main"), ("run", "r1", "digits"), ("model_version", "v1", "digits@1"), ("endpoint", "e1", "digits"),
    ]
)  # fmt: skip
CHAIN = [(FILE, COMMIT, "part of"), (COMMIT, RUN, "read by"), (RUN, VERSION, "made"), (VERSION, ENDPOINT, "served by")]


def graph(start: dict[str, str], *extra: tuple[dict[str, str], dict[str, str], str]) -> JSONResponse:
    edges = [{"source": source, "target": target, "relation": relation} for source, target, relation in (*CHAIN, *extra)]
    return JSONResponse({"start": start, "edges": edges, "truncated": False, "cut_by": []})


class TestCandidates:
    @pytest.mark.parametrize(
        ("node", "kinds"),
        [
            ("digits", ["endpoint", "run", "job"]),
            ("digits@1", ["model_version", "commit"]),
            ("a" * 64, ["file"]),
            ("digits@main/train/7.png", ["file"]),
            ("job:train", ["job"]),
            ("s3://warehouse/orders/", ["dataset"]),
            ("dataset:s3://warehouse/orders", ["dataset"]),
            ("model-version:digits@1", ["model_version"]),
        ],
    )
    def test_come_by_likelihood(self, node: str, kinds: list[str]) -> None:
        assert [kind for kind, _ in candidates(node)] == kinds

    def test_an_unknown_kind_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="colour"):
            list(candidates("colour:red"))


class TestCommand:
    @pytest.fixture
    def run(self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("AIDOS_URL", counterpart.url)

        def run(*args: str) -> Result:
            return CliRunner().invoke(app, ["lineage", *args])

        return run

    def test_prints_the_way_up_to_the_file(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(graph(ENDPOINT))
        lines = run("digits").stdout.splitlines()
        assert (
            "came from" in lines[0]
            and [word in line for word, line in zip(["served by", "made", "read by", "part of"], lines[1:], strict=True)] == [True] * 4
        )
        assert "7.png" in lines[4] and counterpart.seen[0].path == "/v1/modelhub/lineage/endpoint/digits"

    def test_prints_both_ways_from_the_middle(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(graph(RUN))
        text = run("run:r1").stdout
        assert "came from" in text and "went into" in text and text.index("7.png") < text.index("e1")

    def test_a_circle_ends(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(graph(ENDPOINT, (ENDPOINT, FILE, "logged as")))
        result = run("digits", "--direction", "up")
        assert result.exit_code == 0 and "shown above" in result.stdout

    def test_tries_the_next_kind(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(problem(404), graph(COMMIT))
        assert run("digits@main").exit_code == 0
        assert [seen.path.split("/")[4] for seen in counterpart.seen] == ["model_version", "commit"]

    def test_says_when_there_is_none(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(*[problem(404)] * 3)
        assert run("digits").exit_code == 3

    def test_a_prediction_is_known_by_its_id(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(graph(ENDPOINT))
        assert run(f"{'a' * 32}-3-{'0' * 32}").exit_code == 0
        assert counterpart.seen[0].path.split("/")[4] == "prediction"

    def test_writes_a_page_that_runs_nothing(self, run: Any, counterpart: Counterpart, tmp_path: Path) -> None:
        evil = {"kind": "run", "id": "x", "label": "<script>alert(1)</script>"}
        counterpart.plan(graph(ENDPOINT, (COMMIT, evil, "input"), (ENDPOINT, FILE, "logged as")))
        assert run("digits", "--html", str(tmp_path / "graph.html")).exit_code == 0
        page = (tmp_path / "graph.html").read_text("utf-8")
        assert "<script" not in page and "&lt;script&gt;" in page and "default-src 'none'" in page
        assert page.count("<rect") == 6 and page.count('class="edge"') == 6 and 'class="node start"' in page


class TestColumns:
    def test_a_thing_stands_behind_all_that_went_into_it(self) -> None:
        edges = [("a", "b", ""), ("b", "d", ""), ("a", "d", ""), ("c", "d", "")]
        assert choose_columns(["d", "a", "b", "c"], edges) == {"a": 0, "b": 1, "c": 0, "d": 2}

    def test_circles_have_an_end(self) -> None:
        columns = choose_columns(["a", "b", "c"], [("a", "b", ""), ("b", "c", ""), ("c", "a", ""), ("a", "a", "")])
        assert set(columns) == {"a", "b", "c"} and sorted(columns.values()) == [0, 1, 2]


class TestAffected:
    def answer(self, *affected: tuple[dict[str, str], bool, str]) -> JSONResponse:
        things = [{"node": node, "sure": sure, "live": bool(model), "model": model} for node, sure, model in affected]
        return JSONResponse({"start": FILE, "affected": things, "truncated": False})

    def files(self, *paths: str) -> JSONResponse:
        items = [{"path": path, "sha256": "a" * 64, "size_bytes": 1} for path in paths]
        return JSONResponse({"items": items, "next_cursor": None})

    @pytest.fixture
    def run(self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("AIDOS_URL", counterpart.url)
        return lambda *args: CliRunner().invoke(app, ["affected", *args])

    def test_says_which_live_endpoints_saw_a_file_and_which_may_have(self, run: Any, counterpart: Counterpart) -> None:
        may = {"kind": "endpoint", "id": "e2", "label": "other"}
        counterpart.plan(self.files("train/7.png"), self.answer((ENDPOINT, True, "digits@1"), (may, False, "cats@2")))
        result = run("digits@main/train/7.png", "--kind", "endpoint", "--live")
        lines = result.stdout.splitlines()[-2:]
        assert lines[0].split() == ["endpoint", "digits", "yes", "digits@1"] and lines[1].split() == [
            "endpoint",
            "other",
            "maybe",
            "cats@2",
        ]
        assert counterpart.seen[1].path == f"/v1/modelhub/lineage/file/{'a' * 64}/affected"
        assert counterpart.seen[1].query == {"only": "endpoint", "live": "true"}

    def test_a_branch_may_have_a_slash(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(problem(404), self.files("7.png"), self.answer())
        assert run("digits@feature/x/7.png").exit_code == 0
        assert counterpart.seen[1].query["prefix"] == "7.png"

    def test_a_file_that_is_not_there_is_said_so(self, run: Any, counterpart: Counterpart) -> None:
        counterpart.plan(self.files("train/70.png"))
        assert run("digits@main/7.png").exit_code == 3

    def test_an_unknown_kind_is_refused(self, run: Any) -> None:
        assert run("a" * 64, "--kind", "colour").exit_code == 2
