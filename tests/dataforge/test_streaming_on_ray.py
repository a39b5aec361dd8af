"""Commits read by Ray: unmodified Ray Data over ``aidos://``, and ``to_ray`` taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
import ray
import ray.data

import aidos
from aidos.client import Client
from aidos.transfers.directories import push

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
ROWS = 400


@pytest.fixture
def table(client: Client, tmp_path: Path) -> Iterator[str]:
    """A dataset of four tables of a hundred rows, and a cluster whose processes find the platform."""
    root = tmp_path / "table"
    root.mkdir()
    for number in range(4):
        values = list(range(number * 100, (number + 1) * 100))
        pyarrow.parquet.write_table(pyarrow.table({"n": values, "x": values}), root / f"{number}.parquet", row_group_size=30)
    push(root, "table", client=client)
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield "table@main"
    ray.shutdown()


class TestOnRay:
    def test_ray_data_reads_it_unmodified(self, table: str) -> None:
        read = ray.data.read_parquet(f"aidos://{table}/", filesystem=fsspec.filesystem("aidos"), columns=["n"])
        assert sorted(row["n"] for row in read.take_all()) == list(range(ROWS))

    def test_to_ray_goes_on_without_what_was_consumed(self, client: Client, table: str) -> None:
        run = client.runs.create(name="r").id
        data, seen, states = aidos.dataset(table, client=client), list[int](), list[Any]()
        for life, most in enumerate((3, 4, 1000)):
            consumed = aidos.Consumed(states)
            batches = data.to_ray(seed=life, window=60, consumed=consumed, run=run).iter_batches(batch_size=17, batch_format="numpy")
            for _, batch in zip(range(most), batches, strict=False):
                seen += batch["n"].tolist()
                assert [f"{n // 100}.parquet#{n % 100}" for n in batch["n"].tolist()] == list(batch["_id"])
                consumed.add(batch)
            states = [json.loads(json.dumps(consumed.state_dict()))]
            assert consumed.recorder is not None and consumed.recorder.flush()
            assert sum(read.rows_read or 0 for read in client.reads.list(run=str(run))) == len(seen)
        assert sorted(seen) == list(range(ROWS))
        assert data.to_ray(consumed=aidos.Consumed(states)).count() == 0
