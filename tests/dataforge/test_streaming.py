"""Commits streamed to torch as they lie: Parquet, CSV, JSON Lines, files; over real S3."""

from __future__ import annotations

import collections
import io
import json
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import aidos
from aidos.client import Client
from aidos.streaming.chunks import Sample, TypesDiffer
from aidos.streaming.dataset import Dataset
from aidos.streaming.source import FilesMixed, NothingToRead
from aidos.streaming.tables import RowsUnreadable
from aidos.transfers.directories import push

pytestmark = pytest.mark.postgres


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def opened(client: Client, root: Path) -> Dataset:
    push(root, "data", client=client)
    return aidos.dataset("data@main", client=client)


def write_parquet(root: Path, files: int = 3, rows: int = 70) -> None:
    for number in range(files):
        values = range(number * rows, (number + 1) * rows)
        table = pyarrow.table({"n": list(values), "text": [f"row {value}" for value in values], "x": [value / 2 for value in values]})
        pyarrow.parquet.write_table(table, root / f"{number}.parquet", row_group_size=20)


class TestTables:
    def test_parquet_gives_each_row_once_and_only_the_columns_asked_for(self, client: Client, root: Path) -> None:
        write_parquet(root)
        stream = opened(client, root).to_torch(columns=["n", "x"], batch_size=16, seed=1, window=50)
        batches = list(stream)
        assert set(batches[0]) == {"_id", "n", "x"} and batches[0]["x"].dtype == torch.float64
        numbers = torch.cat([batch["n"] for batch in batches]).tolist()
        assert sorted(numbers) == list(range(210)) and numbers != list(range(210))
        ids = [each for batch in batches for each in batch["_id"]]
        assert all(name == f"{number // 70}.parquet#{number % 70}" for name, number in zip(ids, numbers, strict=True))
        plain = [sample["n"] for sample in opened(client, root).to_torch(shuffle=False)]
        assert plain == list(range(210))

    def test_csv_with_line_breaks_in_quotes_and_a_type_that_shows_late(self, client: Client, root: Path) -> None:
        rows = 60_000
        lines = [f'{n},"line {n}\nand ""more""",{n if n < 50_000 else n + 0.5}' for n in range(rows)]
        (root / "t.csv").write_text("n,text,x\n" + "\n".join(lines))
        assert (root / "t.csv").stat().st_size > 2 * 2**20, "more than a block"
        stream = opened(client, root).to_torch(seed=0, window=5000)
        assert stream.size == rows
        counted = collections.Counter[int]()
        for sample in stream:
            assert sample["text"] == f'line {sample["n"]}\nand "more"' and isinstance(sample["x"], float)
            counted[sample["n"]] += 1
        assert len(counted) == rows and set(counted.values()) == {1}

    def test_json_lines_keep_their_shapes(self, client: Client, root: Path) -> None:
        rows = [{"n": 0, "tags": ["a"]}, {"n": 1, "more": {"deep": None}}, {"n": 2, "text": "ünï"}]
        (root / "t.jsonl").write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n")
        found = sorted(opened(client, root).to_torch(), key=lambda sample: sample["n"])
        assert [{name: value for name, value in row.items() if name != "_id"} for row in found] == rows
        assert [row["_id"] for row in found] == ["t.jsonl#0", "t.jsonl#1", "t.jsonl#2"]

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("t.parquet", b"PAR1 is not enough"),
            ("t.csv", b"a,b\n1,2\n1,2,3\n"),
            ("t.jsonl", b'{"a": 1}\n{"a": \n'),
            ("t.jsonl", b'{"a": "\xff"}'),
        ],
    )
    def test_a_bad_file_is_named(self, client: Client, root: Path, name: str, content: bytes) -> None:
        (root / name).write_bytes(content)
        with pytest.raises(RowsUnreadable, match=name):
            list(opened(client, root).to_torch())

    @pytest.mark.parametrize("window", [1, 1000])
    def test_files_of_another_schema_are_read_together_or_both_are_named(self, client: Client, root: Path, window: int) -> None:
        for name, columns in (("0", {"n": [1, 2], "a": [1.5, 2.5]}), ("1", {"n": ["x", "y"], "b": [1, 2]})):
            pyarrow.parquet.write_table(pyarrow.table(columns), root / f"{name}.parquet")
        data = opened(client, root)
        found = list(data.to_torch(columns=["a"], shuffle=False))
        assert [sample["a"] for sample in found] == [1.5, 2.5, None, None], "a column more is missing elsewhere"
        with pytest.raises(TypesDiffer, match=r"'n' is (int64|string) in '[01]\.parquet' and (int64|string) in '[01]\.parquet'") as refused:
            list(data.to_torch(batch_size=3, seed=1, window=window))
        assert {refused.value.fields["path"], refused.value.fields["other"]} == {"0.parquet", "1.parquet"}

    def test_refuses_a_mixture_and_nothing(self, client: Client, root: Path) -> None:
        write_parquet(root, 1)
        (root / "read.me").write_text("hello")
        data = opened(client, root)
        with pytest.raises(FilesMixed, match=r"read\.me"):
            data.to_torch()
        with pytest.raises(NothingToRead, match=r"\*\.csv"):
            data.to_torch("*.csv")
        assert len(list(data.to_torch("*.parquet"))) == 70
        assert {sample["_id"] for sample in data.to_torch(rows=False)} == {"0.parquet", "read.me"}

    def test_what_a_dataset_says_about_itself_is_no_sample(self, client: Client, root: Path) -> None:
        write_parquet(root, 1)
        (root / ".aidos").mkdir()
        (root / ".aidos" / "expectations.yaml").write_text("tables: []")
        data = opened(client, root)
        assert len(list(data.to_torch())) == 70
        assert [sample["_id"] for sample in data.to_torch(".aidos/*")] == [".aidos/expectations.yaml"]


def decode(sample: Sample) -> dict[str, Any]:
    image = numpy.asarray(Image.open(io.BytesIO(sample["data"])))
    return {"id": sample["_id"], "image": torch.from_numpy(image.copy()), "label": sample["_id"].split("/")[0]}


class TestFiles:
    def test_images_decoded_by_workers_go_on_where_training_was_killed(self, client: Client, root: Path) -> None:
        for number in range(90):
            (root / f"{number % 3}").mkdir(exist_ok=True)
            Image.new("L", (8, 8), number).save(root / f"{number % 3}" / f"{number}.png")
        data = opened(client, root)
        options: dict[str, Any] = {"batch_size": 8, "seed": 5, "transform": decode}
        first = data.to_torch(workers=2, **options)
        batches = iter(first)
        seen = [next(batches) for _ in range(5)]
        state = json.loads(json.dumps(first.state_dict()))
        del batches
        states = [state]
        for rank in range(3):
            after = aidos.dataset("data@main", client=client).to_torch(rank=rank, world_size=3, **options)
            after.load_state_dict(states)
            seen += list(after)
        assert sorted(name for batch in seen for name in batch["id"]) == sorted(file.path for file in data.files())
        for batch in seen:
            for name, label, image in zip(batch["id"], batch["label"], batch["image"], strict=True):
                number = int(Path(name).stem)
                assert image.unique().tolist() == [number] and label == str(number % 3)
