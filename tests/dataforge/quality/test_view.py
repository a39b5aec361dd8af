"""Reports as people see them, from what the pipelines really find."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aidos.cli import report_view
from aidos.cli.report import read_params
from aidos.cli.session import Session
from aidos.schemas.dataforge.expectations import PATH
from aidos.schemas.dataforge.reports import PARAMS, ReportKind, ReportRead
from data_pipelines.dataforge.reports.run import KINDS, to_json
from tests.dataforge.quality.local_source import LocalSource

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some of everything; a class name that is no good HTML."""
    (tmp_path / "train.csv").write_text("x,kind,mail\n" + "".join(f"{at % 7},<b>{at % 2}</b>,p{at}@x.org\n" for at in range(40)))
    (tmp_path / "test.csv").write_text("x,kind,mail\n0,<b>0</b>,p0@x.org\n")
    (tmp_path / "bad.png").write_text("none")
    (tmp_path / ".aidos").mkdir()
    (tmp_path / PATH).write_text("tables: [{files: '*.csv', columns: {x: {max: 5}}}]")
    return tmp_path


def report(kind: ReportKind, folder: Path) -> ReportRead:
    given: dict[str, Any] = {"drift": {"base": "main"}, "label_errors": {"label": "kind"}}.get(kind, {})
    params = PARAMS[kind].model_validate(given)
    if kind is ReportKind.DRIFT:
        params = params.model_copy(update={"base": str(folder)})
    result = to_json(KINDS[kind](LocalSource(folder), params))  # type: ignore[arg-type]  # in the place of a Source
    fields = {"id": uuid.uuid4(), "commit_id": uuid.uuid4(), "job_id": None, "created_at": NOW, "finished_at": NOW, "progress": None}
    return ReportRead(dataset="people", kind=kind, params={}, state="SUCCEEDED", reason="", result=result, created_by="ada", **fields)


SAID = {
    "profile": ["41 rows", "personal data", "email", "rows in train and test", "train.csv:1 = test.csv:1", "bad.png"],
    "drift": ["0 drifted: nothing", "total variation"],
    "expectations": ["1 of 3 checks failed", "FAILED", "range", "train.csv:7"],
    "label_errors": ["labels are probably wrong", "train.csv:"],
    "outliers": ["the farthest first", "train.csv:"],
}


class TestView:
    @pytest.mark.parametrize("kind", SAID)
    def test_says_what_matters_on_the_terminal(self, folder: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
        report_view.show(Session(), report(ReportKind(kind), folder))
        shown = capsys.readouterr().out
        assert all(text.lower() in shown.lower() for text in SAID[kind]), shown

    @pytest.mark.parametrize("kind", SAID)
    def test_is_one_page_of_html_that_loads_and_runs_nothing(self, folder: Path, kind: str) -> None:
        page = report_view.to_html(report(ReportKind(kind), folder))
        assert page.startswith("<!doctype html>") and "<b>" not in page
        assert not re.search(r"<script|<link|<img|https?:|url\(|@import", page)
        if kind == "profile":
            assert "<svg" in page and "&lt;b&gt;0&lt;/b&gt;" in page

    def test_exists_for_every_kind_of_quality(self) -> None:
        assert set(SAID) <= set(report_view.VIEWS) and set(SAID) <= set(ReportKind)

    def test_draws_histograms_from_nothing_to_full(self) -> None:
        assert str(report_view.Histogram((0, 1, 50, 100), "0", "9")) == "0  ▁▄█ 9"


class TestParams:
    def test_are_read_as_their_kind_wants_them(self) -> None:
        assert read_params("label_errors", ["folds=3", "label=1"]) == {"folds": 3, "label": "1"}
        assert read_params("drift", ["base=main", "alpha=0.05"]) == {"base": "main", "alpha": 0.05}
