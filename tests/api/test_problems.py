"""Every error leaves as a problem that says what the caller needs and nothing that it must not know."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import psycopg
import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from aidos.errors import AidosError, Forbidden, TooManyRequests
from api import problems
from api.deps import check_etag, is_current, refuse_deep_nesting
from api.errors import MalformedBody
from tests.api.probe import FAILURES


def request(path: str = "/v1/x") -> Request:
    return Request({"type": "http", "method": "GET", "path": path, "headers": [], "state": {"request_id": "r-1"}, "query_string": b""})


def document(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    answer = problems.answer(error, request())
    return answer.status_code, json.loads(bytes(answer.body)), dict(answer.headers)


@pytest.mark.plain
class TestAnswer:
    def test_carries_the_fields_and_the_request_id(self) -> None:
        status, body, headers = document(Forbidden(permission="modelhub:write", role="viewer"))
        assert status == 403 and headers["content-type"] == "application/problem+json"
        assert body["type"] == "urn:aidos:aidos:forbidden" and body["instance"] == "r-1" and body["permission"] == "modelhub:write"

    def test_says_when_to_come_again(self) -> None:
        _, _, headers = document(TooManyRequests(limit=100, subject="key", retry_after_s=7))
        assert headers["retry-after"] == "7"

    @pytest.mark.parametrize(
        ("failure", "status"),
        [
            ("declared", 409), ("bug", 500), ("remote", 404), ("remote-bug", 500), ("actor-died", 503), ("cancelled-query", 503),
            ("deadlock", 503), ("unique", 409), ("check", 422), ("privilege", 500),
        ],
    )  # fmt: skip
    def test_has_the_status_of_what_happened_and_never_its_text(self, failure: str, status: int) -> None:
        found, body, _ = document(FAILURES[failure]())
        assert found == status == body["status"]
        assert "secret" not in json.dumps(body)

    @pytest.mark.parametrize(
        "error",
        [
            psycopg.errors.NumericValueOutOfRange("x"), psycopg.errors.CharacterNotInRepertoire("x"), psycopg.DataError("NUL"),
            psycopg.errors.UntranslatableCharacter("x"), psycopg.errors.InvalidTextRepresentation("x"),
            psycopg.errors.ProgramLimitExceeded("index row"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"),
        ],
        ids=lambda error: type(error).__name__,
    )  # fmt: skip
    def test_what_postgres_cannot_store_is_the_callers_to_change(self, error: Exception) -> None:
        assert document(error)[0] == 422

    def test_points_at_each_wrong_field_without_its_value(self) -> None:
        errors = [{"type": "int", "loc": ("body", "a/b", 0), "msg": "must be an integer", "input": "hunter2"}]
        status, body, _ = document(RequestValidationError(errors))
        assert status == 422 and body["errors"] == [{"in": "body", "pointer": "#/a~1b/0", "detail": "must be an integer"}]
        assert body["detail"].endswith("says: body a~1b/0: must be an integer.")

    def test_names_the_first_of_many(self) -> None:
        errors = [{"type": "missing", "loc": ("query", name), "msg": "is missing"} for name in "ab"]
        assert "query a: is missing, and 1 more" in document(RequestValidationError(errors))[1]["detail"]

    def test_broken_json_is_400(self) -> None:
        assert (
            document(RequestValidationError([{"type": "json_invalid", "loc": ("body", 3), "msg": "x", "ctx": {"error": "Expecting"}}]))[0]
            == 400
        )

    def test_a_status_of_the_framework_becomes_a_problem(self) -> None:
        status, body, _ = document(HTTPException(404))
        assert status == 404 and body["type"] == "urn:aidos:api:route-not-found"

    def test_every_leaf_keeps_its_own_status(self) -> None:
        for cls in (Forbidden, MalformedBody, AidosError):
            assert document(cls(reason="x", permission="p", role="r", most=1))[0] == cls.status


@pytest.mark.plain
class TestRefuseDeepNesting:
    @pytest.mark.parametrize("depth", [65, 100, 100_000])
    def test_refuses_what_is_deeper_than_the_limit(self, depth: int) -> None:
        for text in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b'["]","",' * depth + b"1" + b"]" * depth):
            with pytest.raises(MalformedBody):
                refuse_deep_nesting(text)

    @pytest.mark.parametrize(
        "text",
        [
            b"[" * 64 + b"]" * 64,
            b"[" + b"[],{}," * 500 + b"1]",
            json.dumps({"a": "[" * 1000, "b": '\\"' + "{" * 500}).encode(),
            json.dumps({"a": ["[" * 1000, "", "{" * 500]}).encode(),
            b"]" * 200,
        ],
        ids=["at the limit", "wide", "in strings", "in strings without escapes", "not JSON"],
    )
    def test_counts_only_what_nests(self, text: bytes) -> None:
        refuse_deep_nesting(text)

    @pytest.mark.parametrize(
        "text", [b'"' + b'\\"' * 900_000, b'"\\' * 600_000, b"[" * 1_900_000, b"[" * 900_000 + b"]" * 900_000, b'"' * 1_900_001]
    )
    def test_takes_no_longer_for_a_malicious_body(self, text: bytes) -> None:
        started = time.process_time()
        with contextlib.suppress(MalformedBody):
            refuse_deep_nesting(b"[{" * 50 + text)
        assert time.process_time() - started < 2

    def test_an_unclosed_deep_body_is_refused_somewhere(self) -> None:
        body = b"[" * 100_000
        try:
            refuse_deep_nesting(body)
        except MalformedBody:
            return
        with pytest.raises((ValueError, RecursionError)):
            json.loads(body)


@pytest.mark.plain
class TestEtags:
    @pytest.mark.parametrize("expected", [None, "*", '"7"', 'W/"7"', '"6", "7"'])
    def test_lets_pass_who_saw_this_version(self, expected: str | None) -> None:
        check_etag(expected, '"7"')

    @pytest.mark.parametrize("expected", ['"6"', "", "W/6", '"77"'])
    def test_refuses_who_saw_another(self, expected: str) -> None:
        with pytest.raises(AidosError, match="ETag"):
            check_etag(expected, '"7"')

    def test_a_reader_who_has_it_needs_no_body(self) -> None:
        assert is_current('"7"', '"7"') and is_current('"1", W/"7"', '"7"')
        assert not is_current(None, '"7"') and not is_current('"1"', '"7"')
