"""The program of a report's job: ``python -m data_pipelines.dataforge.reports.run REPORT``.

Platform code with the job's own token as its only right: it reads data as every client does, and its result is taken because the
report names this very job.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import ray

from aidos.client import Client
from aidos.config import job, ray_address
from aidos.schemas.dataforge.reports import PARAMS, ReportKind
from data_pipelines.dataforge.labelling.pipeline import prelabel
from data_pipelines.dataforge.quality import pipeline as quality
from data_pipelines.dataforge.reports.source import Source, Tree
from data_pipelines.dataforge.synthesis.pipeline import synthesize

Kind = Callable[[Source, Any], Mapping[str, Any]]
"""Source and checked parameters in, the result out: JSON of at most ``RESULT_BYTES``."""

KINDS: dict[ReportKind, Kind] = {
    ReportKind.PROFILE: quality.profile,
    ReportKind.DRIFT: quality.drift,
    ReportKind.EXPECTATIONS: quality.expectations,
    ReportKind.LABEL_ERRORS: quality.label_errors,
    ReportKind.OUTLIERS: quality.outliers,
    ReportKind.SYNTHESIZE: synthesize,
    ReportKind.PRELABEL: prelabel,
}


def main(report_id: str) -> None:
    """Find out what the report asks and keep it. An attempt before this one may have done so already."""
    with Client() as client:
        report = client.reports.get(report_id)
        if report.result is not None:
            return
        kind = ReportKind(report.kind)
        ray.init(address=ray_address(), log_to_driver=False)
        source = Source(client, report_id, Tree(report.dataset, str(report.commit_id)), job())
        result = KINDS[kind](source, PARAMS[kind].model_validate(report.params))
        client.reports.finish(report_id, result=to_json(result))


def to_json(value: Any) -> Any:
    """A value as JSON and PostgreSQL keep it: no NaN, no infinity, no NUL, no broken surrogates; numpy's scalars as Python's."""
    if isinstance(value, Mapping):
        return {to_json(str(key)): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main(sys.argv[1])
