"""A job's log by its lines: what a search finds, over pieces, and through the gateway."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tune.trainos.log_search import LONGEST_LINE_BYTES, LogLine, LogSearch

PIECES = [
    b"begins\n(rank 0 pid=11) Loss 0.5\n(rank 1 pid=12, ip=10.0.0.2) lo",
    "ss 0.25 ä\n(RayTrainWorker pid=13) loss\n(pid=14) rank 1 is named\n".encode(),
    b"\n(rank 10 pid=15) loss 0.1",
]


def search(pieces: Sequence[bytes], word: str = "", rank: int | None = None) -> list[LogLine]:
    found = LogSearch(word, rank)
    return [line for piece in pieces for line in found.feed(piece)] + found.end()


def found(word: str = "", rank: int | None = None) -> list[tuple[int, int | None, str]]:
    return [(line.number, line.rank, line.text) for line in search(PIECES, word, rank)]


class TestSearchLog:
    def test_numbers_every_line_whatever_the_pieces_and_knows_whose_it_is(self) -> None:
        assert [(number, rank) for number, rank, _ in found()] == [(1, None), (2, 0), (3, 1), (4, None), (5, None), (6, None), (7, 10)]

    def test_finds_a_word_in_lines_that_lie_in_two_pieces_in_either_case(self) -> None:
        assert found("LOSS 0.25 Ä") == [(3, 1, "(rank 1 pid=12, ip=10.0.0.2) loss 0.25 ä")]
        assert [number for number, _, _ in found("loss")] == [2, 3, 4, 7]

    @pytest.mark.parametrize(("rank", "numbers"), [(0, [2]), (1, [3]), (10, [7]), (2, [])])
    def test_a_rank_is_who_printed_it_and_not_what_it_says(self, rank: int, numbers: list[int]) -> None:
        assert [number for number, _, _ in found(rank=rank)] == numbers

    def test_an_empty_log_has_no_line(self) -> None:
        assert search([]) == []

    def test_a_line_without_an_end_is_known_by_its_beginning_and_counts_once(self) -> None:
        endless = [b"x" * LONGEST_LINE_BYTES] * 20 + [b"tail\nnext\n"]
        first, second = search(endless)
        assert (first.number, len(first.text), second.number, second.text) == (1, LONGEST_LINE_BYTES, 2, "next")
