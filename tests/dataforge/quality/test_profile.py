"""A profile finds what was planted, and sets bad files aside with their reasons while the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aidos.schemas.dataforge.reports import RESULT_BYTES, ProfileParams
from data_pipelines.dataforge.files.pieces import Piece, share_out
from data_pipelines.dataforge.quality import pipeline
from data_pipelines.dataforge.reports.run import to_json
from tests.dataforge.bad_files import BAD
from tests.dataforge.quality.local_source import LocalSource


def profile(folder: Path, **params: Any) -> dict[str, Any]:
    """As it would be kept: through JSON."""
    found = to_json(pipeline.profile(LocalSource(folder), ProfileParams(**params)))  # type: ignore[arg-type]  # in the place of a Source
    return dict(json.loads(json.dumps(found, allow_nan=False)))


def quarantined(found: dict[str, Any]) -> dict[str, str]:
    return {each["path"]: each["reason"] for each in found["quarantine"]["files"]}


class TestTables:
    def test_say_types_nulls_ranges_and_classes(self, tmp_path: Path) -> None:
        n = 10_000
        x = np.random.default_rng(0).normal(10, 2, n)
        columns = {
            "id": pa.array(range(n)),
            "x": pa.array(x),
            "kind": pa.array(["a", "b", "a", None] * (n // 4)),
            "when": pa.array([0, 86_400 * 365] * (n // 2)).cast(pa.timestamp("s")),
            "note": pa.array(["some words here"] * n),
        }
        for part in range(4):
            table = pa.table(columns).slice(part * n // 4, n // 4)
            pq.write_table(table, tmp_path / f"part-{part}.parquet", row_group_size=700)
        table = profile(tmp_path, label="kind")["table"]
        assert table["rows"] == n
        found = table["columns"]
        assert found["x"]["types"] == {"double": n} and found["x"]["numbers"]["mean"] == pytest.approx(x.mean())
        assert found["x"]["numbers"]["min"] == x.min() and found["x"]["numbers"]["quantiles"]["0.5"] == pytest.approx(
            np.median(x), abs=0.05
        )
        assert sum(found["x"]["numbers"]["histogram"]["counts"]) == n
        assert found["id"]["distinct"] == pytest.approx(n, rel=0.05)
        assert (found["kind"]["nulls"], found["kind"]["distinct"]) == (n // 4, 2)
        assert found["kind"]["top"] == [{"value": "a", "count": n // 2}, {"value": "b", "count": n // 4}]
        assert found["when"]["times"] == {"min": "1970-01-01T00:00:00+00:00", "max": "1971-01-01T00:00:00+00:00"}
        assert found["note"]["words_mean"] == 3 and found["note"]["lengths"]["max"] == 15
        assert profile(tmp_path, label="kind")["labels"] == {"all": {"a": n // 2, "b": n // 4, "None": n // 4}}

    def test_know_what_text_stands_for(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("n,f,d,s\n1,1.5,2024-01-02,x\n-2,2e3,2024-02-01T10:00:00Z,3\n,,,\n")
        (tmp_path / "t.jsonl").write_text('{"n": 3, "deep": {"a": 1}}\n{"n": "four"}\n')
        columns = profile(tmp_path)["table"]["columns"]
        assert columns["n"]["types"] == {"integer text": 3, "text": 1} and columns["n"]["nulls"] == 1
        assert columns["f"]["numbers"]["max"] == 2000 and columns["d"]["types"] == {"date text": 2}
        assert columns["s"]["types"] == {"text": 1, "integer text": 1}

    def test_find_copies_and_leaks_by_path_and_by_column(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text("a,b,fold\n1,x,0\n2,y,0\n2,y,0\n3,z,1\n")
        (tmp_path / "test.csv").write_text("a,b,fold\n3,z,1\n4,u,1\n")
        by_path = profile(tmp_path)["table"]
        assert by_path["duplicates"]["rows"] == 2
        assert by_path["leakage"][0] | {"examples": 0} == {
            "splits": ["train", "test"],
            "rows": 1,
            "share": 0.5,
            "exact": True,
            "examples": 0,
        }
        assert by_path["leakage"][0]["examples"] == [{"train": "train.csv:4", "test": "test.csv:1"}]
        (tmp_path / "test.csv").write_text("a,b,fold\n1,x,1\n")
        by_column = profile(tmp_path, split="fold")["table"]
        assert [(leak["splits"], leak["rows"]) for leak in by_column["leakage"]] == [(["0", "1"], 1)]

    def test_show_no_value_of_a_column_with_personal_data(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("mail,card\n" + "ada.lovelace@example.org,4111111111111111\n" * 5)
        found = profile(tmp_path)
        assert [each["kind"] for each in found["table"]["columns"]["mail"]["personal_data"]] == ["email"]
        assert [each["count"] for each in found["table"]["columns"]["card"]["personal_data"]] == [5]
        assert "lovelace" not in json.dumps(found)

    def test_find_nearly_equal_texts_of_a_column(self, tmp_path: Path) -> None:
        text = " ".join(f"word{number * number % 97}" for number in range(60))
        rows = [text, text.replace("word1 ", "other "), "quite another text that has nothing in common with the two before it"]
        (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
        alike = profile(tmp_path, text="text")["table"]["alike"]
        assert [(pair["one"], pair["two"]) for pair in alike["examples"]] == [("t.jsonl:1", "t.jsonl:2")]

    def test_of_a_thousand_columns_fit_into_a_report(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({f"column_{at}": ["x" * 90 + str(row) for row in range(30)] for at in range(1000)}), tmp_path / "t.parquet")
        found = profile(tmp_path)
        assert len(found["table"]["columns"]) == 1000 and len(json.dumps(found)) < RESULT_BYTES

    def test_are_shared_out_by_bytes_and_kind(self) -> None:
        units = share_out([Piece(f"{at}.parquet", 100 * 2**20) for at in range(3)] + [Piece(f"{at}.png", 10) for at in range(1200)])
        assert [len(unit) for unit in units] == [1, 1, 1, 500, 500, 200]


class TestImages:
    def test_have_sizes_classes_and_look_alike(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
        for path in ("train/cat", "test/cat", "train/dog"):
            (tmp_path / path).mkdir(parents=True)
        Image.fromarray(noise[0]).save(tmp_path / "train/cat/a.png")
        Image.fromarray(noise[0]).resize((96, 96)).save(tmp_path / "test/cat/b.jpg")
        Image.fromarray(noise[1]).convert("L").save(tmp_path / "train/dog/c.png")
        found = profile(tmp_path)
        images = found["images"]
        assert images["modes"] == {"RGB": 2, "L": 1} and images["widths"]["max"] == 96
        assert 0.4 < images["brightness"]["mean"] < 0.6
        assert images["alike"]["examples"][0] == ["test/cat/b.jpg", "train/cat/a.png"] and images["alike"]["across_splits"] == 1
        assert found["labels"] == {"test": {"cat": 1}, "train": {"cat": 1, "dog": 1}}


class TestTexts:
    def test_have_lengths_and_are_nearly_equal(self, tmp_path: Path) -> None:
        text = " ".join(f"word{number}" for number in range(100))
        for split, content in (("train", text), ("test", text + " end"), ("validation", "short and different, and that is all")):
            (tmp_path / split).mkdir()
            (tmp_path / split / "1.txt").write_text(content)
        texts = profile(tmp_path)["texts"]
        assert texts["count"] == 3 and texts["words"]["max"] == 101
        assert texts["alike"]["pairs"] == texts["alike"]["across_splits"] == 1


class TestFiles:
    def test_that_are_equal_are_found_without_being_read(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            (tmp_path / split).mkdir()
            (tmp_path / split / "x.bin").write_bytes(b"same")
        found = profile(tmp_path)
        assert found["equal_files"]["leakage"] == {"files": 2, "groups": [["test/x.bin", "train/x.bin"]]}
        assert found["files"]["splits"] == {"test": 1, "train": 1}


class TestBadFiles:
    @pytest.mark.parametrize("case", BAD)
    def test_are_set_aside_with_their_reason_and_the_rest_goes_on(self, tmp_path: Path, case: str) -> None:
        bad = BAD[case]
        (tmp_path / bad.path).write_bytes(bad.make())
        (tmp_path / "good.csv").write_text("a\n1\n2\n")
        found = profile(tmp_path)
        assert list(quarantined(found)) == [bad.path] and bad.profiled in quarantined(found)[bad.path]
        assert found["table"]["columns"]["a"]["rows"] >= 2 and found["table"]["columns"]["a"]["types"]["integer text"] >= 2

    def test_lose_only_their_broken_lines(self, tmp_path: Path) -> None:
        (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3\n4,5,6\n7,8\n")
        (tmp_path / "some.jsonl").write_text('{"a": 1}\nnot json\n[1]\n{"a": 2}\n')
        found = profile(tmp_path)
        assert found["table"]["rows"] == 4
        assert quarantined(found)["ragged.csv"] == "2 lines were left out; the first: line 3: it has 1 columns, the header 2"
        assert quarantined(found)["some.jsonl"].startswith("2 lines were left out; the first: line 2")
