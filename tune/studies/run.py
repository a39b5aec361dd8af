"""The program of a study's job: ``python -m tune.studies.run STUDY``. Platform code, with the job's own token as its only right."""

from __future__ import annotations

import logging
import sys
import tempfile

import optuna
import ray

from aidos.client import Client
from aidos.config import ray_address
from tune.studies.train_loop import run_study


def main(study_id: str) -> None:
    """Search until the budget is spent. What an earlier attempt left behind is begun again first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Client() as client, tempfile.TemporaryDirectory(prefix="aidos-study-") as storage:
        study = client.studies.start(study_id)
        if study.state != "RUNNING":
            return
        ray.init(address=ray_address(), logging_level=logging.WARNING)
        reason = run_study(client, study, storage)
        client.studies.finish(study_id, reason=reason)


if __name__ == "__main__":
    main(sys.argv[1])
