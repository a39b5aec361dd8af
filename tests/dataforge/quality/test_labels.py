"""Wrong labels and examples that lie apart come first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_wine

from aidos.schemas.dataforge.reports import LabelErrorsParams, OutliersParams
from data_pipelines.dataforge.quality import pipeline
from tests.dataforge.quality.local_source import LocalSource


def flip(labels: np.ndarray, share: float, classes: int) -> tuple[np.ndarray, set[int]]:
    """Labels of which a share is wrong, and which these are."""
    random = np.random.default_rng(7)
    wrong = random.choice(labels.size, round(labels.size * share), replace=False)
    changed = labels.copy()
    changed[wrong] = (changed[wrong] + random.integers(1, classes, wrong.size)) % classes
    return changed, set(wrong.tolist())


def found_in_top(ranked: list[dict[str, Any]], wrong: set[int], top: int, row: Any) -> float:
    return len({row(each["place"]) for each in ranked[:top]} & wrong) / len(wrong)


def label_errors(folder: Path, **params: Any) -> dict[str, Any]:
    return pipeline.label_errors(LocalSource(folder), LabelErrorsParams(**params))  # type: ignore[arg-type]  # in the place of a Source


class TestLabelErrors:
    def test_of_digits_stand_in_the_first_tenth(self, tmp_path: Path) -> None:
        digits = load_digits()
        labels, wrong = flip(digits.target[:900], 0.05, 10)
        for number, (image, label) in enumerate(zip(digits.images[:900], labels, strict=True)):
            path = tmp_path / "train" / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15.9).astype(np.uint8)).save(path)
        found = label_errors(tmp_path)
        assert found["examined"] == labels.size and len(found["classes"]) == 10
        assert found_in_top(found["ranked"], wrong, labels.size // 10, lambda place: int(Path(place).stem)) >= 0.8
        by_row = {int(Path(each["place"]).stem): each["suggested"] for each in found["ranked"]}
        right = [by_row[row] == str(digits.target[row]) for row in wrong if row in by_row]
        assert np.mean(right) > 0.8

    @pytest.mark.parametrize("form", ["columns", "embedding"])
    def test_of_rows_are_found_from_numbers_and_from_embeddings(self, tmp_path: Path, form: str) -> None:
        wine = load_wine()
        labels, wrong = flip(wine.target, 0.05, 3)
        columns: dict[str, Any] = {f"x{at}": wine.data[:, at] for at in range(13)} if form == "columns" else {"vector": wine.data.tolist()}
        pq.write_table(pa.table({**columns, "label": [f"kind {label}" for label in labels]}), tmp_path / "wine.parquet")
        params = {"label": "label"} | ({"embedding": "vector"} if form == "embedding" else {})
        found = label_errors(tmp_path, **params)
        assert found["accuracy"] > 0.85 and set(found["classes"]) == {"kind 0", "kind 1", "kind 2"}
        assert found_in_top(found["ranked"], wrong, labels.size // 10, lambda place: int(place.split(":")[1]) - 1) >= 0.8

    def test_need_two_labels_with_enough_examples(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("x,y\n1,a\n2,a\n3,b\n")
        with pytest.raises(ValueError, match="0 labels have at least 5 examples"):
            label_errors(tmp_path, label="y")


class TestOutliers:
    def test_are_ranked_first(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        values = random.normal(size=(500, 4))
        values[17], values[300] = 9.0, -9.0
        rows = "\n".join(",".join(f"{value:.4f}" for value in row) for row in values)
        (tmp_path / "t.csv").write_text(f"a,b,c,d\n{rows}\n")
        found = pipeline.outliers(LocalSource(tmp_path), OutliersParams(top=5))  # type: ignore[arg-type]  # in the place of a Source
        assert {each["place"] for each in found["ranked"][:2]} == {"t.csv:18", "t.csv:301"} and len(found["ranked"]) == 5
