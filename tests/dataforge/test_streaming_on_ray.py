"""Commits read by Ray: unmodified Ray Data over ``aidos://``, ``to_ray`` taken up again, and the workers of Ray Train."""

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
import ray.train
from ray.train.torch import TorchTrainer

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

    def test_workers_of_ray_train_go_on_as_another_number_of_them(self, client: Client, table: str, tmp_path: Path) -> None:
        folder, run = tmp_path / "states", client.runs.create(name="r").id
        folder.mkdir()

        def train(config: dict[str, Any]) -> None:
            context = ray.train.get_context()
            rank, world_size = context.get_world_rank(), context.get_world_size()
            data = aidos.dataset(config["table"])
            stream = data.to_torch(batch_size=10, window=60, run=config["run"])
            if config["states"]:
                stream.load_state_dict(config["states"])
            seen = []
            for step, batch in enumerate(stream, 1):
                seen += batch["n"].tolist()
                if step == config["steps"] + rank:  # ranks are killed at different places
                    break
            result = {"seen": seen, "state": stream.state_dict(), "recorded": stream.recorder.flush()}
            Path(config["folder"], f"{world_size}-{rank}.json").write_text(json.dumps(result))

        seen, states = list[int](), list[Any]()
        for workers, steps in ((3, 4), (2, 1000)):
            config = {"table": table, "folder": str(folder), "run": str(run), "states": states, "steps": steps}
            trainer = TorchTrainer(
                train,
                train_loop_config=config,
                scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
                run_config=ray.train.RunConfig(storage_path=str(tmp_path / "train")),
            )
            trainer.fit()
            results = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{workers}-*.json"))]
            assert len(results) == workers and all(result["recorded"] for result in results)
            seen += [number for result in results for number in result["seen"]]
            states = [result["state"] for result in results]
        assert sorted(seen) == list(range(ROWS))
        assert [read.rows_read for read in client.reads.list(run=str(run))] == [100] * 4
