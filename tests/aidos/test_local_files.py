"""What a push remembers of the files of this machine: the SHA-256 of those that are as they were."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from aidos.transfers.local_files import HashCache, walk

LONG_AGO_NS = 10**18
SECOND_NS = 10**9


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(path: Path, data: bytes, mtime_ns: int = LONG_AGO_NS) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for name in ("a", "m", "z"):
        write(root / name, name.encode())
    return root


@pytest.fixture
def cache(tmp_path: Path) -> HashCache:
    return HashCache(tmp_path / "cache" / "hashes.sqlite")


def hashes(cache: HashCache, folder: Path) -> dict[str, str]:
    found = cache.hash_all(walk(folder))
    return {Path(source).name: sha256 for source, sha256 in found.items()}


class TestHashCache:
    def test_a_file_that_is_as_it_was_is_not_read_again(self, cache: HashCache, folder: Path) -> None:
        first = hashes(cache, folder)
        assert first == {name: sha256(name.encode()) for name in ("a", "m", "z")}
        write(folder / "m", b"X")  # the same size, time and inode: nobody can see it without reading
        assert hashes(cache, folder) == first

    @pytest.mark.parametrize("change", ["size", "time", "inode"])
    def test_a_file_that_differs_in_anything_is_read(self, cache: HashCache, folder: Path, change: str) -> None:
        hashes(cache, folder)
        if change == "inode":
            write(folder.parent / "other", b"X")
            (folder.parent / "other").replace(folder / "m")
        else:
            write(folder / "m", b"XX" if change == "size" else b"X", LONG_AGO_NS + (change == "time"))
        assert hashes(cache, folder)["m"] == sha256((folder / "m").read_bytes())

    def test_files_between_those_that_it_knows_are_read(self, cache: HashCache, folder: Path) -> None:
        hashes(cache, folder)
        write(folder / "n", b"n")
        (folder / "a").unlink()
        assert hashes(cache, folder) == {name: sha256(name.encode()) for name in ("m", "n", "z")}

    @pytest.mark.parametrize("coarse", [False, True], ids=["fine", "whole seconds"])
    def test_a_file_that_changed_a_moment_ago_is_read_again(self, cache: HashCache, folder: Path, coarse: bool) -> None:
        now = time.time_ns()
        mark = now - now % SECOND_NS + (SECOND_NS if coarse else SECOND_NS + 1)  # as late as the clock, or a little more
        write(folder / "m", b"1", mark)
        hashes(cache, folder)
        write(folder / "m", b"2", mark)
        assert hashes(cache, folder)["m"] == sha256(b"2")

    def test_a_file_that_changed_a_second_ago_is_known_where_time_stamps_are_fine(self, cache: HashCache, folder: Path) -> None:
        mark = (time.time_ns() - SECOND_NS) | 1
        write(folder / "m", b"1", mark)
        hashes(cache, folder)
        write(folder / "m", b"2", mark)
        assert hashes(cache, folder)["m"] == sha256(b"1")

    def test_a_broken_cache_only_costs_time(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "broken").write_bytes(b"no database" * 100)
        assert hashes(HashCache(tmp_path / "broken"), folder)["m"] == sha256(b"m")

    def test_a_folder_whose_name_is_no_utf8_is_hashed(self, cache: HashCache, tmp_path: Path) -> None:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
        folder.mkdir()
        write(folder / "a", b"a")
        assert hashes(cache, folder) == {"a": sha256(b"a")}
