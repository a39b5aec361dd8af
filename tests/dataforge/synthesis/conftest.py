"""A project in which synthetic data is asked for, and made in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from aidos.client import Client
from aidos.schemas.dataforge.reports import ReportKind, ReportRead
from tests.dataforge.in_process import answer
from tests.support.tenant import JobClient

Ask = Callable[..., ReportRead]


@pytest.fixture
def synthesize(client: Client, as_job: JobClient) -> Ask:  # the fixture itself
    """Ask for synthetic data and let the job's program answer: a dataset, and parameters by name."""
    return partial(_synthesize, client, as_job)


def _synthesize(client: Client, as_job: JobClient, dataset: str, **params: object) -> ReportRead:
    return answer(client, as_job, dataset, ReportKind.SYNTHESIZE, **params)
