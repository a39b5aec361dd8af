"""Reports: asked once, answered by their own job, and begun again where that failed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from aidos.client import AsyncClient, Client
from aidos.errors import AidosError, Forbidden, InvalidPayload, NotFound
from aidos.schemas.dataforge.reports import ReportRead
from aidos.transfers.directories import push
from data_pipelines.dataforge.errors import CheckReported
from tests.support.tenant import JobClient

pytestmark = pytest.mark.postgres


@pytest.fixture
def digits(client: Client, tmp_path: Path) -> str:
    """A dataset of one file."""
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    push(folder, "digits", client=client)
    return "digits"


class TestAsking:
    def test_twice_gives_the_same_report_and_one_job(self, client: Client, digits: str) -> None:
        first = client.reports.create(digits, kind="profile")
        again = client.reports.create(digits, kind="profile", params={"label": None})
        assert (again.id, again.job_id) == (first.id, first.job_id)
        assert len(list(client.jobs.list())) == 1
        other = client.reports.create(digits, kind="profile", params={"label": "x"})
        assert other.id != first.id

    def test_at_once_begins_one_job(self, client: Client, digits: str) -> None:
        async def ask() -> set[UUID]:
            async with AsyncClient() as asking:
                made = await asyncio.gather(*(asking.reports.create(digits, kind="profile") for _ in range(8)))
                return {report.job_id for report in made}

        assert len(asyncio.run(ask())) == 1
        assert len(list(client.jobs.list())) == 1

    def test_fixes_the_ref_to_its_commit_and_the_job_reads_that(self, client: Client, digits: str) -> None:
        report = client.reports.create(digits, kind="profile", ref="main")
        commit = client.datasets.show(digits, "main")
        job = client.jobs.get(str(report.job_id))
        assert report.commit_id == commit.id == job.inputs[0].commit_id
        assert job.spec.command[:3] == ["python", "-m", "data_pipelines.dataforge.reports.run"]
        assert job.spec.code_sha256 is None

    def test_something_unknown_is_refused_with_what_there_is(self, client: Client, digits: str) -> None:
        with pytest.raises(InvalidPayload, match="profile"):
            client.reports.create(digits, kind="horoscope")
        with pytest.raises(InvalidPayload, match="colour"):
            client.reports.create(digits, kind="profile", params={"colour": "red"})
        with pytest.raises(NotFound, match="no branch, tag or commit 'absent'"):
            client.reports.create(digits, kind="profile", ref="absent")

    def test_lists_by_ref_and_kind_without_results(self, client: Client, digits: str, as_job: JobClient) -> None:
        report = client.reports.create(digits, kind="profile")
        as_job(report.job_id).reports.finish(str(report.id), result={"rows": 1})
        assert [(each.id, each.result) for each in client.reports.list(digits, ref="main", kind="profile")] == [(report.id, None)]
        client.datasets.commit(digits, message="next", parent=report.commit_id, remove=["a.csv"])
        assert list(client.reports.list(digits, ref="main")) == []
        assert len(list(client.reports.list(digits))) == 1


class TestResult:
    def test_of_the_own_job_ends_the_report_and_stays(self, client: Client, digits: str, as_job: JobClient) -> None:
        report = client.reports.create(digits, kind="profile")
        own = as_job(report.job_id)
        assert own.reports.progress(str(report.id), stage="reading", done=1, total=2).progress is not None
        own.reports.finish(str(report.id), result={"rows": 1})
        own.reports.finish(str(report.id), result={"rows": 2})
        found: ReportRead = client.reports.get(str(report.id), wait="5s")
        assert (found.state, found.result) == ("SUCCEEDED", {"rows": 1})
        assert client.reports.create(digits, kind="profile").result == {"rows": 1}

    def test_of_anybody_else_is_refused(self, client: Client, digits: str, as_job: JobClient) -> None:
        report = client.reports.create(digits, kind="profile")
        other = client.reports.create(digits, kind="profile", params={"label": "x"})
        for stranger in (client, as_job(other.job_id)):
            with pytest.raises(Forbidden, match="Only the job of report"):
                stranger.reports.finish(str(report.id), result={"rows": 1})
            with pytest.raises(Forbidden, match="Only the job of report"):
                stranger.reports.progress(str(report.id), stage="reading", done=1, total=1)
        assert client.reports.get(str(report.id)).result is None

    def test_that_no_database_could_keep_is_refused(self, client: Client, digits: str, as_job: JobClient) -> None:
        report = client.reports.create(digits, kind="profile")
        own = as_job(report.job_id)
        for bad in ({"x": "\0"}, {"x": "y" * 1_600_000}):
            with pytest.raises(InvalidPayload):
                own.reports.finish(str(report.id), result=bad)
        own.reports.finish(str(report.id), result={"x": "\\u0000 is text"})


class TestJobThatEndsWithoutResult:
    def test_fails_the_report_with_its_reason_and_asking_again_begins_another(self, client: Client, digits: str) -> None:
        report = client.reports.create(digits, kind="profile")
        client.jobs.cancel(str(report.job_id))
        failed = client.reports.get(str(report.id))
        assert failed.state == "FAILED" and "cancelled" in failed.reason
        again = client.reports.create(digits, kind="profile")
        assert again.id == report.id and again.job_id != report.job_id and again.state == "QUEUED"


class TestCheck:
    """The report of expectations is a check of its commit, and a protected branch asks for it."""

    @staticmethod
    def checks(client: Client) -> list[tuple[str, str, str, Any]]:
        return [(check.name, check.state, check.summary, check.report_id) for check in client.datasets.checks("digits", "main")]

    @pytest.mark.parametrize(("passed", "state"), [(True, "passed"), (False, "failed")])
    def test_is_pending_then_what_the_result_says(self, client: Client, digits: str, as_job: JobClient, passed: bool, state: str) -> None:
        report = client.reports.create(digits, kind="expectations")
        assert self.checks(client) == [("expectations", "pending", "being looked at", report.id)]
        as_job(report.job_id).reports.finish(str(report.id), result={"passed": passed, "summary": "as seen", "checks": []})
        assert self.checks(client) == [("expectations", state, "as seen", report.id)]

    def test_cannot_be_set_by_hand_even_before_anybody_asked_for_the_report(self, client: Client, digits: str) -> None:
        with pytest.raises(CheckReported, match="aidos report create"):
            client.datasets.set_check(digits, "main", "expectations", "passed")
        assert self.checks(client) == []

    def test_keeps_what_failed_off_a_protected_branch(self, client: Client, digits: str, as_job: JobClient) -> None:
        client.datasets.protect(digits, "main", required_checks=["expectations"])
        head = client.datasets.show(digits, "main")
        client.datasets.set_ref(digits, "next", commit=str(head.id))
        commit = client.datasets.commit(digits, branch="next", parent=head.id, message="next", remove=["a.csv"])
        report = client.reports.create(digits, kind="expectations", ref="next")
        with pytest.raises(AidosError, match="expectations"):
            client.datasets.merge(digits, "main", "next")
        as_job(report.job_id).reports.finish(str(report.id), result={"passed": False, "summary": "broken"})
        with pytest.raises(AidosError, match="expectations"):
            client.datasets.merge(digits, "main", "next")
        assert client.datasets.show(digits, "main").id == head.id != commit.id
