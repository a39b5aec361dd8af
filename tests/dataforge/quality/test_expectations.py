"""Expectations: each kind of promise is kept by good data and broken by bad, and the place is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aidos.schemas.dataforge.expectations import PATH
from aidos.schemas.dataforge.reports import ExpectationsParams
from data_pipelines.dataforge.quality import keys, pipeline
from tests.dataforge.quality.local_source import LocalSource

GOOD = "id,age,mail,country,day,ok\n1,30,a@x.org,de,2026-01-30,true\n2,41,b@x.org,fr,2026-01-29,false\n3,,c@x.org,de,2026-01-28,true\n"


def check(folder: Path, promise: str, data: str = GOOD, others: dict[str, Path] | None = None) -> dict[str, Any]:
    """What ``promise`` (the body of a table) says of ``t.csv``."""
    (folder / ".aidos").mkdir(exist_ok=True)
    (folder / PATH).write_text("tables:\n- files: '*.csv'\n" + "".join(f"  {line}\n" for line in promise.strip().splitlines()))
    (folder / "t.csv").write_text(data)
    return pipeline.expectations(LocalSource(folder, others or {}), ExpectationsParams())  # type: ignore[arg-type]  # in the place of a Source


def failed(found: dict[str, Any]) -> list[tuple[str, str, int, list[str]]]:
    return [(each["column"], each["check"], each["failed"], each["places"]) for each in found["checks"] if not each["passed"]]


KEPT_AND_BROKEN = {
    "type": ("columns: {age: {type: integer}}", "30", "thirty", ("age", "type", 1, ["t.csv:1"])),
    "number": ("columns: {age: {type: number}}", "30", "3o", ("age", "type", 1, ["t.csv:1"])),
    "date": ("columns: {day: {type: date}}", "2026-01-30", "30.1.2026", ("day", "type", 1, ["t.csv:1"])),
    "boolean": ("columns: {ok: {type: boolean}}", "true", "perhaps", ("ok", "type", 1, ["t.csv:1"])),
    "not null": ("columns: {mail: {not_null: true}}", "a@x.org", "", ("mail", "not_null", 1, ["t.csv:1"])),
    "least": ("columns: {age: {min: 18}}", "30", "17.5", ("age", "range", 1, ["t.csv:1"])),
    "most": ("columns: {age: {max: 130}}", "30", "131", ("age", "range", 1, ["t.csv:1"])),
    "no number in a range": ("columns: {age: {min: 0}}", "30", "old", ("age", "range", 1, ["t.csv:1"])),
    "range of dates": ("columns: {day: {min: '2026-01-01'}}", "2026-01-30", "1999-01-01", ("day", "range", 1, ["t.csv:1"])),
    "pattern": ("columns: {mail: {matches: '^[^@]+@[^@]+$'}}", "a@x.org", "nobody", ("mail", "matches", 1, ["t.csv:1"])),
    "set": ("columns: {country: {values: [de, fr]}}", "de", "xx", ("country", "values", 1, ["t.csv:1"])),
    "unique": ("columns: {id: {unique: true}}", "1,30", "2,30", ("id", "unique", 1, ["t.csv:2"])),
    "unique together": ("unique: [[country, ok]]", "de,2026-01-30,true", "fr,2026-01-30,false", ("country, ok", "unique", 1, ["t.csv:2"])),
    "column": ("columns: {country: {}}", "country", "land", ("country", "exists", 1, ["t.csv"])),
    "only these columns": (
        "columns: {id: {}, age: {}, mail: {}, country: {}, day: {}, ok: {}}\nonly_these_columns: true",
        "\n1,30,a@x.org,de,2026-01-30,true", "\n1,30,a@x.org,de,2026-01-30,true", None,
    ),
    "rows": ("rows: {min: 3, max: 3}", "3,,c@x.org,de,2026-01-28,true\n", "", ("", "rows", 1, ["2 rows, not 3 to 3"])),
    "freshness": ("columns: {day: {max_age: 30h}}", "2026-01-30", "2025-12-24", ("day", "max_age", 1, ["the newest is of 2026-01-29 00:00"])),
    "readable": ("rows: {min: 1}", "2,41,b@x.org", "2,41,b@x.org,more", ("", "readable", 1, None)),
}  # fmt: skip


class TestChecks:
    @pytest.mark.parametrize("name", KEPT_AND_BROKEN)
    def test_pass_good_data_and_name_where_bad_data_breaks_them(self, tmp_path: Path, name: str) -> None:
        promise, old, new, expected = KEPT_AND_BROKEN[name]
        data = (
            GOOD.replace("country,day,ok\n3", "country")
            if name != "unique together"
            else GOOD.replace("3,,c@x.org,de,2026-01-28,true\n", "")
        )
        good = check(tmp_path, promise, data)
        assert good["passed"] and failed(good) == [], good
        assert old in data
        if expected is None:
            (found,) = failed(check(tmp_path, promise, "id,age,mail,country,day,ok,extra\n1,2,c,d,e,f,g\n"))
            assert found == ("", "only_these_columns", 1, ["extra"])
            return
        bad = check(tmp_path, promise, data.replace(old, new, 1))
        (found,) = failed(bad)
        assert not bad["passed"] and found[:3] == expected[:3]
        assert expected[3] is None or found[3] == expected[3]

    def test_may_hold_for_most_values_only(self, tmp_path: Path) -> None:
        assert check(tmp_path, "columns: {country: {values: [de], mostly: 0.6}}")["passed"]
        assert not check(tmp_path, "columns: {country: {values: [de], mostly: 0.7}}")["passed"]

    def test_do_not_care_how_a_file_stores_its_values(self, tmp_path: Path) -> None:
        pq.write_table(
            pa.table({"n": pa.array([1, 2, None]), "d": pa.array([0, 1, 2], pa.date32()), "b": [True, False, True]}),
            tmp_path / "t.parquet",
        )
        (tmp_path / ".aidos").mkdir()
        (tmp_path / PATH).write_text(
            "tables: [{files: '*.parquet', columns: {n: {type: integer, min: 1, max: 2, values: [1, 2], unique: true},"
            " d: {type: date, min: '1970-01-01', max: '1970-01-03', max_age: 4000w}, b: {type: boolean, values: [true, false]}}}]"
        )
        found = pipeline.expectations(LocalSource(tmp_path), ExpectationsParams())  # type: ignore[arg-type]  # in the place of a Source
        assert found["passed"], failed(found)

    def test_of_uniqueness_are_exact_in_several_rounds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keys, "ROUND_ROWS", 100)
        rows = [*range(1000), 17, 500, 999]
        found = check(tmp_path, "columns: {id: {unique: true}}", "id\n" + "".join(f"{row}\n" for row in rows))
        assert failed(found) == [("id", "unique", 3, ["t.csv:1001", "t.csv:1002", "t.csv:1003"])]


class TestReferences:
    PROMISE = "columns: {country: {references: {dataset: countries, files: '*.parquet', column: code}}}"

    def test_to_another_dataset_are_followed_whatever_its_format(self, tmp_path: Path) -> None:
        other, own = tmp_path / "other", tmp_path / "own"
        other.mkdir()
        own.mkdir()
        pq.write_table(pa.table({"code": ["de", "fr"]}), other / "c.parquet")
        assert check(own, self.PROMISE, others={"countries": other})["passed"]
        pq.write_table(pa.table({"code": ["de"]}), other / "c.parquet")
        assert failed(check(own, self.PROMISE, others={"countries": other})) == [("country", "references", 1, ["t.csv:2"])]

    def test_to_a_dataset_that_is_not_there_fail_and_say_so(self, tmp_path: Path) -> None:
        (found,) = failed(check(tmp_path, self.PROMISE))
        assert found[:2] == ("country", "references") and "countries" in found[3][0]


class TestFile:
    def test_that_is_missing_promises_nothing_and_does_not_pass(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(GOOD)
        found = pipeline.expectations(LocalSource(tmp_path), ExpectationsParams())  # type: ignore[arg-type]  # in the place of a Source
        assert not found["passed"] and PATH in found["summary"]

    def test_whose_tables_are_not_there_does_not_pass(self, tmp_path: Path) -> None:
        (tmp_path / ".aidos").mkdir()
        (tmp_path / PATH).write_text("tables: [{files: 'absent/*.parquet'}]")
        found = pipeline.expectations(LocalSource(tmp_path), ExpectationsParams())  # type: ignore[arg-type]  # in the place of a Source
        assert failed(found) == [("", "files", 1, ["no table matches absent/*.parquet"])]

    @pytest.mark.parametrize(
        ("promise", "reason"),
        [
            ("columns: {age: {tpye: integer}}", "tpye"),
            ("columns: {age: {type: colour}}", "'integer', 'number'"),
            ("columns: {age: {matches: '('}}", "column age"),
            ("columns: {age: {max_age: soon}}", "max_age"),
            ("columns: {age: {min: yesterday}}", "column age"),
            ("columns: [", "not YAML"),
        ],
    )
    def test_that_is_wrong_says_where(self, tmp_path: Path, promise: str, reason: str) -> None:
        found = check(tmp_path, promise)
        assert not found["passed"] and found["summary"].startswith(PATH) and reason in found["summary"]
