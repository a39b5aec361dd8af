"""Synthetic data on a whole platform: a job on Ray makes it, and a stranger's model learns from it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_wine

from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


class TestSynthesize:
    def test_a_table_is_made_by_a_job_and_stands_beside_its_source(self, platform: RunningPlatform, tmp_path: Path) -> None:
        frame = load_wine(as_frame=True).frame
        frame["target"] = frame["target"].map({0: "red", 1: "white", 2: "rosé"})
        (tmp_path / "wine").mkdir()
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "wine" / "wine.parquet")
        platform.aidos("dataset", "push", str(tmp_path / "wine"), "--name", "wine", check=True)
        how = ("--rows", "2000", "--target", "target", "--by", "target", "--wait")
        report = platform.ask("dataset", "synthesize", "wine", "--out", "fake-wine", *how, timeout_s=300)
        assert report["state"] == "SUCCEEDED" and report["result"]["rows"]["made"] == 2000
        learned = report["result"]["learning"]
        assert learned["train_on_synthetic"] > learned["train_on_real"] - 0.1
        assert report["result"]["nearest"]["copies_synthetic"] == 0
        platform.aidos("dataset", "pull", "fake-wine", str(tmp_path / "fake"), check=True)
        made = pq.read_table(tmp_path / "fake")
        assert made.num_rows == 2000 and made.column_names == [*frame.columns, "synthetic"]
        assert platform.ask("dataset", "show", "fake-wine", "main")["metadata"]["synthetic"] is True
