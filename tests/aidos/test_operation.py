"""The declaration of a route: what it takes, what it sends, what it refuses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidos.errors import InvalidPayload, InvalidRequest
from aidos.http.operation import Resource, query_text
from aidos.http.wire import Reply, Request, fill, quote_parameter, template
from tests.aidos.nouns import WidgetCreate, WidgetRead, Widgets


class Recorder:
    """A transport that gives the request back."""

    def send(self, request: Request, read: Callable[[Reply], Any]) -> Any:
        return request

    def pages(self, request: Request, read: Callable[[Reply], Any], *, limit: int | None) -> Any:
        return request

    def events(self, request: Request, read: Callable[[Any], Any]) -> Any:
        return request

    def with_options(self, *, timeout_s: float | None, idempotency_key: str | None, headers: Mapping[str, str] | None) -> Self:
        return self


widgets: Any = Widgets(Recorder())


class TestCall:
    def test_puts_each_argument_in_its_place(self) -> None:
        request = widgets.update("blue", replicas=2, if_match='"7"')
        assert (request.method, request.path, request.json) == ("PATCH", "/v1/widgets/blue", {"replicas": 2})
        assert request.headers == {"If-Match": '"7"'}

    def test_sends_a_creation_whole_and_a_change_as_it_was_said(self) -> None:
        assert widgets.create("blue").json["kind"] == "round"
        assert widgets.update("blue", note=None).json == {"note": None}

    def test_takes_a_ready_body(self) -> None:
        assert widgets.create(WidgetCreate(name="blue", tags=["a"])).json == widgets.create("blue", tags=["a"]).json
        assert widgets.create({"name": "blue"}).json["name"] == "blue"

    def test_shows_a_secret_to_the_server_only(self) -> None:
        request = widgets.create("blue", password="opensesame")
        assert request.json["password"] == "opensesame"
        assert "opensesame" not in repr(WidgetCreate(name="blue", password="opensesame"))

    def test_sends_bytes_as_they_are(self) -> None:
        assert widgets.send("blue", b"\x00\xff").content == b"\x00\xff"

    def test_query_values_are_written_as_the_gateway_reads_them(self) -> None:
        assert dict(widgets.list(state="ON", deep=True).query) == {"state": "ON", "deep": "true"}
        request = widgets.get("blue", wait=30)
        assert dict(request.query) == {"wait": "30s"} and request.wait_s == 30.0
        assert dict(widgets.search(q="x").query) == {"q": "x", "limit": "10"}

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: widgets.get(), TypeError, "needs 'widget'"),
            (lambda: widgets.get("a", "b"), TypeError, "too many"),
            (lambda: widgets.get("a", colour="red"), TypeError, "unexpected argument 'colour'"),
            (lambda: widgets.search(), TypeError, "needs 'q'"),
            (lambda: widgets.create("a", "b"), TypeError, "too many"),
            (lambda: widgets.create(), InvalidPayload, "name: Field required"),
            (lambda: widgets.create("a", replicas=0), InvalidPayload, "replicas: "),
            (lambda: widgets.create("a\x00b"), InvalidPayload, "name: "),
            (lambda: widgets.search(q="\x00"), InvalidRequest, "without NUL"),
            (lambda: widgets.search(q="\ud800"), InvalidRequest, "Unicode"),
            (lambda: widgets.get("\ud800"), InvalidRequest, "Unicode"),
        ],
    )
    def test_refuses_what_the_route_does_not_take(self, call: Callable[[], Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            call()

    def test_each_logical_call_has_a_key_of_its_own(self) -> None:
        assert widgets.create("a").key != widgets.create("a").key

    def test_shows_its_real_parameters(self) -> None:
        signature = inspect.signature(widgets.create)
        assert list(signature.parameters) == ["name", "kind", "replicas", "tags", "labels", "part", "password"]
        assert signature.parameters["name"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert signature.parameters["replicas"].default == 1
        assert signature.return_annotation is WidgetRead
        assert "POST /v1/widgets" in (inspect.getdoc(widgets.create) or "")
        assert "wait" in repr(widgets.get)


class TestResource:
    def test_knows_its_operations_and_its_plural(self) -> None:
        assert list(Widgets.operations)[:3] == ["create", "list", "get"] and Widgets.plural == "widgets"

    def test_inherits_operations(self) -> None:
        class Gadgets(Widgets):
            noun = "gadget"
            plural = "gadgetry"

        assert Gadgets.operations == Widgets.operations and Gadgets.plural == "gadgetry"
        assert issubclass(Gadgets, Resource)


class TestPath:
    @given(st.text())
    def test_a_parameter_never_leaves_its_place(self, value: str) -> None:
        try:
            path = fill("/v1/widgets/{widget}/refs", {"widget": value})
        except InvalidRequest:
            assert value in {"", ".", ".."} or any(sign in value for sign in "/\\\x00")
            return
        assert path.count("/") == 4 and path.startswith("/v1/widgets/") and path.endswith("/refs")
        middle = path.split("/")[3]
        assert middle not in {"", ".", ".."} and path.isascii() and not set("?#\\ %\x00") & set(middle.replace("%", "", middle.count("%")))

    @given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
    def test_a_nested_one_keeps_its_segments(self, segments: list[str]) -> None:
        value = "/".join(segments)
        try:
            quoted = quote_parameter("ref", value, nested=True)
        except InvalidRequest:
            return
        assert not {"", ".", ".."} & set(quoted.split("/")) and quoted.count("/") == value.count("/")

    @pytest.mark.parametrize("value", ["", ".", "..", "a/b", "../x", "a\\b", "a\x00", "/"])
    def test_refuses_what_could_reach_another_route(self, value: str) -> None:
        with pytest.raises(InvalidRequest):
            widgets.get(value)

    @pytest.mark.parametrize("value", ["a//b", "a/../b", "/a", "a/", "..", "a/./b"])
    def test_refuses_empty_and_dotted_segments(self, value: str) -> None:
        with pytest.raises(InvalidRequest):
            widgets.point("blue", value)

    def test_quotes_everything_else(self) -> None:
        assert widgets.get("a b?c#d%2e%2e").path == "/v1/widgets/a%20b%3Fc%23d%252e%252e"
        assert widgets.point("blue", "feature/x y").path == "/v1/widgets/blue/refs/feature/x%20y"

    def test_is_compared_as_openapi_writes_it(self) -> None:
        assert template("/v1/widgets/{widget}/refs/{ref:path}") == "/v1/widgets/{widget}/refs/{ref}"


class TestQueryText:
    @given(st.booleans() | st.integers() | st.floats(allow_nan=False))
    def test_numbers_and_flags(self, value: float) -> None:
        assert query_text("x", value) == (str(value).lower() if isinstance(value, bool) else str(value))
