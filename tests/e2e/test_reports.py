"""Reports on a whole platform: a real job on Ray reads a commit and says what it found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


class TestProfile:
    def test_is_found_out_by_a_job_and_shown(self, platform: RunningPlatform, tmp_path: Path) -> None:
        folder = tmp_path / "people"
        folder.mkdir()
        for part in range(3):
            pq.write_table(pa.table({"age": list(range(100))}), folder / f"part-{part}.parquet")
        platform.aidos("dataset", "push", str(folder), "--name", "people", check=True)
        report = platform.ask("report", "create", "people", "profile", "--wait", timeout_s=300)
        assert report["state"] == "SUCCEEDED" and report["result"]["rows"] == 300
