"""Runs in every Ray worker of a job that asked for packages, in place of ``worker.setup``; a worker that needs none loads nothing of this."""

from __future__ import annotations

from tune.trainos import worker
from tune.trainos.job_environment import find_requirements
from tune.trainos.packages import install, use


def setup() -> None:
    """What every worker does, and the packages on the path."""
    worker.setup()
    use(install(find_requirements()))
