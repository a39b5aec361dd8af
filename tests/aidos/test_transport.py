"""The client against a server that fails: what is repeated, what is not, and what is said in the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

import aidos
from aidos.client import AsyncClient, Client
from aidos.errors import AidosError, Conflict, Forbidden, InvalidRequest, NotFound, TooManyRequests, Unauthenticated, Unavailable
from aidos.http.conversation import NotAidos, Patience, StorageRefused, Unreachable, retry_after_s
from aidos.http.credentials import SignIn, SignIns
from aidos.http.operation import UnexpectedReply
from tests.aidos.counterpart import Counterpart, events, hang_up, problem, serve
from tests.aidos.nouns import WidgetRead, Widgets
from tests.support.platform import find_free_ports

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, counterpart: Counterpart) -> Iterator[Widgets]:
    """Widgets of a client that gives up after half a second."""
    monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0.5")
    with Client(counterpart.url, "the-key") as client:
        yield Widgets(client.transport)


class TestSend:
    def test_says_who_asks_for_what(self, counterpart: Counterpart) -> None:
        with Client(counterpart.url, "the-key", "vision") as client:
            assert Widgets(client.transport).create("digits", replicas=2) == WidgetRead(name="digits")
        (seen,) = counterpart.seen
        assert seen.headers["authorization"] == "Bearer the-key" and seen.headers["x-aidos-project"] == "vision"
        assert seen.headers["user-agent"] == f"aidos/{aidos.__version__}" and seen.headers["content-type"] == "application/json"
        assert seen.body["replicas"] == 2

    def test_a_jobs_calls_belong_to_its_trace(self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
        for given, sent in ((TRACEPARENT, TRACEPARENT), ("not one\r\nX-Evil: 1", None)):
            monkeypatch.setenv("TRACEPARENT", given)
            with Client(counterpart.url, "the-key") as client:
                client.get_presigned(f"{counterpart.url}/elsewhere")
                Widgets(client.transport).get("digits")
            elsewhere, seen = counterpart.seen[-2:]
            assert seen.headers.get("traceparent") == sent and "traceparent" not in elsewhere.headers

    def test_a_path_arrives_as_it_was_meant(self, widgets: Widgets, counterpart: Counterpart) -> None:
        widgets.get("a b?c#d%2e%2e")
        assert counterpart.seen[0].path == "/v1/widgets/a b?c#d%2e%2e" and counterpart.seen[0].query == {}

    @pytest.mark.parametrize("answer", [problem(503), problem(429), problem(503, headers={"retry-after": "0"}), hang_up])
    def test_a_change_is_repeated_under_one_key(self, widgets: Widgets, counterpart: Counterpart, answer: Response) -> None:
        counterpart.plan(answer, answer)
        assert widgets.create("digits").name == "digits"
        keys = {seen.headers["idempotency-key"] for seen in counterpart.seen}
        assert len(counterpart.seen) == 3 and len(keys) == 1

    def test_a_read_carries_no_key(self, widgets: Widgets, counterpart: Counterpart) -> None:
        widgets.get("digits")
        assert "idempotency-key" not in counterpart.seen[0].headers

    def test_a_proxy_that_came_back_before_its_routes_is_waited_for(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(PlainTextResponse("Path not found", 404), PlainTextResponse("", 502), PlainTextResponse("", 504))
        assert widgets.get("digits").name == "digits"

    def test_a_request_in_progress_is_waited_for(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(problem(409, "urn:aidos:api:request-in-progress"))
        assert widgets.create("digits").name == "digits"

    def test_waits_as_long_as_it_is_told(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(problem(429, headers={"retry-after": "1"}))
        began = time.monotonic()
        widgets.get("digits")
        assert 1.0 <= time.monotonic() - began < 15

    def test_does_not_begin_a_wait_that_the_budget_forbids(self, hasty: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(problem(429, "urn:aidos:errors:too-many-requests", {"retry-after": "30"}))
        began = time.monotonic()
        with pytest.raises(TooManyRequests):
            hasty.get("digits")
        assert time.monotonic() - began < 15 and len(counterpart.seen) == 1

    def test_gives_up_with_the_last_answer(self, hasty: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(*[problem(503)] * 50)
        with pytest.raises(Unavailable, match=r"It did not work\. \(request req-1\)"):
            hasty.get("digits")

    @pytest.mark.parametrize(
        ("status", "kind"), [(404, NotFound), (403, Forbidden), (409, Conflict), (401, Unauthenticated), (400, InvalidRequest)]
    )
    def test_what_will_not_change_is_said_at_once(
        self, widgets: Widgets, counterpart: Counterpart, status: int, kind: type[Exception]
    ) -> None:
        counterpart.plan(problem(status, "urn:aidos:elsewhere:unknown", limit=3))
        with pytest.raises(kind, match="req-1") as caught:
            widgets.create("digits")
        assert len(counterpart.seen) == 1 and caught.value.fields["limit"] == 3  # type: ignore[attr-defined]  # an AidosError

    @pytest.mark.parametrize("answer", [PlainTextResponse("<h1>nginx</h1>", 403), RedirectResponse("/login", 307), JSONResponse([], 500)])
    def test_another_server_is_recognised(self, widgets: Widgets, counterpart: Counterpart, answer: Response) -> None:
        counterpart.plan(answer)
        with pytest.raises(NotAidos, match=f"HTTP {answer.status_code}"):
            widgets.get("digits")

    def test_an_answer_of_another_shape_is_said(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({"title": "x"}))
        with pytest.raises(UnexpectedReply, match=r"GET /v1/widgets/\{widget\} .*name: Field required"):
            widgets.get("digits")

    def test_nobody_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0.3")
        with Client(f"http://127.0.0.1:{find_free_ports(1)}", "k") as client, pytest.raises(Unreachable, match="does not answer"):
            Widgets(client.transport).get("digits")

    def test_survives_a_restart_of_the_platform(self) -> None:
        port, told = find_free_ports(1), threading.Event()
        answers: list[WidgetRead] = []
        client = Client(f"http://127.0.0.1:{port}", "k", on_wait=lambda reason, left_s: told.set())
        caller = threading.Thread(target=lambda: answers.append(Widgets(client.transport).create("digits")))
        caller.start()
        assert told.wait(10), "the call did not say that it waits"
        with serve(Counterpart(), port):
            caller.join(20)
        client.close()
        assert answers == [WidgetRead(name="digits")]

    def test_bytes_come_as_they_are(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(Response(b"\x00\xff"), Response(status_code=204), Response(status_code=204))
        assert widgets.fetch("digits") == b"\x00\xff"
        assert widgets.delete("digits") is None
        widgets.send("digits", b"\x01\xfe")
        assert counterpart.seen[2].body == b"\x01\xfe"

    def test_the_raw_reply_has_its_headers(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({"name": "digits"}, headers={"etag": '"7"'}))
        assert widgets.get.raw("digits").headers["ETag"] == '"7"'

    def test_options_are_for_one_view_only(self, client: Client, widgets: Widgets, counterpart: Counterpart) -> None:
        widgets.with_options(idempotency_key="mine", headers={"x-extra": "1"}).create("digits")
        widgets.create("digits")
        first, second = counterpart.seen
        assert first.headers["idempotency-key"] == "mine" and first.headers["x-extra"] == "1"
        assert second.headers["idempotency-key"] != "mine" and "x-extra" not in second.headers

    def test_a_slow_server_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0")
        with Client("http://127.0.0.1:9", "k").with_options(timeout_s=0.2) as client, pytest.raises(Unreachable):
            Widgets(client.transport).get("digits")


class TestPresigned:
    def test_never_sees_the_token(self, client: Client, counterpart: Counterpart) -> None:
        counterpart.plan(PlainTextResponse("SlowDown", 503))
        client.put_presigned(f"{counterpart.url}/bucket/key?X-Amz-Signature=a%2Fb", b"data", {"content-type": "text/plain"})
        first, second = counterpart.seen
        assert "authorization" not in second.headers and "idempotency-key" not in second.headers
        assert second.query == {"X-Amz-Signature": "a/b"} and second.body == b"data" == first.body

    @pytest.mark.parametrize(
        ("status", "code", "said"),
        [(500, "InternalError", "InternalError: Try again. It may be out of room"), (403, "AccessDenied", "ends after an hour")],
    )
    def test_what_the_store_says_is_read_and_what_to_do_is_told(
        self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch, status: int, code: str, said: str
    ) -> None:
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0")
        document = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>Try again.</Message></Error>'
        counterpart.plan(Response(document, status, media_type="application/xml"))
        with Client(counterpart.url, "the-key") as client, pytest.raises(StorageRefused, match=said) as refused:
            client.put_presigned(f"{counterpart.url}/bucket/key", b"data", {})
        assert "<" not in str(refused.value)


class TestPages:
    def test_are_followed_to_the_end(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(
            JSONResponse({"items": [{"name": "a"}, {"name": "b"}], "next_cursor": "two"}),
            problem(503),
            JSONResponse({"items": [], "next_cursor": "three"}),
            JSONResponse({"items": [{"name": "c"}]}),
        )
        assert [widget.name for widget in widgets.list(state="ON")] == ["a", "b", "c"]
        assert [seen.query.get("cursor") for seen in counterpart.seen] == [None, "two", "two", "three"]
        assert {seen.query["state"] for seen in counterpart.seen} == {"ON"}

    def test_stop_at_the_limit(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({"items": [{"name": "a"}, {"name": "b"}], "next_cursor": "two"}))
        assert len(list(widgets.list(limit=1))) == 1 and counterpart.seen[0].query["limit"] == "1"
        assert list(widgets.list(limit=0)) == [] and len(counterpart.seen) == 1

    def test_a_cursor_that_stands_still_ends_it(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(*[JSONResponse({"items": [{"name": "a"}], "next_cursor": "same"})] * 3)
        assert len(list(widgets.list())) == 2

    def test_come_one_by_one(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(JSONResponse({"items": [{"name": "a"}], "next_cursor": "two"}), JSONResponse({"items": []}))
        assert [page.next_cursor for page in widgets.list().pages()] == ["two", None]

    def test_of_the_other_kind_of_client_are_refused(self, widgets: Widgets) -> None:
        with pytest.raises(TypeError, match="synchronous"):
            aiter(widgets.list())


class TestEvents:
    def test_are_taken_up_where_they_broke(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(
            events(
                'id: 1\ndata: {"text": "one"}\n\n',
                'id: 2\r\ndata: {"text":\r\ndata:  "two\u2028half"}\r\n\r\nid: 9\ndata: {"te',
                broken=True,
            ),
            problem(503),
            events("id: 2b\n\n", broken=True),
            events(": heartbeat\n\n", 'id: 3\nevent: message\ndata: {"text": "three"}\n\nevent: end\ndata: {}\n\n'),
        )
        assert [line.text for line in widgets.logs("digits")] == ["one", "two\u2028half", "three"]
        assert [seen.headers.get("last-event-id") for seen in counterpart.seen] == [None, "2", "2", "2b"]
        assert counterpart.seen[0].headers["accept"] == "text/event-stream"

    def test_go_on_after_a_close_in_good_order(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(events('id: 1\ndata: {"text": "one"}\n\n'), events("event: end\ndata:\n\n"))
        assert [line.text for line in widgets.logs("digits")] == ["one"]
        assert counterpart.seen[1].headers["last-event-id"] == "1"

    def test_nothing_more_ends_them(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(events('data: {"text": "one"}\n\n'), Response(status_code=204))
        assert len(list(widgets.logs("digits"))) == 1

    def test_a_refusal_in_the_stream_is_raised(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(events('event: error\ndata: {"type": "urn:aidos:errors:forbidden", "status": 403, "detail": "No."}\n\n'))
        with pytest.raises(Forbidden, match=r"No\."):
            list(widgets.logs("digits"))

    def test_an_ended_token_is_looked_at_again(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(events('event: error\ndata: {"status": 401, "detail": "Expired."}\n\n'), problem(401))
        with pytest.raises(Unauthenticated):
            list(widgets.logs("digits"))

    def test_silence_without_an_end_is_given_up(self, hasty: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(*[events()] * 50)
        with pytest.raises(Unreachable, match="ended early"):
            list(hasty.logs("digits"))

    def test_a_refusal_that_is_no_problem_is_raised_too(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(events("event: error\ndata: [1]\n\n"))
        with pytest.raises(AidosError):
            list(widgets.logs("digits"))

    def test_an_event_of_another_shape_is_said(self, widgets: Widgets, counterpart: Counterpart) -> None:
        counterpart.plan(events('data: {"line": "one"}\n\n'))
        with pytest.raises(UnexpectedReply, match=r"/logs .*text: Field required"):
            list(widgets.logs("digits"))

    def test_a_proxy_that_sends_them_elsewhere_is_said_and_let_go(self, widgets: Widgets, counterpart: Counterpart) -> None:
        for _ in range(70):  # more than the client has connections
            counterpart.plan(PlainTextResponse("sign in here", 307, {"location": "/login"}))
            with pytest.raises(NotAidos, match="HTTP 307, .*sign in here"):
                list(widgets.logs("digits"))

    def test_something_else_is_no_stream(self, widgets: Widgets) -> None:
        with pytest.raises(InvalidRequest, match="not a stream"):
            list(widgets.logs("digits"))


class TestAsync:
    async def test_calls_pages_and_streams(self, counterpart: Counterpart) -> None:
        counterpart.plan(
            problem(503),
            JSONResponse({"name": "a"}),
            JSONResponse({"items": [{"name": "b"}], "next_cursor": "two"}),
            JSONResponse({"items": [{"name": "c"}]}),
            events('id: 7\ndata: {"text": "one"}\n\n', broken=True),
            events('data: {"text": "two"}\n\nevent: end\ndata: {}\n\n'),
        )
        async with AsyncClient(counterpart.url, "the-key") as client:
            widgets = Widgets(client.transport)
            assert (await widgets.create("a")).name == "a"  # type: ignore[misc]  # the asynchronous client's are awaited
            assert [widget.name async for widget in widgets.list()] == ["b", "c"]
            assert [line.text async for line in widgets.logs("digits")] == ["one", "two"]
            with pytest.raises(TypeError, match="async for"):
                iter(widgets.list())
        assert counterpart.seen[0].headers["idempotency-key"] == counterpart.seen[1].headers["idempotency-key"]
        assert counterpart.seen[5].headers["last-event-id"] == "7"

    async def test_nobody_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIDOS_RETRY_BUDGET_S", "0.3")
        async with AsyncClient(f"http://127.0.0.1:{find_free_ports(1)}", "k") as client:
            with pytest.raises(Unreachable):
                await Widgets(client.transport).get("digits")  # type: ignore[misc]  # as above


class TestCredentials:
    def test_a_token_file_is_read_again_when_refused(
        self, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("old\n")
        monkeypatch.setenv("AIDOS_TOKEN_FILE", str(file))

        async def refuse_and_renew(request: object) -> Response:
            file.write_text("new\n")
            return problem(401, "urn:aidos:errors:unauthenticated")

        counterpart.plan(JSONResponse({"name": "a"}), refuse_and_renew)
        with Client(counterpart.url) as client:
            widgets = Widgets(client.transport)
            widgets.get("a")
            widgets.get("a")
            counterpart.plan(problem(401))
            with pytest.raises(Unauthenticated):
                widgets.get("a")
        assert [seen.headers["authorization"].split()[1] for seen in counterpart.seen] == ["old", "old", "new", "new"]

    def test_a_sign_in_is_refreshed_ahead_and_kept(self, counterpart: Counterpart, tmp_path: Path) -> None:
        store = SignIns(tmp_path / "config")
        store.save(counterpart.url, SignIn("access-1", "refresh-1", time.time() + 5, "ada@example.org", "vision"))
        assert oct(os.stat(store.path).st_mode & 0o777) == "0o600"
        counterpart.plan(
            JSONResponse({"access_token": "access-2", "refresh_token": "refresh-2", "expires_in_s": 600, "token_type": "Bearer"})
        )
        with Client(counterpart.url) as client:
            Widgets(client.transport).get("a")
        refresh, call = counterpart.seen
        assert refresh.body == {"refresh_token": "refresh-1"} and "authorization" not in refresh.headers
        assert call.headers["authorization"] == "Bearer access-2" and call.headers["x-aidos-project"] == "vision"
        kept = store.find(counterpart.url)
        assert kept and (kept.refresh_token, kept.email) == ("refresh-2", "ada@example.org")
        assert oct(os.stat(store.path).st_mode & 0o777) == "0o600"

    def test_many_callers_refresh_it_once(self, counterpart: Counterpart, tmp_path: Path) -> None:
        store = SignIns(tmp_path / "config")
        store.save(counterpart.url, SignIn("access-1", "refresh-1", time.time() - 5))
        tokens = {"access_token": "access-2", "refresh_token": "refresh-2", "expires_in_s": 600}
        counterpart.plan(JSONResponse(tokens))
        # Each client has a view of its own of the file, as processes have.
        clients = [Client(counterpart.url) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda client: Widgets(client.transport).get("a"), clients))
        refreshes = [seen for seen in counterpart.seen if seen.path.endswith("/refresh")]
        assert len(refreshes) == 1 and len(counterpart.seen) == 9
        assert {seen.headers["authorization"] for seen in counterpart.seen[1:]} == {"Bearer access-2"}
        for client in clients:
            client.close()

    def test_what_another_process_refreshed_is_used(self, counterpart: Counterpart, tmp_path: Path) -> None:
        store = SignIns(tmp_path / "config")
        store.save(counterpart.url, SignIn("access-1", "refresh-1", time.time() + 600))
        with Client(counterpart.url) as client:
            Widgets(client.transport).get("a")
            store.save(counterpart.url, SignIn("access-2", "refresh-2", time.time() + 600))
            counterpart.plan(problem(401))
            Widgets(client.transport).get("a")
        assert [seen.headers["authorization"] for seen in counterpart.seen] == ["Bearer access-1", "Bearer access-1", "Bearer access-2"]

    def test_what_another_version_wrote_is_no_sign_in(self, counterpart: Counterpart, tmp_path: Path) -> None:
        store = SignIns(tmp_path / "config")
        store.save(counterpart.url, SignIn("access-1", "refresh-1", time.time() + 600))
        for written in (f'{{"{counterpart.url}": {{"token": "t"}}}}', "[1]", "half {"):
            store.path.write_text(written)
            with Client(counterpart.url) as client:
                Widgets(client.transport).get("a")
        assert not any("authorization" in seen.headers for seen in counterpart.seen)

    def test_nothing_is_sent_without_a_sign_in(self, counterpart: Counterpart) -> None:
        with Client(counterpart.url) as client:
            Widgets(client.transport).get("a")
        assert "authorization" not in counterpart.seen[0].headers

    @pytest.mark.parametrize("key", ["a\nb", "schl\u00fcssel"])
    def test_a_key_that_no_header_can_carry_is_refused(self, key: str) -> None:
        with pytest.raises(InvalidRequest, match="AIDOS_API_KEY"):
            Client(api_key=key)

    @pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://a b", "http://", "http:///v1", "http://a:99999", "http://["])
    def test_an_address_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidRequest, match="AIDOS_URL"):
            Client(url)


class TestPatience:
    def test_grows_within_its_bounds(self) -> None:
        delays = [Patience(60).delay_s(tries, 0) or 0 for tries in range(1, 30)]
        assert all(0 < delay <= 5 for delay in delays) and max(delays[:2]) <= 0.4 < min(delays[6:])

    def test_ends_with_its_budget(self) -> None:
        assert Patience(60).delay_s(1, 60) is None
        assert Patience(60).delay_s(9, 59.5) == 0.5
        assert Patience(60).delay_s(1, 30, 31) is None and Patience(60).delay_s(1, 30, 30) == 30

    def test_reads_both_forms_of_retry_after(self) -> None:
        assert retry_after_s({"retry-after": "7"}) == 7
        later = retry_after_s({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)})
        assert later is not None and 25 < later <= 30
        sent = {"date": "Sun, 22 Nov 2026 10:00:00 GMT", "retry-after": "Sun, 22 Nov 2026 10:00:30 GMT"}
        assert retry_after_s(sent) == 30, "by the sender's clock, whatever this machine's says"
        assert retry_after_s({"retry-after": "soon"}) is None and retry_after_s({}) is None
