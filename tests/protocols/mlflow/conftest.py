"""The unmodified client of MLflow over real HTTP, set up by its own two environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.server_info import _clear_server_info_cache

from tests.support.tenant import admin_key, client, objects, url

__all__ = ["admin_key", "client", "objects", "url"]


@pytest.fixture
def environment(url: str, admin_key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A script's environment; what the client remembers of the run before is forgotten."""
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # `mlflow.set_experiment` leaves it there for child processes
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # forgets what code of its own has set, and takes it out of the environment
    for name, value in {
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_TOKEN": admin_key,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    _clear_server_info_cache()
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.tracking.fluent._active_experiment_id = None
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


@pytest.fixture
def tracking(environment: None) -> MlflowClient:
    return MlflowClient()
