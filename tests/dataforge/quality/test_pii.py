"""Personal data: what is found, what only looks like it, and that no value is kept."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from data_pipelines.dataforge.quality.pii import Findings, find


class TestFind:
    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("email", "write to ada.lovelace+x@example.co.uk, please"),
            ("card", "paid with 4111 1111 1111 1111"),
            ("card", "5555555555554444"),
            ("card", "378282246310005"),
            ("iban", "DE89 3704 0044 0532 0130 00"),
            ("iban", "to GB82WEST12345698765432 today"),
            ("us_ssn", "his number is 536-90-4399."),
            ("ip", "from 192.168.17.4 at noon"),
            ("ip", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
            ("phone", "call +49 30 901820 now"),
            ("phone", "(212) 555-0147"),
            ("phone", "212-555-0147"),
        ],
    )
    def test_knows(self, kind: str, text: str) -> None:
        assert set(find(text)) == {kind}

    @pytest.mark.parametrize(
        "text",
        [
            "4111 1111 1111 1112",  # Luhn
            "DE88 3704 0044 0532 0130 00",  # mod 97
            "000-12-3456", "666-12-3456", "900-12-3456",  # never given out
            "version 1.2.3", "999.1.1.1", "127.0.0.1",
            "2024-01-02T03:04:05", "1234567890123456789012345", "0.1234567890123456",
            "a@b", "3 + 4", "order 12-34-5678",
        ],
    )  # fmt: skip
    def test_lets_pass(self, text: str) -> None:
        assert find(text) == {}

    @pytest.mark.parametrize(
        "text", ["ada.lovelace@example.org", "4111111111111111", "DE89370400440532013000", "536-90-4399", "+49 30 901820"]
    )
    def test_keeps_nothing_that_names_anybody(self, text: str) -> None:
        (masked,) = find(text).values()
        assert text[1:-3] not in masked and masked.count("*") >= 6


class TestFindings:
    def test_count_values_as_often_as_they_are_there(self) -> None:
        found, other = Findings(), Findings()
        found.add(pa.array(["ada@example.org", "nobody"]), np.array([3, 5]))
        other.add(pa.array(["bob@example.com and 4111111111111111"]), np.array([1]))
        found.merge(other)
        assert [(each["kind"], each["count"]) for each in found.to_json()] == [("card", 1), ("email", 4)]
