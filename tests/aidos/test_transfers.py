"""Bytes from the object store: what is done when it gives others than were asked for."""

from __future__ import annotations

import pytest
from starlette.responses import Response

from aidos.client import Client
from aidos.http.conversation import StorageRefused
from aidos.transfers import concurrent
from aidos.transfers.downloading import RangeCut, read_range
from tests.aidos.counterpart import Counterpart


class TestReadRange:
    def test_a_short_answer_is_asked_for_again(self, client: Client, counterpart: Counterpart) -> None:
        counterpart.plan(Response(b"01"), Response(b"0123"))
        assert read_range(client, f"{counterpart.url}/blob", 8, 4) == b"0123"
        assert [seen.headers["range"] for seen in counterpart.seen] == ["bytes=8-11"] * 2

    def test_a_store_that_knows_no_ranges_is_said(self, client: Client, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(concurrent, "_TRIES", 2)
        counterpart.plan(*[Response(b"0123456789")] * 2)
        with pytest.raises(RangeCut, match="10 bytes where 4 were asked for"):
            read_range(client, f"{counterpart.url}/blob", 0, 4)


class TestPatience:
    def test_ends_with_the_time_it_has(self, client: Client, counterpart: Counterpart, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(concurrent, "_WITHIN_S", 0.0)
        counterpart.plan(Response(b"01"))
        with pytest.raises(RangeCut):
            read_range(client, f"{counterpart.url}/blob", 0, 4)
        assert len(counterpart.seen) == 1

    def test_is_not_for_what_the_store_refuses(self, client: Client, counterpart: Counterpart) -> None:
        counterpart.plan(Response(b"<Code>AccessDenied</Code>", 403))
        with pytest.raises(StorageRefused):
            read_range(client, f"{counterpart.url}/blob", 0, 4)
        assert len(counterpart.seen) == 1
