"""Reports on a whole platform: real jobs on Ray read commits and say what they found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.support.running import RunningPlatform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PROMISE = "tables: [{files: '*.parquet', columns: {age: {type: integer, not_null: true, min: 0, max: 130}}}]\n"


def push_people(platform: RunningPlatform, folder: Path, ages: list[int], branch: str = "main") -> None:
    (folder / ".aidos").mkdir(parents=True, exist_ok=True)
    (folder / ".aidos" / "expectations.yaml").write_text(PROMISE)
    for part, chosen in enumerate(np.array_split(np.array(ages), 3)):
        pq.write_table(pa.table({"age": chosen, "name": [f"name {age}" for age in chosen]}), folder / f"part-{part}.parquet")
    platform.aidos("dataset", "push", str(folder), "--name", "people", "--branch", branch, check=True)


class TestReports:
    def test_profile_and_drift_are_found_out_by_jobs(self, platform: RunningPlatform, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        push_people(platform, tmp_path / "people", random.integers(18, 60, 3000).tolist())
        (tmp_path / "people" / "bad.csv").write_bytes(b"a\n\xff\n")
        push_people(platform, tmp_path / "people", random.integers(40, 60, 3000).tolist(), "older")
        report = platform.ask("report", "create", "people@older", "profile", "--wait", timeout_s=300)
        assert report["state"] == "SUCCEEDED" and report["result"]["table"]["columns"]["age"]["numbers"]["count"] == 3000
        assert report["result"]["quarantine"]["files"][0]["path"] == "bad.csv"
        drift = platform.ask("report", "create", "people@older", "drift", "--param", "base=main", "--wait", timeout_s=300)
        assert "age" in drift["result"]["drifted"]

    def test_a_protected_branch_is_not_reached_by_a_commit_that_breaks_an_expectation(
        self, platform: RunningPlatform, tmp_path: Path
    ) -> None:
        push_people(platform, tmp_path / "people", list(range(18, 99)))
        platform.aidos("dataset", "protect", "people", "main", "--required-checks", "expectations", check=True)
        push_people(platform, tmp_path / "people", [-1, 20, 30], "broken")
        report = platform.ask("report", "create", "people@broken", "expectations", "--wait", timeout_s=300)
        assert report["result"]["passed"] is False and "range of age" in report["result"]["summary"]
        refused = platform.aidos("dataset", "merge", "people", "main", "broken")
        assert refused.code != 0 and "expectations" in refused.err
        push_people(platform, tmp_path / "people", [1, 20, 30], "mended")
        unchecked = platform.aidos("dataset", "merge", "people", "main", "mended")
        assert unchecked.code != 0
        assert platform.ask("report", "create", "people@mended", "expectations", "--wait", timeout_s=300)["result"]["passed"] is True
        platform.aidos("dataset", "merge", "people", "main", "mended", check=True)

    def test_flipped_labels_of_digits_are_found(self, platform: RunningPlatform, tmp_path: Path) -> None:
        digits, random = load_digits(), np.random.default_rng(1)
        wrong = set(random.choice(digits.target.size, digits.target.size // 20, replace=False).tolist())
        for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            given = (label + random.integers(1, 10)) % 10 if number in wrong else label
            path = tmp_path / "train" / str(given) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15.9).astype(np.uint8)).save(path)
        platform.aidos("dataset", "push", str(tmp_path), "--name", "flipped", check=True)
        report = platform.ask("report", "create", "flipped", "label_errors", "--wait", timeout_s=400)
        first = {int(Path(each["place"]).stem) for each in report["result"]["ranked"][: digits.target.size // 10]}
        assert len(first & wrong) >= 0.8 * len(wrong)
