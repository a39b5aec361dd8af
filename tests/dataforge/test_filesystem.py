"""``aidos://`` read by fsspec, pandas and pyarrow, and ``aidos.dataset``."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy
import pandas
import polars
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet
import pytest
import torch

import aidos
from aidos.client import Client
from aidos.http.wire import Reply
from aidos.schemas.dataforge.versions import FileRead
from aidos.transfers.directories import PushResult, push
from aidos.transfers.downloading import FileDamaged
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


@pytest.fixture
def requests(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each request to S3 brought."""
    seen: list[int] = []
    fetch = client.get_presigned

    def counted(url: str, headers: dict[str, str] | None = None) -> Reply:
        reply = fetch(url, headers)
        seen.append(len(reply.content))
        return reply

    monkeypatch.setattr(client, "get_presigned", counted)
    return seen


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

    def test_writing_says_how_to_write(self, fs: AidosFileSystem, pushed: PushResult) -> None:
        writes: list[Callable[[], object]] = [
            lambda: fsspec.open("aidos://tables@main/new.txt", "wb").open(),
            lambda: TABLE.to_csv("aidos://tables@main/new.csv"),
            lambda: TABLE.to_parquet("aidos://tables@main/new.parquet"),
            lambda: pyarrow.dataset.write_dataset(pyarrow.table({"x": [1]}), "tables@main/new", format="parquet", filesystem=fs),
            lambda: fs.pipe("tables@main/new", b"x"),
            lambda: fs.put(__file__, "tables@main/new"),
            lambda: fs.rm("tables@main/zero"),
            lambda: fs.mv("tables@main/zero", "tables@main/one"),
            lambda: fs.touch("tables@main/new"),
        ]
        for write in writes:
            with pytest.raises(OSError, match=r"aidos\.push"):
                write()

    def test_reads_another_project(self, fs: AidosFileSystem, client: Client, pushed: PushResult, tmp_path: Path) -> None:
        client.projects.create("theirs")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "a.txt").write_text("of the other project")
        with Client(project="theirs") as there:
            push(tmp_path / "other", "notes", client=there)
        for url in ("aidos://theirs/notes@main/a.txt", "aidos://theirs/notes@/a.txt"):
            assert fs.cat_file(url) == b"of the other project"
        assert fs.glob("aidos://theirs/notes@main/*.txt") == ["theirs/notes@main/a.txt"]
        with fsspec.open("aidos://theirs/notes@main/a.txt", "r") as file:
            assert file.read() == "of the other project"
        for url in ("aidos://theirs/tables@main/zero", "aidos://default/notes@main/a.txt", "aidos://nobody/notes@main/a.txt"):
            with pytest.raises(FileNotFoundError):
                fs.cat_file(url)

    def test_a_name_with_an_at_sign_is_no_project(self, fs: AidosFileSystem, client: Client, tmp_path: Path) -> None:
        (tmp_path / "icons").mkdir()
        (tmp_path / "icons" / "icon@2x.png").write_bytes(b"large")
        push(tmp_path / "icons", "icons", client=client)
        assert [fs.cat_file(name) for name in fs.find("aidos://icons")] == [b"large"]

    def test_reads_many_small_files_by_few_requests(self, client: Client, tmp_path: Path, requests: list[int]) -> None:
        (tmp_path / "small").mkdir()
        for i in range(300):
            (tmp_path / "small" / f"{i:03}.txt").write_text(f"content {i}" * 20)
        push(tmp_path / "small", "small", client=client)
        fs = AidosFileSystem(client=client, skip_instance_cache=True)
        requests.clear()
        found = fs.cat("aidos://small@main/*.txt")
        assert found == {f"small@main/{i:03}.txt": (f"content {i}" * 20).encode() for i in range(300)}
        assert len(requests) == 1, "they lie in one pack, side by side"
        with pytest.raises(FileNotFoundError):
            fs.cat_ranges(["small@main/000.txt", "small@main/absent"], 0, 5, on_error="raise")
        assert fs.cat_ranges(["small@main/000.txt", "small@main/001.txt"], [0, 8], 9) == [b"content 0", b"1"]

    def test_a_damaged_content_is_said(self, fs: AidosFileSystem, pushed: PushResult, monkeypatch: pytest.MonkeyPatch) -> None:
        sound = fs.client.get_presigned

        def damaged(url: str, headers: dict[str, str] | None = None) -> Reply:
            reply = sound(url, headers)
            return dataclasses.replace(reply, content=reply.content[::-1])

        monkeypatch.setattr(fs.client, "get_presigned", damaged)
        with pytest.raises(FileDamaged, match="table.csv"):
            fs.cat_file("tables@main/table.csv")


@pytest.mark.postgres
class TestUnmodifiedReaders:
    def test_pandas(self, pushed: PushResult) -> None:
        assert pandas.read_csv("aidos://tables@main/table.csv").equals(TABLE)
        assert pandas.read_parquet("aidos://tables@main/parts/year=2026/0.parquet").equals(TABLE.iloc[:500])
        found = pandas.read_parquet("aidos://default/tables@main/parts", filters=[("x", ">=", 990)], columns=["y"])
        assert found["y"].tolist() == [f"name {i}" for i in range(990, 1000)]

    def test_polars(self, pushed: PushResult) -> None:
        with fsspec.open("aidos://tables@main/table.csv") as file:
            assert polars.read_csv(file).to_pandas().equals(TABLE)
        with fsspec.open("aidos://tables@main/parts/year=2026/1.parquet") as file:
            assert polars.read_parquet(file, columns=["x"])["x"].to_list() == [*range(500, 1000)]
        parts = pyarrow.dataset.dataset("tables@main/parts", filesystem=fsspec.filesystem("aidos"))
        assert polars.scan_pyarrow_dataset(parts).filter(polars.col("x") > 996).select("x").collect()["x"].to_list() == [997, 998, 999]

    def test_pyarrow(self, pushed: PushResult) -> None:
        with fsspec.open("aidos://tables@main/a b.txt", "r") as file:
            assert file.readlines() == ["zeile 1\n", "zeile 2\n"]
        read = pyarrow.dataset.dataset("tables@main/parts", filesystem=fsspec.filesystem("aidos"), partitioning="hive").to_table()
        assert (read.num_rows, set(read.column_names)) == (1000, {"x", "y", "year"})
        with fsspec.open("aidos://tables@main/parts/year=2026/1.parquet") as file:
            assert pyarrow.parquet.read_table(file).num_rows == 500

    def test_torch(self, pushed: PushResult, client: Client, tmp_path: Path) -> None:
        folder = tmp_path / "weights"
        folder.mkdir()
        torch.save({"w": torch.arange(400_000)}, folder / "w.pt")
        push(folder, "weights", client=client)
        with fsspec.open("aidos://weights@main/w.pt") as file:
            assert torch.equal(torch.load(file, weights_only=True)["w"], torch.arange(400_000))
        names = fsspec.filesystem("aidos").glob("aidos://tables@main/parts/**/*.parquet")
        batches = torch.utils.data.DataLoader(ParquetColumn(names), batch_size=None, num_workers=2)
        assert torch.cat(list(batches)).tolist() == [*range(1000)]

    def test_a_column_of_a_large_file_is_read_by_ranges(self, client: Client, tmp_path: Path, requests: list[int]) -> None:
        (tmp_path / "wide").mkdir()
        rows = 400_000
        numbers = numpy.random.default_rng(0).random((6, rows))
        table = pyarrow.table({**{f"n{i}": numbers[i] for i in range(6)}, "k": numpy.arange(rows)})
        pyarrow.parquet.write_table(table, tmp_path / "wide" / "t.parquet", row_group_size=50_000, compression="none", use_dictionary=False)
        size = (tmp_path / "wide" / "t.parquet").stat().st_size
        push(tmp_path / "wide", "wide", client=client)
        opened = pyarrow.dataset.dataset("wide@main", filesystem=AidosFileSystem(client=client, skip_instance_cache=True))
        requests.clear()
        assert opened.to_table(columns=["n2"]).num_rows == rows
        assert sum(requests) < size / 4, f"one column of seven took {sum(requests)} of {size} bytes"
        requests.clear()
        assert opened.to_table(filter=pyarrow.compute.field("k") >= rows - 10).num_rows == 10
        assert sum(requests) < size / 4, f"one row group of eight took {sum(requests)} of {size} bytes"
        requests.clear()
        with AidosFileSystem(client=client, skip_instance_cache=True).open("wide@main/t.parquet") as file:
            while file.read(100_000):
                pass
        assert sum(requests) == size and len(requests) < 8, "straight on, in growing ranges"


class ParquetColumn(torch.utils.data.Dataset):
    """A dataset as anybody writes it."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> torch.Tensor:
        with fsspec.open(f"aidos://{self.names[index]}") as file:
            return torch.from_numpy(pyarrow.parquet.read_table(file, columns=["x"])["x"].to_numpy().copy())


@pytest.mark.postgres
class TestMovingRefs:
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
