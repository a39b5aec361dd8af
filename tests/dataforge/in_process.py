"""A report's pipeline run in this process as its own job: real data, real commits, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aidos.client import Client
from aidos.config import JobConfig
from aidos.schemas.dataforge.reports import PARAMS, ReportKind, ReportRead
from data_pipelines.dataforge.reports.run import KINDS, to_json
from data_pipelines.dataforge.reports.source import Source, Tree
from tests.dataforge.test_reports import JobClient


class InProcess(Source):
    """Units one after the other, in this process."""

    def each(self, stage: str, units: Sequence[Any], work: Callable[[Any], Any]) -> Iterator[Any]:
        yield from map(work, units)

    def share(self, value: Any) -> Callable[[], Any]:
        return lambda: value


def answer(client: Client, as_job: JobClient, dataset: str, kind: ReportKind, **params: Any) -> ReportRead:
    """Ask for a report and let the job's program answer it."""
    report = client.reports.create(dataset, kind=kind, params=params)
    own = as_job(report.job_id)
    source = InProcess(own, str(report.id), Tree(report.dataset, str(report.commit_id)), JobConfig())
    result = KINDS[kind](source, PARAMS[kind].model_validate(report.params))
    return own.reports.finish(str(report.id), result=to_json(result))
