"""``aidos://`` read by fsspec, pandas and pyarrow, and ``aidos.dataset``."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import fsspec
import pandas
import pyarrow.dataset
import pyarrow.parquet
import pytest

import aidos
from aidos.client import Client
from aidos.schemas.dataforge.versions import FileRead
from aidos.transfers.directories import PushResult, push
from aidos.transfers.filesystem import AidosFileSystem
from aidos.transfers.listing import folders_of

BIG = os.urandom(20 * 2**20 + 7)
TABLE = pandas.DataFrame({"x": range(1000), "y": [f"name {i}" for i in range(1000)]})


@pytest.fixture
def pushed(client: Client, tmp_path: Path) -> PushResult:
    """A dataset with a table in two formats, a large file, an empty one and folders."""
    root = tmp_path / "folder"
    (root / "parts" / "year=2026").mkdir(parents=True)
    (root / "a b.txt").write_text("zeile 1\nzeile 2\n")
    (root / "zero").write_bytes(b"")
    (root / "big.bin").write_bytes(BIG)
    TABLE.to_csv(root / "table.csv", index=False)
    for i in range(2):
        TABLE.iloc[i * 500 : (i + 1) * 500].to_parquet(root / "parts" / "year=2026" / f"{i}.parquet")
    return push(root, "tables", client=client)


@pytest.fixture
def fs(client: Client) -> AidosFileSystem:
    return AidosFileSystem(client=client, skip_instance_cache=True)


@pytest.mark.postgres
class TestFilesystem:
    def test_lists_datasets_folders_and_files(self, fs: AidosFileSystem, pushed: PushResult) -> None:
        assert fs.ls("aidos://", detail=False) == ["tables"]
        root = fs.ls("aidos://tables@main")
        assert [(each["name"], each["type"]) for each in root] == [
            ("tables@main/a b.txt", "file"),
            ("tables@main/big.bin", "file"),
            ("tables@main/parts", "directory"),
            ("tables@main/table.csv", "file"),
            ("tables@main/zero", "file"),
        ]
        assert fs.find("aidos://tables/parts") == [f"tables/parts/year=2026/{i}.parquet" for i in range(2)]
        assert fs.glob("aidos://tables@main/**/*.parquet") == [f"tables@main/parts/year=2026/{i}.parquet" for i in range(2)]
        assert fs.info("aidos://tables@main/big.bin")["size"] == len(BIG)
        assert fs.isdir("tables@main/parts") and not fs.exists("tables@main/part") and not fs.exists("nowhere@main")

    def test_reads_ranges(self, fs: AidosFileSystem, pushed: PushResult) -> None:
        path = "aidos://tables@main/big.bin"
        assert fs.cat_file(path) == BIG
        for start, end in ((0, 10), (5, -5), (-7, None), (2**20, 2**20 + 3), (len(BIG), None), (9, 3)):
            assert fs.cat_file(path, start, end) == BIG[start:end]
        with fs.open(path) as file:
            file.seek(17 * 2**20)
            assert file.read(1000) == BIG[17 * 2**20 :][:1000]
            file.seek(-3, os.SEEK_END)
            assert file.read() == BIG[-3:]
        assert fs.cat_file("tables@main/zero") == b"" and fs.open("tables@main/zero").read() == b""

    def test_what_is_not_there_is_a_file_not_found(self, fs: AidosFileSystem, pushed: PushResult) -> None:
        for path in ("tables@main/absent", "tables@v9/zero", "nowhere/zero", "tables@main/zero/below"):
            with pytest.raises(FileNotFoundError):
                fs.open(path)
            with pytest.raises(FileNotFoundError):
                fs.ls(path)
        with pytest.raises(IsADirectoryError):
            fs.cat_file("tables@main/parts")

    def test_writing_says_how_to_write(self, pushed: PushResult) -> None:
        with pytest.raises(OSError, match=r"aidos\.push"):
            fsspec.open("aidos://tables@main/new.txt", "wb").open()
        with pytest.raises(OSError, match=r"aidos\.push"):
            TABLE.to_csv("aidos://tables@main/new.csv")

    def test_pandas_and_pyarrow_read_it_unmodified(self, pushed: PushResult) -> None:
        assert pandas.read_csv("aidos://tables@main/table.csv").equals(TABLE)
        assert pandas.read_parquet("aidos://tables@main/parts/year=2026/0.parquet").equals(TABLE.iloc[:500])
        with fsspec.open("aidos://tables@main/a b.txt", "r") as file:
            assert file.readlines() == ["zeile 1\n", "zeile 2\n"]
        read = pyarrow.dataset.dataset("tables@main/parts", filesystem=fsspec.filesystem("aidos"), partitioning="hive").to_table()
        assert (read.num_rows, set(read.column_names)) == (1000, {"x", "y", "year"})
        with fsspec.open("aidos://tables@main/parts/year=2026/1.parquet") as file:
            assert pyarrow.parquet.read_table(file).num_rows == 500

    def test_follows_a_branch_and_stays_at_a_commit(self, fs: AidosFileSystem, client: Client, pushed: PushResult, tmp_path: Path) -> None:
        assert fs.cat_file("tables@main/a b.txt").startswith(b"zeile")
        (tmp_path / "folder" / "a b.txt").write_text("neu")
        push(tmp_path / "folder", "tables", client=client)
        fs.invalidate_cache()
        assert fs.cat_file("tables@main/a b.txt") == b"neu"
        assert fs.cat_file(f"tables@{pushed.commit.id}/a b.txt").startswith(b"zeile")

    def test_works_in_another_process(self, pushed: PushResult) -> None:
        opened = fsspec.filesystem("aidos")
        assert opened.cat_file("tables@main/zero") == b""
        for method in ("spawn", "fork"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                found = pool.map(_size, [(opened.to_json(), name) for name in ("big.bin", "table.csv", "zero", "a b.txt")])
            assert found[0] == len(BIG) and found[2] == 0, method


def _size(wanted: tuple[str, str]) -> int:
    spec, name = wanted
    return len(AidosFileSystem.from_json(spec).cat_file(f"tables@main/{name}"))


@pytest.mark.postgres
class TestDataset:
    def test_reads_one_commit(self, client: Client, pushed: PushResult, tmp_path: Path) -> None:
        data = aidos.dataset("tables@main", client=client)
        assert data.commit == pushed.commit
        assert [file.path for file in data.files("parts/")] == [f"parts/year=2026/{i}.parquet" for i in range(2)]
        assert data.read_bytes("zero") == b""
        with data.open("a b.txt", "r") as file:
            assert file.read() == "zeile 1\nzeile 2\n"
        assert pandas.read_csv(data.url("table.csv")).equals(TABLE)
        there = data.to_local(tmp_path / "out")
        assert (there / "big.bin").read_bytes() == BIG
        assert (data.to_local() / "zero").exists()

    def test_in_a_job_a_branch_stays_where_it_was_at_submit(
        self, client: Client, pushed: PushResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "folder" / "a b.txt").write_text("neu")
        push(tmp_path / "folder", "tables", client=client)
        monkeypatch.setenv("AIDOS_JOB_ID", "1")
        monkeypatch.setenv("AIDOS_DATASETS", json.dumps({"tables@main": str(pushed.commit.id)}))
        assert aidos.dataset("tables@main", client=client).commit == pushed.commit
        assert AidosFileSystem(client=client, skip_instance_cache=True).cat_file("tables@main/a b.txt").startswith(b"zeile")


class TestFoldersOf:
    def test_gives_each_folder_its_names(self) -> None:
        paths = ["a", "b/c/d", "b/c/e", "b/f", "g/h"]
        files = {path: FileRead(path=path, sha256="", size_bytes=0) for path in paths}
        assert folders_of(files) == {"": ["a", "b/", "g/"], "b": ["c/", "f"], "b/c": ["d", "e"], "g": ["h"]}
        assert folders_of({}) == {"": []}
