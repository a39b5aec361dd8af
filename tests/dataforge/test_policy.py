"""Decisions and the rule for paths, without a server."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidos.schemas.dataforge.versions import DownloadRead, path_problem
from aidos.transfers.downloading import Span, plan_spans
from data_pipelines.dataforge import policy
from data_pipelines.dataforge.errors import PackInvalid
from data_pipelines.dataforge.models import Pack, StoredBlob


class TestPathProblem:
    @pytest.mark.parametrize(
        "path", ["a", "a/b", ".hidden", "...", "a b/ü/日本.txt", "-", "a\\b", "é" * 512, "*?<>|:\"'", "a/..b", "x\u2028y"]
    )
    def test_accepts_what_a_file_system_can_hold(self, path: str) -> None:
        assert path_problem(path) is None

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("", "1 to 1024"),
            ("é" * 512 + "a", "1 to 1024"),
            ("/etc/passwd", "relative"),
            ("..", "'..'"),
            ("a/../b", "'..'"),
            ("./a", "'.'"),
            ("a//b", "empty"),
            ("a/", "empty"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("a\x7f", "control"),
            ("a\x85b", "control"),
            ("e\u0301", "normal form C"),
            ("\udce9", "UTF-8"),
        ],
    )
    def test_refuses_the_rest_and_says_why(self, path: str, reason: str) -> None:
        assert reason in (path_problem(path) or "")

    @given(st.text())
    def test_answers_for_any_text(self, path: str) -> None:
        if path_problem(path) is None:
            assert not path.startswith("/") and ".." not in path.split("/") and len(path.encode()) <= 1024


class TestPartSize:
    @pytest.mark.parametrize("size", [1, 64 * 2**20, 64 * 2**20 + 1, 10**11, 4 * 2**40])
    def test_makes_at_most_a_thousand_parts_that_hold_everything(self, size: int) -> None:
        part = policy.part_size_bytes(size)
        numbers = policy.part_numbers(size, part)
        assert 64 * 2**20 <= part <= 5 * 2**30
        assert len(numbers) <= 1000 and (len(numbers) - 1) * part < size <= len(numbers) * part


class TestFolders:
    def test_names_each_folder_once_with_a_path_under_it(self) -> None:
        assert policy.folders(["a", "b/c/d", "b/c/e", "b/f"]) == {"b/c": "b/c/d", "b": "b/c/d"}


class TestVerifyPack:
    DATA = b"onetwo"
    ENTRIES = (
        StoredBlob(hashlib.sha256(b"one").hexdigest(), 3, None, 0),
        StoredBlob(hashlib.sha256(b"two").hexdigest(), 3, None, 3),
    )

    def pack(self, *entries: StoredBlob) -> Pack:
        return Pack(hashlib.sha256(self.DATA).hexdigest(), 6, entries)

    def test_gives_the_blobs_with_their_places(self) -> None:
        found = policy.verify_pack(self.pack(*self.ENTRIES), self.DATA)
        assert [(blob.offset_bytes, blob.pack_sha256) for blob in found] == [(0, self.pack().sha256), (3, self.pack().sha256)]

    @pytest.mark.parametrize(
        "entry",
        [
            StoredBlob(ENTRIES[0].sha256, 3, None, 1),
            StoredBlob(ENTRIES[1].sha256, 3, None, 5),
            StoredBlob(ENTRIES[1].sha256, 10**9, None, 3),
        ],
    )
    def test_refuses_an_entry_that_is_not_what_it_says(self, entry: StoredBlob) -> None:
        with pytest.raises(PackInvalid, match=entry.sha256):
            policy.verify_pack(self.pack(self.ENTRIES[0], entry), self.DATA)

    def test_refuses_other_bytes(self) -> None:
        with pytest.raises(PackInvalid):
            policy.verify_pack(self.pack(*self.ENTRIES), b"onetwO")


class TestPlanSpans:
    def test_reads_neighbours_together_and_nothing_between_gaps(self) -> None:
        def slice_at(source: int | None, offset: int, size: int) -> DownloadRead:
            return DownloadRead(path=f"{source}-{offset}", sha256="", size_bytes=size, source=source, offset_bytes=offset)

        files = [
            slice_at(0, 10, 5),
            slice_at(1, 0, 3),
            slice_at(0, 0, 10),
            slice_at(0, 20, 1),
            slice_at(0, 15, 16 * 2**20),
            slice_at(None, 0, 0),
        ]
        spans = [(span.source, span.offset_bytes, span.size_bytes) for span in plan_spans(files, ["u", "v"])]
        assert spans == [("u", 0, 15), ("u", 15, 16 * 2**20), ("u", 20, 1), ("v", 0, 3)]
        assert all(isinstance(span, Span) for span in plan_spans(files, ["u", "v"]))
