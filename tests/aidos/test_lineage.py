"""``aidos lineage``: which kind a name is of, and the tree."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import JSONResponse
from typer.testing import CliRunner, Result

from aidos.cli.lineage import candidates
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
            ("job:train", ["job"]),
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
