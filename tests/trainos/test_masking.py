"""What a job prints, without its secrets, however it comes in pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune.trainos.masking import Mask

PIECES = st.lists(st.binary(max_size=12), max_size=12)
VALUES = st.lists(st.text("abc", min_size=4, max_size=9), min_size=1, max_size=4)
TEXTS = st.text("abc \n", max_size=60)


def masked(text: bytes, cuts: list[int], *values: str) -> bytes:
    """What is shown of a text that comes cut at these places."""
    mask, places = Mask(values), sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return b"".join(mask.feed(text[start:end]) for start, end in itertools.pairwise(places)) + mask.rest()


class TestMask:
    @given(VALUES, TEXTS, st.lists(st.integers(0, 60), max_size=8))
    def test_shows_the_same_however_the_text_is_cut_and_never_a_value(self, values: list[str], text: str, cuts: list[int]) -> None:
        whole = masked(text.encode(), [], *values)
        assert masked(text.encode(), cuts, *values) == whole
        assert not [value for value in values if value.encode() in whole]

    @given(PIECES)
    def test_leaves_everything_else_as_it_is(self, pieces: list[bytes]) -> None:
        mask = Mask(["a value that nobody prints"])
        assert b"".join(mask.feed(piece) for piece in pieces) + mask.rest() == b"".join(pieces)

    def test_shows_a_line_as_soon_as_it_cannot_be_a_value(self) -> None:
        mask = Mask(["hunter2"])
        assert mask.feed(b"epoch 1\nloss h") == b"epoch 1\nloss "
        assert mask.feed(b"igh\n") == b"high\n"
        assert (mask.feed(b"my hunt"), mask.feed(b"er2!")) == (b"my ", b"***!")

    @pytest.mark.parametrize("cuts", [[], [4, 9, 20]])
    def test_hides_each_line_of_a_value_and_the_longer_of_two_that_begin_alike(self, cuts: list[int]) -> None:
        key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\r\nkqhkiG9w0BAQEFAASC\n"
        shown = masked(b"(rank 3) MIIEvQIBADANBg\n(rank 3) kqhkiG9w0BAQEFAASC\nabcdef abcd\n", cuts, key, "abcd", "abcdef")
        assert shown == b"(rank 3) ***\n(rank 3) ***\n*** ***\n"

    def test_a_value_of_three_letters_is_in_too_many_words(self) -> None:
        assert masked(b"the cat\n", [], "cat") == b"the cat\n"
