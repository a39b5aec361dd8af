"""Texts from templates: slots of every kind, where their values stand, and a language model that is asked over HTTP."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aidos.client import Client
from aidos.schemas.dataforge.synthesis import TextGenerator
from aidos.transfers.directories import pull, push
from data_pipelines.dataforge.synthesis.patterns import PatternInvalid, compile_pattern
from data_pipelines.dataforge.synthesis.texts import check_slots, make_texts
from tests.dataforge.synthesis.conftest import Ask

SLOTS: dict[str, Any] = {
    "name": {"kind": "list", "values": ["Ada", "Grace"], "weights": [3, 1]},
    "order": {"kind": "pattern", "pattern": r"[A-C]{2}-\d{4}"},
    "day": {"kind": "range", "min": "2024-02-28", "max": "2024-03-01"},
    "price": {"kind": "range", "min": 1, "max": 2.5, "decimals": 2},
    "city": {"kind": "column", "column": "town"},
}
TEMPLATES = [
    {"text": "{name} ordered {order} on {day}.", "label": "order", "weight": 2},
    {"text": "{{{name}}} of {city} owes {price} €.", "label": "bill"},
]


def asked(**given: Any) -> TextGenerator:
    return TextGenerator.model_validate({"make": "text", "rows": 400, "templates": TEMPLATES, "slots": SLOTS, **given})


def made(seed: int = 0, **given: Any) -> pa.Table:
    return make_texts(asked(**given), {"town": ["Köln", "Köln", "Paris"]}, 400, np.random.default_rng(seed))


@pytest.mark.plain
class TestTemplates:
    def test_are_filled_with_values_that_stand_where_the_spans_say(self) -> None:
        for row in made().to_pylist():
            for span in row["spans"]:
                assert row["text"][span["start"] : span["end"]] == row[span["slot"]]
            form = r"\w+ ordered [A-C]{2}-\d{4} on 2024-0[23]-\d\d\." if row["label"] == "order" else r"\{\w+\} of \w+ owes [12]\.\d\d €\."
            assert re.fullmatch(form, row["text"]), row["text"]

    def test_keep_weights_ranges_and_frequencies(self) -> None:
        table = made()
        assert table["name"].to_pylist().count("Ada") == pytest.approx(300, abs=40)
        assert table["city"].to_pylist().count("Köln") == pytest.approx(267, abs=40)
        assert set(table["day"].to_pylist()) == {"2024-02-28", "2024-02-29", "2024-03-01"}
        assert 1 <= min(map(float, table["price"].to_pylist())) <= max(map(float, table["price"].to_pylist())) <= 2.5

    def test_repeat_with_their_seed(self) -> None:
        assert made(1).equals(made(1)) and not made(1).equals(made(2))

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"templates": [{"text": "{nobody}"}]}, "nobody"),
            ({"templates": [{"text": "{name"}]}, "expected '}'"),
            ({"templates": [{"text": "{name.__class__}"}]}, "no slot"),
            ({"slots": {**SLOTS, "label": {"kind": "list", "values": ["a"]}}}, "cannot be named label"),
            ({"slots": {**SLOTS, "day": {"kind": "range", "min": "2024-02-31", "max": "2024-03-01"}}}, "day"),
            ({"slots": {**SLOTS, "say": {"kind": "model", "prompt": "hi", "model": "m"}}}, "no language model is deployed"),
            ({"slots": {"say": {"kind": "model", "prompt": "{name}", "model": "m", "url": "http://x/v1"}, **SLOTS}}, "stand before"),
        ],
    )
    def test_are_refused_with_the_reason(self, given: dict[str, Any], said: str) -> None:
        with pytest.raises(ValidationError, match=re.escape(said)):
            asked(**given)

    def test_need_the_columns_that_they_name(self) -> None:
        with pytest.raises(ValueError, match="'town'"):
            check_slots(asked(), {"other": ["x"]})


@pytest.mark.plain
class TestPatterns:
    @pytest.mark.parametrize(
        "pattern",
        [
            r"[A-Z]{3}-\d{4}",
            r"(red|green|dark (blue|grey))?",
            r"a*b+c{2,3}d{2,}",
            r"\w+\.\w+@x\.org",
            r"[\d\-_]x[a-c.]",
            "",
            r"\{\}\\",
            "é.ü",
        ],
    )
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def test_draw_texts_that_match_them(self, pattern: str, seed: int) -> None:
        assert re.fullmatch(pattern, compile_pattern(pattern)(np.random.default_rng(seed)))

    @pytest.mark.parametrize(
        "pattern", ["(a", "a)", "[", "[^a]", "[z-a]", "a{2", "a{3,1}", "a{999}", "*", "^a", r"\b", "\\", "((((a))))", "[]"]
    )
    def test_are_refused_where_nothing_can_be_drawn(self, pattern: str) -> None:
        with pytest.raises(PatternInvalid):
            compile_pattern(pattern)

    def test_never_draw_without_end(self) -> None:
        with pytest.raises(PatternInvalid, match="over 10000"):
            compile_pattern("((a{100}){100}){100}")(np.random.default_rng(0))


class Answering(BaseHTTPRequestHandler):
    """Answers chat completions with what it was asked, and the model's name; the model 'broken' fails."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = 400 if body["model"] == "broken" else 200
        answer = json.dumps({"choices": [{"message": {"content": f"{body['model']}: {body['messages'][0]['content']}"}}]}).encode()
        self.send_response(status if self.path == "/v1/chat/completions" else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def model_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.plain
class TestLanguageModel:
    def slots(self, url: str, model: str) -> dict[str, Any]:
        return {"name": SLOTS["name"], "reply": {"kind": "model", "prompt": "Greet {name}.", "url": url, "model": model}}

    def test_is_asked_with_what_was_drawn_before(self, model_url: str) -> None:
        table = made(templates=[{"text": "{reply}"}], slots=self.slots(model_url, "small"))
        assert all(row["text"] == f"small: Greet {row['name']}." for row in table.to_pylist())

    def test_is_said_to_fail_with_its_place(self, model_url: str) -> None:
        with pytest.raises(ValueError, match="answers 400"):
            made(templates=[{"text": "{reply}"}], slots=self.slots(model_url, "broken"))
        with pytest.raises(ConnectionError, match="cannot be reached"):
            made(templates=[{"text": "{reply}"}], slots=self.slots("http://127.0.0.1:9/v1", "small"))


@pytest.mark.postgres
class TestTexts:
    def test_become_a_commit_with_a_report(self, client: Client, synthesize: Ask, tmp_path: Path) -> None:
        (tmp_path / "mail").mkdir()
        words = np.random.default_rng(0)
        real = [f"{'Ada' if at % 2 else 'Grace'} ordered AB-{words.integers(9999):04d} on 2024-03-01." for at in range(100)]
        real += [f"{{Ada}} of Köln owes {words.random() + 1:.2f} €." for _ in range(100)]
        order = words.permutation(200)
        table = pa.table({"mail": real, "kind": ["order"] * 100 + ["bill"] * 100, "town": ["Köln", "Paris"] * 100}).take(order)
        pq.write_table(table, tmp_path / "mail/mail.parquet")
        push(tmp_path / "mail", "mail", client=client)
        spec = {"make": "text", "rows": 600, "templates": TEMPLATES, "slots": SLOTS, "like": "mail", "like_label": "kind"}
        result = synthesize("mail", out="letters", generator=spec).result or {}
        assert result["rows"]["synthetic"] == 600 and result["learning"]["train_on_synthetic"] > 0.9
        assert {column["column"] for column in result["columns"]} == {"characters", "words"} and "median" in result["nearest"]["synthetic"]
        pull("letters", tmp_path / "letters", client=client)
        rows = [json.loads(line) for line in (tmp_path / "letters/part-00000.jsonl").read_text().splitlines()]
        assert len(rows) == 600 and rows[0]["spans"][0]["slot"] == "name"
        assert client.datasets.show("letters", "main").metadata["synthetic"] is True
